"""Brevo's webhooks: who may post them, and what each event means, alone and in a batch."""

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
from mailglass.providers.brevo import BrevoOptions, BrevoProvider
from mailglass.providers.brevo.events import EVENTS
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
MESSAGE_ID = "<202603041158.9876543210@smtp-relay.mailin.fr>"
TWO = (Secret("old-secret"), Secret("new: sécret"))
K, R, T = EventKind, RejectReason, SignatureErrorType
HARD, SOFT = BounceClass.HARD, BounceClass.SOFT


def opened(**options: Any) -> BrevoProvider:
    return BrevoProvider("br", BrevoOptions(api_key=Secret("k"), **options))


BASIC = opened(webhook_username="hooks", webhook_passwords=TWO)
BEARER = opened(webhook_tokens=TWO)
HEADER = opened(webhook_header="X-Hook", webhook_header_values=TWO)


def read(*items: object) -> list[ProviderEvent]:
    return BASIC.normalise(json.dumps(items).encode(), {})


def event(**fields: Any) -> dict[str, Any]:
    return {
        "email": "ada@example.com",
        "id": 9999,
        "message-id": MESSAGE_ID,
        "subject": "Your order",
        "date": "2026-03-04 17:28:50",
        "ts": 1772620130,
        "ts_event": 1772620130,
        "ts_epoch": 1772630930250,
        "X-Mailin-custom": json.dumps({"mailglass_id": str(ID), "order": "77"}),
        **fields,
    }


ROWS = [
    ("request", K.QUEUED, None, None),
    ("delivered", K.DELIVERED, None, None),
    ("hard_bounce", K.BOUNCED, HARD, None),
    ("soft_bounce", K.BOUNCED, SOFT, None),
    ("invalid_email", K.BOUNCED, BounceClass.UNDETERMINED, R.INVALID),
    ("blocked", K.REJECTED, None, R.BLOCKED),
    ("deferred", K.DEFERRED, None, None),
    ("spam", K.COMPLAINED, None, None),
    ("complaint", K.COMPLAINED, None, None),
    ("opened", K.OPENED, None, None),
    ("unique_opened", K.OPENED, None, None),
    ("proxy_open", K.OPENED, None, None),
    ("unique_proxy_open", K.OPENED, None, None),
    ("click", K.CLICKED, None, None),
    ("unsubscribe", K.UNSUBSCRIBED, None, None),
    ("unsubscribed", K.UNSUBSCRIBED, None, None),
    ("error", K.FAILED, None, None),
    ("list_addition", K.SUBSCRIBED, None, None),
    ("inboundEmailProcessed", K.UNKNOWN, None, None),
    ("", K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("name", "kind", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed(
    name: str, kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    (found,) = BASIC.normalise(json.dumps(event(event=name)).encode(), {})
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)


def test_every_event_that_is_mapped_is_tested() -> None:
    assert set(EVENTS) <= {row[0] for row in ROWS}


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    reason = " RecipientError: 550 5.1.1 Requested action not taken"
    assert read(event(event="hard_bounce", reason=reason, tags=["a", "b"]))[0] == ProviderEvent(
        kind=K.BOUNCED,
        provider_event_id=read(event(event="hard_bounce"))[0].provider_event_id,
        occurred_at=datetime(2026, 3, 4, 13, 28, 50, 250000, UTC),
        delivery_id=ID,
        provider_message_id=MESSAGE_ID,
        recipient="ada@example.com",
        bounce_class=HARD,
        status="5.1.1",
        tags=("a", "b"),
    )


def test_an_open_by_a_proxy_is_marked() -> None:
    found = read(*(event(event=name) for name in ("opened", "unique_opened", "proxy_open", "unique_proxy_open")))
    assert [one.machine for one in found] == [False, False, True, True]


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    (found,) = read(event(event="click", link="https://example.com/?token=s3cret"))
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({"tags": ["a", "b"], "tag": "c"}, ("a", "b")),
        ({"tag": "c"}, ("c",)),
        ({"tag": '["a","b"]'}, ("a", "b")),
        ({"tag": "[not json"}, ("[not json",)),
        ({}, ()),
    ],
)
def test_tags_are_read_in_each_of_their_forms(fields: dict[str, Any], tags: tuple[str, ...]) -> None:
    assert read(event(event="opened", **fields))[0].tags == tags


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps({"mailglass_id": str(ID)}), ID),
        (str(ID), ID),
        ("", None),
        ("[]", None),
        ("{", None),
        (json.dumps({"mailglass_id": 7}), None),
        ({"mailglass_id": str(ID)}, None),
        (None, None),
        ("[" * 99_999, None),
    ],
)
def test_our_id_is_read_from_what_comes_back(text: object, found: UUID | None) -> None:
    assert read(event(event="opened") | {"X-Mailin-custom": text})[0].delivery_id == found


