"""Secrets that rotate: mounts as Kubernetes makes them, and a Postmark whose tokens come and go."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Mount:
    """A mounted secret: each file is a link through `..data`, which is swapped whole.

    Args:
        directory: where it is mounted.
    """

    def __init__(self, directory: Path, **contents: str) -> None:
        self.directory = directory
        self._number = 0
        directory.mkdir()
        self.swap(**contents)
        for name in contents:
            (directory / name).symlink_to(Path("..data") / name)

    def swap(self, **contents: str) -> None:
        """Replace all files at once."""
        self._number += 1
        version = self.directory / f"..{self._number}"
        version.mkdir()
        for name, content in contents.items():
            (version / name).write_text(content, encoding="utf-8")
        link = self.directory / "..data_tmp"
        link.symlink_to(version.name)
        os.replace(link, self.directory / "..data")

    def reference(self, name: str) -> str:
        return f"file:{self.directory / name}"


@dataclass
class Postmark:
    """A server of Postmark's API.

    Attributes:
        tokens: those that it takes.
        received: how often it has taken each delivery.
        used: how often each token was taken.
        refused: how often each other one was not.
    """

    url: str = ""
    tokens: set[str] = field(default_factory=set)
    received: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, token: str, mails: list[dict[str, Any]]) -> bool:
        with self.lock:
            if token not in self.tokens:
                self.refused[token] += 1
                return False
            self.used[token] += 1
            self.received.update(mail["Metadata"]["mailglass_id"] for mail in mails)
            return True


@contextmanager
def postmark(*tokens: str) -> Iterator[Postmark]:
    """Serve Postmark's API on a port of loopback."""
    world = Postmark(tokens=set(tokens))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            mails = body if isinstance(body, list) else [body]
            if not world.take(self.headers["x-postmark-server-token"], mails):
                return self._answer(401, {"ErrorCode": 10, "Message": "bad token"})
            answers = [{"ErrorCode": 0, "MessageID": mail["Metadata"]["mailglass_id"]} for mail in mails]
            return self._answer(200, answers if isinstance(body, list) else answers[0])

        def do_GET(self) -> None:
            known = self.headers["x-postmark-server-token"] in world.tokens
            self._answer(200 if known else 401, {"ErrorCode": 0 if known else 10, "Suppressions": [], "Messages": []})

        def _answer(self, status: int, content: Mapping[str, Any] | list[Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    world.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
