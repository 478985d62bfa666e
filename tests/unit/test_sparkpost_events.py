"""SparkPost's webhooks: who may post them, and what each event means."""

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
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers.base import WebhookRequest
from mailglass.providers.sparkpost import SparkPostOptions, SparkPostProvider
from mailglass.providers.sparkpost.events import BOUNCE_CLASSES, EVENTS
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
K, R, S = EventKind, RejectReason, SignatureErrorType
HARD, SOFT, UNDETERMINED = BounceClass.HARD, BounceClass.SOFT, BounceClass.UNDETERMINED
SUPPRESSED = "554 5.7.1 recipient address suppressed due to customer policy"


def opened(**more: Any) -> SparkPostProvider:
    return SparkPostProvider("sp", SparkPostOptions(api_key=Secret("k"), **more))


PROVIDER = opened()


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "event_id": "92356927693813856",
        "timestamp": "1772630930",
        "message_id": "0004e3724f57753a3561",
        "transmission_id": "65832150921904138",
        "rcpt_to": "ada@example.com",
        "raw_rcpt_to": "Ada@example.com",
        "rcpt_meta": {"mailglass_id": str(ID), "order": "7"},
        "rcpt_tags": ["a", "b"],
        **fields,
    }


def wrapped(item: object, name: str = "message_event") -> dict[str, Any]:
    return {"msys": {name: item}}


def read(*items: object, provider: SparkPostProvider = PROVIDER) -> list[ProviderEvent]:
    return provider.normalise(json.dumps(items).encode(), {})


def one(item: object, name: str = "message_event") -> ProviderEvent:
    (found,) = read(wrapped(item, name))
    return found


def bounce(bounce_class: object, kind: str = "bounce", **fields: Any) -> dict[str, Any]:
    return event(kind, bounce_class=bounce_class, **fields)


ROWS: list[tuple[str, dict[str, Any], EventKind, BounceClass | None, RejectReason | None]] = [
    ("message_event", event("injection"), K.QUEUED, None, None),
    ("message_event", event("delivery"), K.DELIVERED, None, None),
    ("message_event", event("delay", bounce_class="21"), K.DEFERRED, SOFT, None),
    ("message_event", event("delay", bounce_class="10"), K.DEFERRED, SOFT, None),
    ("message_event", event("bounce"), K.BOUNCED, UNDETERMINED, None),
    ("message_event", event("out_of_band"), K.BOUNCED, UNDETERMINED, None),
    ("message_event", bounce("10", "out_of_band"), K.BOUNCED, HARD, R.INVALID),
    ("message_event", bounce("22", "out_of_band"), K.BOUNCED, SOFT, None),
    ("message_event", bounce("60", "out_of_band"), K.AUTORESPONDED, None, None),
    ("message_event", event("spam_complaint"), K.COMPLAINED, None, None),
    ("message_event", event("policy_rejection"), K.REJECTED, None, R.OTHER),
    ("message_event", bounce("25", "policy_rejection"), K.REJECTED, None, R.BLOCKED),
    ("message_event", bounce("10", "policy_rejection"), K.REJECTED, None, R.INVALID),
    ("message_event", bounce("51", "policy_rejection"), K.REJECTED, None, R.BLOCKED),
    ("message_event", bounce("90", "policy_rejection"), K.REJECTED, None, R.UNSUBSCRIBED),
    ("message_event", bounce("20", "policy_rejection"), K.REJECTED, None, R.OTHER),
    ("gen_event", event("generation_failure"), K.FAILED, None, None),
    ("gen_event", event("generation_rejection"), K.REJECTED, None, R.OTHER),
    ("gen_event", event("generation_rejection", raw_reason=SUPPRESSED), K.REJECTED, None, R.BLOCKED),
    ("gen_event", event("generation_rejection", reason=SUPPRESSED), K.REJECTED, None, R.BLOCKED),
    ("unsubscribe_event", event("list_unsubscribe"), K.UNSUBSCRIBED, None, None),
    ("unsubscribe_event", event("link_unsubscribe"), K.UNSUBSCRIBED, None, None),
    ("track_event", event("open"), K.OPENED, None, None),
    ("track_event", event("amp_open"), K.OPENED, None, None),
    ("track_event", event("initial_open"), K.UNKNOWN, None, None),
    ("track_event", event("amp_initial_open"), K.UNKNOWN, None, None),
    ("track_event", event("click"), K.CLICKED, None, None),
    ("track_event", event("amp_click"), K.CLICKED, None, None),
    ("relay_event", event("relay_injection"), K.UNKNOWN, None, None),
    ("relay_event", event("relay_rejection"), K.UNKNOWN, None, None),
    ("relay_event", event("relay_delivery"), K.UNKNOWN, None, None),
    ("relay_event", event("relay_tempfail"), K.UNKNOWN, None, None),
    ("relay_event", event("relay_permfail"), K.UNKNOWN, None, None),
    ("message_event", event("sms_status"), K.UNKNOWN, None, None),
    ("message_event", event(""), K.UNKNOWN, None, None),
]

