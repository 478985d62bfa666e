"""Standard Webhooks, as Svix signs them: what passes here passes in others' libraries, and what is forged does not."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st

from mailglass.clock import now
from mailglass.errors import SignatureError, SignatureErrorType
from mailglass.providers.base import WebhookRequest
from mailglass.providers.signatures import (
    STANDARD_WEBHOOK_HEADERS,
    require_standard_webhook,
    standard_webhook_id,
    standard_webhooks_key,
)
from mailglass.settings import Secret

T = SignatureErrorType
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(40, 72))).decode()
KEYS = [standard_webhooks_key(Secret(secret)) for secret in (SECRET, OTHER)]
BODY = json.dumps({"type": "email.sent", "data": {"subject": "Grüße, 世界"}}, ensure_ascii=False).encode()


def present() -> int:
    return int(now().timestamp())


def signature(body: bytes, *, secret: str = SECRET, identity: str = "msg_2W2D", moment: int | str) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{identity}.{moment}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def signed(
    body: bytes = BODY, *, prefix: str = "svix", moment: int | None = None, secret: str = SECRET, **change: str
) -> WebhookRequest:
    moment = present() if moment is None else moment
    headers = {
        f"{prefix}-id": "msg_2W2D",
        f"{prefix}-timestamp": str(moment),
        f"{prefix}-signature": signature(body, secret=secret, moment=moment),
    }
    return WebhookRequest(headers | {f"{prefix}-{name}": value for name, value in change.items()}, body)


def check(request: WebhookRequest, keys: list[bytes] = KEYS) -> None:
    require_standard_webhook(request, keys, 300.0)


def refused(request: WebhookRequest, keys: list[bytes] = KEYS) -> SignatureErrorType:
    with pytest.raises(SignatureError) as caught:
        check(request, keys)
    return caught.value.type


@pytest.mark.parametrize("prefix", ["svix", "webhook"])
@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_either_family_of_names_and_either_secret_of_a_rotation_is_accepted(prefix: str, secret: str) -> None:
    check(signed(prefix=prefix, secret=secret))
    assert standard_webhook_id(signed(prefix=prefix).headers) == "msg_2W2D"


@pytest.mark.parametrize("library", [svix.webhooks.Webhook, standardwebhooks.Webhook], ids=["svix", "standardwebhooks"])
def test_signatures_agree_with_the_librarys_in_both_directions(library: Any) -> None:
    moment = datetime.now(UTC)
    theirs = library(SECRET).sign("msg_9", moment, BODY.decode())
    timestamp = str(int(moment.replace(tzinfo=UTC).timestamp()))
    headers = {"webhook-id": "msg_9", "webhook-timestamp": timestamp, "webhook-signature": theirs}
    check(WebhookRequest(headers, BODY))
    library(SECRET).verify(BODY, dict(signed(prefix="webhook").headers))


@given(st.text(max_size=60), st.integers(-400, 400), st.sampled_from([SECRET, OTHER]), st.booleans())
def test_libraries_and_we_agree(text: str, shift: int, secret: str, broken: bool) -> None:
    # two seconds at the edge may pass between the two looks at the clock
    if 297 < abs(shift) < 303:
        return
    body = json.dumps(text).encode()
    request = signed(body, prefix="webhook", moment=present() + shift, secret=secret)
    if broken:
        request = WebhookRequest(request.headers, body + b" ")
    theirs = ours = True
    try:
        standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))
    except standardwebhooks.WebhookVerificationError:
        theirs = False
    try:
        check(request, KEYS[:1])
    except SignatureError:
        ours = False
    assert ours is theirs


def test_single_good_signature_among_several_is_enough() -> None:
    moment = present()
    good = signature(BODY, moment=moment)
    stale, asymmetric = signature(b"other", moment=moment), "v1a," + base64.b64encode(bytes(64)).decode()
    check(signed(moment=moment, signature=f"{stale} {asymmetric} v1,*** nonsense {good}"))


@pytest.mark.parametrize("version", ["v1a", "v2", "V1", "v0", "v11", ""])
def test_a_good_signature_under_another_version_proves_nothing(version: str) -> None:
    moment = present()
    digest = signature(BODY, moment=moment).partition(",")[2]
    assert refused(signed(moment=moment, signature=f"{version},{digest}")) is T.BAD_SIGNATURE


def test_every_part_that_is_signed_is_tied_down() -> None:
    moment = present()
    good = signed(moment=moment)
    assert refused(WebhookRequest(good.headers, BODY + b"\n")) is T.BAD_SIGNATURE
    assert refused(WebhookRequest(good.headers, b"")) is T.BAD_SIGNATURE
    again = {**good.headers, "svix-timestamp": str(moment - 1)}
    assert refused(WebhookRequest(again, BODY)) is T.BAD_SIGNATURE
    assert refused(WebhookRequest({**good.headers, "svix-id": "msg_2W2E"}, BODY)) is T.BAD_SIGNATURE
    assert refused(signed(secret="whsec_" + base64.b64encode(b"stranger").decode())) is T.BAD_SIGNATURE
    assert refused(good, []) is T.BAD_SIGNATURE


@given(st.integers(0, 31), st.integers(1, 255))
def test_any_flipped_byte_of_a_signature_is_refused(place: int, flip: int) -> None:
    moment = present()
    digest = bytearray(base64.b64decode(signature(BODY, moment=moment).partition(",")[2]))
    digest[place] ^= flip
    forged = "v1," + base64.b64encode(bytes(digest)).decode()
    assert refused(signed(moment=moment, signature=forged)) is T.BAD_SIGNATURE


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_any_flipped_byte_of_a_body_is_refused(place: int, flip: int) -> None:
    body = bytearray(BODY)
    body[place] ^= flip
    assert refused(WebhookRequest(signed().headers, bytes(body))) is T.BAD_SIGNATURE


def test_a_shortened_signature_is_refused() -> None:
    moment = present()
    digest = base64.b64decode(signature(BODY, moment=moment).partition(",")[2])
    for length in (1, 16, 31):
        short = "v1," + base64.b64encode(digest[:length]).decode()
        assert refused(signed(moment=moment, signature=short)) is T.BAD_SIGNATURE


@pytest.mark.parametrize("shift", [-3600, -310, 310, 3600])
def test_a_good_signature_of_another_time_is_refused_in_either_direction(shift: int) -> None:
    assert refused(signed(moment=present() + shift)) is T.TIMESTAMP_SKEW


@pytest.mark.parametrize("shift", [-290, -1, 0, 1, 290])
def test_a_time_within_five_minutes_is_accepted_in_either_direction(shift: int) -> None:
    check(signed(moment=present() + shift))


@pytest.mark.parametrize("missing", ["id", "timestamp", "signature"])
@pytest.mark.parametrize("prefix", ["svix", "webhook"])
def test_a_missing_header_is_named_as_its_family_does(prefix: str, missing: str) -> None:
    headers = dict(signed(prefix=prefix).headers)
    del headers[f"{prefix}-{missing}"]
    with pytest.raises(SignatureError, match=f"{prefix}-{missing}") as caught:
        check(WebhookRequest(headers, BODY))
    assert caught.value.type is T.MISSING_HEADER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", ""),
        ("id", "msg_é"),
        ("timestamp", ""),
        ("timestamp", "soon"),
        ("timestamp", "-5"),
        ("timestamp", "1.5"),
        ("timestamp", "٣"),
        ("timestamp", " 1"),
        ("signature", ""),
        ("signature", "v1"),
        ("signature", "v1,"),
        ("signature", "v1,***"),
        ("signature", "v1,é"),
        ("signature", " "),
        ("signature", "abc def"),
    ],
)
def test_unreadable_signature_is_malformed(name: str, value: str) -> None:
    assert refused(signed(**{name: value})) is T.MALFORMED_HEADER


def test_the_complete_family_of_names_counts_where_both_are_there() -> None:
    good = dict(signed(prefix="webhook").headers)
    check(WebhookRequest({**good, "svix-id": "msg_other"}, BODY))
    assert standard_webhook_id({**good, "svix-id": "msg_other"}) == "msg_2W2D"
    # both complete: the id that identifies is the one that was verified
    both = {**dict(signed(prefix="webhook", id="msg_other").headers), **signed().headers}
    check(WebhookRequest(both, BODY))
    assert standard_webhook_id(both) == "msg_2W2D"
    assert standard_webhook_id({}) is None


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_"), f" {SECRET}\n"])
def test_a_secret_is_read_with_and_without_its_mark(secret: str) -> None:
    assert standard_webhooks_key(Secret(secret)) == bytes(range(24))


def test_a_secret_without_padding_is_read_as_the_library_reads_it() -> None:
    padded = base64.b64encode(b"sixteen bytes ..").decode()
    assert padded.endswith("==")
    for text in (padded, padded.rstrip("=")):
        assert standard_webhooks_key(Secret("whsec_" + text)) == b"sixteen bytes .."
        assert standardwebhooks.Webhook("whsec_" + text)._whsecret == b"sixteen bytes .."


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_a", "whsec_é", "not base64!", "whsk_AAAA", "whpk_AAAA", "===="]
)
def test_invalid_secret_is_malformed(secret: str) -> None:
    with pytest.raises(SignatureError) as caught:
        standard_webhooks_key(Secret(secret))
    assert caught.value.type is T.MALFORMED_KEY


@given(
    st.dictionaries(st.sampled_from(STANDARD_WEBHOOK_HEADERS), st.text(max_size=80) | st.just(str(present()))),
    st.binary(max_size=20),
)
def test_any_headers_are_refused_with_a_signature_error(headers: dict[str, str], body: bytes) -> None:
    refused(WebhookRequest(headers, body))


def test_an_error_shows_no_key_and_no_body() -> None:
    with pytest.raises(SignatureError) as caught:
        check(WebhookRequest(signed().headers, b'{"to": "ada@example.com"}'))
    assert "ada" not in str(caught.value) and "whsec" not in str(caught.value)
