"""`mailglass install` into what each framework's generator or tutorial makes, served by its usual server."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailglass.cli import run
from mailglass.stack.process import ChildProcess, until_port
from tests.signed_webhooks import ACCOUNT, ENVIRONMENT, event, post, stored
from tests.unit.test_doctor import project
from tests.unit.test_install_identity import tree


@dataclass(frozen=True)
class Skeleton:
    """A new application.

    Attributes:
        server: the command that serves it.
        files: its source, by path.
        generator: the command that makes it, where the framework has one.
    """

    server: str
    files: dict[str, str] = field(default_factory=dict)
    generator: str = ""


FLASK = """\
from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello_world():
    return "<p>Hello, World!</p>"
"""
FLASKR = """\
import os

from flask import Flask


def create_app(test_config=None):
    # create and configure the app
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_mapping(
        SECRET_KEY="dev",
        DATABASE=os.path.join(app.instance_path, "flaskr.sqlite"),
    )

    @app.route("/")
    def hello():
        return "Hello, World!"

    return app
"""
FASTAPI = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root():
    return {"message": "Hello World"}


@app.get("/{path:path}")
async def everything(path: str):
    return {"path": path}
"""
BIGGER = """\
from fastapi import Depends, FastAPI

from .routers import items


def create_app() -> FastAPI:
    app = FastAPI(
        title="Shop",
        dependencies=[],
    )
    app.include_router(items.router)
    return app


app = create_app()
"""
ITEMS = """\
from fastapi import APIRouter

router = APIRouter(prefix="/items")


@router.get("/")
async def read_items():
    return []
"""
STARLETTE = """\
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def homepage(request):
    return JSONResponse({"hello": "world"})


app = Starlette(debug=True, routes=[
    Route("/", homepage),
    Route("/{path:path}", homepage, methods=["GET", "POST"]),
])
"""
LITESTAR = """\
from litestar import Litestar, get


@get("/")
async def index() -> str:
    return "Hello, world!"


app = Litestar([index])
"""
FACTORY = """\
{line}


def create_app():
    app = {call}
    return app
"""
GUNICORN = "-m gunicorn -b 127.0.0.1:{port} --threads 4"
UVICORN = "-m uvicorn --port {port}"
GRANIAN = "-m granian --interface asgi --host 127.0.0.1 --port {port}"
SKELETONS = {
    "django": Skeleton(f"{GUNICORN} shop.wsgi", generator="-m django startproject shop ."),
    "flask": Skeleton(f"{GUNICORN} hello:app", {"hello.py": FLASK}),
    "flask with a factory": Skeleton(f"{GUNICORN} flaskr:create_app()", {"flaskr/__init__.py": FLASKR}),
    "fastapi": Skeleton(f"{UVICORN} main:app", {"main.py": FASTAPI}),
    "fastapi in a package": Skeleton(
        f"{GRANIAN} app.main:app",
        {"app/__init__.py": "", "app/main.py": BIGGER, "app/routers/__init__.py": "", "app/routers/items.py": ITEMS},
    ),
    "starlette": Skeleton(f"{UVICORN} app:app", {"app.py": STARLETTE}),
    "starlette with a factory": Skeleton(
        f"{UVICORN} --factory app:create_app",
        {"app.py": FACTORY.format(line="from starlette.applications import Starlette", call="Starlette()")},
    ),
    "litestar": Skeleton(f"{UVICORN} app:app", {"app.py": LITESTAR}),
    "litestar with a factory": Skeleton(
        f"{GRANIAN} --factory app:create_app",
        {"app.py": FACTORY.format(line="from litestar import Litestar", call="Litestar(route_handlers=[])")},
    ),
}


def made(directory: Path, skeleton: Skeleton) -> Path:
    directory.mkdir()
    if skeleton.generator:
        subprocess.run([sys.executable, *skeleton.generator.split()], cwd=directory, check=True)
    return project(directory, skeleton.files)


@pytest.mark.parametrize("name", SKELETONS)
def test_a_new_application_passes_the_doctor_once_installed_into_and_is_as_it_was_without(
    name: str, tmp_path: Path
) -> None:
    root = made(tmp_path / "site", SKELETONS[name])
    before = tree(root)
    assert run(["doctor", str(root)]) == 1
    assert run(["install", str(root)]) == 0
    assert run(["doctor", str(root)]) == 0
    installed = tree(root)
    assert run(["install", str(root)]) == 0
    assert tree(root) == installed
    assert run(["uninstall", str(root)]) == 0
    assert tree(root) == before


@pytest.mark.parametrize("name", SKELETONS)
def test_a_signed_webhook_passes_an_application_that_was_installed_into(
    name: str, cluster: Any, unused_port: int, database_url: str
) -> None:
    skeleton = SKELETONS[name]
    root = made(cluster.directory / "site", skeleton)
    assert run(["install", str(root)]) == 0
    with (root / "mailglass.toml").open("a", encoding="utf-8") as settings:
        settings.write(ACCOUNT)
    environment = {**os.environ, **cluster.environment, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
    # its own settings, as they were written beside it
    del environment["MAILGLASS_CONFIG"]
    child = ChildProcess(
        "server",
        [sys.executable, *skeleton.server.format(port=unused_port).split()],
        log=cluster.directory / "server.log",
        env=environment,
        cwd=root,
        ready=until_port(unused_port),
        ready_timeout=60,
        guardian=cluster.guardian,
    )
    cluster.stack.callback(child.stop)
    child.start()
    assert post(unused_port, "/mailglass/webhooks/gun", event()) == 200
    assert post(unused_port, "/mailglass/webhooks/gun", event("another")) == 401
    assert stored(database_url) == 1
