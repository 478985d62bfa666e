"""The next mail's envelope behind the content of the mail before (RFC 2920 3.1): each seam keeps its certainty."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import session
from mailglass.rendering import mime
from tests.smtp_script import ALL, PATIENCE, Peer, brief, mail, provider, send, server

GO_AHEAD = ("250 ok", "250 ok", "354 go on")


def take_two(peer: Peer) -> None:
    """The first mail, and the second one's envelope before the first one is answered."""
    peer.greet(*ALL)
    peer.hear_envelope()
    peer.say(*GO_AHEAD)
    peer.content()
    peer.hear_envelope()


def take_two_one_by_one(peer: Peer) -> None:
    peer.greet(*ALL)
    for _ in range(2):
        peer.hear_envelope()
        peer.say(*GO_AHEAD)
        peer.content()
        assert peer.hears_nothing()
        peer.say("250 ok")
    peer.hear_the_end()


def forgetful(peer: Peer) -> None:
    """Throws away what came behind the content."""
    take_two(peer)
    peer.say("250 ok")
    peer.hear_the_end()


def take_the_rest(peer: Peer) -> None:
    peer.greet(*ALL)
    peer.take_mail()
    peer.hear_the_end()


def test_the_next_envelope_goes_with_the_content_and_every_mail_arrives_whole() -> None:
    letters = [mail(text=f"{number}\n.\n..\n") for number in range(4)]
    contents: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear_envelope()
        peer.say(*GO_AHEAD)
        for _ in range(3):
            contents.append(peer.content())
            # before the answer: a client that waited for it would wait in vain
            peer.hear_envelope()
            peer.say("250 2.0.0 ok", *GO_AHEAD)
        contents.append(peer.content())
        peer.say("250 2.0.0 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, *letters)) == [("accepted", None)] * 4
    assert contents == [mime.build(letter) for letter in letters]


@pytest.mark.parametrize(("pipelining", "features"), [("mail", ALL), ("none", ALL), ("full", ("SIZE 1000000",))])
def test_nothing_rides_where_the_account_or_the_server_does_not_want_it(
    pipelining: str, features: tuple[str, ...]
) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*features)
        for _ in range(2):
            if pipelining == "mail":
                peer.hear_envelope()
                peer.say(*GO_AHEAD)
            else:
                for line, reply in zip(("MAIL", "RCPT", "DATA"), GO_AHEAD, strict=True):
                    peer.hear(line)
                    assert peer.hears_nothing()
                    peer.say(reply)
            peer.content()
            assert peer.hears_nothing()
            peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(), mail(), pipelining=pipelining)) == [("accepted", None)] * 2


def test_with_several_recipients_data_does_not_ride() -> None:
    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear_envelope()
        peer.say(*GO_AHEAD)
        peer.content()
        peer.hear("MAIL FROM", "RCPT TO:<ada@example.com>", "RCPT TO:<cc@example.com>")
        assert peer.hears_nothing()
        peer.say("250 ok", "250 ok", "250 ok", "550 5.1.1 no such user")
        peer.hear("DATA")
        peer.say("354 go on")
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        outcomes = send(port, mail(), mail(cc=(Address("cc@example.com"),)))

    assert brief(outcomes) == [("accepted", None)] * 2


def test_a_mail_that_the_server_cannot_take_does_not_ride() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", "SIZE 2000")
        peer.take_mail()
        peer.take_mail()
        peer.hear_the_end()

    with server(script) as port:
        outcomes = send(port, mail(), mail(text="x\n" * 2000), mail())

    assert brief(outcomes) == [("accepted", None), ("rejected", "too_large"), ("accepted", None)]


# the answer to the content


@pytest.mark.parametrize("ending", [Peer.close, Peer.reset, lambda peer: peer.say("nonsense")])
def test_an_answer_lost_with_the_next_envelope_in_flight_is_uncertain_and_the_next_mail_goes_elsewhere(
    ending: Callable[[Peer], object],
) -> None:
    def first(peer: Peer) -> None:
        take_two(peer)
        ending(peer)

    with server(first, take_the_rest) as port:
        assert brief(send(port, mail(), mail())) == [("uncertain", "answer_lost"), ("accepted", None)]