CLASSES: list[tuple[object, EventKind, BounceClass | None, RejectReason | None]] = [
    ("1", K.BOUNCED, UNDETERMINED, None),
    ("10", K.BOUNCED, HARD, R.INVALID),
    ("20", K.BOUNCED, SOFT, None),
    ("21", K.BOUNCED, SOFT, None),
    ("22", K.BOUNCED, SOFT, None),
    ("23", K.BOUNCED, SOFT, None),
    ("24", K.BOUNCED, SOFT, R.TIMED_OUT),
    ("25", K.BOUNCED, SOFT, R.BLOCKED),
    ("30", K.BOUNCED, UNDETERMINED, R.INVALID),
    ("40", K.BOUNCED, SOFT, None),
    ("50", K.BOUNCED, SOFT, R.BLOCKED),
    ("51", K.BOUNCED, SOFT, R.BLOCKED),
    ("52", K.BOUNCED, SOFT, R.BLOCKED),
    ("53", K.BOUNCED, SOFT, R.BLOCKED),
    ("54", K.BOUNCED, SOFT, R.BLOCKED),
    ("60", K.AUTORESPONDED, None, None),
    ("70", K.BOUNCED, SOFT, None),
    ("80", K.SUBSCRIBED, None, None),
    ("90", K.UNSUBSCRIBED, None, R.UNSUBSCRIBED),
    ("100", K.AUTORESPONDED, None, None),
    (10, K.BOUNCED, HARD, R.INVALID),
    ("99", K.BOUNCED, UNDETERMINED, None),
    ("", K.BOUNCED, UNDETERMINED, None),
    (None, K.BOUNCED, UNDETERMINED, None),
    (["10"], K.BOUNCED, UNDETERMINED, None),
]


