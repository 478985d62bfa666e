"""Servers that take one mail a session, or want RSET between two; and copies that a server does not take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.refusal import About
from tests.smtp_script import ALL, Peer, brief, mail, send, server

ONE_MAIL = [
    "503 5.5.1 one mail per session",
    "500 5.5.1 command unrecognized",
    "502 5.5.1 no more",
    "504 5.5.1 not here",
    "530 5.7.0 authentication required",
]


def one_mail_a_session(refused: str) -> Callable[[Peer], None]:
    """Return the script of a server that refuses to begin a second mail, whatever is said in between."""

    def script(peer: Peer) -> None:
        peer.greet()
        for line, reply in (("MAIL FROM", "250 ok"), ("RCPT TO", "250 ok"), ("DATA", "354 go on")):
            peer.hear(line)
            peer.say(reply)
        peer.content()
        peer.say("250 ok")
        while line := peer.hear_any():
            if line.upper().startswith("QUIT"):
                return
            peer.say("250 ok" if line.upper().startswith("RSET") else refused)

    return script


@pytest.mark.parametrize("refused", ONE_MAIL)
def test_server_that_takes_one_mail_a_session_takes_all_of_a_batch(refused: str) -> None:
    with server(*[one_mail_a_session(refused)] * 10) as port:
        outcomes = send(port, *(mail() for _ in range(10)), max_connections=1)

    assert [outcome.kind for outcome in outcomes] == [OutcomeClass.ACCEPTED] * 10


@pytest.mark.parametrize("features", [ALL, ()])
def test_server_that_wants_rset_between_two_mails_takes_all_of_a_batch(features: tuple[str, ...]) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*features)
        fresh, accepted = True, 0
        while line := peer.hear_any():
            word = line.upper()[:4]
            if word == "RSET":
                fresh = True
                peer.say("250 ok")
            elif word == "MAIL":
                peer.say("250 ok" if fresh else "503 5.5.1 nested MAIL command")
                accepted += fresh
                open_, fresh = fresh, False
            elif word == "RCPT":
                peer.say("250 ok" if open_ else "503 5.5.1 MAIL first")
            elif word == "DATA" and open_:
                peer.say("354 go on")
                peer.content()
                peer.say("250 ok")
                open_ = False
            elif word == "DATA":
                peer.say("503 5.5.1 RCPT first")
            else:
                peer.say("221 bye")
        assert accepted == 10

    with server(script) as port:
        outcomes = send(port, *(mail() for _ in range(10)), max_connections=1)

    assert [outcome.kind for outcome in outcomes] == [OutcomeClass.ACCEPTED] * 10


def test_first_mail_of_a_session_that_is_refused_so_is_the_accounts_matter() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL FROM")
        peer.say("503 5.5.1 log in first")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port)) == [("misconfigured", "smtp_503")]


def test_copy_that_is_refused_is_told_with_its_meaning_while_the_mail_goes() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        replies = ("250 ok", "250 ok", "550 5.1.1 no such user", "552 5.2.2 mailbox full", "354 go on")
        for line, reply in zip(
            ("MAIL FROM", "RCPT TO", "RCPT TO:<gone", "RCPT TO:<full", "DATA"), replies, strict=True
        ):
            peer.hear(line)
            peer.say(reply)
        peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    letter = mail(cc=(Address("gone@example.com"),), bcc=(Address("full@example.com"),))
    with server(script) as port:
        (outcome,) = send(port, letter)

    assert outcome.kind is OutcomeClass.ACCEPTED
    told = [(copy.index, copy.status, copy.refusal.about) for copy in outcome.copies]
    assert told == [(0, 550, About.RECIPIENT_UNKNOWN), (1, 552, About.MAILBOX_FULL)]
