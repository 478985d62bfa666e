"""SMTP servers that follow a script, down to the byte, and an account that sends to them."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mailglass.clock import monotonic
from mailglass.ids import uuid7
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import SMTPOptions, SMTPProvider

PATIENCE = 20.0
ALL = ("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8")


class Peer:
    """The server's end of one connection, for a script to speak through."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.file = sock.makefile("rb", buffering=0)  # so that what was not heard yet is seen by select

    def say(self, *lines: str) -> None:
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self, *expected: str) -> str:
        line = ""
        for start in expected:
            line = self.file.readline().decode().rstrip("\r\n")
            assert line.startswith(start), f"expected {start!r}, heard {line!r}"
        return line

    def hear_any(self) -> str:
        """Return the next line; "" where the client has left."""
        with contextlib.suppress(ConnectionError):
            return self.file.readline().decode().rstrip("\r\n")
        return ""

    def greet(self, *features: str) -> None:
        self.say("220 script")
        self.hear("EHLO ")
        self.say(*[f"250-{word}" for word in ("script", *features)], "250 HELP")

    def content(self) -> bytes:
        lines = iter(self.file.readline, b".\r\n")
        return b"".join(line.removeprefix(b".") for line in lines if line or pytest.fail("closed within the content"))

    def hears_nothing(self, seconds: float = 0.05) -> bool:
        """Whether the client waits for a reply."""
        return not select.select([self.sock], [], [], seconds)[0]

    def hear_envelope(self) -> None:
        self.hear("MAIL FROM", "RCPT TO", "DATA")

    def take_mail(self, answer: str = "250 2.0.0 ok") -> bytes:
        """One mail, answered before anything that came behind it is read."""
        self.hear_envelope()
        self.say("250 ok", "250 ok", "354 go on")
        content = self.content()
        self.say(answer)
        return content

    def hear_the_end(self) -> None:
        """The client leaves, politely or not, and says nothing else."""
        with contextlib.suppress(ConnectionError):
            if (line := self.file.readline()) == b"QUIT\r\n":
                self.say("221 bye")
                line = self.file.readline()
            assert line == b""

    def reset(self) -> None:
        """Close so that the other side gets a reset and not an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


Script = Callable[[Peer], object]


@contextlib.contextmanager
def server(*scripts: Script) -> Iterator[int]:
    """Plays one script per connection, in order; fails the test when one was not played to its end."""
    errors: list[BaseException] = []
    played = 0

    def play(listener: socket.socket) -> None:
        nonlocal played
        try:
            for script in scripts:
                peer = Peer(listener.accept()[0])
                try:
                    script(peer)
                finally:
                    peer.close()
                played += 1
        except BaseException as error:
            errors.append(error)
        finally:
            listener.close()  # a connection that no script foresees is refused

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=play, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    assert played == len(scripts)


@contextlib.contextmanager
def provider(port: int, **options: Any) -> Iterator[SMTPProvider]:
    opened = SMTPProvider(
        "relay", SMTPOptions(**{"host": "127.0.0.1", "port": port, "security": "none", "timeout": PATIENCE, **options})
    )
    try:
        yield opened
    finally:
        opened.close()


def mail(**changes: Any) -> Outgoing:
    plain = Outgoing(
        delivery_id=uuid7(),
        tenant="acme",
        stream="transactional",
        recipient=Address("ada@example.com"),
        sender=Address("shop@example.org"),
        subject="Your order",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        text="Thank you.",
    )
    return replace(plain, **changes)


def send(port: int, *mails: Outgoing, **options: Any) -> list[Outcome]:
    with provider(port, **options) as opened:
        return opened.send(mails or [mail()], deadline=monotonic() + PATIENCE)


def brief(outcomes: list[Outcome]) -> list[tuple[str, str | None]]:
    return [(outcome.kind.value, outcome.reason) for outcome in outcomes]


def lose_the_answer(peer: Peer) -> None:
    """Take a mail to the end of its content, and say nothing to it."""
    peer.greet(*ALL)
    peer.hear("MAIL FROM", "RCPT TO", "DATA")
    peer.say("250 ok", "250 ok", "354 go on")
    peer.content()
