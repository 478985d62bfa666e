"""Resend: what reaches the wire, under which key, and what its answers mean."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.clock import monotonic
from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import Scope
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.registry import provider_class
from mailglass.providers.resend import ResendOptions, ResendProvider
from mailglass.refusals.answer_rows import RESEND
from mailglass.settings import Secret, build_options

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
OTHER_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8058")
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
OTHER = replace(MAIL, delivery_id=OTHER_ID)
O = OutcomeClass  # noqa: E741


def opened(**options: Any) -> ResendProvider:
    return ResendProvider("acme-resend", ResendOptions(api_key=Secret("re_key"), **options))


@pytest.fixture
def provider() -> ResendProvider:
    return opened()


def wire(provider: ResendProvider, mail: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provider.encode(mail))
    return found


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> HTTPAnswer:
    return HTTPAnswer(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def error(status: int, name: str, headers: dict[str, str] | None = None) -> HTTPAnswer:
    return answer(status, {"statusCode": status, "name": name, "message": "no"}, headers)


def refused(provider: ResendProvider, mail: Outgoing) -> str:
    with pytest.raises(Unsendable) as caught:
        provider.encode(mail)
    return caught.value.reason


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("resend") is ResendProvider


def test_a_plain_mail_says_only_what_it_has(provider: ResendProvider) -> None:
    assert wire(provider, MAIL) == {
        "from": "shop@example.org",
        "to": ["ada@example.com"],
        "tags": [{"name": "mailglass_id", "value": str(ID)}],
        "subject": "Your order",
        "text": "Thank you.",
    }


def test_everything_a_mail_can_say_reaches_the_wire(provider: ResendProvider) -> None:
    mail = replace(
        MAIL,
        recipient=Address("ada@xn--bcher-kva.example", "Ada Lovelace"),
        sender=Address("shop@example.org", "Müller & Söhne"),
        html="<p>Danke, 世界</p>",
        reply_to=(Address("help@example.org"), Address("desk@example.org", "Desk")),
        cc=(Address("c@example.org", "Žofie"),),
        bcc=(Address("b@example.org"),),
        headers=(("X-One", "1"), ("List-Unsubscribe", "<https://example.org/u>")),
        tags=("welcome", "shop_1"),
        metadata={"order": "77"},
        attachments=(
            Attachment("Rechnung-März.pdf", b"\x00\xffpdf", "application/pdf"),
            Attachment("notes.txt", b"hi", "text/plain; charset=utf-8"),
            Attachment("logo.png", b"png", "image/png", "logo"),
        ),
        options={"resend": {"topic_id": "t-1", "scheduled_at": "2026-01-03T00:00:00Z"}, "brevo": {"params": {}}},
    )
    assert wire(provider, mail) == {
        "topic_id": "t-1",
        "scheduled_at": "2026-01-03T00:00:00Z",
        "from": "Müller & Söhne <shop@example.org>",
        "to": ["Ada Lovelace <ada@xn--bcher-kva.example>"],
        "cc": ["Žofie <c@example.org>"],
        "bcc": ["b@example.org"],
        "reply_to": ["help@example.org", "Desk <desk@example.org>"],
        "headers": {"X-One": "1", "List-Unsubscribe": "<https://example.org/u>"},
        "attachments": [
            {
                "filename": "Rechnung-März.pdf",
                "content": base64.b64encode(b"\x00\xffpdf").decode(),
                "content_type": "application/pdf",
            },
            {"filename": "notes.txt", "content": "aGk=", "content_type": "text/plain"},
            {"filename": "logo.png", "content": "cG5n", "content_type": "image/png", "content_id": "logo"},
        ],
        "tags": [
            {"name": "mailglass_id", "value": str(ID)},
            {"name": "mailglass_copies", "value": "1"},
            {"name": "mailglass_tag_1", "value": "welcome"},
            {"name": "mailglass_tag_2", "value": "shop_1"},
            {"name": "order", "value": "77"},
        ],
        "subject": "Your order",
        "text": "Thank you.",
        "html": "<p>Danke, 世界</p>",
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"headers": (("X-One", "1"), ("x-one", "2"))}, "unsupported_repeated_headers"),
        ({"recipient": Address("adá@example.com")}, "unsupported_smtputf8"),
        ({"bcc": (Address("adá@example.com"),)}, "unsupported_smtputf8"),
        ({"sender": Address("s@example.org", "x <boss@example.org>")}, "unsupported_sender_name"),
        ({"sender": Address("s@example.org", "=?utf-8?q?x?=")}, "unsupported_sender_name"),
        ({"attachments": (Attachment("data.txt", b"a,b", "text/csv"),)}, "unsupported_attachment_type"),
        ({"options": {"resend": {"bcc": ["spy@example.org"]}}}, "option_conflict"),
        ({"options": {"resend": {"Tags": []}}}, "option_conflict"),
        ({"options": {"resend": "topic"}}, "invalid_options"),
        ({"subject": "half a pair \ud83d"}, "invalid_text"),
    ],
)
def test_mail_that_resend_cannot_carry_is_refused_by_name(
    provider: ResendProvider, change: dict[str, Any], reason: str
) -> None:
    assert refused(provider, replace(MAIL, **change)) == reason


def test_the_check_of_attachment_types_can_be_left_out() -> None:
    mail = replace(MAIL, attachments=(Attachment("data.txt", b"a,b", "text/csv"),))
    assert wire(opened(check_attachments=False), mail)["attachments"][0]["content_type"] == "text/csv"


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=80))
def test_a_recipients_name_is_never_quoted_and_never_lost(name: str) -> None:
    (written,) = wire(opened(), replace(MAIL, recipient=Address("ada@example.com", name)))["to"]
    shown, _, rest = written.rpartition(" <")
    assert rest == "ada@example.com>"
    assert not any(special in shown for special in '"<>,;@\\')
    assert "".join(str(make_header(decode_header(shown))).split()) == "".join(name.split())


@pytest.mark.parametrize("body", [{"text": "", "html": None}, {"text": None, "html": ""}])
def test_an_empty_body_is_said_to_be_empty(provider: ResendProvider, body: dict[str, Any]) -> None:
    (name,) = (name for name, value in body.items() if value == "")
    found = wire(provider, replace(MAIL, **body))
    assert found[name] == "" and len({"text", "html"} & set(found)) == 1


def test_a_mail_is_the_same_bytes_at_every_attempt() -> None:
    mail = replace(MAIL, tags=("b", "a"), metadata={"z": "1", "a": "2"}, cc=(Address("c@example.org"),))
    assert opened().encode(mail) == opened(read_timeout=5.0).encode(replace(mail, headers=()))


def test_a_mail_goes_under_its_deliverys_id(provider: ResendProvider) -> None:
    part = provider.encode(MAIL)
    request = provider.request([MAIL], [part])
    assert (request.path, request.body) == ("/emails", part)
    assert request.headers["idempotency-key"] == str(ID)
    assert provider.credentials() == {"authorization": "Bearer re_key"}


def test_a_batchs_key_is_that_of_these_mails_in_this_order() -> None:
    provider = opened(batch=True)
    parts = [provider.encode(MAIL), provider.encode(OTHER)]

    def key(*mails: Outgoing) -> str:
        return str(provider.request(mails, parts[: len(mails)]).headers["idempotency-key"])

    request = provider.request([MAIL, OTHER], parts)
    assert request.path == "/emails/batch" and json.loads(request.body) == [json.loads(part) for part in parts]
    assert request.headers["x-batch-validation"] == "strict"
    assert key(MAIL, OTHER) == key(MAIL, OTHER) and len(key(MAIL, OTHER)) <= 256
    assert len({key(MAIL, OTHER), key(OTHER, MAIL), key(MAIL), key(OTHER)}) == 4


def test_only_an_account_that_sends_singly_can_ask_again() -> None:
    assert (ResendProvider.idempotent, ResendProvider.idempotency_window) == (True, 86400.0)
    assert opened().idempotent is True
    assert opened(batch=True).idempotent is False


class Wire:
    """Stands where the connection is: keeps the requests and answers them all."""

    def __init__(self) -> None:
        self.asked: list[HTTPRequest] = []

    def each(self, work, items):  # type: ignore[no-untyped-def]
        return [work(item) for item in items]

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer:
        self.asked.append(request)
        if b"poison" in request.body:
            return error(422, "validation_error")
        if request.path == "/emails":
            return answer(200, {"id": "one"})
        return answer(200, {"data": [{"id": f"many-{place}"} for place, _ in enumerate(json.loads(request.body))]})


def sent(provider: ResendProvider, *mails: Outgoing) -> tuple[list[Outcome], list[HTTPRequest]]:
    provider.http = wire = Wire()  # type: ignore[assignment]
    return provider.send(mails, deadline=monotonic() + 60), wire.asked


def test_without_batch_every_mail_is_a_request() -> None:
    outcomes, asked = sent(opened(), MAIL, OTHER)
    assert [request.path for request in asked] == ["/emails", "/emails"]
    assert [request.headers["idempotency-key"] for request in asked] == [str(ID), str(OTHER_ID)]
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}


def test_mail_that_a_batch_cannot_carry_goes_beside_it() -> None:
    with_file = replace(MAIL, attachments=(Attachment("a.txt", b"x", "text/plain"),))
    later = replace(MAIL, options={"resend": {"scheduled_at": "in 1 hour"}})
    outcomes, asked = sent(opened(batch=True), MAIL, with_file, OTHER, later, OTHER)
    assert sorted(request.path for request in asked) == ["/emails", "/emails", "/emails/batch"]
    assert [outcome.provider_message_id for outcome in outcomes] == ["many-0", "one", "many-1", "one", "many-2"]


def test_a_batch_has_at_most_a_hundred_mails() -> None:
    _, asked = sent(opened(batch=True), *[MAIL] * 101)
    assert [request.path for request in asked] == ["/emails/batch", "/emails"]
    assert len(json.loads(asked[0].body)) == 100


def test_poisoned_mail_of_a_batch_is_rejected_alone() -> None:
    poisoned = replace(OTHER, subject="poison")
    outcomes, asked = sent(opened(batch=True), MAIL, poisoned, MAIL)
    assert [outcome.kind for outcome in outcomes] == [O.ACCEPTED, O.REJECTED, O.ACCEPTED]
    assert outcomes[1].reason == "resend_validation_error"
    assert [request.path for request in asked] == ["/emails/batch", "/emails", "/emails", "/emails"]


def test_an_accepted_mail_keeps_resends_id(provider: ResendProvider) -> None:
    assert provider.read(answer(200, {"id": "56761188"}), [MAIL]) == [Outcome(O.ACCEPTED, "56761188", status=200)]
    both = provider.read(answer(200, {"data": [{"id": "a"}, {"id": "b"}]}), [MAIL, OTHER])
    assert [outcome.provider_message_id for outcome in both] == ["a", "b"]


ROWS = [
    (400, "invalid_idempotency_key", O.REJECTED),
    (400, "validation_error", O.REJECTED),
    (401, "missing_api_key", O.MISCONFIGURED),
    (401, "restricted_api_key", O.MISCONFIGURED),
    (403, "invalid_api_key", O.MISCONFIGURED),
    (403, "validation_error", O.MISCONFIGURED),
    (404, "not_found", O.REJECTED),
    (405, "method_not_allowed", O.REJECTED),
    (409, "invalid_idempotent_request", O.REJECTED),
    (409, "concurrent_idempotent_requests", O.THROTTLED),
    (422, "invalid_attachment", O.REJECTED),
    (422, "invalid_from_address", O.REJECTED),
    (422, "invalid_access", O.REJECTED),
    (422, "invalid_parameter", O.REJECTED),
    (422, "invalid_region", O.REJECTED),
    (422, "missing_required_field", O.REJECTED),
    (422, "validation_error", O.REJECTED),
    (429, "rate_limit_exceeded", O.THROTTLED),
    (429, "daily_quota_exceeded", O.QUOTA),
    (429, "monthly_quota_exceeded", O.QUOTA),
    (451, "security_error", O.REJECTED),
    (500, "application_error", O.TRANSIENT),
    (500, "internal_server_error", O.TRANSIENT),
]


@pytest.mark.parametrize(("status", "name", "kind"), ROWS)
def test_an_error_is_classed_by_its_name(provider: ResendProvider, status: int, name: str, kind: OutcomeClass) -> None:
    (outcome,) = provider.read(error(status, name), [MAIL])
    assert (outcome.kind, outcome.reason, outcome.status) == (kind, f"resend_{name}", status)


def test_no_error_is_mapped_without_a_row_here() -> None:
    pairs = {(status, code) for row in RESEND for code in row.codes for status in row.statuses}
    assert pairs == {(status, name) for status, name, _ in ROWS}


@pytest.mark.parametrize("body", [b"<html>", {"name": "new"}, {"name": 7}, [], None, {"name": "application_error"}])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, O.MISCONFIGURED),
        (401, O.MISCONFIGURED),
        (403, O.MISCONFIGURED),
        (404, O.REJECTED),
        (409, O.REJECTED),
        (413, O.REJECTED),
        (422, O.REJECTED),
        (429, O.THROTTLED),
        (451, O.REJECTED),
        (502, O.UNCERTAIN),
        (503, O.TRANSIENT),
        (504, O.UNCERTAIN),
    ],
)
def test_an_unknown_error_is_classed_by_its_status(
    provider: ResendProvider, status: int, kind: OutcomeClass, body: object
) -> None:
    (outcome,) = provider.read(answer(status, body), [MAIL])
    assert (outcome.kind, outcome.reason) == (kind, f"http_{status}")


def test_a_500_without_resends_own_word_is_uncertain(provider: ResendProvider) -> None:
    assert provider.read(answer(500, b"<html>"), [MAIL])[0].kind is O.UNCERTAIN


def test_a_batch_refused_for_one_senders_domain_says_nothing_of_the_account(provider: ResendProvider) -> None:
    outcomes = provider.read(error(403, "validation_error"), [MAIL, OTHER])
    assert [outcome.refusal and outcome.refusal.scope for outcome in outcomes] == [Scope.SENDER, Scope.SENDER]
    assert {one.kind for one in provider.read(error(403, "invalid_api_key"), [MAIL, OTHER])} == {O.MISCONFIGURED}


@pytest.mark.parametrize(
    ("status", "name", "headers", "seconds"),
    [
        (429, "rate_limit_exceeded", {"retry-after": "3", "ratelimit-reset": "9"}, 3.0),
        (429, "rate_limit_exceeded", {"ratelimit-reset": "9"}, 9.0),
        (429, "unheard_of", {"ratelimit-reset": "9"}, 9.0),
        # when the rate limit ends says nothing of the day's quota
        (429, "daily_quota_exceeded", {"ratelimit-reset": "1"}, None),
        (429, "daily_quota_exceeded", {"retry-after": "3600", "ratelimit-reset": "1"}, 3600.0),
        (409, "concurrent_idempotent_requests", {"retry-after": "2"}, 2.0),
        (500, "internal_server_error", {"retry-after": "5"}, 5.0),
        (422, "validation_error", {"ratelimit-reset": "9", "retry-after": "5"}, None),
    ],
)
def test_the_wait_resend_asks_for_is_read(
    provider: ResendProvider, status: int, name: str, headers: dict[str, str], seconds: float | None
) -> None:
    (outcome,) = provider.read(error(status, name, headers), [MAIL])
    assert outcome.retry_after == seconds


@pytest.mark.parametrize("body", [b"", b"<html>", 7, None, [], {}, {"id": ""}, {"id": 7}, {"data": [{"id": "x"}]}])
def test_a_good_status_without_a_readable_id_is_uncertain(provider: ResendProvider, body: object) -> None:
    (outcome,) = provider._read(answer(200, body), [MAIL])
    assert (outcome.kind, outcome.reason) == (O.UNCERTAIN, "answer_unreadable")


@pytest.mark.parametrize("data", [None, [], [{"id": "a"}], [{"id": "a"}] * 3, "ab", {"a": 1, "b": 2}, [7, None]])
def test_a_batch_answered_otherwise_than_asked_is_uncertain_as_a_whole(provider: ResendProvider, data: object) -> None:
    outcomes = provider._read(answer(200, {"data": data}), [MAIL, OTHER])
    assert [outcome.kind for outcome in outcomes] == [O.UNCERTAIN, O.UNCERTAIN]


def options(**raw: Any) -> ResendOptions:
    environ = {"KEY": "re_key", "HOOK": "whsec_AAECAwQF", "BAD": "no secret!"}
    return build_options(ResendOptions, {"api_key": "env:KEY", **raw}, "accounts.re", environ)


def test_options_are_built_from_the_accounts_table() -> None:
    built = options(webhook_secrets=["env:HOOK"], batch=True)
    assert built.webhook_secrets == (Secret("whsec_AAECAwQF"),) and built.batch is True
    assert "re_key" not in repr(built)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"webhook_secrets": "env:BAD"}, "webhook_secrets"),
        ({"webhook_tolerance": 0.0}, "webhook_tolerance"),
        ({"base_url": "http://api.resend.com"}, "base_url"),
        ({"batch": "yes"}, "batch"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**raw)
    assert caught.value.key == f"accounts.re.{key}"
    assert "no secret!" not in str(caught.value)
