"""Postmark's webhooks: who may post them, and what each record means."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.errors import ConfigError, SignatureError, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers.base import WebhookRequest
from mailglass.providers.postmark import PostmarkOptions, PostmarkProvider
from mailglass.providers.postmark.events import EVENTS
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
PROVIDER = PostmarkProvider(
    "pm",
    PostmarkOptions(server_token=Secret("t"), webhook_username="hooks", webhook_passwords=(Secret("a"), Secret("b"))),
)
HARD, SOFT = BounceClass.HARD, BounceClass.SOFT
K, R = EventKind, RejectReason


def read(item: object) -> ProviderEvent:
    (event,) = PROVIDER.normalise(json.dumps(item).encode(), {})
    return event


def bounce(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "RecordType": "Bounce",
        "ID": 4323372036854775807,
        "Type": kind,
        "MessageID": "mid-1",
        "Tag": "invoice",
        "Email": "ada@example.com",
        "BouncedAt": "2026-03-04T16:28:50.3963933-04:00",
        "Details": "smtp;550 5.1.1 No such mailbox at 203.0.113.9",
        "Metadata": {"mailglass_id": str(ID)},
        **more,
    }


BOUNCES = [
    ("HardBounce", K.BOUNCED, HARD, None),
    ("SoftBounce", K.BOUNCED, SOFT, None),
    ("VirusNotification", K.BOUNCED, SOFT, None),
    ("Transient", K.DEFERRED, SOFT, None),
    ("DnsError", K.DEFERRED, SOFT, None),
    ("OpenRelayTest", K.DEFERRED, SOFT, None),
    ("AutoResponder", K.AUTORESPONDED, None, None),
    ("AddressChange", K.AUTORESPONDED, None, None),
    ("ChallengeVerification", K.AUTORESPONDED, None, None),
    ("BadEmailAddress", K.REJECTED, HARD, R.INVALID),
    ("ManuallyDeactivated", K.REJECTED, None, R.BLOCKED),
    ("DMARCPolicy", K.REJECTED, None, R.BLOCKED),
    ("Blocked", K.REJECTED, SOFT, R.BLOCKED),
    ("Unconfirmed", K.REJECTED, SOFT, R.OTHER),
    ("SMTPApiError", K.FAILED, None, None),
    ("TemplateRenderingFailed", K.FAILED, None, None),
    ("SpamNotification", K.BOUNCED, SOFT, None),
    ("SpamComplaint", K.COMPLAINED, None, None),
    ("Unsubscribe", K.UNSUBSCRIBED, None, None),
    ("Subscribe", K.SUBSCRIBED, None, None),
    ("Unknown", K.UNKNOWN, BounceClass.UNDETERMINED, None),
    ("InboundError", K.UNKNOWN, None, None),
    ("SomethingNew", K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("kind", "normalised", "bounce_class", "reason"), BOUNCES)
def test_a_bounce_is_classed_by_its_type(
    kind: str, normalised: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    # a wrong number beside it changes nothing: the type's name decides
    event = read(bounce(kind, TypeCode=1))
    assert (event.kind, event.bounce_class, event.reject_reason) == (normalised, bounce_class, reason)


def test_every_bounce_type_that_is_mapped_is_tested() -> None:
    assert {detail for record, detail in EVENTS if record == "Bounce"} <= {row[0] for row in BOUNCES}


def test_a_bounce_keeps_what_matching_and_suppressing_need() -> None:
    assert read(bounce("HardBounce")) == ProviderEvent(
        kind=K.BOUNCED,
        provider_event_id="4323372036854775807",
        occurred_at=datetime(2026, 3, 4, 20, 28, 50, 396393, UTC),
        delivery_id=ID,
        provider_message_id="mid-1",
        recipient="ada@example.com",
        bounce_class=HARD,
        status="5.1.1",
        tags=("invoice",),
    )


RECORDS = [
    ({"RecordType": "Delivery", "DeliveredAt": "2026-03-04T10:00:00Z"}, K.DELIVERED, None),
    ({"RecordType": "Open", "ReceivedAt": "2026-03-04T10:00:00Z"}, K.OPENED, None),
    ({"RecordType": "Click", "ReceivedAt": "2026-03-04T10:00:00Z", "OriginalLink": "https://x"}, K.CLICKED, None),
    ({"RecordType": "SpamComplaint", "Type": "SpamComplaint", "ID": 5}, K.COMPLAINED, None),
    ({"RecordType": "SubscriptionChange", "SuppressSending": False, "SuppressionReason": None}, K.SUBSCRIBED, None),
    ({"RecordType": "SubscriptionChange", "SuppressSending": True, "SuppressionReason": "HardBounce"}, K.BOUNCED, HARD),
    (
        {"RecordType": "SubscriptionChange", "SuppressSending": True, "SuppressionReason": "SpamComplaint"},
        K.COMPLAINED,
        None,
    ),
    (
        {"RecordType": "SubscriptionChange", "SuppressSending": True, "SuppressionReason": "ManualSuppression"},
        K.UNSUBSCRIBED,
        None,
    ),
    ({"RecordType": "SubscriptionChange", "SuppressSending": True, "SuppressionReason": None}, K.UNKNOWN, None),
    ({"RecordType": "Inbound", "FromFull": {}}, K.UNKNOWN, None),
    ({"FromFull": {}}, K.UNKNOWN, None),
    ({}, K.UNKNOWN, None),
]


@pytest.mark.parametrize(("record", "kind", "bounce_class"), RECORDS)
def test_a_record_is_read_by_its_type(
    record: dict[str, Any], kind: EventKind, bounce_class: BounceClass | None
) -> None:
    event = read(record | {"MessageID": "mid-1", "Recipient": "ada@example.com"})
    assert (event.kind, event.bounce_class) == (kind, bounce_class)
    assert event.recipient == "ada@example.com"


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    event = read({"RecordType": "Click", "MessageID": "m", "OriginalLink": "https://example.com/?token=s3cret"})
    assert event.click_hash is not None and len(event.click_hash) == 64
    assert "s3cret" not in repr(event)


def test_the_same_record_has_the_same_identity_however_it_is_spaced() -> None:
    record = {"RecordType": "Delivery", "MessageID": "m", "Recipient": "ada@example.com", "DeliveredAt": "2026-03-04"}
    one = PROVIDER.normalise(json.dumps(record).encode(), {})
    other = PROVIDER.normalise(json.dumps(dict(reversed(record.items())), indent=2).encode(), {})
    assert one == other


def test_no_address_can_be_read_in_an_identity() -> None:
    event = read({"RecordType": "Open", "MessageID": "m", "Recipient": "ada@example.com", "ReceivedAt": "2026-03-04"})
    assert len(event.provider_event_id) == 64
    assert "ada" not in event.provider_event_id


@pytest.mark.parametrize(
    "change",
    [
        {"RecordType": "Click"},
        {"MessageID": "other"},
        {"Recipient": "bob@example.com"},
        {"ReceivedAt": "2026-03-04T10:00:00.0000001Z"},
    ],
)
def test_records_that_differ_in_what_identifies_them_are_different(change: dict[str, str]) -> None:
    record = {
        "RecordType": "Open",
        "MessageID": "m",
        "Recipient": "ada@example.com",
        "ReceivedAt": "2026-03-04T10:00:00.0000000Z",
    }
    assert read(record).provider_event_id != read(record | change).provider_event_id


def test_suppressing_and_resuming_within_one_second_are_two_events() -> None:
    record = {"RecordType": "SubscriptionChange", "MessageID": "m", "Recipient": "a@b.c", "ChangedAt": "2026-03-04"}
    off = read(record | {"SuppressSending": True, "SuppressionReason": "ManualSuppression"})
    on = read(record | {"SuppressSending": False, "SuppressionReason": None})
    assert off.provider_event_id != on.provider_event_id


@pytest.mark.parametrize(
    "broken",
    [
        {"ID": True},
        {"ID": "7"},
        {"ID": 0},
        {"ID": -1},
        {"ID": 10**40},
        {"ID": None},
        {"MessageID": "x\x00y"},
        {"MessageID": 5},
        {"MessageID": "y" * 9999},
        {"Email": ["ada"]},
        {"Email": "nobody"},
        {"BouncedAt": "yesterday"},
        {"BouncedAt": 5},
        {"BouncedAt": "0001-01-01T00:00:00+14:00"},
        {"Metadata": "none"},
        {"Metadata": {"mailglass_id": "no uuid"}},
        {"Metadata": {"mailglass_id": 5}},
        {"Tag": 5},
        {"Details": None},
        {"Type": ["HardBounce"]},
        {"RecordType": {"a": 1}},
        {"Email": "\ud800@x.y"},
    ],
)
def test_a_field_of_the_wrong_shape_is_left_out_and_nothing_else(broken: dict[str, Any]) -> None:
    event = read(bounce("HardBounce") | broken)
    assert event.provider_event_id
    for kept in (event.provider_message_id, event.recipient, event.provider_event_id):
        assert kept is None or (kept.isprintable() and len(kept) <= 320)


@pytest.mark.parametrize("number", [0, -1, 10**40, True, "7", None])
def test_invalid_bounce_number_is_not_taken_for_its_identity(number: object) -> None:
    event = read(bounce("HardBounce") | {"ID": number})
    assert len(event.provider_event_id) == 64
    assert event.provider_event_id != read(bounce("SoftBounce") | {"ID": number}).provider_event_id


def test_unknown_event_is_warned_of_without_content() -> None:
    seen: list[tuple[str, dict[str, telemetry.Value]]] = []
    end = telemetry.subscribe(lambda event, fields: seen.append((event, fields)))
    try:
        read(bounce("SomethingNew"))
        read({"RecordType": "an address like ada@example.com"})
    finally:
        end()
    assert [fields["reason"] for _, fields in seen] == ["Bounce.SomethingNew", "unnamed"]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_body_that_is_no_json_object_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    "RecordType Type ID MessageID Email Recipient BouncedAt DeliveredAt ReceivedAt ChangedAt Metadata Details Tag "
    "SuppressSending SuppressionReason OriginalLink".split()
)
known_words = st.sampled_from(sorted({word for pair in EVENTS for word in pair}))


@given(st.dictionaries(field_names, known_words | json_values, max_size=10))
def test_any_json_object_is_exactly_one_event(record: dict[str, Any]) -> None:
    (event,) = PROVIDER.normalise(json.dumps(record).encode(), {})
    assert event.provider_event_id
    assert event.occurred_at is None or event.occurred_at.tzinfo is UTC


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(PROVIDER.normalise(body, {}), list)


def signed(credentials: str) -> WebhookRequest:
    return WebhookRequest({"authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}, b"{}")


def test_both_passwords_of_a_rotation_are_accepted_and_no_other() -> None:
    PROVIDER.verify(signed("hooks:a"))
    PROVIDER.verify(signed("hooks:b"))
    for wrong in ("hooks:c", "other:a", "hooks:"):
        with pytest.raises(SignatureError):
            PROVIDER.verify(signed(wrong))


def test_an_account_without_webhook_credentials_says_so() -> None:
    provider = PostmarkProvider("pm", PostmarkOptions(server_token=Secret("t")))
    with pytest.raises(ConfigError, match=r"accounts\.pm\.webhook_username"):
        provider.verify(signed("hooks:a"))


@given(st.dictionaries(st.sampled_from(["authorization", "x"]), st.text(max_size=80)))
def test_any_headers_are_refused_with_a_signature_error(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        PROVIDER.verify(WebhookRequest(headers, b"{}"))


def test_credentials_are_not_among_the_headers_that_are_kept() -> None:
    assert "authorization" not in PROVIDER.signed_headers
