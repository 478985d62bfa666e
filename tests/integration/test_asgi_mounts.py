"""The webhook endpoint mounted in FastAPI, Starlette and Litestar, on the servers that they are run with."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from mailglass.ledger.database import close_databases
from mailglass.settings import AccountSettings, Secret, Settings
from mailglass.stack.process import ChildProcess, StackError, until_port
from mailglass.web import create_app
from mailglass.wiring.doctor import diagnose
from tests.serving import StillRuntime
from tests.signed_webhooks import ACCOUNT, ENVIRONMENT, MAX_BODY, event, post, stored

APPLICATIONS = {
    "fastapi": """
import mailglass.web
from fastapi import FastAPI

app = FastAPI(lifespan=mailglass.web.app.lifespan)
app.mount("/mailglass", mailglass.web.app)


@app.get("/")
async def index() -> str:
    return "shop"
""",
    "starlette": """
import mailglass.web
from starlette.applications import Starlette
from starlette.routing import Mount

app = Starlette(routes=[Mount("/mailglass", mailglass.web.app)], lifespan=mailglass.web.app.lifespan)
""",
    "litestar": """
import mailglass.web
from litestar import Litestar, asgi

mail = asgi("/mailglass", is_mount=True, copy_scope=True)(mailglass.web.app)
app = Litestar([mail], lifespan=[mailglass.web.app.lifespan])
""",
}
SERVERS = {
    "uvicorn": "-m uvicorn --port {port} shop:app",
    "granian": "-m granian --interface asgi --host 127.0.0.1 --port {port} shop:app",
    "uvicorn below a root path": "-m uvicorn --root-path /shop --port {port} shop:app",
}
Serve = Callable[..., ChildProcess]


@pytest.fixture
def serve(cluster: Any, unused_port: int) -> Serve:
    """Serves an application by a command, on the unused port."""

    def start(application: str, command: str, settings: str = ACCOUNT) -> ChildProcess:
        (cluster.directory / "shop.py").write_text(application, encoding="utf-8")
        config = cluster.directory / "mailglass.toml"
        config.write_text(config.read_text(encoding="utf-8") + settings, encoding="utf-8")
        child = ChildProcess(
            "server",
            [sys.executable, *command.format(port=unused_port).split()],
            log=cluster.directory / "server.log",
            env={**os.environ, **cluster.environment, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            cwd=cluster.directory,
            ready=until_port(unused_port),
            ready_timeout=60,
            guardian=cluster.guardian,
        )
        cluster.stack.callback(child.stop)
        return child.start()

    return start


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("framework", APPLICATIONS)
def test_a_signed_webhook_passes_the_mount_and_others_are_refused(
    framework: str, server: str, serve: Serve, cluster: Any, unused_port: int, database_url: str
) -> None:
    serve(APPLICATIONS[framework], SERVERS[server])
    assert diagnose(Path(cluster.directory)).exit_code == 0
    assert post(unused_port, "/mailglass/webhooks/gun", event()) == 200
    assert post(unused_port, "/mailglass/webhooks/acme/gun", event(token="token-2")) == 200
    assert stored(database_url) == 2
    assert post(unused_port, "/mailglass/webhooks/gun", event("another")) == 401
    assert post(unused_port, "/mailglass/webhooks/unknown", event()) == 404
    assert post(unused_port, "/mailglass/webhooks/gun", b"x" * (MAX_BODY + 1)) == 413
    with closing(socket.create_connection(("127.0.0.1", unused_port), timeout=30)) as connection:
        head = b"POST /mailglass/webhooks/gun HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head + b"1000\r\n" + b"x" * 4096 + b"\r\n1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n")
        assert connection.recv(100).split()[1] == b"413"
    assert stored(database_url) == 2


@pytest.mark.parametrize("framework", APPLICATIONS)
def test_wrong_settings_stop_the_start_of_an_application_with_the_lifespan(
    framework: str, serve: Serve, unused_port: int
) -> None:
    with pytest.raises(StackError, match="ended while starting"):
        serve(APPLICATIONS[framework], SERVERS["uvicorn"], ACCOUNT.replace("MAILGUN_KEY", "NOT_SET"))


class CountingRuntime(StillRuntime):
    """A runtime whose providers believe everybody, and that counts its rings."""

    rings = 0

    def ring_task(self, task: str) -> None:
        self.rings += 1


def test_test_clients_may_follow_each_other_each_with_its_own_event_loop(database_url: str) -> None:
    settings = Settings(database_url=Secret(database_url), accounts={"steady": AccountSettings("steady", "steady")})
    endpoint, runtime = create_app(settings), CountingRuntime(settings)
    endpoint._own = runtime
    application = FastAPI(lifespan=endpoint.lifespan)
    application.mount("/mailglass", endpoint)
    for number in range(3):
        client, rings = TestClient(application), runtime.rings
        for body in (f"[{number}]", f"[{number}, 1]", f"[{number}, 2]"):
            assert client.post("/mailglass/webhooks/steady", content=body.encode()).status_code == 200
        assert runtime.rings > rings
    with TestClient(application) as client:
        assert client.get("/mailglass/readyz").status_code == 200
    close_databases()
    assert stored(database_url) == 9