@pytest.mark.parametrize(("name", "item", "kind", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed_by_its_type(
    name: str, item: dict[str, Any], kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    found = one(item, name)
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)
    assert (found.recipient, found.delivery_id) == ("Ada@example.com", ID)


@pytest.mark.parametrize(("code", "kind", "bounce_class", "reason"), CLASSES)
def test_a_bounce_is_classed_by_its_code(
    code: object, kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    found = one(bounce(code))
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)


def test_every_event_and_class_that_is_mapped_is_tested() -> None:
    assert set(EVENTS) <= {item["type"] for _, item, *_ in ROWS}
    assert set(BOUNCE_CLASSES) <= {str(row[0]) for row in CLASSES}


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    reason = "550 5.1.1 <Ada@example.com>: Recipient address rejected: User unknown"
    assert one(bounce("10", raw_reason=reason)) == ProviderEvent(
        kind=K.BOUNCED,
        provider_event_id="92356927693813856",
        occurred_at=datetime(2026, 3, 4, 13, 28, 50, tzinfo=UTC),
        delivery_id=ID,
        provider_message_id="65832150921904138",
        recipient="Ada@example.com",
        bounce_class=HARD,
        reject_reason=R.INVALID,
        status="5.1.1",
        tags=("a", "b"),
    )
    assert one(event("bounce", reason="454 4.4.4 [internal] no MX")).status == "4.4.4"


def test_initial_opens_count_where_the_account_says_so() -> None:
    counting = opened(count_initial_opens=True)
    kinds = [
        found.kind
        for found in read(
            wrapped(event("initial_open"), "track_event"),
            wrapped(event("amp_initial_open"), "track_event"),
            wrapped(event("relay_delivery"), "relay_event"),
            provider=counting,
        )
    ]
    assert kinds == [K.OPENED, K.OPENED, K.UNKNOWN]


def test_an_open_by_a_machine_is_marked() -> None:
    agents = [{"is_prefetched": True}, {"is_proxy": True}, {"is_prefetched": False, "is_proxy": False}, {}, None, "x"]
    assert [one(event("open", user_agent_parsed=agent), "track_event").machine for agent in agents] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    found = one(event("click", target_link_url="https://example.com/?token=s3cret"), "track_event")
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    "timestamp", ["1772630930", 1772630930, "2026-03-04T13:28:50.000+00:00", "2026-03-04T14:28:50+01:00"]
)
def test_times_come_as_unix_seconds_or_as_text(timestamp: object) -> None:
    assert one(event("open", timestamp=timestamp)).occurred_at == datetime(2026, 3, 4, 13, 28, 50, tzinfo=UTC)


def test_an_event_of_several_recipients_is_an_event_for_each() -> None:
    copy = event("delivery", event_id="2", raw_rcpt_to="c@example.org", rcpt_type="cc")
    first, second = read(wrapped(event("delivery")), wrapped(copy))
    assert (first.recipient, second.recipient) == ("Ada@example.com", "c@example.org")
    assert first.provider_event_id != second.provider_event_id


def test_an_event_without_an_id_is_known_by_its_content() -> None:
    item = event("open")
    del item["event_id"]
    first, again, other = (one(found) for found in (item, dict(reversed(item.items())), item | {"timestamp": "5"}))
    assert first.provider_event_id == again.provider_event_id != other.provider_event_id
    assert len(first.provider_event_id) == 64  # a digest, in which no address can be read


@pytest.mark.parametrize("body", [b"[]", b'[{"msys": {}}]', b'{"msys": {}}', b' [ {"msys":{}} , {"msys":{}} ]'])
def test_a_ping_holds_no_event_and_is_no_fault(body: bytes) -> None:
    seen: list[object] = []
    end = telemetry.subscribe(lambda *said: seen.append(said))
    try:
        assert PROVIDER.normalise(body, {}) == []
    finally:
        end()
    assert seen == []


def test_events_that_share_a_wrapper_are_all_read() -> None:
    item = {"msys": {"message_event": event("delivery"), "track_event": event("open", event_id="2")}}
    assert [found.kind for found in read(item)] == [K.DELIVERED, K.OPENED]


POISON: list[Any] = [
    None,
    7,
    "delivery",
    [],
    {},
    {"msys": None},
    {"msys": []},
    {"msys": {"message_event": None}},
    {"msys": {"message_event": "delivery"}},
    wrapped({}),
    wrapped({"type": ["open"]}),
    wrapped({"type": {"a": 1}}),
    wrapped(event("open", timestamp="x")),
    wrapped(event("open", timestamp=1e300)),
    wrapped(event("open", timestamp=True)),
    wrapped(event("open", event_id="y" * 500)),
    wrapped(event("open", event_id=True)),
    wrapped(event("open", event_id="x\x00")),
    wrapped(event("open", transmission_id={"a": 1})),
    wrapped(event("open", raw_rcpt_to=7, rcpt_to="nobody")),
    wrapped(event("open", rcpt_meta="none")),
    wrapped(event("open", rcpt_meta={"mailglass_id": 7})),
    wrapped(event("open", rcpt_tags={"a": 1})),
    wrapped(event("bounce", bounce_class={"a": 1})),
    wrapped(event("generation_rejection", raw_reason=7)),
    wrapped(event("x\x00\ud800")),
]


def test_a_poisoned_item_sinks_no_other() -> None:
    items = [
        part
        for index, item in enumerate(POISON)
        for part in (item, wrapped(event("open", event_id=f"g{index}"), "track_event"))
    ]
    found = read(*items)
    assert len(found) == len(items)
    assert [good.provider_event_id for good in found[1::2]] == [f"g{index}" for index in range(len(POISON))]
    assert {good.kind for good in found[1::2]} == {K.OPENED}
    for kept in found:
        for text in (kept.provider_message_id, kept.recipient, kept.provider_event_id):
            assert text is None or (text.isprintable() and len(text) <= 320)


def test_unknown_event_is_warned_of_by_class_and_type_without_content() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read(
            7,
            wrapped(event("sms_status")),
            wrapped(event("sms_status")),
            wrapped(event("ada@example.com")),
            wrapped({"content": "mail"}, "relay_message"),
            wrapped(event("open")),
        )
    finally:
        end()
    assert [(fields["reason"], fields["count"]) for fields in seen] == [
        ("malformed", 1),
        ("message_event.sms_status", 2),
        ("relay_message", 1),
        ("unnamed", 1),
    ]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize("body", [b"", b"{}", b"7", b"null", b'{"msys": []}', b"[", b"\xff", b"[" * 100_000])
def test_body_that_is_no_array_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    "type bounce_class event_id timestamp transmission_id raw_rcpt_to rcpt_to rcpt_meta rcpt_tags raw_reason "
    "user_agent_parsed target_link_url".split()
)
known_words = st.sampled_from(sorted({*EVENTS, *BOUNCE_CLASSES}))
events = st.dictionaries(fields, known_words | json_values, max_size=8)
classes = st.sampled_from(["message_event", "track_event", "gen_event", "unsubscribe_event"])
items = st.lists(
    json_values | st.fixed_dictionaries({"msys": st.dictionaries(classes, events | json_values, max_size=2)}),
    max_size=6,
)


