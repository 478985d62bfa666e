"""The SMTP provider against servers that follow a script, down to the byte: what was sent, and what not."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
from typing import Any

import pytest

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.smtp import opening, pool
from mailglass.rendering import mime
from mailglass.settings import Secret
from tests.smtp_script import ALL, PATIENCE, Peer, brief, mail, provider, send, server

# after the final dot


def test_an_accepted_mail_has_its_message_id() -> None:
    letter = mail()
    contents: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        contents.append(peer.take_mail())
        peer.hear_the_end()

    with server(script) as port:
        (outcome,) = send(port, letter)

    assert outcome == Outcome(
        OutcomeClass.ACCEPTED,
        provider_message_id=f"{letter.delivery_id}@example.org",
        status=250,
        enhanced_status="2.0.0",
    )
    assert contents == [mime.build(letter)]


def lose_the_answer(peer: Peer) -> None:
    peer.greet(*ALL)
    peer.hear("MAIL FROM", "RCPT TO", "DATA")
    peer.say("250 ok", "250 ok", "354 go on")
    peer.content()


def test_a_lost_answer_after_the_final_dot_is_uncertain_and_the_next_mail_goes_elsewhere() -> None:
    def next_one(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    first, second = mail(), mail()
    with server(lose_the_answer, next_one) as port:
        outcomes = send(port, first, second)

    assert brief(outcomes) == [("uncertain", "answer_lost"), ("accepted", None)]
    assert outcomes[0].provider_message_id == f"{first.delivery_id}@example.org"


def test_no_answer_is_waited_for_beyond_the_engines_margin_however_long_the_timeout() -> None:
    def script(peer: Peer) -> None:
        lose_the_answer(peer)
        peer.hear_the_end()

    with server(script) as port, provider(port, timeout=PATIENCE * 10) as opened:
        opened.overrun = 1.0
        outcomes = opened.send([mail()], deadline=monotonic() + PATIENCE)

    assert brief(outcomes) == [("uncertain", "answer_lost")]


def test_a_reset_instead_of_the_answer_is_uncertain() -> None:
    def script(peer: Peer) -> None:
        lose_the_answer(peer)
        peer.reset()

    with server(script) as port:
        assert brief(send(port)) == [("uncertain", "answer_lost")]


def test_silence_after_the_final_dot_is_uncertain() -> None:
    def script(peer: Peer) -> None:
        lose_the_answer(peer)
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, timeout=2.0)) == [("uncertain", "answer_lost")]


@pytest.mark.parametrize("answer", ["nonsense", "354 go on", "250-half\r\n550 of it", "250 " + "x" * 5000])
def test_an_answer_that_says_nothing_is_uncertain(answer: str) -> None:
    def script(peer: Peer) -> None:
        lose_the_answer(peer)
        peer.say(answer)
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port)) == [("uncertain", "answer_lost")]


def test_a_refusal_after_the_final_dot_is_certain_and_the_connection_is_reset_and_kept() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        for answer in ("451 4.3.0 later", "554 5.6.0 no", "454 Throttling failure: Maximum sending rate exceeded"):
            peer.take_mail(answer)
            peer.hear("RSET")
            peer.say("250 ok")
        peer.take_mail()
        peer.hear_the_end()

    with server(script) as port:
        outcomes = send(port, mail(), mail(), mail(), mail(), pipelining="mail")

    assert brief(outcomes) == [
        ("transient", "smtp_451"),
        ("rejected", "smtp_554"),
        ("throttled", "smtp_454"),
        ("accepted", None),
    ]
    assert [outcome.provider_message_id is None for outcome in outcomes] == [True, True, True, False]


def test_421_after_the_final_dot_is_transient_and_the_connection_is_left() -> None:
    def closing(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail("421 4.3.2 shutting down")
        peer.hear_envelope()
        peer.hear_the_end()

    def next_one(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    with server(closing, next_one) as port:
        assert brief(send(port, mail(), mail())) == [("transient", "smtp_421"), ("accepted", None)]


def test_a_hard_refusal_after_the_final_dot_that_may_mean_a_copy_suppresses_nobody() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.hear("MAIL FROM", "RCPT TO", "RCPT TO")
        peer.say("250 ok", "250 ok", "250 ok")
        peer.hear("DATA")
        peer.say("354 go on")
        peer.content()
        peer.say("550 5.1.1 no such user")
        peer.hear_the_end()

    with server(script) as port:
        (outcome,) = send(port, mail(cc=(Address("cc@example.com"),)))

    assert (outcome.kind, outcome.hard_bounce) == (OutcomeClass.REJECTED, False)


# before the final dot


def test_a_connection_lost_before_the_go_ahead_is_not_sent() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("250 ok", "250 ok")

    with server(script) as port:
        assert brief(send(port)) == [("transient", "connection_lost")]


def test_a_connection_lost_within_the_content_is_not_sent() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        for verb, reply in (("MAIL FROM", "250 ok"), ("RCPT TO", "250 ok"), ("DATA", "354 go on")):
            peer.hear(verb)
            peer.say(reply)
        assert peer.file.read(1000)
        peer.reset()

    with server(script) as port:
        assert brief(send(port, mail(text="line of text\n" * 1_500_000))) == [("transient", "connection_lost")]


def test_a_server_that_stops_reading_within_the_content_is_not_sent() -> None:
    finished = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        for verb, reply in (("MAIL FROM", "250 ok"), ("RCPT TO", "250 ok"), ("DATA", "354 go on")):
            peer.hear(verb)
            peer.say(reply)
        finished.wait(PATIENCE)

    with server(script) as port:
        outcomes = send(port, mail(text="line of text\n" * 1_500_000), timeout=2.0)
        finished.set()

    assert brief(outcomes) == [("transient", "timed_out")]


def test_a_server_that_hangs_in_the_envelope_is_not_sent() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, timeout=0.2)) == [("transient", "timed_out")]


def test_421_in_the_envelope_is_not_sent() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("250 ok", "421 4.3.2 shutting down")

    with server(script) as port:
        assert brief(send(port)) == [("transient", "smtp_421")]


@pytest.mark.parametrize("line", ["250 " + "x" * 100_000, "nonsense", "\r\n".join(["250-x" + "x" * 900] * 200)])
def test_an_endless_or_senseless_reply_is_not_sent(line: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        with contextlib.suppress(ConnectionError):  # the client may hang up within the line
            peer.say(line)
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port)) == [("transient", "protocol_error")]


def test_a_reply_to_no_command_is_never_taken_for_the_answer_to_the_mail() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("250 ok", "250 ok", "354 go on", "250 this one is not for a mail")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port)) == [("transient", "protocol_error")]


# the envelope


def test_the_envelope_goes_in_one_flight_where_the_server_knows_pipelining() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        # no reply before all three: a client that waits for one would wait in vain
        peer.hear("MAIL FROM:<shop@example.org> SIZE=", "RCPT TO:<ada@example.com>", "DATA")
        peer.say("250 ok", "250 ok", "354 go on")
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port)) == [("accepted", None)]


def test_the_envelope_goes_step_by_step_where_the_server_does_not() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        for line, reply in (("MAIL FROM:<shop@example.org>", "250 ok"), ("RCPT TO", "250 ok"), ("DATA", "354 go on")):
            peer.hear(line)
            assert not select.select([peer.sock], [], [], 0.05)[0]
            peer.say(reply)
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port)) == [("accepted", None)]


@pytest.mark.parametrize("features", [ALL, ()])
def test_a_refused_copy_does_not_hold_the_mail_back(features: tuple[str, ...]) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*features)
        for line, reply in (
            ("MAIL FROM", "250 ok"),
            ("RCPT TO:<ada@example.com>", "250 ok"),
            ("RCPT TO:<cc@example.com>", "550 5.1.1 no such user"),
            ("RCPT TO:<bcc@example.com>", "451 4.7.1 later"),
            ("DATA", "354 go on"),
        ):
            peer.hear(line)
            peer.say(reply)
        assert b"bcc@" not in peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    letter = mail(cc=(Address("cc@example.com"),), bcc=(Address("bcc@example.com"),))
    with server(script) as port:
        assert brief(send(port, letter)) == [("accepted", None)]


@pytest.mark.parametrize("features", [ALL, ()])
def test_a_refused_main_recipient_holds_the_copies_back(features: tuple[str, ...]) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*features)
        peer.hear("MAIL FROM")
        peer.say("250 ok")
        peer.hear("RCPT TO:<ada@example.com>")
        peer.say("550 5.1.1 no such user")
        if features:
            peer.hear("RCPT TO:<cc@example.com>")
            peer.say("250 ok")
        peer.hear("RSET")
        peer.say("250 ok")
        for line, reply in (("MAIL FROM", "250 ok"), ("RCPT TO", "250 ok"), ("DATA", "354 go on")):
            peer.hear(line)
            peer.say(reply)
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        outcomes = send(port, mail(cc=(Address("cc@example.com"),)), mail())

    assert brief(outcomes) == [("rejected", "smtp_550"), ("accepted", None)]
    assert outcomes[0].hard_bounce


def test_content_asked_for_after_a_refused_recipient_is_a_lone_dot() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("250 ok", "451 4.7.1 greylisted", "354 go on")
        assert peer.content() == b""
        peer.say("554 no valid recipients")
        peer.hear("RSET")
        peer.say("250 ok")
        peer.take_mail()
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(), mail())) == [("transient", "smtp_451"), ("accepted", None)]


def test_content_asked_for_after_a_refused_sender_is_never_given() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("550 5.1.8 who are you", "250 ok", "354 go on")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port)) == [("misconfigured", "smtp_550")]


def test_a_refused_recipient_stays_refused_when_the_connection_is_lost_right_after() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM", "RCPT TO", "DATA")
        peer.say("250 ok", "550 5.1.1 no such user")

    with server(script) as port:
        assert brief(send(port)) == [("rejected", "smtp_550")]


def test_a_mail_larger_than_the_server_takes_is_rejected_unasked() -> None:
    def script(peer: Peer) -> None:
        peer.greet("SIZE 2000")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(text="x\n" * 2000))) == [("rejected", "too_large")]


def test_a_non_ascii_local_part_is_rejected_unasked_where_the_server_lacks_smtputf8() -> None:
    def script(peer: Peer) -> None:
        peer.greet("8BITMIME")
        peer.hear_the_end()

    letters = [mail(recipient=Address("jörg@example.com")), mail(sender=Address("jörg@example.org"))]
    with server(script) as port:
        assert brief(send(port, *letters)) == [("rejected", "smtputf8_unsupported")] * 2


def test_a_non_ascii_local_part_is_sent_with_smtputf8() -> None:
    def script(peer: Peer) -> None:
        peer.greet("SMTPUTF8", "8BITMIME")
        for line, reply in (
            ("MAIL FROM:<shop@example.org> BODY=8BITMIME SMTPUTF8", "250 ok"),
            ("RCPT TO:<jörg@example.com>", "250 ok"),
            ("DATA", "354 go on"),
        ):
            peer.hear(line)
            peer.say(reply)
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(recipient=Address("jörg@example.com")))) == [("accepted", None)]


def test_a_blind_copy_that_cannot_be_addressed_does_not_hold_the_mail_back() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        assert "jörg" not in str(peer.take_mail())
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(bcc=(Address("jörg@example.com"),)))) == [("accepted", None)]


def test_a_mail_that_cannot_be_built_is_rejected_and_the_others_go() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        peer.hear_the_end()

    letters = [
        mail(headers=(("X-A", "b\r\nBcc: eve@example.com"),)),
        mail(sender=Address("a\x01@example.org")),
        mail(),
    ]
    with server(script) as port:
        assert brief(send(port, *letters)) == [
            ("rejected", "message_invalid"),
            ("rejected", "message_invalid"),
            ("accepted", None),
        ]


# kept connections


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
