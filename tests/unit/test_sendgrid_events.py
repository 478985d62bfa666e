"""SendGrid's webhooks: signed arrays, of which no item sinks another."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers.base import WebhookRequest
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
from mailglass.providers.sendgrid.events import EVENTS
from mailglass.providers.sendgrid.provider import SIGNATURE, TIMESTAMP
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
KEY, OLD_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
K, R = EventKind, RejectReason
HARD, SOFT = BounceClass.HARD, BounceClass.SOFT


def public(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(encoding, form)).decode()


def opened(**more: Any) -> SendGridProvider:
    keys = (public(OLD_KEY), public(KEY))
    return SendGridProvider("sg", SendGridOptions(api_key=Secret("k"), webhook_public_keys=keys, **more))


PROVIDER = opened()


def read(*items: object) -> list[ProviderEvent]:
    return PROVIDER.normalise(json.dumps(items).encode() + b"\r\n", {})


def event(**fields: Any) -> dict[str, Any]:
    return {
        "email": "ada@example.com",
        "timestamp": 1772630930,
        "sg_event_id": "ev-1==",
        "mailglass_id": str(ID),
        "sg_message_id": "Lli-03HcQ5-JLybO9fXsJg.filter0077p1las1.21536.5717FC482.0",
        **fields,
    }


ROWS = [
    ({"event": "processed"}, K.QUEUED, None, None),
    ({"event": "delivered", "response": "250 OK"}, K.DELIVERED, None, None),
    ({"event": "deferred", "attempt": "1"}, K.DEFERRED, None, None),
    ({"event": "bounce", "type": "bounce", "status": "5.1.1"}, K.BOUNCED, HARD, None),
    ({"event": "bounce", "type": "blocked"}, K.BOUNCED, SOFT, None),
    ({"event": "bounce"}, K.BOUNCED, BounceClass.UNDETERMINED, None),
    ({"event": "bounce", "type": "bounce", "bounce_classification": "Invalid Address"}, K.BOUNCED, HARD, None),
    ({"event": "bounce", "type": "bounce", "bounce_classification": "Unclassified"}, K.BOUNCED, HARD, None),
    ({"event": "bounce", "type": "bounce", "bounce_classification": "TECHNICAL"}, K.BOUNCED, SOFT, None),
    ({"event": "bounce", "type": "bounce", "bounce_classification": "Content"}, K.BOUNCED, SOFT, None),
    ({"event": "bounce", "type": "bounce", "bounce_classification": "Reputation"}, K.BOUNCED, SOFT, None),
    ({"event": "bounce", "type": "bounce", "bounce_classification": "Mailbox Unavailable"}, K.BOUNCED, SOFT, None),
    (
        {"event": "bounce", "type": "bounce", "bounce_classification": "Frequency or Volume Too High"},
        K.BOUNCED,
        SOFT,
        None,
    ),
    ({"event": "bounce", "type": "blocked", "bounce_classification": "Invalid Address"}, K.BOUNCED, SOFT, None),
    ({"event": "dropped", "reason": "Invalid"}, K.REJECTED, None, R.INVALID),
    ({"event": "dropped", "reason": "Unsubscribed Address"}, K.REJECTED, None, R.UNSUBSCRIBED),
    ({"event": "dropped", "reason": "Bounced Address"}, K.REJECTED, None, R.BOUNCED),
    ({"event": "dropped", "reason": "Spam Reporting Address"}, K.REJECTED, None, R.SPAM),
    ({"event": "dropped", "reason": "Spam Content"}, K.REJECTED, None, R.OTHER),
    ({"event": "dropped", "reason": "Recipient List over Package Quota"}, K.REJECTED, None, R.OTHER),
    ({"event": "dropped"}, K.REJECTED, None, R.OTHER),
    ({"event": "open"}, K.OPENED, None, None),
    ({"event": "click", "url": "https://example.com/a"}, K.CLICKED, None, None),
    ({"event": "spamreport"}, K.COMPLAINED, None, None),
    ({"event": "unsubscribe"}, K.UNSUBSCRIBED, None, None),
    ({"event": "group_unsubscribe", "asm_group_id": 4}, K.UNSUBSCRIBED, None, None),
    ({"event": "group_resubscribe", "asm_group_id": 4}, K.SUBSCRIBED, None, None),
    ({"event": "account_status_change", "type": "compliance_deactivate"}, K.UNKNOWN, None, None),
    ({"event": "something_new"}, K.UNKNOWN, None, None),
    ({"event": ""}, K.UNKNOWN, None, None),
    ({}, K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("fields", "kind", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed(
    fields: dict[str, Any], kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    (found,) = read(event(**fields))
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)


def test_every_event_that_is_mapped_is_tested() -> None:
    assert {name for name, _ in EVENTS} <= {row[0].get("event") for row in ROWS}


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    assert read(event(event="bounce", type="bounce", status="5.1.1", category=["a", "b"])) == [
        ProviderEvent(
            kind=K.BOUNCED,
            provider_event_id="ev-1==",
            occurred_at=datetime(2026, 3, 4, 13, 28, 50, tzinfo=UTC),
            delivery_id=ID,
            provider_message_id="Lli-03HcQ5-JLybO9fXsJg",
            recipient="ada@example.com",
            bounce_class=HARD,
            status="5.1.1",
            tags=("a", "b"),
        )
    ]


def test_an_open_by_a_machine_is_marked() -> None:
    machine, person, odd = read(
        event(event="open", sg_machine_open=True),
        event(event="open", sg_machine_open=False),
        event(event="open", sg_machine_open="yes"),
    )
    assert (machine.machine, person.machine, odd.machine) == (True, False, False)


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    (found,) = read(event(event="click", url="https://example.com/?token=s3cret"))
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)


def test_an_event_without_an_id_is_known_by_its_content() -> None:
    one = event(event="open")
    del one["sg_event_id"]
    first, again, other = read(one, dict(reversed(one.items())), one | {"timestamp": 1772630931})
    assert first.provider_event_id == again.provider_event_id != other.provider_event_id
    assert "ada" not in first.provider_event_id


POISON: list[Any] = [
    None,
    7,
    "delivered",
    [],
    [{"event": "open"}],
    {},
    {"event": ["open"]},
    {"event": {"a": 1}},
    event(event="open", timestamp="x"),
    event(event="open", timestamp=1e300),
    event(event="open", timestamp=True),
    event(event="open", timestamp=float("nan")),
    event(event="open", timestamp=float("inf")),
    event(event="open", sg_event_id="y" * 500),
    event(event="open", sg_event_id=5),
    event(event="open", sg_message_id={"a": 1}),
    event(event="open", email=7),
    event(event="open", mailglass_id=7),
    event(event="open", category={"a": 1}),
    event(event="bounce", type=["bounce"]),
    event(event="x\x00\ud800"),
]


def test_a_poisoned_item_sinks_no_other() -> None:
    items = [part for index, item in enumerate(POISON) for part in (item, event(event="open", sg_event_id=f"g{index}"))]
    found = read(*items)
    assert len(found) == len(items)
    assert [good.provider_event_id for good in found[1::2]] == [f"g{index}" for index in range(len(POISON))]
    assert {good.kind for good in found[1::2]} == {K.OPENED}


def test_unknown_event_is_warned_of_once_per_body_and_name() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read(7, event(event="new"), event(event="new"), event(event="ada@example.com"), event(event="open"))
    finally:
        end()
    assert [(fields["reason"], fields["count"]) for fields in seen] == [("malformed", 1), ("new", 2), ("unnamed", 1)]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize("body", [b"", b"{}", b"7", b"null", b"[", b"\xff", b"[" * 100_000])
def test_body_that_is_no_json_array_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, {})


def test_an_empty_array_holds_no_event() -> None:
    assert PROVIDER.normalise(b"[]\r\n", {}) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    "event type reason status timestamp email sg_event_id sg_message_id mailglass_id url category sg_machine_open "
    "bounce_classification".split()
)
known_words = st.sampled_from(sorted({word for pair in EVENTS for word in pair}))
items = st.lists(json_values | st.dictionaries(fields, known_words | json_values, max_size=8), max_size=6)


@given(items, st.randoms(use_true_random=False))
def test_the_order_of_the_items_changes_nothing(body: list[Any], shuffle: Any) -> None:
    def key(one: ProviderEvent) -> str:
        return repr((one, one.recipient))

    straight = read(*body)
    shuffle.shuffle(body)
    assert sorted(map(key, straight)) == sorted(map(key, read(*body)))
    assert len(straight) == len(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(PROVIDER.normalise(body, {}), list)


def signed(
    body: bytes, *, key: ec.EllipticCurvePrivateKey = KEY, timestamp: str | None = None, over: bytes | None = None
) -> WebhookRequest:
    timestamp = timestamp or str(int(time.time()))
    signature = key.sign(timestamp.encode() + (body if over is None else over), ec.ECDSA(SHA256()))
    return WebhookRequest({SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: timestamp}, body)


def refused(request: WebhookRequest, provider: SendGridProvider = PROVIDER) -> SignatureErrorType:
    with pytest.raises(SignatureError) as caught:
        provider.verify(request)
    return caught.value.type


def test_a_body_signed_with_either_key_of_a_rotation_is_accepted() -> None:
    PROVIDER.verify(signed(b"[]\r\n"))
    PROVIDER.verify(signed(b"[]\r\n", key=OLD_KEY))


def test_a_body_that_was_written_again_is_refused() -> None:
    # the line end is part of what was signed
    assert refused(signed(b"[]", over=b"[]\r\n")) is SignatureErrorType.BAD_SIGNATURE


def test_another_timestamp_or_key_is_refused() -> None:
    request = signed(b"[]")
    moved = WebhookRequest({**request.headers, TIMESTAMP: "1"}, b"[]")
    assert refused(moved) is SignatureErrorType.BAD_SIGNATURE
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert refused(signed(b"[]", key=stranger)) is SignatureErrorType.BAD_SIGNATURE


def test_missing_and_malformed_headers_are_told_apart() -> None:
    good = signed(b"[]").headers
    assert refused(WebhookRequest({}, b"[]")) is SignatureErrorType.MISSING_HEADER
    assert refused(WebhookRequest({SIGNATURE: good[SIGNATURE]}, b"[]")) is SignatureErrorType.MISSING_HEADER
    assert refused(WebhookRequest({**good, SIGNATURE: "?"}, b"[]")) is SignatureErrorType.MALFORMED_HEADER
    assert refused(WebhookRequest({**good, TIMESTAMP: "٣"}, b"[]")) is SignatureErrorType.MALFORMED_HEADER


def test_an_old_webhook_is_accepted_unless_the_account_sets_a_tolerance() -> None:
    old = signed(b"[]", timestamp=str(int(time.time()) - 3600))
    PROVIDER.verify(old)
    assert refused(old, opened(webhook_tolerance=600.0)) is SignatureErrorType.TIMESTAMP_SKEW
    opened(webhook_tolerance=7200.0).verify(old)


def test_an_account_without_a_public_key_says_so() -> None:
    provider = SendGridProvider("sg", SendGridOptions(api_key=Secret("k")))
    with pytest.raises(ConfigError, match=r"accounts\.sg\.webhook_public_keys"):
        provider.verify(signed(b"[]"))


@given(st.dictionaries(st.sampled_from([SIGNATURE, TIMESTAMP, "x"]), st.text(max_size=120)), st.binary(max_size=20))
def test_any_headers_are_refused_with_a_signature_error(headers: dict[str, str], body: bytes) -> None:
    refused(WebhookRequest(headers, body))


def test_the_signature_is_kept_with_the_body() -> None:
    assert set(PROVIDER.signed_headers) == {SIGNATURE, TIMESTAMP}
