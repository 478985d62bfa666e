"""Deadlines, and what opens a connection: greetings, capabilities, logins and their refusals."""

from __future__ import annotations

import logging
import select
import socket
import threading
from typing import Any

import pytest

from mailglass.clock import monotonic
from mailglass.mail.outcomes import Outcome
from mailglass.providers.smtp import opening
from mailglass.settings import Secret
from tests.smtp_script import ALL, PATIENCE, Peer, brief, mail, provider, send, server

# the deadline


def test_after_the_deadline_nothing_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, provider(listener.getsockname()[1]) as opened:
        outcomes = opened.send([mail(), mail()], deadline=monotonic())

        assert brief(outcomes) == [("transient", "deadline")] * 2
        assert not select.select([listener], [], [], 0)[0]


def test_a_deadline_within_a_batch_leaves_the_rest_unsent() -> None:
    deadline = monotonic() + 2.0

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("250 ok", "250 ok", "354 go on")
        peer.content()
        select.select([], [], [], max(0.0, deadline - monotonic()) + 0.01)
        peer.say("250 ok")
        peer.hear_envelope()
        peer.say("250 ok", "250 ok", "354 go on")
        peer.hear_the_end()

    with server(script) as port, provider(port) as opened:
        outcomes = opened.send([mail(), mail(), mail()], deadline=deadline)

    assert brief(outcomes) == [("accepted", None), ("transient", "deadline"), ("transient", "deadline")]


def test_a_deadline_that_passes_while_the_connection_opens_starts_no_mail() -> None:
    deadline = monotonic() + 2.0

    def script(peer: Peer) -> None:
        select.select([], [], [], max(0.0, deadline - monotonic()) + 0.01)
        peer.greet(*ALL)
        peer.hear_the_end()

    with server(script) as port, provider(port) as opened:
        assert brief(opened.send([mail()], deadline=deadline)) == [("transient", "deadline")]


def test_a_batch_that_gets_no_connection_before_its_deadline_is_not_started() -> None:
    busy, finish = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("250 ok", "250 ok", "354 go on")
        peer.content()
        busy.set()
        finish.wait(PATIENCE)
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port, provider(port, max_connections=1) as opened:
        first: list[Outcome] = []
        thread = threading.Thread(
            target=lambda: first.extend(opened.send([mail()], deadline=monotonic() + PATIENCE)), daemon=True
        )
        thread.start()
        assert busy.wait(PATIENCE)
        waiting = opened.send([mail(), mail()], deadline=monotonic() + 0.05)
        finish.set()
        thread.join(PATIENCE)

    assert brief(waiting) == [("transient", "deadline")] * 2
    assert brief(first) == [("accepted", None)]


# opening


def test_a_closed_port_is_transient_for_the_whole_batch() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert brief(send(port, mail(), mail())) == [("transient", "connect_failed")] * 2


@pytest.mark.parametrize(
    ("greeting", "kind", "reason"),
    [
        ("554 5.7.1 not for you", "misconfigured", "smtp_554"),
        ("421 4.7.0 too many connections", "throttled", "smtp_421"),
        ("421 4.3.2 closing", "transient", "smtp_421"),
        ("SSH-2.0-OpenSSH", "transient", "protocol_error"),
    ],
)
def test_a_batch_that_is_not_let_in_asks_once(greeting: str, kind: str, reason: str) -> None:
    def script(peer: Peer) -> None:
        peer.say(greeting)
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(), mail(), mail())) == [(kind, reason)] * 3


def test_a_server_that_never_greets_is_timed_out() -> None:
    with server(Peer.hear_the_end) as port:
        assert brief(send(port, timeout=0.2)) == [("transient", "timed_out")]


def test_a_server_that_greets_slowly_line_by_line_has_one_timeout_for_all_of_it() -> None:
    def script(peer: Peer) -> None:
        for _ in range(100):
            try:
                peer.say("220-patience")
            except OSError:
                return
            if select.select([peer.sock], [], [], 0.05)[0]:
                return

    with server(script) as port:
        assert brief(send(port, timeout=0.3)) == [("transient", "timed_out")]


CREDENTIALS: dict[str, Any] = {"username": "ada@example.com", "password": Secret("hunter2", "env:PW")}
PLAIN = "AGFkYUBleGFtcGxlLmNvbQBodW50ZXIy"


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        ("535 5.7.8 no", "misconfigured", "smtp_535"),
        ("534 5.7.9 too weak", "misconfigured", "smtp_534"),
        ("538 5.7.11 encrypt", "misconfigured", "smtp_538"),
        ("454 4.7.0 later", "transient", "smtp_454"),
        ("504 5.5.4 unknown", "misconfigured", "auth_unavailable"),
    ],
)
def test_failed_authentication_sends_nothing_and_shows_no_credentials(
    reply: str, kind: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.hear(f"AUTH PLAIN {PLAIN}")
        peer.say(reply)
        peer.hear_the_end()

    with caplog.at_level(logging.DEBUG), server(script) as port, provider(port, **CREDENTIALS) as opened:
        outcomes = opened.send([mail(), mail()], deadline=monotonic() + PATIENCE)
        shown = f"{opened!r} {opened.options!r} {vars(opened)!r} {outcomes!r} {caplog.text}"

    assert brief(outcomes) == [(kind, reason)] * 2
    for secret in ("hunter2", PLAIN, "ada@"):
        assert secret not in shown


def test_login_is_tried_where_plain_is_unknown() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", "AUTH LOGIN PLAIN")
        peer.hear("AUTH PLAIN")
        peer.say("504 5.5.4 unknown")
        peer.hear("AUTH LOGIN")
        peer.say("334 VXNlcm5hbWU6")
        peer.hear("YWRhQGV4YW1wbGUuY29t")
        peer.say("334 UGFzc3dvcmQ6")
        peer.hear("aHVudGVyMg==")
        peer.say("235 2.7.0 ok")
        peer.take_mail()
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, **CREDENTIALS)) == [("accepted", None)]


def test_wrong_credentials_are_not_tried_a_second_time_with_another_mechanism() -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN LOGIN")
        peer.hear("AUTH PLAIN")
        peer.say("535 5.7.8 no")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, **CREDENTIALS)) == [("misconfigured", "smtp_535")]


def test_a_server_without_auth_is_misconfigured() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, **CREDENTIALS)) == [("misconfigured", "auth_unavailable")]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_password_goes_to_another_host_without_tls_only_when_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(opening, "is_loopback", lambda host: False)

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", "AUTH PLAIN")
        if allowed:
            peer.hear("AUTH PLAIN")
            peer.say("235 2.7.0 ok")
            peer.take_mail()
        peer.hear_the_end()

    with server(script) as port:
        outcomes = send(port, allow_insecure_auth=allowed, **CREDENTIALS)

    assert brief(outcomes) == [("accepted", None) if allowed else ("misconfigured", "insecure_auth")]
