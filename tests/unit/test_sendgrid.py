"""SendGrid: what reaches the wire, and what its answers mean."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.registry import provider_class
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
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


@pytest.fixture
def provider() -> SendGridProvider:
    return SendGridProvider("acme-sendgrid", SendGridOptions(api_key=Secret("SG.key")))


def wire(provider: SendGridProvider, mail: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provider.encode(mail))
    return found


def answer(status: int, message: str = "", headers: dict[str, str] | None = None) -> HTTPAnswer:
    body = {"errors": [{"message": message, "field": None, "help": None}]}
    return HTTPAnswer(status, headers or {}, json.dumps(body).encode())


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("sendgrid") is SendGridProvider


def test_a_plain_mail_says_only_what_it_has(provider: SendGridProvider) -> None:
    assert wire(provider, MAIL) == {
        "subject": "Your order",
        "personalizations": [{"to": [{"email": "ada@example.com"}], "custom_args": {"mailglass_id": str(ID)}}],
        "from": {"email": "shop@example.org"},
        "content": [{"type": "text/plain", "value": "Thank you."}],
    }


def test_everything_a_mail_can_say_reaches_the_wire(provider: SendGridProvider) -> None:
    mail = replace(
        MAIL,
        recipient=Address("ada@example.com", "Ada, Countess"),
        sender=Address("shop@example.org", "Müller & Söhne"),
        html="<p>Danke, 世界</p>",
        reply_to=(Address("help@example.org"), Address("desk@example.org", "Desk")),
        cc=(Address("c@example.org"),),
        bcc=(Address("b@example.org"),),
        headers=(("X-One", "1"), ("X-Two", "2")),
        tags=("welcome", "shop", "welcome"),
        metadata={"order": "77"},
        attachments=(
            Attachment("notes.txt", b"hi", "text/plain; charset=utf-8"),
            Attachment("logo.png", b"png", "image/png", "logo"),
        ),
        options={"sendgrid": {"asm": {"group_id": 1}, "send_at": 0}, "postmark": {"TrackOpens": True}},
    )
    assert wire(provider, mail) == {
        "asm": {"group_id": 1},
        "send_at": 0,
        "subject": "Your order",
        "personalizations": [
            {
                "to": [{"email": "ada@example.com", "name": "Ada, Countess"}],
                "cc": [{"email": "c@example.org"}],
                "bcc": [{"email": "b@example.org"}],
                "custom_args": {"order": "77", "mailglass_id": str(ID)},
            }
        ],
        "from": {"email": "shop@example.org", "name": "Müller & Söhne"},
        "reply_to_list": [{"email": "help@example.org"}, {"email": "desk@example.org", "name": "Desk"}],
        "content": [
            {"type": "text/plain", "value": "Thank you."},
            {"type": "text/html", "value": "<p>Danke, 世界</p>"},
        ],
        "attachments": [
            {"content": "aGk=", "type": "text/plain", "filename": "notes.txt", "disposition": "attachment"},
            {
                "content": "cG5n",
                "type": "image/png",
                "filename": "logo.png",
                "disposition": "inline",
                "content_id": "logo",
            },
        ],
        "headers": {"X-One": "1", "X-Two": "2"},
        "categories": ["welcome", "shop"],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"headers": (("X-One", "1"), ("x-one", "2"))}, "unsupported_repeated_headers"),
        ({"options": {"sendgrid": {"Personalizations": []}}}, "option_conflict"),
        ({"options": {"sendgrid": {"custom_args": {}}}}, "option_conflict"),
        ({"options": {"sendgrid": "asm"}}, "invalid_options"),
        ({"text": "half a pair \ud83d"}, "invalid_text"),
    ],
)
def test_mail_that_sendgrid_cannot_carry_is_refused_by_name(
    provider: SendGridProvider, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsendable) as caught:
        provider.encode(replace(MAIL, **change))
    assert caught.value.reason == reason


def test_an_address_named_twice_is_written_once(provider: SendGridProvider) -> None:
    copies = (Address("ADA@example.com"), Address("c@example.org"))
    (person,) = wire(provider, replace(MAIL, cc=copies, bcc=(*copies, Address("b@example.org"))))["personalizations"]
    assert person["cc"] == [{"email": "c@example.org"}]
    assert person["bcc"] == [{"email": "b@example.org"}]


def test_a_subuser_is_sent_on_behalf_of() -> None:
    provider = SendGridProvider("sg", SendGridOptions(api_key=Secret("SG.key"), subuser="brand"))
    assert provider.credentials() == {"authorization": "Bearer SG.key", "on-behalf-of": "brand"}


def test_an_accepted_mail_keeps_the_id_in_the_form_webhooks_have(provider: SendGridProvider) -> None:
    for header, kept in (("abc-_9", "abc-_9"), ("abc.def", "abc"), (".x", None), ("", None)):
        taken = HTTPAnswer(202, {"x-message-id": header}, b"")
        assert provider.read(taken, [MAIL]) == [Outcome(OutcomeClass.ACCEPTED, kept, status=202)]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, OutcomeClass.MISCONFIGURED),
        (400, OutcomeClass.REJECTED),
        (401, OutcomeClass.MISCONFIGURED),
        (403, OutcomeClass.MISCONFIGURED),
        (404, OutcomeClass.REJECTED),
        (405, OutcomeClass.REJECTED),
        (413, OutcomeClass.REJECTED),
        (415, OutcomeClass.REJECTED),
        (429, OutcomeClass.THROTTLED),
        (451, OutcomeClass.MISCONFIGURED),
        (500, OutcomeClass.TRANSIENT),
        (502, OutcomeClass.UNCERTAIN),
        (503, OutcomeClass.TRANSIENT),
        (504, OutcomeClass.UNCERTAIN),
    ],
)
def test_a_status_is_classed(provider: SendGridProvider, status: int, kind: OutcomeClass) -> None:
    (outcome,) = provider.read(answer(status, "no"), [MAIL])
    assert (outcome.kind, outcome.reason, outcome.status) == (kind, f"http_{status}", status)


def test_a_used_up_allowance_is_told_from_a_bad_key_by_its_text(provider: SendGridProvider) -> None:
    (outcome,) = provider.read(answer(401, "Maximum credits exceeded"), [MAIL])
    assert (outcome.kind, outcome.reason) == (OutcomeClass.QUOTA, "sendgrid_credits")


def test_a_throttled_answer_waits_until_the_limit_resets(provider: SendGridProvider) -> None:
    (outcome,) = provider.read(answer(429, headers={"x-ratelimit-reset": str(int(time.time()) + 30)}), [MAIL])
    assert outcome.kind is OutcomeClass.THROTTLED
    assert outcome.retry_after is not None and 25 < outcome.retry_after <= 30


def test_a_reset_header_on_another_answer_is_no_wish_to_wait(provider: SendGridProvider) -> None:
    (outcome,) = provider.read(answer(400, headers={"x-ratelimit-reset": str(int(time.time()) + 30)}), [MAIL])
    assert outcome.retry_after is None


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"webhook_public_keys": "no key"}, "webhook_public_keys"),
        ({"webhook_tolerance": 0.0}, "webhook_tolerance"),
        ({"base_url": "http://api.sendgrid.com"}, "base_url"),
        ({"concurrency": 65}, "concurrency"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_options(SendGridOptions, {"api_key": "env:KEY", **raw}, "accounts.sg", {"KEY": "SG.key"})
    assert caught.value.key == f"accounts.sg.{key}"
