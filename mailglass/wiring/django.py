"""Checks of a Django project: its URLs, its settings, its middleware."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from mailglass.wiring.bodies import reads_of, strings, unpacks
from mailglass.wiring.effects import ALTERED, CONSUMED, REFUSED, UNWIRED
from mailglass.wiring.findings import Finding, Status
from mailglass.wiring.project import Module, Project

APP: Final = "mailglass.integrations.django"
URLS: Final = "mailglass.integrations.django.urls"
# these consume the body of a form, which some providers post
_CONSUMES: Final = frozenset({"POST", "FILES"})


def diagnose(project: Project) -> Iterator[Finding]:
    """Check every Django project of a source tree; nothing where there is none."""
    settings = settings_modules(project)
    if not settings:
        return
    mounted = mount(project, settings[0])
    yield mounted
    for module in settings:
        yield from _settings(project, module, mounted=mounted.status is Status.PASS)


def settings_modules(project: Project) -> list[Module]:
    """Return the modules that assign INSTALLED_APPS, but for those that only add to the list of another."""
    found = ((module, _assigned(module, "INSTALLED_APPS", first=True)) for module in project.modules)
    return [module for module, value in found if value is not None and not _mentions(value, "INSTALLED_APPS")]


def urls_module(project: Project, settings: Module) -> Module | None:
    """Return the module of ROOT_URLCONF, or None if it is not the project's."""
    root = _assigned(settings, "ROOT_URLCONF")
    found = project.module(root.value) if isinstance(root, ast.Constant) and isinstance(root.value, str) else None
    return found[0] if found is not None and not found[1] else None


def lists_app(module: Module) -> bool:
    """Return whether a settings module adds the Django application to INSTALLED_APPS."""
    return any(text == APP or text.startswith(f"{APP}.") for text, _ in strings(_all_values(module, "INSTALLED_APPS")))


def has_settings(module: Module) -> bool:
    """Return whether a settings module assigns mailglass's own settings."""
    return _assigned(module, "MAILGLASS") is not None


def mount(project: Project, settings: Module) -> Finding:
    """Check that a URL pattern includes the endpoint.

    Args:
        project: the project.
        settings: the module that names the root URLs, where nothing is included.
    """
    for module in project.modules:
        for name, call in module.calls:
            if name.rsplit(".", 1)[-1] != "include" or not call.args:
                continue
            target = call.args[0].elts[0] if isinstance(call.args[0], ast.Tuple) and call.args[0].elts else call.args[0]
            included = target.value if isinstance(target, ast.Constant) else module.dotted(target)
            if included == URLS:
                return Finding("django.mount", Status.PASS, f"include({URLS!r})", file=module.path, line=call.lineno)
    place = urls_module(project, settings) or settings
    assigned = _assigned(place, "urlpatterns")
    return Finding(
        "django.mount",
        Status.FAIL,
        f"no URL pattern includes {URLS}",
        UNWIRED,
        f"Run `mailglass install`, which adds include('{URLS}') to urlpatterns and {APP!r} to INSTALLED_APPS. "
        "Or serve the endpoint by `mailglass web` and check it by `mailglass preflight`",
        place.path,
        assigned.lineno if assigned is not None else None,
    )


def _settings(project: Project, module: Module, *, mounted: bool) -> Iterator[Finding]:
    apps = _assigned(module, "INSTALLED_APPS")
    if mounted and apps is not None and not lists_app(module):
        yield Finding(
            "django.app",
            Status.FAIL,
            f"INSTALLED_APPS lacks {APP}",
            "The endpoint's URLs are included without their application.",
            f"Run `mailglass install`, or add {APP!r} to INSTALLED_APPS",
            module.path,
            apps.lineno,
        )
    yield from _middleware(project, module)


def _middleware(project: Project, module: Module) -> Iterator[Finding]:
    for name, node in strings(_all_values(module, "MIDDLEWARE")):
        if unpacks(name):
            yield Finding(
                "django.middleware",
                Status.FAIL,
                f"{name} unpacks request bodies",
                ALTERED,
                "Take it out, or let it pass over the webhook path",
                module.path,
                node.lineno,
            )
        found = project.module(name)
        if found is None:
            continue
        source, attribute = found
        definition = _definition(source.tree, attribute)
        if definition is None:
            continue
        read = next(reads_of(definition, _CONSUMES), None)
        if read is not None:
            yield Finding(
                "django.middleware",
                Status.FAIL,
                f"{name} reads request.{read.attr} before the view",
                CONSUMED,
                "Read request.body instead, or let it pass over the webhook path",
                source.path,
                read.lineno,
            )
        elif "login" in attribute.lower() and not _knows_exemption(definition):
            yield Finding(
                "django.login",
                Status.WARN,
                f"{name} seems to ask for a login and knows no view that needs none",
                REFUSED,
                "Let it honour `login_required = False` of a view, as Django's own does",
                source.path,
                definition.lineno,
            )


def _knows_exemption(definition: ast.AST) -> bool:
    names = {text for text, _ in strings([definition])}
    names |= {node.attr for node in ast.walk(definition) if isinstance(node, ast.Attribute)}
    return "login_required" in names


def _definition(tree: ast.Module, name: str) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | None:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    return None


def _assigned(module: Module, name: str, *, first: bool = False) -> ast.expr | None:
    """Return the value that a module assigns to a name, the last one where there are several, or the first."""
    values = [node.value for node in _assignments(module, name) if isinstance(node, ast.Assign | ast.AnnAssign)]
    return next((value for value in (values if first else reversed(values)) if value is not None), None)


def _mentions(value: ast.expr, name: str) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)
        for node in ast.walk(value)
    )


def _all_values(module: Module, name: str) -> list[ast.AST]:
    """Return the values that are assigned or added to a name."""
    values: list[ast.AST] = [node.value for node in _assignments(module, name) if node.value is not None]
    for called, call in module.calls:
        if called in (f"{name}.append", f"{name}.insert", f"{name}.extend"):
            values.extend(call.args)
    return values


def _assignments(module: Module, name: str) -> Iterator[ast.Assign | ast.AnnAssign | ast.AugAssign]:
    for node in module.nodes:
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            yield node
