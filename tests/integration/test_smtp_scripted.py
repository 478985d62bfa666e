"""The SMTP provider against servers that follow a script, down to the byte: what was sent, and what not."""

from __future__ import annotations

import contextlib
import select
import threading

import pytest

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.rendering import mime
from tests.smtp_script import ALL, PATIENCE, Peer, brief, lose_the_answer, mail, provider, send, server

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
