"""Mailgun: what reaches the wire, and what its answers mean."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address, parse_address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.mailgun import MailgunOptions, MailgunProvider
from mailglass.providers.registry import provider_class
from mailglass.settings import Secret, build_options

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
MAIL = Outgoing(
    delivery_id=ID,
    tenant="acme",
    stream="transactional",
    recipient=Address("ada@example.com"),
    sender=Address("shop@example.org"),
    subject="Your order",
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    text="Thank you.",
)
PROVIDER = MailgunProvider("acme-mg", MailgunOptions(api_key=Secret("key-1"), domain="mg.example.org"))
O = OutcomeClass  # noqa: E741


def wire(mail: Outgoing) -> list[tuple[Any, ...]]:
    """The form as another parser reads it: (name, text), or (name, file name, type, bytes) for a file."""
    request = PROVIDER.request([mail], [PROVIDER.encode(mail)])
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    parser: BytesParser[EmailMessage] = BytesParser(policy=HTTP)
    fields: list[tuple[Any, ...]] = []
    for part in parser.parsebytes(head + request.body).iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = part.get_param("name", header="content-disposition")
        if (filename := part.get_param("filename", header="content-disposition")) is None:
            fields.append((name, content.decode()))
        else:
            raw = str(filename).encode("utf-8", "surrogateescape").decode()
            fields.append((name, raw, part["content-type"], content))
    return fields


def answer(status: int, message: str = "", headers: dict[str, str] | None = None) -> HTTPAnswer:
    return HTTPAnswer(status, headers or {}, json.dumps({"message": message}).encode())


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("mailgun") is MailgunProvider


def test_a_plain_mail_says_only_what_it_has() -> None:
    assert wire(MAIL) == [
        ("from", "shop@example.org"),
        ("to", "ada@example.com"),
        ("subject", "Your order"),
        ("text", "Thank you."),
        ("v:mailglass_id", str(ID)),
    ]


def test_a_request_is_golden() -> None:
    request = PROVIDER.request([MAIL], [PROVIDER.encode(MAIL)])
    boundary = request.headers["content-type"].partition("boundary=")[2]
    pieces = [
        ("from", "shop@example.org"),
        ("to", "ada@example.com"),
        ("subject", "Your order"),
        ("text", "Thank you."),
        ("v:mailglass_id", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ]
    expected = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pieces
    )
    assert request.body.decode() == f"{expected}--{boundary}--\r\n"
    assert (request.method, request.path) == ("POST", "/v3/mg.example.org/messages")
    assert PROVIDER.credentials() == {"authorization": "Basic " + base64.b64encode(b"api:key-1").decode()}


FULL = replace(
    MAIL,
    recipient=Address("ada@example.com", "Ada, Countess"),
    sender=parse_address(('Müller "&" Söhne', "shop@bücher.example"), "from_"),
    text="Danke, 世界\r\n\r\n",
    html="<p>Danke, 世界</p>",
    reply_to=(Address("help@example.org"), Address("desk@example.org", "Desk")),
    cc=(Address("c@example.org", "C"), Address("c2@example.org")),
    bcc=(Address("b@example.org"),),
    headers=(("X-One", "1"), ("X-Two", "zwei ü")),
    tags=("welcome", "shop", "welcome"),
    metadata={"order": "77", "shop.id": "ü"},
    attachments=(
        Attachment('Übersicht "2".txt', b"hi\r\n--\xff\x00", "text/plain; charset=utf-8"),
        Attachment("logo.png", b"png", "image/png", "logo"),
    ),
    options={
        "mailgun": {
            "o:tracking": False,
            "o:require-tls": True,
            "o:tracking-clicks": "htmlonly",
            "o:deliver-within": 3,
            "template": "welcome",
            "t:variables": {"name": "Ada"},
            "o:sending-ip": ["192.0.2.1", "192.0.2.2"],
        },
        "postmark": {"TrackOpens": True},
    },
)


def test_everything_a_mail_can_say_reaches_the_wire() -> None:
    assert wire(FULL) == [
        ("from", '"Müller \\"&\\" Söhne" <shop@xn--bcher-kva.example>'),
        ("to", '"Ada, Countess" <ada@example.com>'),
        ("cc", '"C" <c@example.org>, c2@example.org'),
        ("bcc", "b@example.org"),
        ("h:Reply-To", 'help@example.org, "Desk" <desk@example.org>'),
        ("subject", "Your order"),
        ("text", "Danke, 世界\r\n\r\n"),
        ("html", "<p>Danke, 世界</p>"),
        ("h:X-One", "1"),
        ("h:X-Two", "zwei ü"),
        ("o:tag", "welcome"),
        ("o:tag", "shop"),
        ("v:mailglass_id", str(ID)),
        ("v:order", "77"),
        ("v:shop.id", "ü"),
        ("o:tracking", "no"),
        ("o:require-tls", "yes"),
        ("o:tracking-clicks", "htmlonly"),
        ("o:deliver-within", "3"),
        ("template", "welcome"),
        ("t:variables", '{"name":"Ada"}'),
        ("o:sending-ip", "192.0.2.1"),
        ("o:sending-ip", "192.0.2.2"),
        ("attachment", "Übersicht %222%22.txt", 'text/plain; charset="utf-8"', b"hi\r\n--\xff\x00"),
        ("inline", "logo", "image/png", b"png"),
    ]


def test_a_mail_is_the_same_bytes_on_every_attempt() -> None:
    assert PROVIDER.encode(FULL) == PROVIDER.encode(replace(FULL)) == PROVIDER.encode(FULL)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200), st.binary(max_size=200))
def test_no_content_can_end_its_own_part(text: str, content: bytes) -> None:
    plain = PROVIDER.encode(replace(MAIL, text=text))
    boundary = plain[: plain.index(b"\r\n")]
    assert plain.count(boundary) == 6
    # a text that quotes what its own boundary would have been without the quotation
    nested = PROVIDER.encode(replace(MAIL, text=f"{text}\r\n{boundary.decode()}--\r\n"))
    assert nested.count(boundary) == 1
    filed = PROVIDER.encode(replace(MAIL, text=text, attachments=(Attachment("a.bin", content),)))
    assert filed.count(filed[: filed.index(b"\r\n")]) == 7


def test_an_address_named_twice_is_written_once() -> None:
    copies = (Address("ADA@example.com"), Address("c@example.org"))
    found = dict(wire(replace(MAIL, cc=copies, bcc=(*copies, Address("b@example.org")))))
    assert (found["cc"], found["bcc"]) == ("c@example.org", "b@example.org")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"headers": (("X-One", "1"), ("x-one", "2"))}, "unsupported_repeated_headers"),
        ({"headers": (('X-"One', "1"),)}, "unsupported_header_name"),
        ({"sender": Address("müller@example.org")}, "unsupported_smtputf8_sender"),
        ({"options": {"mailgun": {"To": "eve@example.com"}}}, "option_conflict"),
        ({"options": {"mailgun": {"bcc": "eve@example.com"}}}, "option_conflict"),
        ({"options": {"mailgun": {"recipient-variables": {}}}}, "option_conflict"),
        ({"options": {"mailgun": {"o:tag": "x"}}}, "option_conflict"),
        ({"options": {"mailgun": {"h:Bcc": "eve@example.com"}}}, "option_conflict"),
        ({"options": {"mailgun": {"V:mailglass_id": "x"}}}, "option_conflict"),
        ({"options": {"mailgun": {'x"; filename="y': "x"}}}, "invalid_options"),
        ({"options": {"mailgun": {"to\r\n": "x"}}}, "invalid_options"),
        ({"options": {"mailgun": {1: "x"}}}, "invalid_options"),
        ({"options": {"mailgun": {"o:dkim": None}}}, "invalid_options"),
        ({"options": {"mailgun": {"t:variables": {"a": object()}}}}, "invalid_options"),
        ({"options": {"mailgun": "o:dkim"}}, "invalid_options"),
        ({"text": "half a pair \ud83d"}, "invalid_text"),
    ],
)
def test_mail_that_mailgun_cannot_carry_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsendable) as caught:
        PROVIDER.encode(replace(MAIL, **change))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("message_id", "kept"),
    [("<20260101.1@mg.example.org>", "<20260101.1@mg.example.org>"), ("20260101.1@mg", "<20260101.1@mg>")],
)
def test_an_accepted_mail_keeps_the_id_in_the_form_webhooks_are_brought_to(message_id: str, kept: str) -> None:
    taken = HTTPAnswer(200, {}, json.dumps({"id": message_id, "message": "Queued. Thank you."}).encode())
    assert PROVIDER.read(taken, [MAIL]) == [Outcome(O.ACCEPTED, kept, status=200)]


@pytest.mark.parametrize(
    ("status", "message", "kind", "reason"),
    [
        (400, "'to' parameter is not a valid address. please check documentation", O.REJECTED, "http_400"),
        (400, "Free accounts are for test purposes only. Please upgrade", O.MISCONFIGURED, "mailgun_not_allowed"),
        (
            400,
            "Sandbox subdomains are for test purposes only. Please add your own domain or add the address to "
            "authorized recipients in Account Settings.",
            O.MISCONFIGURED,
            "mailgun_not_allowed",
        ),
        (400, "Domain x is not allowed to send: unverified", O.MISCONFIGURED, "mailgun_not_allowed"),
        (401, "Forbidden", O.MISCONFIGURED, "http_401"),
        (402, "Payment required", O.QUOTA, "http_402"),
        (403, "Forbidden", O.MISCONFIGURED, "http_403"),
        (404, "Domain not found: mg.example.org", O.MISCONFIGURED, "http_404"),
        (413, "Request entity too large", O.REJECTED, "http_413"),
        (429, "Too many requests", O.THROTTLED, "http_429"),
        (500, "Internal error", O.TRANSIENT, "http_500"),
        (502, "Bad gateway", O.UNCERTAIN, "http_502"),
        (503, "Unavailable", O.TRANSIENT, "http_503"),
        (504, "Gateway timeout", O.UNCERTAIN, "http_504"),
        (302, "", O.MISCONFIGURED, "http_302"),
        (200, "no id", O.UNCERTAIN, "answer_unreadable"),
        (202, "no such answer", O.UNCERTAIN, "answer_unreadable"),
    ],
)
def test_a_refusal_is_classed(status: int, message: str, kind: OutcomeClass, reason: str) -> None:
    (outcome,) = PROVIDER.read(answer(status, message), [MAIL])
    assert (outcome.kind, outcome.reason, outcome.status) == (kind, reason, status)


def test_a_200_from_a_wrong_address_is_misconfigured() -> None:
    (outcome,) = PROVIDER.read(HTTPAnswer(200, {}, b"Mailgun Magnificent API"), [MAIL])
    assert (outcome.kind, outcome.reason) == (O.MISCONFIGURED, "mailgun_wrong_url")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b'{"id":5}', b'{"id":""}', b"\xff", b"<html>"])
def test_a_200_that_says_nothing_is_uncertain(body: bytes) -> None:
    (outcome,) = PROVIDER.read(HTTPAnswer(200, {}, body), [MAIL])
    assert (outcome.kind, outcome.reason) == (O.UNCERTAIN, "answer_unreadable")


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "12", "x-ratelimit-reset": "99"}, 12, 12),
        ({"x-ratelimit-reset": str(int(time.time()) + 3000)}, 30, 3000),
        ({"x-ratelimit-reset": str(int(time.time() + 3000) * 1000)}, 30, 3000),
        ({"x-ratelimit-reset": "40"}, 40, 40),
        ({"x-ratelimit-reset": "9" * 15}, 3600, 3600),
        ({"x-ratelimit-reset": "1"}, 1, 1),
    ],
)
def test_a_throttled_answer_says_when_the_limit_resets(headers: dict[str, str], low: float, high: float) -> None:
    (outcome,) = PROVIDER.read(answer(429, "Too many requests", headers), [MAIL])
    assert outcome.retry_after is not None and low <= outcome.retry_after <= high


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "9" * 40, "٣"])
def test_an_unreadable_reset_is_no_wish_to_wait(text: str) -> None:
    (outcome,) = PROVIDER.read(answer(429, "", {"x-ratelimit-reset": text}), [MAIL])
    assert (outcome.kind, outcome.retry_after) == (O.THROTTLED, None)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"domain": "mg.example.org/../x"}, "domain"),
        ({"domain": "mg.example.org%2f"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"domain": "bücher.example"}, "domain"),
        ({"base_url": "https://api.mailgun.net/v3/"}, "base_url"),
        ({"base_url": "http://api.mailgun.net"}, "base_url"),
        ({"webhook_tolerance": 0.0}, "webhook_tolerance"),
        ({"webhook_tolerance": 100_000.0}, "webhook_tolerance"),
        ({"webhook_tolerance": float("nan")}, "webhook_tolerance"),
        ({"webhook_signing_keys": ["plain"]}, "webhook_signing_keys"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    given = {"api_key": "env:KEY", "domain": "mg.example.org", **raw}
    with pytest.raises(ConfigError) as caught:
        build_options(MailgunOptions, given, "accounts.mg", {"KEY": "k"})
    assert caught.value.key == f"accounts.mg.{key}"


def test_no_secret_and_no_address_shows_in_what_is_printed() -> None:
    assert "key-1" not in repr(PROVIDER) + repr(PROVIDER.options)
    assert "ada" not in repr(PROVIDER.request([MAIL], [PROVIDER.encode(MAIL)]))
