"""Mailgun's webhooks: whose they are, that each proof counts once, and what each event means."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers.base import WebhookRequest
from mailglass.providers.mailgun import MailgunOptions, MailgunProvider
from mailglass.providers.mailgun.events import EVENTS, LEGACY_EVENTS
from mailglass.settings import Secret

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
K, R, S = EventKind, RejectReason, SignatureErrorType
HARD, SOFT, OPEN = BounceClass.HARD, BounceClass.SOFT, BounceClass.UNDETERMINED
TOKEN = "a1" * 25


def opened(*keys: str, **more: Any) -> MailgunProvider:
    signing = tuple(Secret(key) for key in keys)
    options = MailgunOptions(api_key=Secret("k"), domain="mg.example.org", webhook_signing_keys=signing, **more)
    return MailgunProvider("mg", options)


PROVIDER = opened("old-key", "new-key")


def event(**fields: Any) -> dict[str, Any]:
    return {
        "event": "delivered",
        "id": "CPgfbmQMTCKtHW6uIWtuVe",
        "timestamp": 1772630930.25,
        "log-level": "info",
        "recipient": "ada@example.com",
        "user-variables": {"mailglass_id": str(ID), "order": "7"},
        "tags": ["a", "b"],
        "message": {"headers": {"message-id": "20260304.1@mg.example.org", "to": "Ada <ada@example.com>"}},
        **fields,
    }


def signature(key: str = "new-key", timestamp: str | None = None, token: str = TOKEN) -> dict[str, str]:
    timestamp = timestamp or str(int(time.time()))
    mac = hmac.new(key.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    return {"timestamp": timestamp, "token": token, "signature": mac}


def posted(item: object = None, proof: object = None) -> WebhookRequest:
    body = {"signature": signature() if proof is None else proof, "event-data": event() if item is None else item}
    return WebhookRequest({"content-type": "application/json"}, json.dumps(body).encode())


def read(item: object) -> ProviderEvent:
    (found,) = PROVIDER.normalise(posted(item).body, {})
    return found


def failed(severity: str, reason: str, **status: Any) -> dict[str, Any]:
    return {"event": "failed", "severity": severity, "reason": reason, "delivery-status": status}


ROWS: list[tuple[dict[str, Any], EventKind, BounceClass | None, RejectReason | None]] = [
    ({"event": "accepted"}, K.QUEUED, None, None),
    ({"event": "rejected", "reject": {"reason": "Sandbox"}}, K.REJECTED, None, R.OTHER),
    ({"event": "delivered"}, K.DELIVERED, None, None),
    (failed("temporary", "generic", code=451), K.DEFERRED, SOFT, None),
    (failed("temporary", "greylisted", code=450), K.DEFERRED, SOFT, None),
    (failed("temporary", "old"), K.DEFERRED, SOFT, None),
    (failed("permanent", "bounce"), K.BOUNCED, HARD, None),
    (failed("permanent", "bounce", code=550, message="5.1.1 no such user"), K.BOUNCED, HARD, None),
    (failed("permanent", "bounce", code=550, **{"enhanced-code": "5.1.1"}), K.BOUNCED, HARD, None),
    (failed("permanent", "bounce", code=498, message="No MX for example.com"), K.BOUNCED, SOFT, None),
    (failed("permanent", "bounce", code=450), K.BOUNCED, SOFT, None),
    (failed("permanent", "bounce", code=552), K.BOUNCED, SOFT, None),
    (failed("permanent", "bounce", code=550, message="5.2.2 mailbox full"), K.BOUNCED, SOFT, None),
    (failed("permanent", "bounce", code=550, message="5.7.1 blocked"), K.BOUNCED, SOFT, None),
    (failed("permanent", "bounce", code=550, **{"enhanced-code": "4.4.1"}), K.BOUNCED, SOFT, None),
    (failed("permanent", "suppress-bounce", code=605), K.REJECTED, HARD, R.BOUNCED),
    (failed("permanent", "suppress-complaint", code=607), K.REJECTED, None, R.SPAM),
    (failed("permanent", "suppress-unsubscribe", code=606), K.REJECTED, None, R.UNSUBSCRIBED),
    (failed("permanent", "old", code=602), K.BOUNCED, SOFT, R.TIMED_OUT),
    (failed("permanent", "generic", code=550), K.BOUNCED, SOFT, None),
    (failed("permanent", "espblock", code=550), K.BOUNCED, SOFT, R.BLOCKED),
    (failed("permanent", "something-new", code=550), K.BOUNCED, OPEN, None),
    (failed("", "bounce"), K.UNKNOWN, None, None),
    ({"event": "opened"}, K.OPENED, None, None),
    ({"event": "clicked", "url": "https://example.com/a"}, K.CLICKED, None, None),
    ({"event": "unsubscribed"}, K.UNSUBSCRIBED, None, None),
    ({"event": "complained"}, K.COMPLAINED, None, None),
    ({"event": "list_member_uploaded"}, K.UNKNOWN, None, None),
    ({"event": "stored"}, K.UNKNOWN, None, None),
    ({"event": "email_validation"}, K.UNKNOWN, None, None),
    ({"event": ""}, K.UNKNOWN, None, None),
    ({"event": None}, K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("fields", "kind", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed(
    fields: dict[str, Any], kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    found = read(event(**fields))
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)


def test_every_event_that_is_mapped_is_tested() -> None:
    tested = {(row[0].get("event"), row[0].get("severity", ""), row[0].get("reason", "")) for row in ROWS}
    assert all(key in tested or key[2] == "" for key in EVENTS)
    assert {key[0] for key in EVENTS} <= {row[0] for row in tested}


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    status = {"code": 550, "enhanced-code": "5.1.1", "message": "no such user"}
    assert read(event(event="failed", severity="permanent", reason="bounce", **{"delivery-status": status})) == (
        ProviderEvent(
            kind=K.BOUNCED,
            provider_event_id="CPgfbmQMTCKtHW6uIWtuVe/2026-03-04",
            occurred_at=datetime(2026, 3, 4, 13, 28, 50, 250000, UTC),
            delivery_id=ID,
            provider_message_id="<20260304.1@mg.example.org>",
            recipient="ada@example.com",
            bounce_class=HARD,
            status="5.1.1",
            tags=("a", "b"),
        )
    )


def test_a_retry_with_a_fresh_token_is_another_webhook_of_the_same_event() -> None:
    first, retry = posted(proof=signature(token="t1" * 25)), posted(proof=signature(token="t2" * 25))
    PROVIDER.verify(first)
    PROVIDER.verify(retry)
    assert PROVIDER.delivery_key(first) != PROVIDER.delivery_key(retry)
    assert PROVIDER.normalise(first.body, {}) == PROVIDER.normalise(retry.body, {})


def test_the_same_id_on_another_day_is_another_event() -> None:
    assert read(event()).provider_event_id != read(event(timestamp=1772630930.25 + 86_400)).provider_event_id


def test_an_event_without_an_id_or_a_time_is_known_by_its_content() -> None:
    nameless = {key: value for key, value in event().items() if key != "id"}
    one, again = read(nameless), read(dict(reversed(nameless.items())))
    assert one.provider_event_id == again.provider_event_id != read(nameless | {"timestamp": 1}).provider_event_id
    timeless = read(event(timestamp=None))
    assert len(timeless.provider_event_id) == len(one.provider_event_id) == 64
    assert "ada" not in one.provider_event_id


@pytest.mark.parametrize(("bot", "machine"), [("apple", True), ("gmail", True), ("generic", True), ("", False)])
def test_an_open_by_a_machine_is_marked(bot: str, machine: bool) -> None:
    assert read(event(event="opened", **{"client-info": {"bot": bot}})).machine is machine
    assert read(event(event="opened", **{"client-info": bot})).machine is False


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    found = read(event(event="clicked", url="https://example.com/?token=s3cret"))
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)


def test_a_rejected_event_names_its_recipient_in_the_to_field_only() -> None:
    assert read(event(event="rejected", recipient=None)).recipient == "ada@example.com"
    two = {"headers": {"to": "a@example.com, b@example.com"}}
    assert read(event(event="rejected", recipient=None, message=two)).recipient is None


@pytest.mark.parametrize(
    "broken",
    [
        {"id": 7},
        {"id": "x" * 500},
        {"id": "x\x00"},
        {"timestamp": "soon"},
        {"timestamp": True},
        {"timestamp": 1e300},
        {"timestamp": float("nan")},
        {"recipient": ["a@b.c"]},
        {"recipient": "nobody"},
        {"user-variables": []},
        {"user-variables": {"mailglass_id": 7}},
        {"tags": "one"},
        {"tags": {"a": 1}},
        {"message": 7},
        {"message": {"headers": []}},
        {"message": {"headers": {"message-id": 5, "to": 5}}},
        {"delivery-status": None},
        {"delivery-status": {"code": [1], "message": {}}},
        {"client-info": {"bot": 1}},
        {"url": 5},
        {"event": ["a"]},
        {"severity": {"a": 1}, "event": "failed"},
        {"recipient": "\ud800@x.y"},
    ],
)
def test_a_field_of_the_wrong_shape_is_left_out_and_nothing_else(broken: dict[str, Any]) -> None:
    found = read(event(**broken))
    assert found.provider_event_id
    for kept in (found.provider_message_id, found.recipient, found.provider_event_id):
        assert kept is None or (kept.isprintable() and len(kept) <= 320)


def test_unknown_event_is_warned_of_without_content() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read(event(event="stored"))
        read(event(event="ada@example.com"))
        PROVIDER.normalise(form(event="routed").body, {})
    finally:
        end()
    assert [fields["reason"] for fields in seen] == ["stored", "unnamed", "routed"]
    assert "ada@example.com" not in repr(seen)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"{", b"[" * 100_000, b'{"event-data": []}', b'{"event-data": null}', b"a=1", b"\xff", b"--"],
)
def test_body_that_mailgun_does_not_post_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, {})


# --- forms, as Mailgun posted them before 2018


def form(proof: dict[str, str] | None = None, more: tuple[tuple[str, str], ...] = (), **fields: str) -> WebhookRequest:
    pairs = [*fields.items(), *more, *(signature() if proof is None else proof).items()]
    return WebhookRequest({"content-type": "application/x-www-form-urlencoded"}, urlencode(pairs).encode())


LEGACY = [
    ({"event": "delivered"}, K.DELIVERED, None, None),
    ({"event": "bounced", "code": "5.1.1"}, K.BOUNCED, HARD, None),
    ({"event": "bounced", "code": "550", "error": "5.1.1 no such user"}, K.BOUNCED, HARD, None),
    ({"event": "bounced", "code": "550", "error": "5.7.1 blocked"}, K.BOUNCED, SOFT, None),
    ({"event": "bounced", "code": "552"}, K.BOUNCED, SOFT, None),
    ({"event": "bounced"}, K.BOUNCED, HARD, None),
    ({"event": "dropped", "code": "605", "reason": "hardfail"}, K.REJECTED, HARD, R.BOUNCED),
    ({"event": "dropped", "code": "606"}, K.REJECTED, None, R.UNSUBSCRIBED),
    ({"event": "dropped", "code": "607"}, K.REJECTED, None, R.SPAM),
    ({"event": "dropped", "code": "499", "reason": "old"}, K.REJECTED, None, R.OTHER),
    ({"event": "opened"}, K.OPENED, None, None),
    ({"event": "clicked", "url": "https://example.com"}, K.CLICKED, None, None),
    ({"event": "unsubscribed"}, K.UNSUBSCRIBED, None, None),
    ({"event": "complained"}, K.COMPLAINED, None, None),
    ({"event": "stored"}, K.UNKNOWN, None, None),
]


@pytest.mark.parametrize(("fields", "kind", "bounce_class", "reason"), LEGACY)
def test_a_forms_event_is_classed(
    fields: dict[str, str], kind: EventKind, bounce_class: BounceClass | None, reason: RejectReason | None
) -> None:
    request = form(**fields)
    PROVIDER.verify(request)
    (found,) = PROVIDER.normalise(request.body, {})
    assert (found.kind, found.bounce_class, found.reject_reason) == (kind, bounce_class, reason)


def test_every_forms_event_that_is_mapped_is_tested() -> None:
    tested = {(row[0]["event"], row[0].get("code", "")) for row in LEGACY}
    assert {key for key in LEGACY_EVENTS if key[1]} <= tested
    assert {key[0] for key in LEGACY_EVENTS} <= {row[0] for row in tested}


def test_a_forms_own_fields_stand_before_user_variables_but_for_the_proof() -> None:
    proof = signature(timestamp=str(int(time.time())))
    own = {
        "event": "clicked",
        "recipient": "ada@example.com",
        "url": "https://example.com/a",
        "message-id": "m-1@x",
        "mailglass_id": str(ID),
    }
    variables = (
        ("event", "opened"),
        ("recipient", "eve@example.com"),
        ("token", "theirs"),
        ("timestamp", "1"),
        ("signature", "theirs"),
        ("tag", "one"),
        ("tag", "two"),
    )
    request = form(proof, variables, **own)
    PROVIDER.verify(request)
    assert PROVIDER.delivery_key(request) == TOKEN
    (found,) = PROVIDER.normalise(request.body, {})
    assert (found.kind, found.recipient, found.tags) == (K.CLICKED, "ada@example.com", ("one", "two"))
    assert (found.provider_message_id, found.delivery_id) == ("<m-1@x>", ID)
    assert found.occurred_at == datetime.fromtimestamp(int(proof["timestamp"]), UTC)
    assert len(found.provider_event_id) == 64


def test_a_multipart_form_is_verified_and_read_too() -> None:
    fields = {"event": "delivered", "recipient": "ada@example.com", "Message-Id": "<m-2@x>", **signature()}
    lines = [
        line
        for name, value in fields.items()
        for line in ("--BoUnDaRy", f'Content-Disposition: form-data; name="{name}"', "", value)
    ]
    body = "\r\n".join([*lines, "--BoUnDaRy--", ""]).encode()
    request = WebhookRequest({"content-type": "multipart/form-data; boundary=BoUnDaRy"}, body)
    PROVIDER.verify(request)
    (found,) = PROVIDER.normalise(body, {})
    assert (found.kind, found.provider_message_id, PROVIDER.delivery_key(request)) == (K.DELIVERED, "<m-2@x>", TOKEN)


# --- proofs


def refused(request: WebhookRequest, provider: MailgunProvider = PROVIDER) -> SignatureErrorType:
    with pytest.raises(SignatureError) as caught:
        provider.verify(request)
    return caught.value.type


@pytest.mark.parametrize("key", ["old-key", "new-key"])
def test_either_key_of_a_rotation_proves_a_webhook(key: str) -> None:
    PROVIDER.verify(posted(proof=signature(key)))


def test_a_parents_key_proves_a_subaccounts_webhook() -> None:
    own, parents = signature("subaccount-key"), signature("parent-key")
    proof = own | {"parent-signature": parents["signature"]}
    opened("parent-key").verify(posted(proof=proof))
    opened("subaccount-key").verify(posted(proof=proof))
    assert refused(posted(proof=proof), opened("other-key")) is S.BAD_SIGNATURE
    assert refused(posted(proof=own), opened("parent-key")) is S.BAD_SIGNATURE


def test_the_scheme_is_the_one_another_tool_computes() -> None:
    # printf 17000000003f0c9bd2 | openssl dgst -sha256 -hmac the-signing-key
    mac = "091056a5ed3f693d90d1fc9438c19a598991f362d45e9181e9f92e17362d301b"
    proof = {"timestamp": "1700000000", "token": "3f0c9bd2", "signature": mac}
    # it is found good before its age is looked at
    assert refused(posted(proof=proof), opened("the-signing-key")) is S.TIMESTAMP_SKEW
    assert refused(posted(proof=proof | {"signature": mac.upper()}), opened("the-signing-key")) is S.TIMESTAMP_SKEW
    assert refused(posted(proof=proof), opened("another-key")) is S.BAD_SIGNATURE


# made when the suite begins, and looked at when its turn has come
GOOD = signature(timestamp=str(int(time.time())))
PATIENT = opened("old-key", "new-key", webhook_tolerance=86_400.0)
FORGED: list[tuple[dict[str, Any], SignatureErrorType]] = [
    ({"signature": "0" * 64}, S.BAD_SIGNATURE),
    ({"signature": GOOD["signature"][:-1] + ("0" if GOOD["signature"][-1] != "0" else "1")}, S.BAD_SIGNATURE),
    ({"token": "b" + TOKEN[1:]}, S.BAD_SIGNATURE),
    ({"timestamp": str(int(GOOD["timestamp"]) + 1)}, S.BAD_SIGNATURE),
    ({"signature": GOOD["signature"][:-1]}, S.MALFORMED_HEADER),
    ({"signature": "z" * 64}, S.MALFORMED_HEADER),
    ({"signature": ""}, S.MALFORMED_HEADER),
    ({"signature": 5}, S.MALFORMED_HEADER),
    ({"signature": None}, S.MISSING_HEADER),
    ({"token": None}, S.MISSING_HEADER),
    ({"token": ""}, S.MALFORMED_HEADER),
    ({"token": "٣"}, S.MALFORMED_HEADER),
    ({"token": "x" * 201}, S.MALFORMED_HEADER),
    ({"token": ["t"]}, S.MALFORMED_HEADER),
    ({"timestamp": None}, S.MISSING_HEADER),
    ({"timestamp": True}, S.MALFORMED_HEADER),
    ({"timestamp": 1.5}, S.MALFORMED_HEADER),
    ({"timestamp": "٣"}, S.MALFORMED_HEADER),
    ({"timestamp": "soon"}, S.BAD_SIGNATURE),
]


@pytest.mark.parametrize(("change", "type"), FORGED)
def test_a_forged_proof_is_refused_with_the_right_word(change: dict[str, Any], type: SignatureErrorType) -> None:
    PATIENT.verify(posted(proof=GOOD))
    assert refused(posted(proof={**GOOD, **change}), PATIENT) is type


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"{", b"a=1", b"[" * 100_000, b'{"signature":[]}', b"--", b"\xff"])
def test_a_body_without_a_proof_is_refused(body: bytes) -> None:
    assert refused(WebhookRequest({}, body)) in (S.MISSING_HEADER, S.MALFORMED_HEADER)
    assert PROVIDER.delivery_key(WebhookRequest({}, body)) is None


def test_a_forms_proof_is_forged_in_vain_too() -> None:
    assert refused(form({**GOOD, "token": "other"}, event="delivered")) is S.BAD_SIGNATURE
    assert refused(form({"timestamp": "1", "token": "t"}, event="delivered")) is S.MISSING_HEADER


def test_a_number_is_a_timestamp_too() -> None:
    PATIENT.verify(posted(proof={**GOOD, "timestamp": int(GOOD["timestamp"])}))


@pytest.mark.parametrize("away", [-950, 950])
def test_a_proof_from_more_than_a_quarter_of_an_hour_away_is_refused(away: int) -> None:
    request = posted(proof=signature(timestamp=str(int(time.time()) + away)))
    assert refused(request) is S.TIMESTAMP_SKEW
    opened("new-key", webhook_tolerance=3600.0).verify(request)


def test_a_signed_time_that_is_no_time_is_refused() -> None:
    for timestamp in ("soon", "1.5", "-1", "0x10"):
        assert refused(posted(proof=signature(timestamp=timestamp))) is S.MALFORMED_HEADER


def test_the_bodys_other_content_changes_neither_proof_nor_key() -> None:
    # so the token, and not the body, must be what counts once
    one, other = posted(event(), GOOD), posted(event(event="complained"), GOOD)
    PATIENT.verify(other)
    assert PATIENT.delivery_key(one) == PATIENT.delivery_key(other) == TOKEN


def test_digits_moved_between_time_and_token_make_no_second_webhook() -> None:
    now, token = str(int(time.time())), "7" + "a" * 49
    good = signature(timestamp=now, token=token)
    provider = opened("new-key", webhook_tolerance=86_400.0)
    provider.verify(posted(proof=good))
    for moved in ((now + token[0], token[1:]), (now[:-1], now[-1] + token)):
        request = posted(proof={**good, "timestamp": moved[0], "token": moved[1]})
        assert refused(request, provider) is S.TIMESTAMP_SKEW


def test_an_account_without_a_signing_key_says_so() -> None:
    with pytest.raises(ConfigError, match=r"accounts\.mg\.webhook_signing_keys"):
        opened().verify(posted())


# --- whatever comes

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
known_words = st.sampled_from(sorted({word for key in EVENTS for word in key}))
field_names = st.sampled_from([*event(), "severity", "reason", "delivery-status", "client-info", "url"])


@given(st.dictionaries(field_names, known_words | json_values, max_size=12))
def test_any_event_data_is_exactly_one_event(item: dict[str, Any]) -> None:
    found = read(item)
    assert found.provider_event_id
    assert found == read(dict(reversed(item.items())))
    assert found.occurred_at is None or found.occurred_at.tzinfo is UTC


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"event=delivered&" + tail))
def test_any_bytes_are_events_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert isinstance(PROVIDER.normalise(body, {}), list)


@given(st.dictionaries(st.sampled_from([*GOOD, "parent-signature"]), json_values, max_size=4), st.binary(max_size=60))
def test_any_proof_and_any_body_are_refused_with_a_signature_error(proof: dict[str, Any], body: bytes) -> None:
    refused(posted(proof=proof))
    refused(WebhookRequest({}, body))
