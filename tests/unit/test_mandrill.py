"""Mandrill: what reaches the wire, and what its answers mean."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address, parse_address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.mandrill import MandrillOptions, MandrillProvider
from mailglass.providers.mandrill.sending import WAITING
from mailglass.providers.registry import provider_class
from mailglass.refusals.answer_rows import MANDRILL
from mailglass.settings import Secret, build_options
from tests.refusal_rows import codes_of

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
MAIL = Outgoing(
    delivery_id=ID,
    tenant="acme",
    stream="transactional",
    recipient=Address("Ada@example.com"),
    sender=Address("shop@example.org"),
    subject="Your order",
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    text="Thank you.",
)
PROVIDER = MandrillProvider("acme-md", MandrillOptions(api_key=Secret('md-"key')))
O = OutcomeClass  # noqa: E741


def wire(mail: Outgoing, provider: MandrillProvider = PROVIDER) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provider.request([mail], [provider.encode(mail)]).body)
    assert found.pop("key") == 'md-"key'
    return found


def read(status: int, value: object, headers: dict[str, str] | None = None) -> Outcome:
    (outcome,) = PROVIDER.read(HTTPAnswer(status, headers or {}, json.dumps(value).encode()), [MAIL])
    return outcome


def error(name: str, message: str = "no") -> dict[str, Any]:
    return {"status": "error", "code": -1, "name": name, "message": message}


def item(status: str, **more: Any) -> dict[str, Any]:
    return {"email": "ada@example.com", "status": status, "_id": "abc123", "reject_reason": None, **more}


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("mandrill") is MandrillProvider


def test_a_request_is_golden() -> None:
    request = PROVIDER.request([MAIL], [PROVIDER.encode(MAIL)])
    assert (request.method, request.path) == ("POST", "/messages/send.json")
    assert request.headers == {"content-type": "application/json"}
    assert request.body == (
        b'{"key":"md-\\"key","async":false,"message":{"text":"Thank you.","from_email":"shop@example.org",'
        b'"subject":"Your order","to":[{"email":"Ada@example.com","type":"to"}],'
        b'"metadata":{"mailglass_id":"01890a5d-ac96-774b-bcce-b302099a8057"},"preserve_recipients":true}}'
    )


def test_the_key_travels_in_the_body_only() -> None:
    assert PROVIDER.credentials() == {}
    assert b"md-" not in PROVIDER.encode(MAIL)


FULL = replace(
    MAIL,
    recipient=Address("ada@example.com", "Ada, Countess"),
    sender=parse_address(("Müller & Söhne", "shop@bücher.example"), "from_"),
    html="<p>Danke, 世界</p>",
    reply_to=(Address("help@example.org"), Address("desk@example.org", "Desk")),
    cc=(Address("c@example.org", "C"),),
    bcc=(Address("b@example.org"),),
    headers=(("X-One", "1"), ("X-Two", "zwei ü")),
    tags=("welcome", "größe", "welcome"),
    metadata={"order": "77"},
    attachments=(
        Attachment("Übersicht.txt", b"hi", "text/plain; charset=utf-8"),
        Attachment("logo.png", b"png", "image/png", "logo"),
    ),
    options={
        "mandrill": {
            "send_at": "2026-02-01 10:00:00",
            "template_name": "welcome",
            "track_opens": False,
            "subaccount": "other",
            "merge_language": "handlebars",
            "global_merge_vars": [{"name": "a", "content": "1"}],
        },
        "postmark": {"TrackOpens": True},
    },
)


def test_everything_a_mail_can_say_reaches_the_wire() -> None:
    options = MandrillOptions(api_key=Secret('md-"key'), subaccount="brand", ip_pool="main")
    provider = MandrillProvider("md", options)
    assert wire(FULL, provider) == {
        "async": False,
        "ip_pool": "main",
        "send_at": "2026-02-01 10:00:00",
        "template_name": "welcome",
        "template_content": [],
        "message": {
            "subaccount": "other",
            "track_opens": False,
            "merge_language": "handlebars",
            "global_merge_vars": [{"name": "a", "content": "1"}],
            "html": "<p>Danke, 世界</p>",
            "text": "Thank you.",
            "from_email": "shop@xn--bcher-kva.example",
            "from_name": "Müller & Söhne",
            "headers": {
                "X-One": "1",
                "X-Two": "zwei ü",
                "Reply-To": 'help@example.org, "Desk" <desk@example.org>',
            },
            "tags": ["welcome", "größe"],
            "attachments": [{"type": "text/plain; charset=utf-8", "name": "Übersicht.txt", "content": "aGk="}],
            "images": [{"type": "image/png", "name": "logo", "content": "cG5n"}],
            "subject": "Your order",
            "to": [
                {"email": "ada@example.com", "type": "to", "name": "Ada, Countess"},
                {"email": "c@example.org", "type": "cc", "name": "C"},
                {"email": "b@example.org", "type": "bcc"},
            ],
            "metadata": {"mailglass_id": str(ID), "order": "77"},
            "preserve_recipients": True,
        },
    }
    assert provider.request([FULL], [provider.encode(FULL)]).path == "/messages/send-template.json"
    assert wire(MAIL, provider)["message"]["subaccount"] == "brand"


def test_a_mail_is_the_same_bytes_on_every_attempt() -> None:
    assert PROVIDER.encode(FULL) == PROVIDER.encode(replace(FULL))


def test_an_address_named_twice_is_written_once() -> None:
    copies = (Address("ADA@example.com"), Address("c@example.org"))
    people = wire(replace(MAIL, cc=copies, bcc=(*copies, Address("b@example.org"))))["message"]["to"]
    assert [(person["email"], person["type"]) for person in people] == [
        ("Ada@example.com", "to"),
        ("c@example.org", "cc"),
        ("b@example.org", "bcc"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"headers": (("X-One", "1"), ("x-one", "2"))}, "unsupported_repeated_headers"),
        ({"attachments": (Attachment("a.pdf", b"", "application/pdf", "cid1"),)}, "unsupported_inline_type"),
        ({"options": {"mandrill": {"key": "x"}}}, "option_conflict"),
        ({"options": {"mandrill": {"To": []}}}, "option_conflict"),
        ({"options": {"mandrill": {"bcc_address": "eve@example.com"}}}, "option_conflict"),
        ({"options": {"mandrill": {"message": {}}}}, "option_conflict"),
        ({"options": {"mandrill": {"async": True}}}, "option_conflict"),
        ({"options": {"mandrill": {"preserve_recipients": False}}}, "option_conflict"),
        ({"options": {"mandrill": "x"}}, "invalid_options"),
        ({"options": {"mandrill": {"track_opens": object()}}}, "invalid_options"),
        ({"text": "half a pair \ud83d"}, "invalid_text"),
    ],
)
def test_mail_that_mandrill_cannot_carry_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsendable) as caught:
        PROVIDER.encode(replace(MAIL, **change))
    assert caught.value.reason == reason


def test_an_account_may_allow_more_metadata() -> None:
    provider = MandrillProvider("md", MandrillOptions(api_key=Secret('md-"key'), max_metadata=500))
    assert wire(replace(MAIL, metadata={"order": "7" * 250}), provider)["message"]["metadata"]["order"] == "7" * 250


@pytest.mark.parametrize("status", ["sent", "queued", "scheduled"])
def test_a_mail_that_is_taken_keeps_its_own_id(status: str) -> None:
    answer = [{"email": "c@example.org", "status": "rejected", "_id": "other"}, item(status)]
    assert read(200, answer) == Outcome(O.ACCEPTED, "abc123", status=200)


def test_a_single_item_under_another_spelling_is_the_recipients() -> None:
    assert read(200, [item("sent", email="Ada@Example.com ")]).kind is O.ACCEPTED


REJECTED = [
    ("hard-bounce", O.SUPPRESSED),
    ("soft-bounce", O.SUPPRESSED),
    ("spam", O.SUPPRESSED),
    ("unsub", O.SUPPRESSED),
    ("custom", O.SUPPRESSED),
    ("invalid", O.REJECTED),
    ("rule", O.REJECTED),
    ("invalid-sender", O.MISCONFIGURED),
    ("test-mode-limit", O.MISCONFIGURED),
    ("unsigned", O.MISCONFIGURED),
]


@pytest.mark.parametrize(("why", "kind"), REJECTED)
def test_a_rejection_is_classed_by_its_reason(why: str, kind: OutcomeClass) -> None:
    outcome = read(200, [item("rejected", reject_reason=why)])
    assert (outcome.kind, outcome.reason) == (kind, f"mandrill_{why}")
    # what Mandrill says of the address itself, and not of its own list, counts as a bounce too
    assert outcome.hard_bounce is (why in ("hard-bounce", "invalid"))
    assert outcome.suppressed_for == (86_400.0 if why == "soft-bounce" else None)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (item("invalid"), "mandrill_invalid"),
        (item("rejected", reject_reason="something-new ada@example.com"), "mandrill_rejected"),
        (item("rejected"), "mandrill_rejected"),
    ],
)
def test_a_rejection_without_a_known_reason_is_final_and_says_nothing(found: dict[str, Any], reason: str) -> None:
    assert (read(200, [found]).kind, read(200, [found]).reason) == (O.REJECTED, reason)


def test_a_mail_that_is_queued_for_the_accounts_fault_is_accepted_and_warned_of() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        for why, warned in WAITING.items():
            outcome = read(200, [item("queued", queued_reason=why)])
            assert (outcome.kind, outcome.reason) == (O.ACCEPTED, f"mandrill_{why}" if warned else None)
    finally:
        end()
    assert [fields["reason"] for fields in seen] == [f"mandrill_{why}" for why, warned in WAITING.items() if warned]


NAMED = [
    (401, "Invalid_Key", O.MISCONFIGURED),
    (402, "PaymentRequired", O.QUOTA),
    (404, "Unknown_Subaccount", O.MISCONFIGURED),
    (404, "Unknown_Template", O.REJECTED),
    (404, "Unknown_Pool", O.MISCONFIGURED),
    (422, "ValidationError", O.REJECTED),
    (429, "RateLimited", O.THROTTLED),
    (500, "GeneralError", O.TRANSIENT),
    (503, "ServiceUnavailable", O.TRANSIENT),
]


@pytest.mark.parametrize(("status", "name", "kind"), NAMED)
def test_an_error_is_classed_by_its_name_whatever_the_status(status: int, name: str, kind: OutcomeClass) -> None:
    assert read(status, error(name)).kind is kind
    # older servers answer 500 to all of them
    older = read(500, error(name))
    assert (older.kind, older.reason, older.status) == (kind, f"mandrill_{name.lower()}", 500)
    assert read(200, error(name)).kind is kind


def test_every_error_that_is_classed_is_tested() -> None:
    assert {name for _, name, _ in NAMED} | set(dict(REJECTED)) == codes_of(MANDRILL)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, O.UNCERTAIN),
        (202, O.UNCERTAIN),
        (302, O.MISCONFIGURED),
        (400, O.REJECTED),
        (401, O.MISCONFIGURED),
        (402, O.QUOTA),
        (403, O.MISCONFIGURED),
        (404, O.MISCONFIGURED),
        (413, O.REJECTED),
        (429, O.THROTTLED),
        (500, O.UNCERTAIN),
        (502, O.UNCERTAIN),
        (503, O.TRANSIENT),
        (504, O.UNCERTAIN),
    ],
)
def test_an_answer_without_a_known_name_is_classed_by_its_status(status: int, kind: OutcomeClass) -> None:
    assert read(status, error("Something_New")).kind is kind
    assert read(status, None).kind is kind
    (bare,) = PROVIDER.read(HTTPAnswer(status, {}, b"<html>"), [MAIL])
    assert bare.kind is kind


def test_a_throttled_answer_says_how_long() -> None:
    assert read(429, error("RateLimited"), {"retry-after": "7"}).retry_after == 7.0
    assert read(500, error("GeneralError"), {"retry-after": "7"}).retry_after == 7.0
    assert read(503, error("ServiceUnavailable"), {"retry-after": "7"}).retry_after == 7.0


@pytest.mark.parametrize(
    "value", [[], [7], [item("sent", email="b@x.y"), item("sent", email="c@x.y")], [item("lost")], [item("", _id=5)]]
)
def test_a_list_that_does_not_speak_of_the_recipient_is_uncertain(value: object) -> None:
    assert (read(200, value).kind, read(200, value).reason) == (O.UNCERTAIN, "answer_unreadable")


@given(st.binary(max_size=80), st.integers(200, 599))
def test_any_answer_is_an_outcome(body: bytes, status: int) -> None:
    (outcome,) = PROVIDER.read(HTTPAnswer(status, {}, body), [MAIL])
    assert isinstance(outcome, Outcome)
    assert outcome.kind is not O.ACCEPTED


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"webhook_keys": ["env:KEY"]}, "webhook_url"),
        ({"webhook_url": "hooks.example.org"}, "webhook_url"),
        ({"webhook_url": "ftp://hooks.example.org"}, "webhook_url"),
        ({"webhook_url": "https://[::"}, "webhook_url"),
        ({"webhook_url": "https://hooks.example.org/ü"}, "webhook_url"),
        ({"webhook_keys": ["plain"], "webhook_url": "https://hooks.example.org"}, "webhook_keys"),
        ({"max_metadata": 0}, "max_metadata"),
        ({"base_url": "http://mandrillapp.com"}, "base_url"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_options(MandrillOptions, {"api_key": "env:KEY", **raw}, "accounts.md", {"KEY": "k"})
    assert caught.value.key == f"accounts.md.{key}"


def test_no_secret_and_no_address_shows_in_what_is_printed() -> None:
    options = MandrillOptions(api_key=Secret("md-key"), webhook_url="https://u:pw@hooks.example.org/")
    printed = repr(MandrillProvider("md", options)) + repr(options) + repr(PROVIDER.request([MAIL], [b"{}"]))
    assert not any(secret in printed for secret in ("md-key", "pw@", "Ada"))