@given(items, st.randoms(use_true_random=False))
def test_neither_the_order_of_the_items_nor_their_repetition_changes_anything(body: list[Any], shuffle: Any) -> None:
    def key(found: ProviderEvent) -> str:
        return repr((found, found.recipient))

    straight, twice = read(*body), body * 2
    shuffle.shuffle(twice)
    assert set(map(key, straight)) == set(map(key, read(*twice)))


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(PROVIDER.normalise(body, {}), list)


BASIC = opened(webhook_username="hooks", webhook_passwords=(Secret("a"), Secret("b")))
BEARER = opened(webhook_tokens=(Secret("t0k-a"), Secret("t0k-b")))
HEADER = opened(webhook_header="X-Api-Key", webhook_header_values=(Secret("h1"), Secret("h2")))
TOKEN = opened(webhook_header_values=(Secret("legacy"),))
ALL = opened(
    webhook_username="hooks",
    webhook_passwords=(Secret("a"),),
    webhook_tokens=(Secret("t0k-a"),),
    webhook_header_values=(Secret("h1"),),
    webhook_header="x-api-key",
)


def basic(credentials: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("provider", "headers"),
    [
        (BASIC, basic("hooks:a")),
        (BASIC, basic("hooks:b")),
        (BEARER, bearer("t0k-a")),
        (BEARER, bearer("t0k-b")),
        (HEADER, {"x-api-key": "h1"}),
        (HEADER, {"x-api-key": "h2"}),
        (TOKEN, {"x-messagesystems-webhook-token": "legacy"}),
        (ALL, basic("hooks:a")),
        (ALL, bearer("t0k-a")),
        (ALL, {"x-api-key": "h1"}),
        (ALL, {"x-api-key": "h1", "authorization": "Digest x"}),
    ],
)
def test_every_way_of_proof_takes_both_secrets_of_a_rotation(
    provider: SparkPostProvider, headers: dict[str, str]
) -> None:
    provider.verify(WebhookRequest(headers, b"[]"))


