"""A worker or beat that starts while its servers restart, or without what it needs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mailglass import Message, deliver_later


@contextmanager
def passing(port: int, host: str, target: int) -> Iterator[None]:
    """Let connections to a port of loopback through to a server: its address has come back."""
    sockets: list[socket.socket] = []

    def pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, target))
                sockets.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", port))) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield
        finally:
            for one in sockets:
                one.close()


def moved(url: str, port: int) -> tuple[str, str, int]:
    """Return the URL at another port of loopback, and where it was."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    return url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}"), parts.hostname, parts.port


def start(cluster, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "mailglass", *arguments],
        env={**os.environ, **cluster.environment, "PYTHONUNBUFFERED": "1"},
        cwd=cluster.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"it ended before it said {text!r}:\n{''.join(lines)}")


WORKER = ("worker", "-Q", "mailglass", "-c", "1", "-P", "threads", "-l", "info")


def test_a_worker_waits_for_its_database_and_says_so_in_few_lines(cluster, outside, unused_port: int) -> None:
    result = deliver_later.delay(Message(to="ada@example.com", subject="Hello", text="Hello"))
    url, host, port = moved(cluster.environment["MAILGLASS_DATABASE_URL"], unused_port)
    cluster.environment["MAILGLASS_DATABASE_URL"] = url
    worker = start(cluster, *WORKER)
    try:
        lines = read_until(worker, "mailglass.startup.waiting")
        with passing(unused_port, host, port):
            lines += read_until(worker, "ready.")
            assert result.get(timeout=60)
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=60)
    finally:
        worker.kill()
    assert sum("mailglass.startup.waiting" in line for line in lines) <= 4
    assert sum("mailglass.startup.database_reached" in line for line in lines) == 1
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_that_waits_for_its_database(cluster, unused_port: int, number: int) -> None:
    cluster.environment["MAILGLASS_DATABASE_URL"] = moved(cluster.environment["MAILGLASS_DATABASE_URL"], unused_port)[0]
    worker = start(cluster, *WORKER)
    try:
        read_until(worker, "mailglass.startup.waiting")
        worker.send_signal(number)
        rest, _ = worker.communicate(timeout=20)
    finally:
        worker.kill()
    assert worker.returncode == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize("what", ["worker", "beat"])
def test_a_signal_ends_what_waits_for_its_broker(cluster, unused_port: int, what: str) -> None:
    cluster.environment["MAILGLASS_BROKER_URL"] = f"redis://127.0.0.1:{unused_port}/0"
    process = start(cluster, *(WORKER if what == "worker" else ("beat", "-l", "info")))
    try:
        read_until(process, "Trying again" if what == "worker" else "Starting")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize("what", ["worker", "beat"])
def test_logs_in_json_are_json_from_the_first_line_to_the_last(cluster, what: str) -> None:
    cluster.environment["MAILGLASS_LOG_FORMAT"] = "json"
    process = start(cluster, *(WORKER if what == "worker" else ("beat",)))
    try:
        lines = read_until(process, "ready." if what == "worker" else "mailglass.beat.leads")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert lines
    for line in (*lines, *rest.splitlines()):
        # Celery says goodbye by itself
        assert not line.strip() or line.startswith("worker: Warm shutdown") or json.loads(line)["event"]


def test_a_beat_waits_for_its_database(cluster, outside, unused_port: int, wait_for: Callable[..., None]) -> None:
    url, host, port = moved(cluster.environment["MAILGLASS_DATABASE_URL"], unused_port)
    cluster.environment["MAILGLASS_DATABASE_URL"] = url
    beat = start(cluster, "beat", "-l", "info")
    try:
        read_until(beat, "mailglass.beat.ledger_lost")
        assert beat.poll() is None
        with passing(unused_port, host, port):
            read_until(beat, "mailglass.beat.leads")
            beat.send_signal(signal.SIGTERM)
            beat.communicate(timeout=30)
    finally:
        beat.kill()


@pytest.mark.parametrize("text", ["", 'default_from = "shop@example.com"\n', None])
def test_a_worker_without_accounts_refuses_to_start_and_says_what_it_read(
    cluster, tmp_path: Path, text: str | None
) -> None:
    if text is None:
        del cluster.environment["MAILGLASS_CONFIG"]
        os.environ.pop("MAILGLASS_CONFIG")
        (tmp_path / "mailglass.toml").unlink()
    else:
        (tmp_path / "mailglass.toml").write_text(text, encoding="utf-8")
    worker = start(cluster, *WORKER)
    said, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert "no account is configured" in said and "MAILGLASS_CONFIG" in said
    assert ("no settings file was read" if text is None else str(tmp_path / "mailglass.toml")) in said
    assert "Traceback" not in said
