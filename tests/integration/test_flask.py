"""A Flask application on gunicorn: signed webhooks, refusals, and the command line."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mailglass.stack.process import ChildProcess, until_line
from mailglass.wiring.doctor import diagnose
from tests.signed_webhooks import ACCOUNT, ENVIRONMENT, event, post, stored

APPLICATION = """
from flask import Flask, request
from mailglass.integrations.flask import Mailglass

app = Flask(__name__)
Mailglass(app)


@app.get("/")
def index():
    return "shop"
"""


@pytest.fixture
def shop(cluster: Any, monkeypatch: pytest.MonkeyPatch, unused_port: int) -> int:
    """The port of the application, served by gunicorn."""
    (cluster.directory / "shop.py").write_text(APPLICATION, encoding="utf-8")
    config = cluster.directory / "mailglass.toml"
    config.write_text(config.read_text(encoding="utf-8") + ACCOUNT, encoding="utf-8")
    child = ChildProcess(
        "gunicorn",
        [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{unused_port}", "--threads", "4", "shop:app"],
        log=cluster.directory / "gunicorn.log",
        env={
            **os.environ,
            **cluster.environment,
            **ENVIRONMENT,
            "PYTHONUNBUFFERED": "1",
        },
        cwd=cluster.directory,
        ready=until_line("Booting worker"),
        ready_timeout=60,
        guardian=cluster.guardian,
    )
    cluster.stack.callback(child.stop)
    child.start()
    return unused_port


def test_a_signed_webhook_is_stored_and_a_forged_one_refused(shop: int, cluster: Any, database_url: str) -> None:
    assert post(shop, "/mailglass/webhooks/gun", event()) == 200
    assert post(shop, "/mailglass/webhooks/gun", event("another")) == 401
    assert post(shop, "/mailglass/webhooks/unknown", event()) == 404
    assert stored(database_url) == 1
    assert post(shop, "/mailglass/webhooks/acme/gun", event(token="token-2")) == 200
    assert stored(database_url) == 2


def test_a_body_that_is_too_large_is_refused_by_its_length_and_without_one(shop: int) -> None:
    assert post(shop, "/mailglass/webhooks/gun", b"x" * 5001) == 413
    with closing(socket.create_connection(("127.0.0.1", shop), timeout=30)) as connection:
        head = b"POST /mailglass/webhooks/gun HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head + b"1000\r\n" + b"x" * 4096 + b"\r\n1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n")
        assert connection.recv(100).split()[1] == b"413"


def test_the_application_passes_the_doctor_and_has_the_command(shop: int, cluster: Any) -> None:
    assert diagnose(Path(cluster.directory)).exit_code == 0
    child = ChildProcess(
        "flask",
        [sys.executable, "-m", "flask", "--app", "shop", "mailglass", "config", "env"],
        log=cluster.directory / "flask.log",
        env={**os.environ, **cluster.environment, **ENVIRONMENT},
        cwd=cluster.directory,
        ready=until_line("MAILGLASS_CONFIG"),
        ready_timeout=60,
        guardian=cluster.guardian,
    )
    child.start()
    child.stop()
