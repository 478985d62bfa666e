"""Mandrill's webhooks: forms signed together with their URL, of which no event sinks another."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers.base import WebhookRequest
from mailglass.providers.mandrill import MandrillOptions, MandrillProvider
from mailglass.providers.mandrill.events import EVENTS, SIGNATURE, normalise
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
URL = "https://hooks:p%20w@mail.example.org/webhooks/md?x=1&y=2"
K, R, S = EventKind, RejectReason, SignatureErrorType
HARD, SOFT = BounceClass.HARD, BounceClass.SOFT


def opened(*keys: str, url: str | None = URL) -> MandrillProvider:
    signing = tuple(Secret(key) for key in keys)
    return MandrillProvider("md", MandrillOptions(api_key=Secret("k"), webhook_keys=signing, webhook_url=url))


PROVIDER = opened("old-key", "new-key")


def event(name: str = "send", **fields: Any) -> dict[str, Any]:
    message = {
        "ts": 1772630900,
        "email": "ada@example.com",
        "sender": "shop@example.org",
        "subject": "Grüße & more",
        "tags": ["a", "b"],
        "metadata": {"mailglass_id": str(ID), "order": "7"},
        "_id": "5f0c",
        **fields.pop("msg", {}),
    }
    return {"event": name, "_id": "5f0c", "ts": 1772630930, "msg": message, **fields}


def form(*items: object) -> bytes:
    return urlencode({"mandrill_events": json.dumps(items)}).encode()


def read(*items: object) -> list[ProviderEvent]:
    return PROVIDER.normalise(form(*items), {})


def one(item: object) -> ProviderEvent:
    (found,) = read(item)
    return found


ROWS: list[tuple[dict[str, Any], EventKind, BounceClass | None, RejectReason | None]] = [
    (event("send"), K.SENT, None, None),
    (event("delivered"), K.DELIVERED, None, None),
    (event("deferral"), K.DEFERRED, SOFT, None),
    (event("hard_bounce", msg={"bounce_description": "bad_mailbox"}), K.BOUNCED, HARD, None),
    (event("hard_bounce", msg={"bounce_description": "invalid_domain"}), K.BOUNCED, HARD, None),
    (event("hard_bounce", msg={"bounce_description": "mailbox_full"}), K.BOUNCED, SOFT, None),
    (event("hard_bounce"), K.BOUNCED, HARD, None),
    (event("soft_bounce", msg={"bounce_description": "mailbox_full"}), K.BOUNCED, SOFT, None),
    (event("soft_bounce", msg={"bounce_description": "bad_mailbox"}), K.BOUNCED, SOFT, None),
    (event("reject", msg={"reject": {"reason": "hard-bounce"}}), K.REJECTED, HARD, R.BOUNCED),
    (event("reject", msg={"reject": {"reason": "soft-bounce"}}), K.REJECTED, SOFT, R.OTHER),
    (event("reject", msg={"reject": {"reason": "spam"}}), K.REJECTED, None, R.SPAM),
    (event("reject", msg={"reject": "unsub"}), K.REJECTED, None, R.UNSUBSCRIBED),
    (event("reject", msg={"reject": {"reason": "custom"}}), K.REJECTED, None, R.BLOCKED),
    (event("reject", msg={"reject": {"reason": "invalid"}}), K.REJECTED, None, R.INVALID),
    (event("reject", msg={"reject": {"reason": "rule"}}), K.REJECTED, None, R.OTHER),
    (event("reject"), K.REJECTED, None, R.OTHER),
    (event("open", ip="192.0.2.1"), K.OPENED, None, None),
    (event("click", url="https://example.com/a"), K.CLICKED, None, None),
    (event("spam"), K.COMPLAINED, None, None),
    (event("unsub"), K.UNSUBSCRIBED, None, None),
    ({"type": "blacklist", "action": "add", "reject": {"email": "ada@example.com"}}, K.UNKNOWN, None, None),
    ({"type": "denylist", "action": "remove", "reject": {"email": "ada@example.com"}}, K.UNKNOWN, None, None),
    ({"type": "whitelist", "action": "add", "entry": {"email": "ada@example.com"}}, K.UNKNOWN, None, None),
    ({"type": "allowlist", "action": "add", "entry": {"email": "ada@example.com"}}, K.UNKNOWN, None, None),
    (event("inbound"), K.UNKNOWN, None, None),
    (event("something_new"), K.UNKNOWN, None, None),
    (event(""), K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("item", "kind", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed(
    item: dict[str, Any], kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    found = one(item)
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)
    assert found.recipient == "ada@example.com"


def test_every_event_that_is_mapped_is_tested() -> None:
    assert {name for name, _ in EVENTS} <= {row[0].get("event") or row[0].get("type") for row in ROWS}


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    bounced = {"bounce_description": "bad_mailbox", "diag": "smtp;550 5.1.1 No such mailbox at 203.0.113.9"}
    assert one(event("hard_bounce", msg=bounced)) == ProviderEvent(
        kind=K.BOUNCED,
        provider_event_id=hashlib.sha256(b'["hard_bounce", "5f0c", 1772630930, null, null]').hexdigest(),
        occurred_at=datetime(2026, 3, 4, 13, 28, 50, tzinfo=UTC),
        delivery_id=ID,
        provider_message_id="5f0c",
        recipient="ada@example.com",
        bounce_class=HARD,
        status="5.1.1",
        tags=("a", "b"),
    )


@pytest.mark.parametrize(
    "change", [{"event": "open"}, {"_id": "other"}, {"ts": 1772630931}, {"url": "https://x"}, {"ip": "192.0.2.7"}]
)
def test_events_that_differ_in_what_identifies_them_are_different(change: dict[str, Any]) -> None:
    clicked = event("click", url="https://example.com", ip="192.0.2.1")
    assert one(clicked).provider_event_id != one(clicked | change).provider_event_id
    # whatever else changes between two posts of it does not count
    assert one(clicked).provider_event_id == one(clicked | {"user_agent": "x", "location": {}}).provider_event_id


def test_a_change_of_mandrills_lists_names_no_delivery_and_no_address_in_its_identity() -> None:
    found = one({"type": "blacklist", "action": "add", "ts": 1, "reject": {"email": "ada@example.com"}})
    assert (found.delivery_id, found.provider_message_id) == (None, None)
    assert len(found.provider_event_id) == 64
    assert "ada" not in found.provider_event_id


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    found = one(event("click", url="https://example.com/?token=s3cret"))
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)


POISON: list[Any] = [
    None,
    7,
    "send",
    [],
    [event()],
    {},
    {"event": ["open"]},
    {"event": {"a": 1}},
    {"event": "send"},
    event(ts="x"),
    event(ts=1e300),
    event(ts=True),
    event(ts=None),
    event(_id=5),
    event(_id={"a": 1}),
    event(_id="y" * 500),
    event() | {"msg": None},
    event() | {"msg": [1]},
    event(msg={"email": 7}),
    event(msg={"metadata": [1]}),
    event(msg={"metadata": {"mailglass_id": 5}}),
    event(msg={"tags": {"a": 1}}),
    event("reject", msg={"reject": [1]}),
    event("hard_bounce", msg={"bounce_description": ["x"]}),
    event(msg={"diag": 5}),
    event(url={"a": 1}),
    event("x\x00\ud800"),
    event(msg={"email": "\ud800@x.y"}),
]


def test_a_poisoned_item_sinks_no_other() -> None:
    items = [part for index, item in enumerate(POISON) for part in (item, event("open", _id=f"g{index}"))]
    found = read(*items)
    assert len(found) == len(items)
    assert [good.provider_message_id for good in found[1::2]] == [f"g{index}" for index in range(len(POISON))]
    assert {good.kind for good in found[1::2]} == {K.OPENED}
    assert all(bad.provider_event_id for bad in found)


def test_a_thousand_events_are_read() -> None:
    found = read(*(event(_id=f"m{number}") for number in range(1000)))
    assert len({each.provider_event_id for each in found}) == 1000


def test_unknown_event_is_warned_of_once_per_body_and_name() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read(7, event("new"), event("new"), event("ada@example.com"), {"type": "blacklist", "action": "add"}, event())
    finally:
        end()
    assert [(fields["reason"], fields["count"]) for fields in seen] == [
        ("blacklist.add", 1),
        ("malformed", 1),
        ("new", 2),
        ("unnamed", 1),
    ]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"mandrill_events",
        b"mandrill_events=",
        b"mandrill_events={}",
        b"mandrill_events=7",
        b"mandrill_events=%5B",
        b"other=%5B%5D",
        b"--",
        b"\xff",
        b"mandrill_events=" + b"[" * 100_000,
    ],
)
def test_body_that_mandrill_does_not_post_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, {})


def test_an_empty_array_holds_no_event() -> None:
    assert read() == []


# --- signatures


def sign(text: str | bytes, key: str = "new-key", url: str = URL) -> str:
    text = text if isinstance(text, bytes) else text.encode()
    return base64.b64encode(hmac.new(key.encode(), url.encode() + text, hashlib.sha1).digest()).decode()


def posted(*items: object, key: str = "new-key", url: str = URL) -> WebhookRequest:
    signature = sign("mandrill_events" + json.dumps(items), key, url)
    return WebhookRequest({SIGNATURE: signature}, form(*items))


def refused(request: WebhookRequest, provider: MandrillProvider = PROVIDER) -> SignatureErrorType:
    with pytest.raises(SignatureError) as caught:
        provider.verify(request)
    return caught.value.type


@pytest.mark.parametrize("key", ["old-key", "new-key"])
def test_either_key_of_a_rotation_proves_a_webhook(key: str) -> None:
    PROVIDER.verify(posted(event(), key=key))


def test_the_scheme_is_the_one_another_tool_computes() -> None:
    # printf 'https://hooks.example.org/mail?x=1a2bmandrill_events[{"event":"send"}]' |
    #   openssl dgst -sha1 -hmac the-webhook-key -binary | base64
    headers = {SIGNATURE: "58uVmfq5ZPQAWBRReJaH3hqYby8="}
    body = b"mandrill_events=%5B%7B%22event%22%3A%22send%22%7D%5D&a=2b"
    opened("the-webhook-key", url="https://hooks.example.org/mail?x=1").verify(WebhookRequest(headers, body))


def test_fields_are_signed_in_the_order_of_their_names_whatever_order_they_are_posted_in() -> None:
    text = "a1mandrill_events[]z2"
    for body in (b"mandrill_events=[]&z=2&a=1", b"z=2&a=1&mandrill_events=%5B%5D"):
        PROVIDER.verify(WebhookRequest({SIGNATURE: sign(text)}, body))


def test_a_multipart_form_is_verified_and_read_too() -> None:
    text = json.dumps([event()])
    body = (f'--B\r\nContent-Disposition: form-data; name="mandrill_events"\r\n\r\n{text}\r\n--B--\r\n').encode()
    request = WebhookRequest({SIGNATURE: sign("mandrill_events" + text)}, body)
    PROVIDER.verify(request)
    assert PROVIDER.normalise(body, {}) == read(event())
    assert PROVIDER.delivery_key(request) == PROVIDER.delivery_key(posted(event()))


def test_the_url_is_the_accounts_and_not_the_requests() -> None:
    good = posted(event())
    PROVIDER.verify(WebhookRequest(good.headers, good.body, url="http://internal/elsewhere"))
    elsewhere = posted(event(), url="https://evil.example.org/")
    assert refused(WebhookRequest(elsewhere.headers, elsewhere.body, url="https://evil.example.org/")) is (
        S.BAD_SIGNATURE
    )


def test_a_url_that_differs_in_a_letter_signs_nothing() -> None:
    for url in (URL + "/", URL.replace("https", "http"), URL.replace("p%20w", "p w"), URL.partition("?")[0]):
        assert refused(posted(event(), url=url)) is S.BAD_SIGNATURE


def test_body_changed_after_signing_is_refused() -> None:
    good = posted(event())
    changed = form(event(msg={"email": "eve@example.com"}))
    more = good.body + b"&a=1"
    for body in (changed, more, b"", good.body.replace(b"mandrill_events", b"mandrill_event"), b"--torn"):
        assert refused(WebhookRequest(good.headers, body)) is S.BAD_SIGNATURE
    flipped = bytearray(base64.b64decode(good.headers[SIGNATURE]))
    flipped[0] ^= 1
    assert refused(WebhookRequest({SIGNATURE: base64.b64encode(flipped).decode()}, good.body)) is S.BAD_SIGNATURE
    assert refused(posted(event(), key="other-key")) is S.BAD_SIGNATURE


def test_missing_and_malformed_headers_are_told_apart() -> None:
    assert refused(WebhookRequest({}, form(event()))) is S.MISSING_HEADER
    for text in ("?", "é", "AAA", "a b="):
        assert refused(WebhookRequest({SIGNATURE: text}, form(event()))) is S.MALFORMED_HEADER
    for text in ("", "AAAA"):
        assert refused(WebhookRequest({SIGNATURE: text}, form(event()))) is S.BAD_SIGNATURE


def test_a_webhook_posted_again_in_another_encoding_is_the_same_webhook() -> None:
    good = posted(event())
    again = "mandrill_events=" + quote(json.dumps([event()]), safe="")
    request = WebhookRequest(good.headers, again.encode())
    assert request.body != good.body
    PROVIDER.verify(request)
    assert PROVIDER.delivery_key(request) == PROVIDER.delivery_key(good)
    assert PROVIDER.delivery_key(posted(event("open"))) != PROVIDER.delivery_key(good)


def test_the_tryout_of_a_new_webhook_is_let_in_only_while_it_holds_no_event() -> None:
    tryout = WebhookRequest({SIGNATURE: sign("mandrill_events[]", "test-webhook")}, b"mandrill_events=%5B%5D")
    opened().verify(tryout)
    PROVIDER.verify(tryout)
    assert PROVIDER.normalise(tryout.body, {}) == []
    # the key is known to everybody
    assert refused(posted(event(), key="test-webhook")) is S.BAD_SIGNATURE
    spaced = WebhookRequest({SIGNATURE: sign("mandrill_events[ ]", "test-webhook")}, b"mandrill_events=[ ]")
    assert refused(spaced) is S.BAD_SIGNATURE
    extra = WebhookRequest({SIGNATURE: sign("a1mandrill_events[]", "test-webhook")}, b"mandrill_events=[]&a=1")
    assert refused(extra) is S.BAD_SIGNATURE


def test_an_account_without_a_key_or_url_says_so() -> None:
    with pytest.raises(ConfigError, match=r"accounts\.md\.webhook_keys"):
        opened().verify(posted(event()))
    with pytest.raises(ConfigError, match=r"webhook_url"):
        opened(url=None).verify(posted(event()))


def test_the_signature_is_kept_with_the_body() -> None:
    assert PROVIDER.signed_headers == (SIGNATURE,)


# --- whatever comes

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from("event type action _id ts msg reject entry url ip email tags metadata diag".split())
words = st.sampled_from(sorted({word for key in EVENTS for word in key}))
messages = st.dictionaries(names, words | json_values, max_size=6)
items = st.lists(json_values | st.dictionaries(names, words | messages | json_values, max_size=8), max_size=6)


@given(items, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_of_the_items_changes_what_they_say(body: list[Any], shuffle: Any) -> None:
    def key(each: ProviderEvent) -> str:
        return repr((each, each.recipient))

    straight = {key(each) for each in read(*body)}
    mixed = body + body
    shuffle.shuffle(mixed)
    assert {key(each) for each in read(*mixed)} == straight
    assert len(read(*mixed)) == len(mixed)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"mandrill_events=" + tail))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(normalise(body, "md"), list)


@given(st.dictionaries(st.sampled_from([SIGNATURE, "x"]), st.text(max_size=60)), st.binary(max_size=40))
def test_any_headers_are_refused_with_a_signature_error(headers: dict[str, str], body: bytes) -> None:
    refused(WebhookRequest(headers, body))
