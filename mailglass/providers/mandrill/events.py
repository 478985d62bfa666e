"""Mandrill's webhooks: forms whose signature covers the webhook's URL, and what each event in them means."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mailglass.errors import SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import forms, parsing
from mailglass.providers.mandrill.sending import NAME
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.settings import Secret

SIGNATURE: Final = "x-mandrill-signature"
EVENTS_FIELD: Final = "mandrill_events"
TEST_KEY: Final = b"test-webhook"
"""Key that Mandrill signs with while it tries out a new webhook. It is known to everybody, so it proves nothing."""

TEST_FORM: Final = ((EVENTS_FIELD.encode(), b"[]"),)
MAX_TEST: Final = 1000

_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT
EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("send", ""): Meaning(EventKind.SENT),
    ("delivered", ""): Meaning(EventKind.DELIVERED),
    ("deferral", ""): Meaning(EventKind.DEFERRED, _SOFT),
    ("hard_bounce", ""): Meaning(EventKind.BOUNCED, _HARD),
    ("hard_bounce", "mailbox_full"): Meaning(EventKind.BOUNCED, _SOFT),
    ("soft_bounce", ""): Meaning(EventKind.BOUNCED, _SOFT),
    ("reject", "hard-bounce"): Meaning(EventKind.REJECTED, _HARD, RejectReason.BOUNCED),
    # a rejection that ends by itself
    ("reject", "soft-bounce"): Meaning(EventKind.REJECTED, _SOFT, RejectReason.OTHER),
    ("reject", "spam"): Meaning(EventKind.REJECTED, None, RejectReason.SPAM),
    ("reject", "unsub"): Meaning(EventKind.REJECTED, None, RejectReason.UNSUBSCRIBED),
    ("reject", "custom"): Meaning(EventKind.REJECTED, None, RejectReason.BLOCKED),
    ("reject", "invalid"): Meaning(EventKind.REJECTED, None, RejectReason.INVALID),
    ("reject", ""): Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    ("open", ""): Meaning(EventKind.OPENED),
    ("click", ""): Meaning(EventKind.CLICKED),
    ("spam", ""): Meaning(EventKind.COMPLAINED),
    ("unsub", ""): Meaning(EventKind.UNSUBSCRIBED),
    # changes of Mandrill's lists: they speak of no delivery, and what they say is read from the lists themselves
    ("blacklist", ""): UNMAPPED,
    ("denylist", ""): UNMAPPED,
    ("whitelist", ""): UNMAPPED,
    ("allowlist", ""): UNMAPPED,
}
"""(event or type, detail): the detail is a bounce's `bounce_description` and a rejection's reason; "" is any other."""


def signed_text(url: str, body: bytes) -> bytes:
    """Return the bytes that Mandrill signs: the URL, then every field's name and decoded value, sorted by name.

    Raises:
        SignatureError: the body is no form, so nothing in it can have been signed.
    """
    try:
        fields = forms.read_form(body)
    except WebhookBodyError:
        raise SignatureError(SignatureErrorType.BAD_SIGNATURE, "the body is no form") from None
    pieces = [piece for field in sorted(fields, key=lambda field: field[0]) for piece in field]
    return url.encode() + b"".join(pieces)


def require_signature(signature: str, url: str, body: bytes, keys: Sequence[Secret]) -> Secret:
    """Require base64 of HMAC-SHA1 over `signed_text` by any of several keys; return the key.

    Raises:
        SignatureError: not base64, or by none of the keys.
    """
    try:
        given = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, f"{SIGNATURE} is not base64") from None
    text = signed_text(url, body)
    # all are compared, so that the time does not tell which one matched
    matches = [_same(given, key.reveal().encode(), text) for key in keys]
    if not any(matches):
        raise SignatureError(SignatureErrorType.BAD_SIGNATURE)
    return keys[matches.index(True)]


def is_test(signature: str, url: str, body: bytes) -> bool:
    """Return whether it is Mandrill's try-out of a new webhook: no event in it, so that anybody may send it."""
    try:
        if len(body) > MAX_TEST or tuple(forms.read_form(body)) != TEST_FORM:
            return False
        return _same(base64.b64decode(signature, validate=True), TEST_KEY, signed_text(url, body))
    except (SignatureError, WebhookBodyError, ValueError):
        return False


def identity_of(url: str, body: bytes) -> str:
    """Return a digest of what is signed: the same for a body that was only encoded otherwise."""
    return hashlib.sha256(signed_text(url, body)).hexdigest()


def normalise(body: bytes, account: str) -> list[ProviderEvent]:
    """Return the events of a body, up to a thousand; one that cannot be read becomes `unknown` and sinks no other.

    Raises:
        WebhookBodyError: no form with a JSON array in `mandrill_events`.
    """
    text = forms.first(forms.read_form(body), EVENTS_FIELD)
    items = None if text is None else parsing.parse_json(text.encode())
    if not isinstance(items, list):
        raise WebhookBodyError("Mandrill posts a form with a JSON array in mandrill_events")
    return parsing.read_items(items, _event, _event_name, provider=NAME, account=account)


def _same(given: bytes, key: bytes, text: bytes) -> bool:
    # HMAC-SHA1 is Mandrill's scheme; SHA-1's known weaknesses do not touch it
    return hmac.compare_digest(given, hmac.digest(key, text, "sha1"))


def _event(item: dict[str, Any]) -> ProviderEvent:
    event, detail = _labels(item)
    meaning = EVENTS.get((event, detail)) or EVENTS.get((event, ""), UNMAPPED)
    message = _part(item, "msg")
    metadata = _part(message, "metadata")
    listed = _part(item, "reject") or _part(item, "entry")
    told = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=_identity(item, event),
        occurred_at=parsing.epoch_moment(item.get("ts")),
        delivery_id=parsing.delivery_of(metadata.get("mailglass_id")),
        provider_message_id=parsing.text(item.get("_id")) or parsing.text(message.get("_id")),
        recipient=parsing.address_of(message.get("email")) or parsing.address_of(listed.get("email")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=parsing.enhanced_status(message.get("diag")),
        click_hash=parsing.click_hash(item.get("url")) if event == "click" else None,
        tags=parsing.tags_of(message.get("tags")),
    )
    label = f"{event}/{parsing.label_of(message.get('bounce_description'))}"
    return parsing.with_refusal(told, (NAME, label), message.get("diag"))


def _part(item: dict[str, Any], name: str) -> dict[str, Any]:
    part = item.get(name)
    return part if isinstance(part, dict) else {}


def _labels(item: dict[str, Any]) -> tuple[str, str]:
    event = parsing.label_of(item.get("event")) or parsing.label_of(item.get("type"))
    message = _part(item, "msg")
    if event == "reject":
        reason = message.get("reject")
        return event, parsing.label_of(reason.get("reason") if isinstance(reason, dict) else reason)
    if event == "hard_bounce":
        return event, parsing.label_of(message.get("bounce_description"))
    return event, ""


def _event_name(item: dict[str, Any]) -> str:
    return ".".join(part for part in (_labels(item)[0], parsing.label_of(item.get("action"))) if part)


def _identity(item: dict[str, Any], event: str) -> str:
    """Mandrill gives events no id: one is known by what happened to which mail when, where and from where."""
    if not item.get("_id") or not item.get("ts"):
        return parsing.whole_fingerprint(item)
    return parsing.fingerprint(event, item["_id"], item["ts"], item.get("url"), item.get("ip"))