@pytest.mark.parametrize(
    ("provider", "headers", "type_"),
    [
        (BASIC, {}, S.MISSING_HEADER),
        (BASIC, bearer("a"), S.MALFORMED_HEADER),
        (BASIC, {"authorization": "Basic ?"}, S.MALFORMED_HEADER),
        (BASIC, basic("hooks:c"), S.BAD_CREDENTIALS),
        (BASIC, basic("other:a"), S.BAD_CREDENTIALS),
        (BASIC, basic("hooks:"), S.BAD_CREDENTIALS),
        (BEARER, {}, S.MISSING_HEADER),
        (BEARER, basic("hooks:t0k-a"), S.MALFORMED_HEADER),
        (BEARER, {"authorization": "Bearer "}, S.MALFORMED_HEADER),
        (BEARER, bearer("t0k-c"), S.BAD_CREDENTIALS),
        (BEARER, bearer("t0k-"), S.BAD_CREDENTIALS),
        (HEADER, {}, S.MISSING_HEADER),
        (HEADER, {"x-messagesystems-webhook-token": "h1"}, S.MISSING_HEADER),
        (HEADER, {"x-api-key": ""}, S.BAD_CREDENTIALS),
        (HEADER, {"x-api-key": "h3"}, S.BAD_CREDENTIALS),
        # where several ways are open, the one that came furthest says what was wrong
        (ALL, {}, S.MISSING_HEADER),
        (ALL, {"authorization": "Digest x"}, S.MALFORMED_HEADER),
        (ALL, bearer("a"), S.BAD_CREDENTIALS),
        (ALL, basic("t0k-a:h1"), S.BAD_CREDENTIALS),
        (ALL, {"x-api-key": "t0k-a"}, S.BAD_CREDENTIALS),
    ],
)
def test_each_forgery_is_told_apart(
    provider: SparkPostProvider, headers: dict[str, str], type_: SignatureErrorType
) -> None:
    with pytest.raises(SignatureError) as caught:
        provider.verify(WebhookRequest(headers, b"[]"))
    assert caught.value.type is type_


def test_every_flipped_byte_of_a_secret_is_refused() -> None:
    for provider, name, good in ((BEARER, "authorization", "Bearer t0k-a"), (HEADER, "x-api-key", "h1")):
        for place in range(len(good)):
            bad = good[:place] + chr(ord(good[place]) ^ 1) + good[place + 1 :]
            with pytest.raises(SignatureError):
                provider.verify(WebhookRequest({name: bad}, b"[]"))


def test_an_account_without_any_proof_says_so() -> None:
    with pytest.raises(ConfigError, match=r"accounts\.sp\.webhook_passwords"):
        opened().verify(WebhookRequest(basic("hooks:a"), b"[]"))


@given(
    st.sampled_from([BASIC, BEARER, HEADER, ALL]),
    st.dictionaries(st.sampled_from(["authorization", "x-api-key", "x"]), st.text(max_size=80)),
)
def test_any_headers_are_refused_with_a_signature_error(provider: SparkPostProvider, headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        provider.verify(WebhookRequest(headers, b"[]"))


def test_a_batch_posted_again_is_known_by_its_id() -> None:
    batch = {"x-messagesystems-batch-id": "032d330540298f54f0e8bcc1373f3cfd"}
    assert PROVIDER.delivery_key(WebhookRequest(batch, b"[]")) == "032d330540298f54f0e8bcc1373f3cfd"
    for odd in ({}, {"x-messagesystems-batch-id": ""}, {"x-messagesystems-batch-id": "x" * 101}):
        assert PROVIDER.delivery_key(WebhookRequest(odd, b"[]")) is None


def test_no_credentials_are_among_the_headers_that_are_kept() -> None:
    assert PROVIDER.signed_headers == ("x-messagesystems-batch-id",)
    assert PROVIDER.retry_status == 503
