"""Wiring of each framework: the file in which the endpoint is mounted, and the code that mounts it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import libcst as cst

from mailglass.installer.edits import Code, Wanted, has_block
from mailglass.installer.places import Place, Reading, may_give
from mailglass.installer.plan import ByHand
from mailglass.installer.source import read
from mailglass.wiring import asgi, django, flask
from mailglass.wiring.findings import Status
from mailglass.wiring.project import Module, Project

FRAMEWORKS: Final = ("django", "flask", "fastapi", "starlette", "litestar")

APP_BLOCK: Final = "app"
MOUNT_BLOCK: Final = "mount"

_WEB: Final = "from mailglass.web import app as mailglass_webhooks"
_BY_HAND: Final = {
    "flask": ("from mailglass.integrations.flask import Mailglass", "Mailglass(app)"),
    "fastapi": (_WEB, 'app.mount("/mailglass", mailglass_webhooks)'),
    "starlette": (_WEB, 'app.mount("/mailglass", mailglass_webhooks)'),
    "litestar": (
        "from litestar import asgi",
        _WEB,
        'app.register(asgi("/mailglass", is_mount=True, copy_scope=True)(mailglass_webhooks))',
    ),
}
_SETTINGS_BY_HAND: Final = (f'INSTALLED_APPS += ["{django.APP}"]',)
_URLS_BY_HAND: Final = (
    "from django.urls import include, path",
    f'urlpatterns = [path("mailglass/", include("{django.URLS}")), *urlpatterns]',
)

Made = Sequence[tuple[Module, ast.Call]]


@dataclass(frozen=True, slots=True)
class Wiring:
    """Blocks that wire one application.

    Attributes:
        home: the file of the application, or of its URLs. Its mails stand beside it. None if it is not certain.
        wanted: the blocks in the order in which they are written.
        by_hand: what a person must do, where not even the file is certain.
        settings: the file that has mailglass's settings already, or None.
    """

    home: str | None
    wanted: Sequence[Wanted] = ()
    by_hand: Sequence[ByHand] = ()
    settings: str | None = None


def frameworks_of(project: Project) -> list[str]:
    """Return the frameworks that the applications of a project are made with."""
    found = {framework for framework, _, _ in asgi.applications(project)}
    if django.settings_modules(project):
        found.add("django")
    if flask.applications(project):
        found.add("flask")
    return [name for name in FRAMEWORKS if name in found]


def wiring_of(project: Project, framework: str) -> Wiring:
    """Return what wires the application of one framework.

    Args:
        project: the project.
        framework: one of `FRAMEWORKS`.
    """
    if framework == "django":
        return _django(project)
    if framework == "flask":
        return _flask(project)
    made = [(module, call) for name, module, call in asgi.applications(project) if name == framework]
    wired = bool(made) and asgi.mount(project, framework, *made[0]).status is Status.PASS
    names = [name for name, known in asgi.APPLICATIONS.items() if known == framework]
    return _application(project, framework, made, names, _litestar if framework == "litestar" else _routes, wired)


def _flask(project: Project) -> Wiring:
    made = flask.applications(project)
    found = flask.mount(project, *made[0]) if made else None
    wired = found is not None and found.status is Status.PASS
    started = [(module, call) for module in project.modules for name, call in module.calls if name == flask.EXTENSION]
    if found is not None and started and not wired and not _is_managed(project, started[0][0]):
        module, call = started[0]
        lines = (f"{_target(module, call) or 'mailglass'}.init_app(app)",)
        return Wiring(None, by_hand=[ByHand(found.observed, made[0][0].path, made[0][1].lineno, lines)])
    return _application(project, "flask", made, [flask.APPLICATION], _extension, wired)


def _target(module: Module, call: ast.Call) -> str | None:
    targets = (node.targets[0] for node in module.nodes if isinstance(node, ast.Assign) and node.value is call)
    return next((ast.unparse(target) for target in targets), None)


def _application(
    project: Project,
    framework: str,
    made: Made,
    names: Collection[str],
    code: Callable[[Place], Code],
    wired: bool,
) -> Wiring:
    """Return the wiring of an application that is made by a call."""
    lines = _BY_HAND[framework]
    if not made:
        return Wiring(None, by_hand=[ByHand(f"no {framework} application was found", None, None, lines)])
    module, call = made[0]
    if wired and not _is_managed(project, module):
        return Wiring(module.path)
    if len(made) > 1:
        places = ", ".join(f"{found.path}:{node.lineno}" for found, node in made[:5])
        reason = f"{len(made)} {framework} applications are made, and any of them may serve webhooks: {places}"
        return Wiring(None, by_hand=[ByHand(reason, None, None, lines)])
    reason = "the application is not made by a statement `name = ...` on a line of its own"
    wanted = Wanted(
        path=module.path,
        block=MOUNT_BLOCK,
        place=lambda reading: _sole(reading, names),
        code=code,
        imports=True,
        detail="mounts the webhook endpoint",
        by_hand=ByHand(reason, module.path, call.lineno, lines),
        wired=wired,
    )
    return Wiring(module.path, [wanted])


def _is_managed(project: Project, module: Module) -> bool:
    return has_block(read(project.root, module.path), MOUNT_BLOCK)


def _sole(reading: Reading, names: Collection[str]) -> Place | None:
    calls = reading.calls(names)
    return reading.after(calls[0]) if len(calls) == 1 else None


def _extension(place: Place) -> Code:
    return Code((f"{{Mailglass}}({place.target})",), {"Mailglass": flask.EXTENSION})


def _routes(place: Place) -> Code:
    """Return the mount, before the routes that the application is made with: one of them may match every path."""
    web = {"mailglass_webhooks": "mailglass.web.app"}
    if isinstance(place.value, cst.Call) and may_give(place.value, "routes", position=1):
        line = f'{place.target}.routes.insert(0, {{Mount}}("/mailglass", app={{mailglass_webhooks}}))'
        return Code((line,), {"Mount": "starlette.routing.Mount", **web})
    return Code((f'{place.target}.mount("/mailglass", {{mailglass_webhooks}})',), web)


def _litestar(place: Place) -> Code:
    # each block is written as formatters would write it, so that they leave it alone
    mount = '    {asgi}("/mailglass", is_mount=True, copy_scope=True)({mailglass_webhooks}),'
    return Code(
        (f"{place.target}.register(", mount, ")"), {"asgi": "litestar.asgi", "mailglass_webhooks": "mailglass.web.app"}
    )


def _django(project: Project) -> Wiring:
    found = django.settings_modules(project)
    if len(found) != 1:
        places = ", ".join(module.path for module in found[:5])
        reason = f"several modules assign INSTALLED_APPS: {places}" if found else "no module assigns INSTALLED_APPS"
        by_hand = [ByHand(reason, None, None, _SETTINGS_BY_HAND), ByHand(reason, None, None, _URLS_BY_HAND)]
        return Wiring(None, by_hand=by_hand)
    settings = found[0]
    urls = django.urls_module(project, settings)
    mounted = django.mount(project, settings).status is Status.PASS
    if urls is None and not mounted:
        reason = "ROOT_URLCONF names no module of the project"
        return Wiring(None, by_hand=[ByHand(reason, settings.path, None, _URLS_BY_HAND)])
    wanted = [_installed(settings)]
    if urls is not None:
        wanted.append(_included(urls, wired=mounted))
    needed = [item for item in wanted if not item.wired or _has_block(project, item)]
    own = settings.path if django.has_settings(settings) else None
    return Wiring((urls or settings).path, needed, settings=own)


def _has_block(project: Project, wanted: Wanted) -> bool:
    return has_block(read(project.root, wanted.path), wanted.block)


def _installed(settings: Module) -> Wanted:
    return Wanted(
        path=settings.path,
        block=APP_BLOCK,
        place=lambda reading: reading.last_binding("INSTALLED_APPS"),
        code=_installed_code,
        imports=False,
        detail="installs the Django application",
        by_hand=ByHand("INSTALLED_APPS is not assigned at the top level", settings.path, None, _SETTINGS_BY_HAND),
        wired=django.lists_app(settings),
    )


def _installed_code(place: Place) -> Code:
    if isinstance(place.value, cst.List):
        return Code((f'{place.target} += ["{django.APP}"]',))
    if isinstance(place.value, cst.Tuple):
        return Code((f'{place.target} += ("{django.APP}",)',))
    return Code((f"{place.target} = [", f"    *{place.target},", f'    "{django.APP}",', "]"))


def _included(urls: Module, *, wired: bool) -> Wanted:
    lines = (
        "urlpatterns = [",
        f'    {{path}}("mailglass/", {{include}}("{django.URLS}")),',
        "    *urlpatterns,",
        "]",
    )
    return Wanted(
        path=urls.path,
        block=MOUNT_BLOCK,
        place=lambda reading: reading.last_binding("urlpatterns"),
        # first: a pattern of the application's may match every path
        code=lambda place: Code(lines, {"path": "django.urls.path", "include": "django.urls.include"}),
        imports=True,
        detail="mounts the webhook endpoint",
        by_hand=ByHand("urlpatterns is not assigned at the top level", urls.path, None, _URLS_BY_HAND),
        wired=wired,
    )
