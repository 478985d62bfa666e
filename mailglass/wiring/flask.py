"""Checks of a Flask application: the extension, and what reads requests before it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from mailglass.wiring.bodies import reads_of, size_of
from mailglass.wiring.effects import CONSUMED, REFUSED, TOO_SMALL, UNWIRED
from mailglass.wiring.findings import Finding, Status
from mailglass.wiring.project import Module, Project

APPLICATION: Final = "flask.Flask"
EXTENSION: Final = "mailglass.integrations.flask.Mailglass"
_CONSUMES: Final = frozenset({"form", "files", "values", "stream"})
_PROTECTIONS: Final = ("flask_wtf.CSRFProtect", "flask_wtf.csrf.CSRFProtect")


def diagnose(project: Project) -> Iterator[Finding]:
    """Check every Flask application of a source tree; nothing where there is none."""
    made = applications(project)
    if not made:
        return
    yield mount(project, *made[0])
    for module in project.modules:
        yield from _before_requests(module)
        yield from _sizes(project, module)
    yield from _csrf(project)


def applications(project: Project) -> list[tuple[Module, ast.Call]]:
    """Return where Flask applications are made."""
    return [(module, call) for module in project.modules for name, call in module.calls if name == APPLICATION]


def mount(project: Project, application: Module, flask: ast.Call) -> Finding:
    """Check that the extension is given an application.

    Args:
        project: the project.
        application: the module that makes the application, where nothing is mounted.
        flask: the call that makes it.
    """
    for module in project.modules:
        for name, call in module.calls:
            if name != EXTENSION:
                continue
            if call.args or any(item.arg == "app" for item in call.keywords):
                return Finding("flask.mount", Status.PASS, "Mailglass(app)", file=module.path, line=call.lineno)
            started = _init_app(project, module, call)
            if started is not None:
                return started
            return Finding(
                "flask.mount",
                Status.FAIL,
                "Mailglass() is made and never given an application",
                UNWIRED,
                "Call its init_app(app) where the application is made",
                module.path,
                call.lineno,
            )
    return Finding(
        "flask.mount",
        Status.FAIL,
        "the application has no Mailglass extension",
        UNWIRED,
        "Run `mailglass install`, or call Mailglass(app) where the application is made",
        application.path,
        flask.lineno,
    )


def _init_app(project: Project, home: Module, made: ast.Call) -> Finding | None:
    """Return the finding of the extension's init_app, wherever in the project it is called."""
    name = next(
        (
            target.id
            for node in home.nodes
            if isinstance(node, ast.Assign) and node.value is made
            for target in node.targets
            if isinstance(target, ast.Name)
        ),
        None,
    )
    if name is None:
        return None
    ours = {name, f"{home.name}.{name}"}
    for module in project.modules:
        for called, call in module.calls:
            base = called.removesuffix(".init_app")
            if called.endswith(".init_app") and (base in ours or base.endswith(f".{name}") or base == name):
                return Finding("flask.mount", Status.PASS, f"{name}.init_app", file=module.path, line=call.lineno)
    return None


def _before_requests(module: Module) -> Iterator[Finding]:
    for node in module.nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        hooks = [module.dotted(item.func if isinstance(item, ast.Call) else item) for item in node.decorator_list]
        if not any(
            hook.endswith((".before_request", ".before_app_request", ".url_value_preprocessor")) for hook in hooks
        ):
            continue
        read = next(reads_of(node, _CONSUMES), None)
        if read is not None:
            yield Finding(
                "flask.before_request",
                Status.FAIL,
                f"{node.name} reads request.{read.attr} before the view",
                CONSUMED,
                'Return early for the webhook path: `if request.blueprint == "mailglass": return`',
                module.path,
                read.lineno,
            )


def _sizes(project: Project, module: Module) -> Iterator[Finding]:
    for node in module.nodes:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            limit = size_of(node.value)
            if _key(target) == "MAX_CONTENT_LENGTH" and limit is not None and limit < project.max_body:
                yield Finding(
                    "flask.size",
                    Status.WARN,
                    f"MAX_CONTENT_LENGTH is {limit}, webhooks.max_body is {project.max_body}",
                    TOO_SMALL,
                    "Raise it to webhooks.max_body, or lower that",
                    module.path,
                    node.lineno,
                )


def _csrf(project: Project) -> Iterator[Finding]:
    exempt = any(name.endswith(".exempt") for module in project.modules for name, _ in module.calls)
    for module in project.modules:
        for name, call in module.calls:
            if name in _PROTECTIONS and not exempt:
                yield Finding(
                    "flask.csrf",
                    Status.FAIL,
                    "CSRFProtect covers the webhook endpoint",
                    REFUSED,
                    "Exempt it: csrf.exempt(mailglass.blueprint)",
                    module.path,
                    call.lineno,
                )


def _key(target: ast.expr) -> object:
    """Return the key of `config["KEY"] = ...`, or the name of `KEY = ...`."""
    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        return target.slice.value
    return target.id if isinstance(target, ast.Name) else None