def test_silence_after_the_content_leaves_the_next_mail_certainly_unsent() -> None:
    def first(peer: Peer) -> None:
        take_two(peer)
        peer.hear_the_end()

    with server(first, take_the_rest) as port:
        assert brief(send(port, mail(), mail(), timeout=2.0)) == [("uncertain", "answer_lost"), ("accepted", None)]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("451 4.3.0 later", ("transient", "smtp_451")), ("554 5.6.0 no", ("rejected", "smtp_554"))],
)
def test_a_refused_content_says_nothing_of_the_mail_that_rode_behind_it(
    answer: str, outcome: tuple[str, str | None]
) -> None:
    def script(peer: Peer) -> None:
        take_two(peer)
        peer.say(answer, *GO_AHEAD)
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(), mail())) == [outcome, ("accepted", None)]


def test_421_in_the_place_of_the_answer_is_transient_and_the_next_mail_goes_elsewhere() -> None:
    def first(peer: Peer) -> None:
        take_two(peer)
        peer.say("421 4.3.2 shutting down")

    with server(first, take_the_rest) as port:
        assert brief(send(port, mail(), mail())) == [("transient", "smtp_421"), ("accepted", None)]


def test_an_answer_about_the_order_of_commands_does_not_condemn_the_mail() -> None:
    def first(peer: Peer) -> None:
        take_two(peer)
        peer.say("554 5.5.0 SMTP synchronization error")

    with server(first, take_two_one_by_one) as port:
        outcomes = send(port, mail(), mail(), mail())

    assert brief(outcomes) == [("transient", "smtp_554"), ("accepted", None), ("accepted", None)]


# the envelope that rode