def test_a_message_id_has_one_form() -> None:
    with_, without = read(event(event="opened"), event(event="opened") | {"message-id": MESSAGE_ID.strip("<>")})
    assert with_.provider_message_id == without.provider_message_id == MESSAGE_ID
    assert with_.provider_event_id == without.provider_event_id


@pytest.mark.parametrize("moment", [None, "soon", True, -5, 0, 10**40, [], 1 << 47])
def test_event_without_a_usable_epoch_has_the_time_of_ts_event(moment: object) -> None:
    (found,) = read(event(event="opened") | {"ts_epoch": moment})
    assert found.occurred_at == datetime.fromtimestamp(1772620130, UTC)


@pytest.mark.parametrize("moment", [1772630930, "1772630930", 1772630930000, "1772630930000"])
def test_epoch_in_seconds_or_milliseconds_is_the_same_time(moment: object) -> None:
    (found,) = read(event(event="opened") | {"ts_epoch": moment})
    assert found.occurred_at == datetime.fromtimestamp(1772630930, UTC)


def test_event_has_the_time_of_ts_where_nothing_better_is_told_and_never_that_of_date() -> None:
    bare = event(event="opened") | {"ts_epoch": None, "ts_event": None}
    assert read(bare)[0].occurred_at == datetime.fromtimestamp(1772620130, UTC)
    assert read(bare | {"ts": None})[0].occurred_at is None


def test_an_event_is_known_by_message_event_recipient_time_and_link() -> None:
    one = event(event="click", link="https://example.com/a")
    changes: list[dict[str, Any]] = [
        {"event": "opened"},
        {"email": "bob@example.com"},
        {"ts_epoch": 1},
        {"link": "https://example.com/b"},
        {"message-id": "<other@relay>"},
    ]
    same: list[dict[str, Any]] = [{"id": 1}, {"date": "x"}, {"subject": "x"}, {"email": "ADA@example.com"}]
    (mine, *others) = read(one, *(one | change for change in changes))
    assert len({found.provider_event_id for found in (mine, *others)}) == 1 + len(changes)
    assert {found.provider_event_id for found in read(*(one | change for change in same))} == {mine.provider_event_id}
    assert len(mine.provider_event_id) == 64


def test_without_its_best_time_an_event_is_known_by_another_and_without_any_by_all_it_says() -> None:
    plain = {key: value for key, value in event(event="spam").items() if key != "ts_epoch"}
    one, again, later = read(plain, plain | {"subject": "x"}, plain | {"ts_event": 5})
    assert one.provider_event_id == again.provider_event_id != later.provider_event_id
    bare = {"event": "spam", "email": "ada@example.com"}
    first, second, other = read(bare, dict(reversed(bare.items())), bare | {"x": 1})
    assert first.provider_event_id == second.provider_event_id != other.provider_event_id
    assert "ada" not in first.provider_event_id


POISON: list[Any] = [
    None,
    7,
    "delivered",
    [],
    {},
    {"items": [{"Uuid": ["x"]}]},
    {"event": ["opened"]},
    {"event": {"a": 1}},
    event(event="opened", ts_epoch=float("nan")),
    event(event="opened", ts_epoch={"a": 1}),
    event(event="opened") | {"message-id": 7},
    event(event="opened") | {"message-id": "y" * 500},
    event(event="opened", email=7),
    event(event="opened", tags={"a": 1}),
    event(event="opened", tag=[1]),
    event(event="opened", reason=[1]),
    event(event="opened", link=7),
    event(event="x\x00\ud800"),
]


def test_a_poisoned_item_sinks_no_other() -> None:
    items = [part for index, item in enumerate(POISON) for part in (item, event(event="opened", ts_epoch=index + 1))]
    found = read(*items)
    assert len(found) == len(items)
    assert {good.kind for good in found[1::2]} == {K.OPENED}
    assert len({good.provider_event_id for good in found[1::2]}) == len(POISON)


