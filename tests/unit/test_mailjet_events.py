"""Mailjet's webhooks: who may post them, and what each event means."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
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
from mailglass.providers.mailjet import MailjetOptions, MailjetProvider
from mailglass.providers.mailjet.events import CAUSES, EVENTS, FAILURES
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
K, R, S = EventKind, RejectReason, SignatureErrorType
HARD, SOFT = BounceClass.HARD, BounceClass.SOFT


def opened(**more: Any) -> MailjetProvider:
    return MailjetProvider("mj", MailjetOptions(api_key=Secret("k"), secret_key=Secret("s"), **more))


PROVIDER = opened(webhook_username="hooks", webhook_passwords=(Secret("a"), Secret("b")))


def event(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "event": name,
        "time": 1772630930,
        "MessageID": 1152921526316184579,
        "Message_GUID": "5f0c",
        "email": "ada@example.com",
        "mj_campaign_id": 7,
        "mj_contact_id": 9,
        "customcampaign": "invoice",
        "CustomID": str(ID),
        "Payload": "",
        **fields,
    }


def read(*items: object) -> list[ProviderEvent]:
    return PROVIDER.normalise(json.dumps(items).encode(), {})


def one(item: object) -> ProviderEvent:
    (found,) = read(item)
    return found


def bounce(error: str, **fields: Any) -> dict[str, Any]:
    return event("bounce", error=error, error_related_to="recipient", **fields)


ROWS: list[tuple[dict[str, Any], EventKind, BounceClass | None, RejectReason | None]] = [
    (event("sent", smtp_reply="sent (250 2.0.0 OK)"), K.DELIVERED, None, None),
    (event("open", agent="Mozilla/5.0"), K.OPENED, None, None),
    (event("click", url="https://example.com"), K.CLICKED, None, None),
    (event("spam", source="JMRPP"), K.COMPLAINED, None, None),
    (event("unsub", mj_list_id=1), K.UNSUBSCRIBED, None, None),
    (bounce("user unknown", hard_bounce=True, blocked=True), K.BOUNCED, HARD, None),
    (bounce("mailbox inactive", hard_bounce=True, blocked=False), K.BOUNCED, HARD, None),
    (bounce("user unknown", hard_bounce=False, blocked=False), K.BOUNCED, SOFT, None),
    (bounce("quota exceeded", hard_bounce=False, blocked=True), K.BOUNCED, SOFT, None),
    (bounce("invalid domain", hard_bounce=True, blocked=True), K.BOUNCED, BounceClass.UNDETERMINED, None),
    (bounce("policy issue", hard_bounce=False), K.BOUNCED, SOFT, R.BLOCKED),
    (bounce("greylisted", hard_bounce=False, blocked=True), K.DEFERRED, SOFT, None),
    (bounce("greylisted"), K.DEFERRED, SOFT, None),
    (bounce("greylisted", hard_bounce=True), K.BOUNCED, SOFT, None),
    (bounce("something new", hard_bounce=True), K.BOUNCED, HARD, None),
    (bounce("something new", hard_bounce=False), K.BOUNCED, SOFT, None),
    # without the flag the error itself decides
    (bounce("no mail host"), K.BOUNCED, BounceClass.UNDETERMINED, None),
    (bounce("connection issue"), K.BOUNCED, SOFT, None),
    (bounce("spam reporter"), K.BOUNCED, BounceClass.UNDETERMINED, None),
    (bounce("something new", hard_bounce="yes"), K.BOUNCED, BounceClass.UNDETERMINED, None),
    (event("bounce"), K.BOUNCED, BounceClass.UNDETERMINED, None),
    (bounce("bad or empty template"), K.FAILED, None, None),
    (event("blocked", error="user unknown"), K.REJECTED, HARD, R.BOUNCED),
    (event("blocked", error="mailbox inactive"), K.REJECTED, HARD, R.BOUNCED),
    (event("blocked", error="quota exceeded"), K.REJECTED, SOFT, R.OTHER),
    (event("blocked", error="blacklisted"), K.REJECTED, None, R.BOUNCED),
    (event("blocked", error="preblocked"), K.REJECTED, None, R.BOUNCED),
    (event("blocked", error="spam reporter"), K.REJECTED, None, R.SPAM),
    (event("blocked", error="invalid domain"), K.REJECTED, HARD, R.INVALID),
    (event("blocked", error="no mail host"), K.REJECTED, HARD, R.INVALID),
    (event("blocked", error="typofix"), K.REJECTED, None, R.INVALID),
    (event("blocked", error="relay/access denied"), K.REJECTED, SOFT, R.BLOCKED),
    (event("blocked", error="greylisted"), K.DEFERRED, SOFT, None),
    (event("blocked", error="sender blocked"), K.REJECTED, SOFT, R.BLOCKED),
    (event("blocked", error="content blocked"), K.REJECTED, SOFT, R.BLOCKED),
    (event("blocked", error="policy issue"), K.REJECTED, SOFT, R.BLOCKED),
    (event("blocked", error="system issue"), K.REJECTED, SOFT, R.OTHER),
    (event("blocked", error="protocol issue"), K.REJECTED, SOFT, R.OTHER),
    (event("blocked", error="connection issue"), K.REJECTED, SOFT, R.OTHER),
    (event("blocked", error="duplicate in campaign"), K.REJECTED, None, R.OTHER),
    (event("blocked", error="bad or empty template"), K.FAILED, None, None),
    (event("blocked", error="error in template language"), K.FAILED, None, None),
    (event("blocked", error="Preblocked "), K.REJECTED, None, R.BOUNCED),
    (event("blocked", error="something new"), K.REJECTED, None, R.OTHER),
    (event("blocked", error=["user unknown"]), K.REJECTED, None, R.OTHER),
    (event("blocked"), K.REJECTED, None, R.OTHER),
    (event("something_new"), K.UNKNOWN, None, None),
    (event(""), K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("item", "kind", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed(
    item: dict[str, Any], kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    found = one(item)
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)
    assert (found.recipient, found.delivery_id) == ("ada@example.com", ID)


def test_every_event_and_error_that_is_mapped_is_tested() -> None:
    assert set(EVENTS) <= {row[0]["event"] for row in ROWS}
    assert set(CAUSES) | FAILURES <= {str(row[0].get("error")) for row in ROWS if row[0]["event"] == "blocked"}


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    item = bounce("user unknown", hard_bounce=True, comment="550 5.1.1 No such mailbox at 203.0.113.9")
    identity = '["1152921526316184579", "bounce", "ada@example.com", 1772630930, null]'
    assert one(item) == ProviderEvent(
        kind=K.BOUNCED,
        provider_event_id=hashlib.sha256(identity.encode()).hexdigest(),
        occurred_at=datetime(2026, 3, 4, 13, 28, 50, tzinfo=UTC),
        delivery_id=ID,
        provider_message_id="1152921526316184579",
        recipient="ada@example.com",
        bounce_class=HARD,
        status="5.1.1",
        tags=("invoice",),
    )
    assert one(event("sent", smtp_reply="sent (250 2.0.0 OK 1498093527 - gsmtp)")).status == "2.0.0"


def test_version_1_posts_one_object_and_version_2_an_array_of_the_same() -> None:
    item = event("sent")
    assert PROVIDER.normalise(json.dumps(item).encode(), {}) == read(item)
    assert len(read(item, event("open"), event("click"))) == 3
    assert read() == []


def test_an_id_beyond_what_a_float_can_hold_is_kept_and_matches_the_send_answers() -> None:
    body = b'{"event": "sent", "time": 1, "MessageID": 9223372036854775807, "email": "a@b.example"}'
    (found,) = PROVIDER.normalise(body, {})
    assert found.provider_message_id == "9223372036854775807"


def test_the_id_as_text_stands_in_for_one_that_was_rounded_or_left_out() -> None:
    item = event("sent", mj_message_id="1152921526316184579")
    for broken in ({"MessageID": 1.152921526316184579e18}, {"MessageID": None}, {"MessageID": 0}):
        assert one(item | broken).provider_message_id == "1152921526316184579"


def test_the_same_event_has_the_same_identity_however_it_is_spaced_or_bundled() -> None:
    item = event("click", url="https://example.com")
    spaced = PROVIDER.normalise(json.dumps(dict(reversed(item.items())), indent=2).encode(), {})
    assert spaced == read(item)


@pytest.mark.parametrize(
    "change",
    [{"event": "open"}, {"MessageID": 5}, {"email": "bob@example.com"}, {"time": 1772630931}, {"url": "https://y"}],
)
def test_events_that_differ_in_what_identifies_them_are_different(change: dict[str, Any]) -> None:
    item = event("click", url="https://x")
    assert one(item).provider_event_id != one(item | change).provider_event_id
    # whatever else changes between two posts of it does not count
    assert one(item).provider_event_id == one(item | {"geo": "FR", "ip": "192.0.2.1"}).provider_event_id


def test_no_address_can_be_read_in_an_identity() -> None:
    for item in (event("sent"), event("sent", MessageID=None), event("sent", time=None)):
        assert re.fullmatch(r"[0-9a-f]{64}", one(item).provider_event_id)


def test_a_click_keeps_a_digest_of_its_target_only_and_an_open_none() -> None:
    found = one(event("click", url="https://example.com/?token=s3cret"))
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)
    assert one(event("open", url="https://example.com")).click_hash is None


POISON: list[Any] = [
    None,
    7,
    "sent",
    [],
    [{"event": "open"}],
    {},
    {"event": ["open"]},
    {"event": {"a": 1}},
    event("open", time="x"),
    event("open", time=1e300),
    event("open", time=True),
    event("open", time=float("nan")),
    event("open", time=[1]),
    event("open", MessageID="x\x00y"),
    event("open", MessageID={"a": 1}),
    event("open", MessageID=10**40),
    event("open", email=7),
    event("open", email="nobody"),
    event("open", email="\ud800@x.y"),
    event("open", CustomID=7),
    event("open", CustomID="no uuid"),
    event("open", customcampaign={"a": 1}),
    event("bounce", error=5),
    event("bounce", smtp_reply=5),
    event("x\x00\ud800"),
]


def test_a_poisoned_item_sinks_no_other() -> None:
    items = [part for index, item in enumerate(POISON) for part in (item, event("open", MessageID=index + 1))]
    found = read(*items)
    assert len(found) == len(items)
    assert [good.provider_message_id for good in found[1::2]] == [str(index + 1) for index in range(len(POISON))]
    assert {good.kind for good in found[1::2]} == {K.OPENED}
    for kept in found:
        for text in (kept.provider_message_id, kept.recipient, kept.provider_event_id):
            assert text is None or (text.isprintable() and len(text) <= 320)


def test_unknown_event_is_warned_of_once_per_body_and_name() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read(7, event("new"), event("new"), event("ada@example.com"), event("open"))
    finally:
        end()
    assert [(fields["reason"], fields["count"]) for fields in seen] == [("malformed", 1), ("new", 2), ("unnamed", 1)]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize("body", [b"", b"7", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_body_that_is_neither_object_nor_array_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    "event time MessageID mj_message_id email CustomID customcampaign hard_bounce blocked error url smtp_reply".split()
)
known_words = st.sampled_from(sorted({*EVENTS, *CAUSES, *FAILURES}))
items = st.lists(json_values | st.dictionaries(fields, known_words | json_values, max_size=8), max_size=6)


@given(items, st.randoms(use_true_random=False))
def test_neither_the_order_of_the_items_nor_their_repetition_changes_anything(body: list[Any], shuffle: Any) -> None:
    def key(found: ProviderEvent) -> str:
        return repr((found, found.recipient))

    straight = read(*body)
    assert len(straight) == len(body)
    twice = body * 2
    shuffle.shuffle(twice)
    assert set(map(key, straight)) == set(map(key, read(*twice)))


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(PROVIDER.normalise(body, {}), list)


def signed(credentials: str, scheme: str = "Basic ") -> WebhookRequest:
    return WebhookRequest({"authorization": scheme + base64.b64encode(credentials.encode()).decode()}, b"{}")


def refused(request: WebhookRequest) -> SignatureErrorType:
    with pytest.raises(SignatureError) as caught:
        PROVIDER.verify(request)
    return caught.value.type


def test_both_passwords_of_a_rotation_are_accepted() -> None:
    PROVIDER.verify(signed("hooks:a"))
    PROVIDER.verify(signed("hooks:b", "bAsIc "))


@pytest.mark.parametrize(
    ("request_", "type_"),
    [
        (WebhookRequest({}, b"{}"), S.MISSING_HEADER),
        (signed("hooks:a", "Bearer "), S.MALFORMED_HEADER),
        (signed("hooks:a", ""), S.MALFORMED_HEADER),
        (WebhookRequest({"authorization": "Basic ?"}, b"{}"), S.MALFORMED_HEADER),
        (signed("hooks:c"), S.BAD_CREDENTIALS),
        (signed("hooks:"), S.BAD_CREDENTIALS),
        (signed("hooks:ab"), S.BAD_CREDENTIALS),
        (signed("Hooks:a"), S.BAD_CREDENTIALS),
        (signed(":a"), S.BAD_CREDENTIALS),
        (signed("hooks"), S.BAD_CREDENTIALS),
        (signed(""), S.BAD_CREDENTIALS),
    ],
)
def test_each_forgery_is_told_apart(request_: WebhookRequest, type_: SignatureErrorType) -> None:
    assert refused(request_) is type_


def test_every_flipped_byte_of_the_credentials_is_refused() -> None:
    good = b"hooks:a"
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        header = {"authorization": "Basic " + base64.b64encode(bad).decode()}
        assert refused(WebhookRequest(header, b"{}")) is S.BAD_CREDENTIALS


def test_an_account_without_webhook_credentials_says_so() -> None:
    with pytest.raises(ConfigError, match=r"accounts\.mj\.webhook_username"):
        opened().verify(signed("hooks:a"))


@given(st.dictionaries(st.sampled_from(["authorization", "x"]), st.text(max_size=80)))
def test_any_headers_are_refused_with_a_signature_error(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        PROVIDER.verify(WebhookRequest(headers, b"{}"))


def test_a_webhook_posted_again_is_known_by_its_bytes_and_its_credentials_are_not_kept() -> None:
    assert PROVIDER.delivery_key(signed("hooks:a")) is None
    assert PROVIDER.signed_headers == ()
    assert PROVIDER.retry_status == 503
