"""`mailglass install`, then `uninstall`: every byte of an application is as it was, in whatever style it is written."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings

from mailglass.installer import managed
from mailglass.installer.install import plan_install
from mailglass.installer.plan import Plan
from mailglass.installer.source import Source
from mailglass.installer.uninstall import plan_uninstall
from mailglass.installer.writing import apply
from mailglass.wiring.doctor import diagnose
from tests.sources import Application, asgi_applications, django_projects, flask_applications

SOURCES = {"flask": flask_applications(), "asgi": asgi_applications(), "django": django_projects()}


def tree(root: Path) -> dict[str, bytes | None]:
    """Every file and directory below a directory."""
    return {path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def carried_out(root: Path, plan: Plan) -> Plan:
    apply(root, plan.writes)
    return plan


def application_of(namespace: dict[str, Any]) -> Any:
    if "create_app" in namespace:
        return namespace["create_app"]()
    return next(namespace[name] for name in ("app", "application", "shop_app") if namespace.get(name))


def paths_of(application: Any) -> list[str]:
    """The paths that an application serves, in the order in which it looks them up."""
    if hasattr(application, "url_map"):
        return [rule.rule for rule in application.url_map.iter_rules()]
    if hasattr(application, "route_handler_method_map"):
        return list(application.route_handler_method_map)
    return [getattr(route, "path", "") for route in application.routes]


def run_module(file: Path) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "shop", "__file__": str(file)}
    exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), namespace)
    return namespace


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs that a Django project includes without its settings, and a disk that is never waited for."""
    urls = ModuleType("mailglass.integrations.django.urls")
    vars(urls)["urlpatterns"] = []
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    # no power failure is played here, and waiting for the disk is most of the time
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("kind", SOURCES)
def test_an_application_of_any_style_is_wired_and_then_as_it_was(kind: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(application=SOURCES[kind])
    def check(application: Application) -> None:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            for name, raw in application.files.items():
                (root / name).write_bytes(raw)
            before = tree(root)
            plan = carried_out(root, plan_install(root))
            assert (plan.exit_code, plan.framework) == (0, application.framework), plan.by_hand
            assert diagnose(root).exit_code == 0
            assert plan_install(root).writes == []
            for name, raw in application.files.items():
                source = Source.read(name, (root / name).read_bytes())
                pieces = managed.pieces(source, python=name.endswith(".py"))
                assert managed.without(source, pieces).encode() == raw
            check_runs(application, root)
            assert carried_out(root, plan_uninstall(root)).exit_code == 0
            assert tree(root) == before

    check()


def check_runs(application: Application, root: Path) -> None:
    namespace = run_module(root / application.module)
    if application.framework == "django":
        installed = run_module(root / "settings.py")["INSTALLED_APPS"]
        assert list(installed)[-1] == "mailglass.integrations.django"
        assert namespace["urlpatterns"][0].pattern._route == "mailglass/"
    else:
        assert any(path.startswith("/mailglass") for path in paths_of(application_of(namespace)))


def test_a_mount_stands_before_routes_that_match_every_path(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "from starlette.applications import Starlette\n"
        "from starlette.routing import Mount, Route\n"
        "app = Starlette(routes=[Mount('/', routes=[])])\n"
    )
    carried_out(tmp_path, plan_install(tmp_path))
    assert paths_of(application_of(run_module(tmp_path / "main.py"))) == ["/mailglass", ""]
