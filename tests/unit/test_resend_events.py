"""Resend's webhooks: proved by Standard Webhooks, known by their id, one event each."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers.base import WebhookRequest
from mailglass.providers.resend import ResendOptions, ResendProvider
from mailglass.providers.resend.events import EVENTS
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SECRET, OLD_SECRET = ("whsec_" + base64.b64encode(bytes([fill]) * 24).decode() for fill in (1, 2))
PROVIDER = ResendProvider(
    "re", ResendOptions(api_key=Secret("re_key"), webhook_secrets=(Secret(OLD_SECRET), Secret(SECRET)))
)
HEADERS = {"svix-id": "msg_2W2D3qXLS5fOaPja1GDg7rF2CwB", "svix-timestamp": "1696270286"}
K, R = EventKind, RejectReason
HARD, SOFT, UNDETERMINED = BounceClass.HARD, BounceClass.SOFT, BounceClass.UNDETERMINED


def read(item: object, headers: dict[str, str] = HEADERS) -> ProviderEvent:
    (event,) = PROVIDER.normalise(json.dumps(item).encode(), headers)
    return event


def event(kind: str, **data: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "created_at": "2026-03-04T18:11:26.101Z",
        "data": {
            "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
            "created_at": "2026-03-04T18:11:25.729Z",
            "from": "Shop <shop@example.org>",
            "to": ["ada@example.com"],
            "subject": "Your order",
            "tags": {"mailglass_id": str(ID), "order": "77"},
            **data,
        },
    }


ROWS = [
    ("email.scheduled", {}, K.QUEUED, None, None),
    ("email.sent", {}, K.SENT, None, None),
    ("email.delivered", {}, K.DELIVERED, None, None),
    ("email.delivery_delayed", {}, K.DEFERRED, None, None),
    ("email.bounced", {"bounce": {"type": "Permanent", "subType": "General"}}, K.BOUNCED, HARD, None),
    ("email.bounced", {"bounce": {"type": "Permanent", "subType": "Suppressed"}}, K.BOUNCED, UNDETERMINED, None),
    ("email.bounced", {"bounce": {"type": "Transient", "subType": "MailboxFull"}}, K.BOUNCED, SOFT, None),
    ("email.bounced", {"bounce": {"type": "Undetermined"}}, K.BOUNCED, UNDETERMINED, None),
    ("email.bounced", {"bounce": {"type": "New"}}, K.BOUNCED, UNDETERMINED, None),
    ("email.bounced", {"bounce": {"message": "a hard bounce"}}, K.BOUNCED, UNDETERMINED, None),
    ("email.bounced", {}, K.BOUNCED, UNDETERMINED, None),
    ("email.suppressed", {"suppressed": {"type": "previous_bounce"}}, K.REJECTED, None, R.BOUNCED),
    ("email.suppressed", {"suppressed": {"type": "previous_complaint"}}, K.REJECTED, None, R.SPAM),
    ("email.suppressed", {"suppressed": {"type": "new"}}, K.REJECTED, None, R.OTHER),
    ("email.suppressed", {}, K.REJECTED, None, R.OTHER),
    ("email.failed", {"failed": {"reason": "reached_daily_quota"}}, K.FAILED, None, None),
    ("email.complained", {}, K.COMPLAINED, None, None),
    ("email.opened", {}, K.OPENED, None, None),
    ("email.clicked", {"click": {"link": "https://example.com/a"}}, K.CLICKED, None, None),
    ("email.received", {}, K.UNKNOWN, None, None),
    ("suppression.added", {}, K.UNKNOWN, None, None),
    ("", {}, K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("kind", "data", "normalised", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed(
    kind: str,
    data: dict[str, Any],
    normalised: EventKind,
    bounce_class: BounceClass | None,
    reason: RejectReason | None,
) -> None:
    found = read(event(kind, **data))
    assert (found.kind, found.bounce_class, found.reject_reason) == (normalised, bounce_class, reason)


def test_every_event_that_is_mapped_is_tested() -> None:
    assert {name for name, _ in EVENTS} <= {row[0] for row in ROWS}


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    bounce = {"type": "Permanent", "diagnosticCode": ["smtp; 550 5.1.1 No such mailbox"], "message": "4.0.0"}
    tags = {"mailglass_id": str(ID), "mailglass_tag_10": "j", "mailglass_tag_2": "b", "mailglass_tag_1": "a", "x": "y"}
    assert read(event("email.bounced", bounce=bounce, tags=tags)) == ProviderEvent(
        kind=K.BOUNCED,
        provider_event_id="msg_2W2D3qXLS5fOaPja1GDg7rF2CwB",
        occurred_at=datetime(2026, 3, 4, 18, 11, 26, 101000, UTC),
        delivery_id=ID,
        provider_message_id="56761188-7520-42d8-8898-ff6fc54ce618",
        recipient="ada@example.com",
        bounce_class=HARD,
        status="5.1.1",
        tags=("a", "b", "j"),
    )


def test_tags_are_read_in_the_form_they_were_sent_in_too() -> None:
    pairs = [{"name": "mailglass_id", "value": str(ID)}, {"name": "mailglass_tag_1", "value": "a"}, 7, {"name": 7}]
    found = read(event("email.sent", tags=pairs))
    assert (found.delivery_id, found.tags) == (ID, ("a",))


@pytest.mark.parametrize("to", ["Ada <ada@example.com>", '"Ada, B" <ada@example.com>', " ada@example.com "])
def test_a_recipient_is_read_out_of_a_mailbox(to: str) -> None:
    assert read(event("email.sent", to=[to])).recipient == "ada@example.com"
    assert read(event("email.sent", to=to)).recipient == "ada@example.com"


@pytest.mark.parametrize(
    "data",
    [
        {"tags": {"mailglass_id": str(ID), "mailglass_copies": "1"}},
        {"to": ["ada@example.com", "bob@example.com"]},
    ],
)
def test_of_several_people_nobody_is_suppressed_for_an_event_that_names_none(data: dict[str, Any]) -> None:
    bounced = read(event("email.bounced", bounce={"type": "Permanent"}, **data))
    assert (bounced.kind, bounced.bounce_class) == (K.BOUNCED, UNDETERMINED)
    suppressed = read(event("email.suppressed", suppressed={"type": "previous_complaint"}, **data))
    assert (suppressed.kind, suppressed.reject_reason) == (K.REJECTED, R.OTHER)


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    found = read(event("email.clicked", click={"link": "https://example.com/?token=s3cret"}))
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)


def test_the_same_webhook_again_is_the_same_event_and_another_is_another() -> None:
    again = read(event("email.opened"), HEADERS | {"svix-timestamp": "1696270999"})
    assert read(event("email.opened")).provider_event_id == again.provider_event_id
    other = read(event("email.opened"), {"webhook-id": "msg_other"})
    assert other.provider_event_id == "msg_other"


def test_an_event_without_an_id_is_known_by_its_content() -> None:
    one = event("email.opened")
    first, again = read(one, {}), read(dict(reversed(one.items())), {})
    other = read(one | {"created_at": "2026-03-04T18:11:27Z"}, {})
    assert first.provider_event_id == again.provider_event_id != other.provider_event_id
    assert "ada" not in first.provider_event_id


def test_unknown_event_is_warned_of_without_content() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read(event("email.new"))
        read(event("ada@example.com"))
        read(event("email.opened"))
    finally:
        end()
    assert [fields["reason"] for fields in seen] == ["email.new", "unnamed"]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_body_that_is_no_json_object_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, HEADERS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
known_words = st.sampled_from(sorted({word for pair in EVENTS for word in pair}))
names = st.sampled_from("email_id to tags bounce suppressed click created_at type message link diagnosticCode".split())
details = st.dictionaries(names, known_words | json_values, max_size=6)


@given(st.dictionaries(st.sampled_from(["type", "created_at", "data"]), known_words | json_values | details))
def test_any_json_object_is_exactly_one_event(item: dict[str, Any]) -> None:
    for headers in ({}, HEADERS):
        (found,) = PROVIDER.normalise(json.dumps(item).encode(), headers)
        assert found.provider_event_id
        assert found.occurred_at is None or found.occurred_at.tzinfo is UTC


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(PROVIDER.normalise(body, {}), list)


def signed(body: bytes, *, secret: str = SECRET, prefix: str = "svix", age: int = 0) -> WebhookRequest:
    timestamp = str(int(time.time()) - age)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = base64.b64encode(hmac.digest(key, f"msg_1.{timestamp}.".encode() + body, "sha256")).decode()
    parts = {"id": "msg_1", "timestamp": timestamp, "signature": f"v1,{digest}"}
    return WebhookRequest({f"{prefix}-{name}": value for name, value in parts.items()}, body)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
@pytest.mark.parametrize("prefix", ["svix", "webhook"])
def test_a_body_signed_with_either_secret_of_a_rotation_is_accepted(secret: str, prefix: str) -> None:
    request = signed(b"{}", secret=secret, prefix=prefix)
    PROVIDER.verify(request)
    svix.webhooks.Webhook(secret).verify(request.body, dict(request.headers))
    assert PROVIDER.delivery_key(request) == "msg_1"


@pytest.mark.parametrize(
    ("request_", "type"),
    [
        (WebhookRequest({}, b"{}"), SignatureErrorType.MISSING_HEADER),
        (WebhookRequest(signed(b"{}").headers, b"{} "), SignatureErrorType.BAD_SIGNATURE),
        (signed(b"{}", secret="whsec_AAAA"), SignatureErrorType.BAD_SIGNATURE),
        (signed(b"{}", age=40_000), SignatureErrorType.TIMESTAMP_SKEW),
        (signed(b"{}", age=-40_000), SignatureErrorType.TIMESTAMP_SKEW),
        (WebhookRequest({**signed(b"{}").headers, "svix-signature": "?"}, b"{}"), SignatureErrorType.MALFORMED_HEADER),
    ],
)
def test_a_forged_webhook_is_refused_with_the_right_word(request_: WebhookRequest, type: SignatureErrorType) -> None:
    with pytest.raises(SignatureError) as caught:
        PROVIDER.verify(request_)
    assert caught.value.type is type


def test_the_tolerance_is_the_accounts_own() -> None:
    patient = ResendOptions(api_key=Secret("k"), webhook_secrets=(Secret(SECRET),), webhook_tolerance=3600.0)
    ResendProvider("re", patient).verify(signed(b"{}", age=400))


def test_an_account_without_a_webhook_secret_says_so() -> None:
    provider = ResendProvider("re", ResendOptions(api_key=Secret("k")))
    with pytest.raises(ConfigError, match=r"accounts\.re\.webhook_secrets"):
        provider.verify(signed(b"{}"))


@given(st.dictionaries(st.sampled_from(PROVIDER.signed_headers), st.text(max_size=80)), st.binary(max_size=20))
def test_any_headers_are_refused_with_a_signature_error(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(SignatureError):
        PROVIDER.verify(WebhookRequest(headers, body))
    PROVIDER.delivery_key(WebhookRequest(headers, body))


def test_headers_that_prove_and_identify_a_webhook_are_kept_with_its_body() -> None:
    request = signed(b"{}")
    kept = {name: value for name, value in request.headers.items() if name in PROVIDER.signed_headers}
    PROVIDER.verify(WebhookRequest(kept, b"{}"))
    assert PROVIDER.retry_status == 503