def test_unknown_event_is_warned_of_once_per_body_and_name() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read(7, event(event="new"), event(event="new"), event(event="ada@example.com"), event(event="opened"))
    finally:
        end()
    assert [(fields["reason"], fields["count"]) for fields in seen] == [("malformed", 1), ("new", 2), ("unnamed", 1)]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize("body", [b"", b"7", b"null", b'"x"', b"[", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_body_that_is_neither_object_nor_array_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        BASIC.normalise(body, {})


def test_an_empty_array_holds_no_event() -> None:
    assert BASIC.normalise(b"[]", {}) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from("event email message-id ts_epoch ts date tag tags link reason X-Mailin-custom".split())
items = st.lists(json_values | st.dictionaries(names, st.sampled_from(sorted(EVENTS)) | json_values), max_size=6)


@given(items, st.randoms(use_true_random=False))
def test_the_order_and_repetition_of_items_change_nothing(body: list[Any], shuffle: Any) -> None:
    def key(one: ProviderEvent) -> str:
        return repr((one, one.recipient))

    straight = read(*body)
    shuffled = body * 2
    shuffle.shuffle(shuffled)
    assert len(straight) == len(body)
    assert set(map(key, straight)) == set(map(key, read(*shuffled)))
    assert {one.provider_event_id for one in straight} == {one.provider_event_id for one in read(*shuffled)}


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(BASIC.normalise(body, {}), list)


def basic(credentials: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def refused(provider: BrevoProvider, headers: dict[str, str], peer: str = "") -> SignatureErrorType:
    with pytest.raises(SignatureError) as caught:
        provider.verify(WebhookRequest(headers, b"{}", remote_addr=peer))
    return caught.value.type


@pytest.mark.parametrize("secret", ["old-secret", "new: sécret"])
def test_each_proof_takes_both_secrets_of_a_rotation(secret: str) -> None:
    BASIC.verify(WebhookRequest(basic(f"hooks:{secret}"), b"{}"))
    BEARER.verify(WebhookRequest({"authorization": f"Bearer {secret}"}, b"{}"))
    HEADER.verify(WebhookRequest({"x-hook": secret}, b"{}"))


@pytest.mark.parametrize(
    ("provider", "headers", "type"),
    [
        (BASIC, {}, T.MISSING_HEADER),
        (BEARER, {}, T.MISSING_HEADER),
        (HEADER, {}, T.MISSING_HEADER),
        (BASIC, {"authorization": "Bearer old-secret"}, T.MALFORMED_HEADER),
        (BASIC, {"authorization": "Basic ***"}, T.MALFORMED_HEADER),
        (BEARER, basic("hooks:old-secret"), T.MALFORMED_HEADER),
        (BASIC, basic("hooks:old-secre"), T.BAD_CREDENTIALS),
        (BASIC, basic("other:old-secret"), T.BAD_CREDENTIALS),
        (BEARER, {"authorization": "Bearer old-secre"}, T.BAD_CREDENTIALS),
        (HEADER, {"x-hook": "old-secre"}, T.BAD_CREDENTIALS),
        (HEADER, {"x-hook": ""}, T.BAD_CREDENTIALS),
        (HEADER, basic("hooks:old-secret"), T.MISSING_HEADER),
    ],
)
def test_a_forged_webhook_is_refused_with_the_right_word(
    provider: BrevoProvider, headers: dict[str, str], type: SignatureErrorType
) -> None:
    assert refused(provider, headers) is type


def test_an_allowed_network_is_asked_for_in_addition_to_the_proof() -> None:
    provider = opened(webhook_tokens=TWO, webhook_networks=("203.0.113.0/24",))
    good = {"authorization": "Bearer old-secret"}
    provider.verify(WebhookRequest(good, b"{}", remote_addr="203.0.113.9"))
    assert refused(provider, good, "203.0.114.9") is T.IP_DISALLOWED
    assert refused(provider, good, "") is T.IP_DISALLOWED
    assert refused(provider, {"authorization": "Bearer x"}, "203.0.113.9") is T.BAD_CREDENTIALS


def test_a_network_alone_proves_nothing() -> None:
    provider = opened(webhook_networks=("203.0.113.0/24",))
    with pytest.raises(ConfigError, match=r"accounts\.br\.webhook_username"):
        provider.verify(WebhookRequest({}, b"{}", remote_addr="203.0.113.9"))


@given(st.dictionaries(st.sampled_from(["authorization", "x-hook", "x"]), st.text(max_size=80)))
def test_any_headers_are_refused_with_a_signature_error(headers: dict[str, str]) -> None:
    for provider in (BASIC, BEARER, HEADER):
        refused(provider, headers)


def test_credentials_are_not_among_the_headers_that_are_kept() -> None:
    assert BASIC.signed_headers == () == HEADER.signed_headers


def test_brevo_posts_again_after_a_429_only() -> None:
    assert BrevoProvider.retry_status == 429
