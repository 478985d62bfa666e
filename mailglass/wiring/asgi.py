"""Checks of FastAPI, Starlette and Litestar applications: the mount, and the middleware around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from mailglass.wiring.bodies import keyword, reads_of, size_of, unpacks
from mailglass.wiring.effects import ALTERED, CONSUMED, TOO_SMALL, UNWIRED
from mailglass.wiring.findings import Finding, Status
from mailglass.wiring.project import Module, Project

APPLICATIONS: Final = {
    "fastapi.FastAPI": "fastapi",
    "fastapi.applications.FastAPI": "fastapi",
    "starlette.applications.Starlette": "starlette",
    "litestar.Litestar": "litestar",
    "litestar.app.Litestar": "litestar",
}
_OURS: Final = ("mailglass.web.app", "mailglass.web.create_app")
# these leave nothing for the application behind; Starlette hands on a body that was read as a whole
_CONSUMES: Final = frozenset({"form", "stream"})
_SIZES: Final = frozenset({"max_content_size", "max_body_size", "max_upload_size", "request_max_body_size"})


def diagnose(project: Project) -> Iterator[Finding]:
    """Check the ASGI applications of a source tree; nothing where there is none."""
    made = applications(project)
    if not made:
        return
    framework = made[0][0]
    yield mount(project, *made[0])
    for module in project.modules:
        yield from _middleware(module, framework)
        yield from _sizes(project, module, framework)


def applications(project: Project) -> list[tuple[str, Module, ast.Call]]:
    """Return where ASGI applications are made, each with the name of its framework."""
    return [
        (APPLICATIONS[name], module, call)
        for module in project.modules
        for name, call in module.calls
        if name in APPLICATIONS
    ]


def mount(project: Project, framework: str, application: Module, call: ast.Call) -> Finding:
    """Check that an application mounts the endpoint.

    Args:
        project: the project.
        framework: the name that the finding bears.
        application: the module that makes the application, where nothing is mounted.
        call: the call that makes it.
    """
    for module in project.modules:
        for name, found in module.calls:
            if name.rsplit(".", 1)[-1].lower() not in ("mount", "asgi") and not isinstance(found.func, ast.Call):
                continue
            given = [*found.args, *(item.value for item in found.keywords)]
            if any(_is_ours(module, value) for value in given):
                return Finding(
                    f"{framework}.mount", Status.PASS, ast.unparse(found), file=module.path, line=found.lineno
                )
    return Finding(
        f"{framework}.mount",
        Status.FAIL,
        "the application mounts no mailglass",
        UNWIRED,
        'Run `mailglass install`, or mount mailglass.web.app at "/mailglass"',
        application.path,
        call.lineno,
    )


def _is_ours(module: Module, node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return module.dotted(node.func) in _OURS
    if module.dotted(node) in _OURS:
        return True
    if not isinstance(node, ast.Name):
        return False
    return any(
        isinstance(item, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == node.id for target in item.targets)
        and isinstance(item.value, ast.Call)
        and module.dotted(item.value.func) in _OURS
        for item in module.nodes
    )


def _middleware(module: Module, framework: str) -> Iterator[Finding]:
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_middleware = any(
                isinstance(item, ast.Call) and module.dotted(item.func).endswith(".middleware")
                for item in node.decorator_list
            )
        elif isinstance(node, ast.ClassDef):
            is_middleware = any(module.dotted(base).endswith("BaseHTTPMiddleware") for base in node.bases)
        else:
            continue
        read = next(reads_of(node, _CONSUMES), None) if is_middleware else None
        if read is not None:
            yield Finding(
                f"{framework}.middleware",
                Status.FAIL,
                f"{node.name} reads request.{read.attr}() before the endpoint",
                CONSUMED,
                "Read `await request.body()` instead, or let it pass over the webhook path",
                module.path,
                read.lineno,
            )
    for name, call in module.calls:
        if name.endswith((".add_middleware", "Middleware")) or name == "starlette.middleware.Middleware":
            added = module.dotted(call.args[0]) if call.args else name
            if unpacks(added):
                yield Finding(
                    f"{framework}.middleware",
                    Status.FAIL,
                    f"{added} unpacks request bodies",
                    ALTERED,
                    "Take it out, or let it pass over the webhook path",
                    module.path,
                    call.lineno,
                )


def _sizes(project: Project, module: Module, framework: str) -> Iterator[Finding]:
    for _, call in module.calls:
        for name in _SIZES:
            limit = size_of(keyword(call, name))
            if limit is not None and limit < project.max_body:
                yield Finding(
                    f"{framework}.size",
                    Status.WARN,
                    f"{name} is {limit}, webhooks.max_body is {project.max_body}",
                    TOO_SMALL,
                    "Raise it to webhooks.max_body, or lower that",
                    module.path,
                    call.lineno,
                )
