"""Connections that are kept: which of them are used again, and what is certain when one was dead."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from mailglass.clock import monotonic
from mailglass.providers.smtp import pool
from tests.smtp_script import ALL, PATIENCE, Peer, brief, lose_the_answer, mail, provider, send, server


@pytest.mark.parametrize("farewell", ["421 4.4.2 timeout", None])
def test_a_kept_connection_that_has_ended_is_replaced_and_the_mail_goes_once(farewell: str | None) -> None:
    left = threading.Event()

    def first(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        if farewell:
            peer.say(farewell)
        peer.close()
        left.set()

    def second(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    with server(first, second) as port, provider(port) as opened:
        outcomes = opened.send([mail()], deadline=monotonic() + PATIENCE)
        assert left.wait(PATIENCE)
        outcomes += opened.send([mail()], deadline=monotonic() + PATIENCE)

        assert brief(outcomes) == [("accepted", None)] * 2
        opened.close()


def test_421_to_the_next_mail_of_a_batch_goes_on_over_a_new_connection() -> None:
    def first(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("421 4.7.0 too many messages here")

    def second(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    with server(first, second) as port:
        assert brief(send(port, mail(), mail())) == [("accepted", None)] * 2


def test_a_connection_that_ends_twice_over_the_same_mail_is_transient() -> None:
    def first(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()

    def second(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")

    with server(first, second) as port:
        assert brief(send(port, mail(), mail())) == [("accepted", None), ("transient", "connection_lost")]


@pytest.mark.parametrize("pipelining", ["full", "mail"])
def test_a_kept_connection_that_has_said_too_much_is_not_trusted_with_another_mail(pipelining: str) -> None:
    def first(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail("250 ok\r\n250 surplus")
        if pipelining == "full":
            peer.hear_envelope()
            peer.say("250 ok", "250 ok", "354 go on")
        peer.hear_the_end()

    def second(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    with server(first, second) as port:
        assert brief(send(port, mail(), mail(), pipelining=pipelining)) == [("accepted", None)] * 2


def test_a_kept_connection_that_cannot_be_reset_is_replaced() -> None:
    def first(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail("451 4.3.0 later")
        peer.hear("RSET")
        peer.say("500 what")
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.hear_the_end()

    def second(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    with server(first, second) as port:
        assert brief(send(port, mail(), mail(), pipelining="mail")) == [("transient", "smtp_451"), ("accepted", None)]


def test_a_kept_connection_that_hangs_is_not_replaced_for_the_same_mail() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(), mail(), timeout=2.0)) == [("accepted", None), ("transient", "timed_out")]


def test_a_connection_idle_for_long_is_asked_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PROBE_AFTER", 0.0)

    def first(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear("NOOP")
        peer.say("250 ok")
        peer.take_mail()
        peer.hear("NOOP")
        peer.say("421 4.4.2 timeout")

    def second(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    with server(first, second) as port, provider(port) as opened:
        for _ in range(3):
            assert brief(opened.send([mail()], deadline=monotonic() + PATIENCE)) == [("accepted", None)]


def test_a_connection_idle_for_very_long_is_left_with_quit(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear("QUIT")
        peer.say("221 bye")

    with server(script, script) as port, provider(port) as opened:
        for _ in range(2):
            assert brief(opened.send([mail()], deadline=monotonic() + PATIENCE)) == [("accepted", None)]
            monkeypatch.setattr(pool, "DROP_AFTER", 0.0)


class Interruption(Exception):
    """As Celery's soft time limit raises it: from a signal handler, anywhere."""


def test_a_connection_on_which_an_exception_tore_a_mail_off_is_never_used_again() -> None:
    def first(peer: Peer) -> None:
        lose_the_answer(peer)
        os.kill(os.getpid(), signal.SIGUSR1)
        peer.hear_the_end()

    def second(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with server(first, second) as port, provider(port, max_connections=1) as opened:
            torn_off = opened.send([mail()], deadline=monotonic() + PATIENCE)
            assert brief(torn_off) == [("uncertain", "provider_error:Interruption")]
            assert brief(opened.send([mail()], deadline=monotonic() + PATIENCE)) == [("accepted", None)]
    finally:
        signal.signal(signal.SIGUSR1, before)
