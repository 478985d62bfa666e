"""`mailglass doctor`: wired, not wired, or not to be told, by the source alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from mailglass.cli import run
from mailglass.wiring.doctor import diagnose
from mailglass.wiring.findings import Finding, Status

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "doctor.json"
DJANGO = {
    "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n",
    "shop/__init__.py": "",
    "shop/settings.py": (
        "ROOT_URLCONF = 'shop.urls'\n"
        "INSTALLED_APPS = ['django.contrib.auth', 'mailglass.integrations.django']\n"
        "MIDDLEWARE = ['django.middleware.csrf.CsrfViewMiddleware',\n"
        "              'django.contrib.auth.middleware.LoginRequiredMiddleware']\n"
    ),
    "shop/urls.py": (
        "from django.urls import include, path\n"
        "urlpatterns = [path('mailglass/', include('mailglass.integrations.django.urls'))]\n"
    ),
}
FLASK = {
    "app.py": (
        "from flask import Flask\nfrom mailglass.integrations.flask import Mailglass\n"
        "app = Flask(__name__)\nMailglass(app)\n"
    )
}
FACTORY = {
    "shop/__init__.py": "",
    "shop/extensions.py": "from mailglass.integrations.flask import Mailglass\nmail = Mailglass()\n",
    "shop/app.py": (
        "from flask import Flask\nfrom .extensions import mail\n"
        "def create_app():\n    app = Flask('shop')\n    mail.init_app(app)\n    return app\n"
    ),
}
FASTAPI = {
    "main.py": (
        "from fastapi import FastAPI\nfrom mailglass.web import create_app\n"
        "app = FastAPI()\napp.mount('/mailglass', create_app())\n"
    )
}
STARLETTE = {
    "main.py": (
        "from starlette.applications import Starlette\nfrom starlette.routing import Mount\n"
        "import mailglass.web\n"
        "app = Starlette(routes=[Mount('/mailglass', app=mailglass.web.app)])\n"
    )
}
LITESTAR = {
    "main.py": (
        "from litestar import Litestar, asgi\nfrom mailglass.web import create_app\n"
        "webhooks = create_app()\n"
        "app = Litestar([asgi('/mailglass', is_mount=True)(webhooks)])\n"
    )
}
WIRED = {
    "django": DJANGO,
    "flask": FLASK,
    "flask with a factory": FACTORY,
    "fastapi": FASTAPI,
    "starlette": STARLETTE,
    "litestar": LITESTAR,
}


def project(directory: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return directory


def bad(root: Path) -> dict[str, Finding]:
    return {finding.id: finding for finding in diagnose(root).findings if finding.status is not Status.PASS}


@pytest.mark.parametrize("name", WIRED)
def test_a_wired_application_passes(tmp_path: Path, name: str) -> None:
    diagnosis = diagnose(project(tmp_path, WIRED[name]))
    assert [finding.status for finding in diagnosis.findings] == [Status.PASS], diagnosis.findings
    assert diagnosis.exit_code == 0


UNWIRED = {
    "django": ({**DJANGO, "shop/urls.py": "from django.urls import path\nurlpatterns = []\n"}, "shop/urls.py:2"),
    "flask": ({"app.py": "from flask import Flask\napp = Flask(__name__)\n"}, "app.py:2"),
    "flask without init_app": (
        {**FACTORY, "shop/app.py": "from flask import Flask\ndef create_app():\n    return Flask('shop')\n"},
        "shop/extensions.py:2",
    ),
    "fastapi": ({"main.py": "import fastapi\n\napp = fastapi.FastAPI()\n"}, "main.py:3"),
    "starlette": ({"main.py": "from starlette.applications import Starlette as S\napp = S()\n"}, "main.py:2"),
    "litestar": ({"main.py": "from litestar import Litestar\napp = Litestar([])\n"}, "main.py:2"),
    "another application mounted": (
        {"main.py": "from fastapi import FastAPI\nfrom other import app as b\napp = FastAPI()\napp.mount('/b', b)\n"},
        "main.py:3",
    ),
}


@pytest.mark.parametrize("name", UNWIRED)
def test_an_unwired_application_fails_with_its_place(tmp_path: Path, name: str) -> None:
    files, place = UNWIRED[name]
    root = project(tmp_path, files)
    (finding,) = [found for key, found in bad(root).items() if key.endswith(".mount")]
    assert (finding.status, finding.place) == (Status.FAIL, place)
    assert "bounces and complaints never reach" in finding.effect
    assert diagnose(root).exit_code == 1


HAZARDS = {
    "a middleware reads a form": (
        "django.middleware",
        {
            **DJANGO,
            "shop/settings.py": DJANGO["shop/settings.py"] + "MIDDLEWARE += ['shop.middleware.Audit']\n",
            "shop/middleware.py": (
                "class Audit:\n    def __call__(self, request):\n        print(request.POST)\n        return None\n"
            ),
        },
        "shop/middleware.py:3",
    ),
    "a middleware unpacks requests": (
        "django.middleware",
        {**DJANGO, "shop/settings.py": DJANGO["shop/settings.py"] + "MIDDLEWARE.append('gz.GunzipRequest')\n"},
        "shop/settings.py:5",
    ),
    "a login middleware of one's own": (
        "django.login",
        {
            **DJANGO,
            "shop/settings.py": DJANGO["shop/settings.py"] + "MIDDLEWARE += ['shop.auth.LoginWall']\n",
            "shop/auth.py": "class LoginWall:\n    pass\n",
        },
        "shop/auth.py:1",
    ),
    "the django application is not installed": (
        "django.app",
        {**DJANGO, "shop/settings.py": "ROOT_URLCONF = 'shop.urls'\nINSTALLED_APPS = []\n"},
        "shop/settings.py:2",
    ),
    "a flask hook reads a form": (
        "flask.before_request",
        {"app.py": FLASK["app.py"] + "@app.before_request\ndef log():\n    print(request.form)\n"},
        "app.py:7",
    ),
    "flask bounds bodies": (
        "flask.size",
        {"app.py": FLASK["app.py"] + "app.config['MAX_CONTENT_LENGTH'] = 2 ** 20\n"},
        "app.py:5",
    ),
    "flask protects from CSRF": (
        "flask.csrf",
        {"app.py": FLASK["app.py"] + "from flask_wtf import CSRFProtect\nCSRFProtect(app)\n"},
        "app.py:6",
    ),
    "a starlette middleware reads a form": (
        "fastapi.middleware",
        {
            "main.py": FASTAPI["main.py"]
            + "@app.middleware('http')\nasync def log(request, call_next):\n    await request.form()\n"
        },
        "main.py:7",
    ),
    "a bound of the server framework": (
        "fastapi.size",
        {"main.py": FASTAPI["main.py"] + "app.add_middleware(Limit, max_body_size=1000)\n"},
        "main.py:5",
    ),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_code_before_the_endpoint_that_breaks_webhooks_is_found(tmp_path: Path, name: str) -> None:
    key, files, place = HAZARDS[name]
    found = bad(project(tmp_path, files))
    assert set(found) == {key}, found
    assert found[key].place == place
    assert found[key].remedy


def test_a_size_limit_counts_against_the_projects_own_max_body(tmp_path: Path) -> None:
    files = {**FLASK, "mailglass.toml": "[webhooks]\nmax_body = 1000\n"}
    files["app.py"] += "app.config['MAX_CONTENT_LENGTH'] = 2000\n"
    assert bad(project(tmp_path, files)) == {}


def test_a_directory_without_an_application_cannot_be_diagnosed(tmp_path: Path) -> None:
    diagnosis = diagnose(project(tmp_path, {"tool.py": "print('hello')\n"}))
    assert diagnosis.exit_code == 2
    assert "mailglass preflight" in diagnosis.findings[0].remedy


def test_source_that_cannot_be_parsed_is_named_and_stops_nothing(tmp_path: Path) -> None:
    files = {**FLASK, "old.py": "import flask\nprint 'hello'\n", "deep.py": "flask = " + "(" * 10_000 + ")" * 10_000}
    diagnosis = diagnose(project(tmp_path, files))
    assert diagnosis.exit_code == 0
    (warning,) = [finding for finding in diagnosis.findings if finding.status is Status.WARN]
    assert "2 files could not be parsed" in warning.observed


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "app.py")
    assert diagnose(tmp_path).exit_code == 2


def test_tests_dependencies_and_environments_are_left_out(tmp_path: Path) -> None:
    files = {f"{name}/main.py": FASTAPI["main.py"] for name in ("tests", "node_modules", ".tox", "py311/lib")}
    files |= dict.fromkeys(("conftest.py", "test_app.py", "shop/app_test.py", "shop/tests.py"), FASTAPI["main.py"])
    files["py311/pyvenv.cfg"] = ""
    assert diagnose(project(tmp_path, files)).exit_code == 2


def test_nothing_of_the_application_is_run(tmp_path: Path) -> None:
    files = {"app.py": FLASK["app.py"] + "open('ran', 'w').close()\n"}
    diagnose(project(tmp_path, files))
    assert not (tmp_path / "ran").exists()


def test_the_command_prints_the_place_and_ends_with_a_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project(tmp_path, UNWIRED["flask"][0])
    assert run(["doctor", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[fail] flask.mount: the application has no Mailglass extension (app.py:2)"
    assert lines[-1] == "mailglass doctor: pass=0 fail=1 cannot_diagnose=0"
    assert run(["doctor", str(tmp_path), "--format", "json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert printed["findings"][0]["line"] == 2


def test_a_directory_that_is_none_is_an_error_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", str(tmp_path / "nowhere")]) == 64
    assert run(["doctor", "--nonsense"]) == 64