@pytest.mark.parametrize("ending", [Peer.close, Peer.reset, lambda peer: peer.say("421 4.7.0 enough for now")])
def test_a_session_that_ends_between_two_mails_costs_neither(ending: Callable[[Peer], object]) -> None:
    read = threading.Event()

    def first(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok")
        read.wait(0.5)  # a reset must not overtake the answer here: that seam has its own test
        ending(peer)

    with server(first, take_the_rest) as port:
        assert brief(send(port, mail(), mail())) == [("accepted", None)] * 2


def test_a_connection_lost_after_the_go_ahead_is_not_sent() -> None:
    def script(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok", "250 ok", "250 ok")

    with server(script) as port:
        assert brief(send(port, mail(), mail())) == [("accepted", None), ("transient", "connection_lost")]


@pytest.mark.parametrize(
    ("replies", "outcome"),
    [
        (("250 ok", "550 5.1.1 no such user", "503 no"), ("rejected", "smtp_550")),
        (("250 ok", "450 4.7.1 later", "503 no"), ("transient", "smtp_450")),
        (("553 5.1.8 who are you", "503 no", "503 no"), ("misconfigured", "smtp_553")),
        (("250 ok", "250 ok", "452 4.3.1 full"), ("transient", "smtp_452")),
    ],
)
def test_a_refused_envelope_that_was_sent_ahead_is_its_mails_own(
    replies: tuple[str, ...], outcome: tuple[str, str | None]
) -> None:
    def script(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok", *replies)
        peer.hear("RSET")
        peer.say("250 ok")
        peer.take_mail()
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, mail(), mail(), mail())) == [("accepted", None), outcome, ("accepted", None)]


def test_content_asked_for_after_a_recipient_sent_ahead_was_refused_is_a_lone_dot() -> None:
    def script(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok", "250 ok", "550 5.1.1 no such user", "354 go on")
        assert peer.content() == b""
        peer.say("554 no valid recipients")
        peer.hear("RSET")
        peer.say("250 ok")
        peer.take_mail()
        peer.hear_the_end()

    with server(script) as port:
        outcomes = send(port, mail(), mail(), mail())

    assert brief(outcomes) == [("accepted", None), ("rejected", "smtp_550"), ("accepted", None)]


@pytest.mark.parametrize(
    ("answer", "replies"),
    [
        ("451 4.3.0 later", ("503 5.5.1 nested MAIL command", "503 no", "503 no")),
        ("451 4.3.0 later", ("452 4.3.0 a transaction is open", "503 no", "503 no")),
        ("250 ok", ("500 5.5.2 what", "503 no", "503 no")),
        ("250 ok", ("250 ok", "503 5.5.1 bad sequence", "503 no")),
    ],
)
def test_an_envelope_that_was_not_understood_behind_content_is_said_again_by_itself(
    answer: str, replies: tuple[str, ...]
) -> None:
    def script(peer: Peer) -> None:
        take_two(peer)
        peer.say(answer, *replies)
        peer.hear("RSET")
        peer.say("250 ok")
        peer.hear_envelope()
        peer.say(*GO_AHEAD)
        peer.content()
        assert peer.hears_nothing()  # a server that stumbled once is spared
        peer.say("250 ok")
        peer.take_mail()
        peer.hear_the_end()

    first = ("accepted", None) if answer.startswith("250") else ("transient", "smtp_451")
    with server(script) as port:
        assert brief(send(port, mail(), mail(), mail())) == [first, ("accepted", None), ("accepted", None)]


def test_an_envelope_that_is_refused_alone_too_is_its_own_fault_and_the_next_one_rides() -> None:
    def script(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok", "250 ok", "501 5.1.3 bad address", "503 no")
        peer.hear("RSET")
        peer.hear_envelope()
        peer.say("250 ok", "250 ok", "501 5.1.3 bad address", "503 no")
        peer.hear("RSET")
        peer.hear_envelope()
        peer.say("250 ok", *GO_AHEAD)
        peer.content()
        peer.hear_envelope()
        peer.say("250 ok", *GO_AHEAD)
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        outcomes = send(port, mail(), mail(), mail(), mail())

    assert brief(outcomes) == [("accepted", None), ("rejected", "smtp_501"), ("accepted", None), ("accepted", None)]


def test_a_server_that_drops_what_came_behind_the_content_is_spared_from_then_on() -> None:
    with server(forgetful, take_two_one_by_one) as port, provider(port, timeout=2.0) as opened:
        outcomes = opened.send([mail(), mail()], deadline=monotonic() + PATIENCE)
        assert brief(outcomes) == [("accepted", None), ("transient", "timed_out")]
        outcomes = opened.send([mail(), mail()], deadline=monotonic() + PATIENCE)
        assert brief(outcomes) == [("accepted", None)] * 2


def test_a_server_is_spared_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SPARED", 0.0)

    with server(forgetful, forgetful) as port, provider(port, timeout=2.0) as opened:
        for _ in range(2):
            outcomes = opened.send([mail(), mail()], deadline=monotonic() + PATIENCE)
            assert brief(outcomes) == [("accepted", None), ("transient", "timed_out")]


def test_replies_that_are_out_of_step_send_nothing_and_the_mail_goes_elsewhere() -> None:
    def first(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok", "250 one too many", *GO_AHEAD)
        peer.hear_the_end()

    with server(first, take_the_rest) as port:
        assert brief(send(port, mail(), mail())) == [("accepted", None)] * 2


# the account's bounds


def test_an_envelope_said_before_the_deadline_gets_no_content_after_it() -> None:
    deadline = monotonic() + 2.0

    def script(peer: Peer) -> None:
        take_two(peer)
        select.select([], [], [], max(0.0, deadline - monotonic()) + 0.01)
        peer.say("250 ok", *GO_AHEAD)
        peer.hear_the_end()

    with server(script) as port, provider(port) as opened:
        outcomes = opened.send([mail(), mail(), mail()], deadline=deadline)

    assert brief(outcomes) == [("accepted", None), ("transient", "deadline"), ("transient", "deadline")]


def test_no_envelope_rides_on_a_connection_that_has_carried_what_it_may() -> None:
    def two(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok", *GO_AHEAD)
        peer.content()
        assert peer.hears_nothing()
        peer.say("250 ok")
        peer.hear("QUIT")
        peer.say("221 bye")

    with server(two, take_the_rest) as port:
        outcomes = send(port, mail(), mail(), mail(), max_messages_per_connection=2)

    assert brief(outcomes) == [("accepted", None)] * 3


def test_a_mail_that_cannot_be_built_breaks_no_ride() -> None:
    def script(peer: Peer) -> None:
        take_two(peer)
        peer.say("250 ok", *GO_AHEAD)
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    broken: dict[str, Any] = {"headers": (("X-A", "b\r\nBcc: eve@example.com"),)}
    letters: list[Outgoing] = [mail(), mail(**broken), mail()]
    with server(script) as port:
        assert brief(send(port, *letters)) == [("accepted", None), ("rejected", "message_invalid"), ("accepted", None)]


def test_a_server_that_stops_reading_behind_the_final_dot_has_the_mail_and_not_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The write fails between the dot and the end of the envelope behind it."""
    written = session.Wire.write

    def torn(wire: session.Wire, data: bytes, until: float) -> None:
        dot = data.find(b"\r\n.\r\nMAIL FROM")
        if dot < 0:
            return written(wire, data, until)
        written(wire, data[: dot + 12], until)
        wire.unwritten = len(data) - dot - 12
        raise TimeoutError

    monkeypatch.setattr(session.Wire, "write", torn)

    def first(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.take_mail()
        with contextlib.suppress(ConnectionError):
            assert peer.file.read() == b"MAIL FR"

    with server(first, take_the_rest) as port:
        assert brief(send(port, mail(), mail())) == [("accepted", None)] * 2
