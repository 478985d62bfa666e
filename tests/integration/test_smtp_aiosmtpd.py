"""The SMTP provider against aiosmtpd, a server that others wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from mailglass.clock import monotonic
from mailglass.ids import uuid7
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import SMTPOptions, SMTPProvider
from mailglass.rendering import mime
from mailglass.settings import Secret

PATIENCE = 20.0


class Handler:
    """Keeps what arrives; a local part that is a number is refused with it."""

    def __init__(self, *features: str) -> None:
        self.features = features
        self.envelopes: list[Envelope] = []

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """It reads whatever comes in turn, so it can PIPELINING, and does not say so by itself."""
        session.host_name = hostname
        return [*responses[:-1], *(f"250-{word}" for word in self.features), responses[-1]]

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:
        local_part = address.partition("@")[0]
        if local_part.isdigit():
            return f"{local_part} {local_part[0]}.1.1 refused"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 taken"


class OnAnyPort(Controller):
    """Learns the port that the system chose before it waits for its own server there."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def aiosmtpd(*features: str, **options: Any) -> Iterator[tuple[Handler, int]]:
    handler = Handler(*features)
    controller = OnAnyPort(handler, hostname="127.0.0.1", port=0, enable_SMTPUTF8=True, decode_data=False, **options)
    controller.start()
    try:
        yield handler, controller.port
    finally:
        controller.stop()


@contextmanager
def provider(port: int, **options: Any) -> Iterator[SMTPProvider]:
    opened = SMTPProvider(
        "relay", SMTPOptions(**{"host": "127.0.0.1", "port": port, "security": "none", "timeout": PATIENCE, **options})
    )
    try:
        yield opened
    finally:
        opened.close()


def mail(recipient: str = "ada@example.com", **changes: Any) -> Outgoing:
    plain = Outgoing(
        delivery_id=uuid7(),
        tenant="acme",
        stream="transactional",
        recipient=Address(recipient),
        sender=Address("shop@example.org", "The shop"),
        subject="Your order",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        text="Thank you.",
    )
    return replace(plain, **changes)


def send(port: int, *mails: Outgoing, **options: Any) -> list[Outcome]:
    with provider(port, **options) as opened:
        return opened.send(mails, deadline=monotonic() + PATIENCE)


def brief(outcomes: list[Outcome]) -> list[tuple[str, str | None]]:
    return [(outcome.kind.value, outcome.reason) for outcome in outcomes]


DOTS = ".\n..\n.x\n\n.\n"


@pytest.mark.parametrize(
    "letter",
    [
        mail(text=DOTS),
        mail(text=DOTS * 50_000),
        mail(text="x" * 200_000),
        mail(text="Grüße, " * 100, html="<p>" + DOTS + "</p>"),
        mail(attachments=(Attachment("all.bin", bytes(range(256)) * 4000),)),
    ],
    ids=["dots", "many dots", "a long line", "two bodies", "an attachment"],
)
def test_the_content_arrives_byte_for_byte(letter: Outgoing) -> None:
    with aiosmtpd() as (handler, port):
        outcomes = send(port, letter)

    assert brief(outcomes) == [("accepted", None)]
    assert handler.envelopes[0].content == mime.build(letter)


def test_the_envelope_holds_sender_recipient_and_copies() -> None:
    letter = mail(cc=(Address("cc@example.com"),), bcc=(Address("bcc@example.com"), Address("cc@example.com")))

    with aiosmtpd() as (handler, port):
        send(port, letter)

    assert handler.envelopes[0].mail_from == "shop@example.org"
    assert handler.envelopes[0].rcpt_tos == ["ada@example.com", "cc@example.com", "bcc@example.com"]


def test_refused_recipients_are_told_apart_and_the_others_go() -> None:
    letters = [mail("450@example.com"), mail(), mail("550@example.com"), mail(cc=(Address("553@example.com"),))]

    with aiosmtpd() as (handler, port):
        outcomes = send(port, *letters)

    assert brief(outcomes) == [
        ("transient", "smtp_450"),
        ("accepted", None),
        ("rejected", "smtp_550"),
        ("accepted", None),
    ]
    assert outcomes[2].enhanced_status == "5.1.1"
    assert [envelope.rcpt_tos for envelope in handler.envelopes] == [["ada@example.com"]] * 2


@pytest.mark.parametrize("connections", [1, 4])
def test_pipelined_mails_arrive_whole_and_in_order_with_their_own_outcomes(connections: int) -> None:
    kinds = ["ada", "550", "ada", "ada", "450", "ada", "ada"] * 8
    letters = [mail(f"{kind}@example.com", text=f"{number}\n{DOTS}") for number, kind in enumerate(kinds)]
    letters[9] = replace(letters[9], cc=(Address("553@example.com"), Address("cc@example.com")))

    with aiosmtpd("PIPELINING") as (handler, port):
        outcomes = send(port, *letters, max_connections=connections)

    expected = {"ada": ("accepted", None), "550": ("rejected", "smtp_550"), "450": ("transient", "smtp_450")}
    assert brief(outcomes) == [expected[kind] for kind in kinds]
    taken = [mime.build(letter) for letter, kind in zip(letters, kinds, strict=True) if kind == "ada"]
    arrived = [envelope.content for envelope in handler.envelopes]
    assert arrived == taken if connections == 1 else sorted(arrived) == sorted(taken)


def test_an_international_address_arrives() -> None:
    with aiosmtpd() as (handler, port):
        outcomes = send(port, mail("jörg@example.com", sender=Address("grüße@example.org")))

    assert brief(outcomes) == [("accepted", None)]
    assert handler.envelopes[0].rcpt_tos == ["jörg@example.com"]
    assert handler.envelopes[0].smtp_utf8


@pytest.mark.parametrize("exclude", [["LOGIN"], ["PLAIN"], []])
@pytest.mark.parametrize(
    ("password", "expected"), [("hünter 2", ("accepted", None)), ("no", ("misconfigured", "smtp_535"))]
)
def test_plain_and_login_are_spoken_as_others_understand_them(
    exclude: list[str], password: str, expected: tuple[str, str | None]
) -> None:
    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        right = (data.login, data.password) == ("jörg".encode(), "hünter 2".encode())
        return AuthResult(success=right, handled=False)

    with aiosmtpd(authenticator=check, auth_required=True, auth_require_tls=False, auth_exclude_mechanism=exclude) as (
        _,
        port,
    ):
        outcomes = send(port, mail(), username="jörg", password=Secret(password))

    assert brief(outcomes) == [expected]


def test_a_server_that_wants_authentication_is_misconfigured_without() -> None:
    with aiosmtpd(auth_required=True, auth_require_tls=False) as (_, port):
        assert brief(send(port, mail())) == [("misconfigured", "smtp_530")]


def test_the_size_limit_is_known_before_a_byte_of_content_goes() -> None:
    with aiosmtpd(data_size_limit=5000) as (handler, port):
        outcomes = send(port, mail(text="line\n" * 2000), mail())

    assert brief(outcomes) == [("rejected", "too_large"), ("accepted", None)]
    assert len(handler.envelopes) == 1
