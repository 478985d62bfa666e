"""Mailgun's webhooks: the proof in their body, today's JSON and yesterday's forms, and what each event means.

The signature covers a time and a random token and nothing else: what else stands in the body is proved by no more than
TLS. So a token counts for one body. The statement that keeps a webhook binds the token of its signing key to the body
it came with, and refuses every other body, at whichever account and tenant.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import getaddresses
from typing import Any, Final

from mailglass.errors import SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import forms, parsing
from mailglass.providers.mailgun.sending import NAME, bracketed
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.providers.signatures import require_fresh
from mailglass.settings import Secret

_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT
_BOUNCED_BEFORE: Final = Meaning(EventKind.REJECTED, _HARD, RejectReason.BOUNCED)
_COMPLAINED_BEFORE: Final = Meaning(EventKind.REJECTED, None, RejectReason.SPAM)
_LEFT_BEFORE: Final = Meaning(EventKind.REJECTED, None, RejectReason.UNSUBSCRIBED)

EVENTS: Final[Mapping[tuple[str, str, str], Meaning]] = {
    ("accepted", "", ""): Meaning(EventKind.QUEUED),
    ("rejected", "", ""): Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    ("delivered", "", ""): Meaning(EventKind.DELIVERED),
    ("failed", "temporary", ""): Meaning(EventKind.DEFERRED, _SOFT),
    ("failed", "permanent", "bounce"): Meaning(EventKind.BOUNCED, _HARD),
    ("failed", "permanent", "suppress-bounce"): _BOUNCED_BEFORE,
    ("failed", "permanent", "suppress-complaint"): _COMPLAINED_BEFORE,
    ("failed", "permanent", "suppress-unsubscribe"): _LEFT_BEFORE,
    # given up after many tries
    ("failed", "permanent", "old"): Meaning(EventKind.BOUNCED, _SOFT, RejectReason.TIMED_OUT),
    ("failed", "permanent", "generic"): Meaning(EventKind.BOUNCED, _SOFT),
    # a block of the sender, which says nothing about the mailbox
    ("failed", "permanent", "espblock"): Meaning(EventKind.BOUNCED, _SOFT, RejectReason.BLOCKED),
    ("failed", "permanent", ""): Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    ("opened", "", ""): Meaning(EventKind.OPENED),
    ("clicked", "", ""): Meaning(EventKind.CLICKED),
    ("unsubscribed", "", ""): Meaning(EventKind.UNSUBSCRIBED),
    ("complained", "", ""): Meaning(EventKind.COMPLAINED),
}
"""(event, severity, reason); "" stands for any other."""

LEGACY_EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("delivered", ""): Meaning(EventKind.DELIVERED),
    ("bounced", ""): Meaning(EventKind.BOUNCED, _HARD),
    ("dropped", "605"): _BOUNCED_BEFORE,
    ("dropped", "606"): _LEFT_BEFORE,
    ("dropped", "607"): _COMPLAINED_BEFORE,
    ("dropped", ""): Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    ("opened", ""): Meaning(EventKind.OPENED),
    ("clicked", ""): Meaning(EventKind.CLICKED),
    ("unsubscribed", ""): Meaning(EventKind.UNSUBSCRIBED),
    ("complained", ""): Meaning(EventKind.COMPLAINED),
}
"""(event, code) of the forms Mailgun posted before 2018, to webhooks set up then."""

_HEX = re.compile(r"[0-9a-fA-F]{64}\Z")
_MAX_TOKEN: Final = 200


@dataclass(frozen=True, slots=True)
class Proof:
    """Signature of a webhook. A subaccount's carries its parent's signature beside its own."""

    timestamp: str
    token: str
    signatures: tuple[str, ...] = field(repr=False)


def proof_of(body: bytes) -> Proof:
    """Return the proof in a body.

    Raises:
        SignatureError: it carries none, or not in a form Mailgun writes.
    """
    try:
        block = _signature_block(body)
    except WebhookBodyError:
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "the body is none that Mailgun posts") from None
    if not isinstance(block, dict):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "signature")
    for name in ("timestamp", "token", "signature"):
        if block.get(name) is None:
            raise SignatureError(SignatureErrorType.MISSING_HEADER, name)
    timestamp, token = block["timestamp"], block["token"]
    if isinstance(timestamp, int) and not isinstance(timestamp, bool) and 0 <= timestamp < 10**12:
        timestamp = str(timestamp)
    for name, value in (("timestamp", timestamp), ("token", token)):
        if not isinstance(value, str) or not value.isascii() or not parsing.text(value, _MAX_TOKEN):
            raise SignatureError(SignatureErrorType.MALFORMED_HEADER, name)
    signatures = [block["signature"], block.get("parent-signature")]
    given = tuple(text.lower() for text in signatures if isinstance(text, str) and _HEX.match(text))
    if not given:
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "signature is not hex of SHA-256")
    return Proof(timestamp, token, given)


def require_proof(body: bytes, keys: Sequence[Secret], tolerance: float) -> Secret:
    """Require HMAC-SHA256 over time and token by any of several keys, made at most `tolerance` seconds from now.

    Returns:
        The key.

    Raises:
        SignatureError: it is not.
    """
    proof = proof_of(body)
    fits = _fits(proof, keys)
    if not any(fits):
        raise SignatureError(SignatureErrorType.BAD_SIGNATURE)
    # it also ties the token down: digits moved over from it would make another time
    require_fresh(proof.timestamp, tolerance)
    return keys[fits.index(True)]


def used_tokens(body: bytes, keys: Sequence[Secret]) -> list[bytes]:
    """Return the token under each key that proves the body, as digests from which neither can be told."""
    proof = proof_of(body)
    token = proof.token.encode("ascii")
    return [
        hmac.digest(key.reveal().encode(), b"mailgun token\0" + token, "sha256")
        for key, fits in zip(keys, _fits(proof, keys), strict=True)
        if fits
    ]


def _fits(proof: Proof, keys: Sequence[Secret]) -> list[bool]:
    """Of each key, whether one of the signatures is its own; all are compared, so that the time does not tell which."""
    message = (proof.timestamp + proof.token).encode("ascii")
    expected = [hmac.digest(key.reveal().encode(), message, "sha256").hex() for key in keys]
    return [sum(hmac.compare_digest(mine, given) for given in proof.signatures) > 0 for mine in expected]


# no MX, and no connection; beyond 599 its own lists
_ITS_OWN_CODES: Final = frozenset({498, 499})


def normalise(body: bytes, account: str) -> list[ProviderEvent]:
    """Return the one event of a body.

    Raises:
        WebhookBodyError: it is in neither of the forms Mailgun posts.
    """
    if _is_json(body):
        posted = parsing.parse_json(body)
        item = posted.get("event-data") if isinstance(posted, dict) else None
        if not isinstance(item, dict):
            raise WebhookBodyError("Mailgun posts a JSON object with event-data")
        return read([item], account)
    item = _legacy_item(forms.read_form(body))
    return parsing.read_items([item], _legacy_event, _legacy_name, provider=NAME, account=account)


def read(items: Sequence[Any], account: str) -> list[ProviderEvent]:
    """Events in the form that `event-data` and the events API share."""
    return parsing.read_items(items, _event, _event_name, provider=NAME, account=account)


def _is_json(body: bytes) -> bool:
    return body.lstrip()[:1] in (b"{", b"[")


def _signature_block(body: bytes) -> Any:
    if _is_json(body):
        posted = parsing.parse_json(body)
        if not isinstance(posted, dict):
            return None
        return posted.get("signature", {})
    fields = forms.read_form(body)
    # user variables of the same names stand before them
    return {name: forms.last(fields, name) for name in ("timestamp", "token", "signature", "parent-signature")}


def _event(item: dict[str, Any]) -> ProviderEvent:
    status = item.get("delivery-status")
    status = status if isinstance(status, dict) else {}
    enhanced = parsing.enhanced_status(status.get("enhanced-code")) or parsing.enhanced_status(status.get("message"))
    meaning = _meaning(item)
    variables = item.get("user-variables")
    moment = parsing.epoch_moment(item.get("timestamp"))
    identity = parsing.text(item.get("id"), 150)
    event = ProviderEvent(
        kind=meaning.kind,
        # an id is unique within a day only, says Mailgun's reference of events
        provider_event_id=f"{identity}/{moment:%Y-%m-%d}" if identity and moment else parsing.whole_fingerprint(item),
        occurred_at=moment,
        delivery_id=parsing.delivery_of(variables.get("mailglass_id")) if isinstance(variables, dict) else None,
        provider_message_id=bracketed(_header(item, "message-id")),
        recipient=parsing.address_of(item.get("recipient")) or _only_address(_header(item, "to")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=enhanced,
        machine=_by_machine(item.get("client-info")),
        click_hash=parsing.click_hash(item.get("url")),
        tags=parsing.tags_of(item.get("tags")),
    )
    _, severity, reason = _labels(item)
    return parsing.with_refusal(
        event,
        (NAME, f"{severity}/{'generic' if status.get('code') in _ITS_OWN_CODES else reason}"),
        parsing.label_of(status.get("message")) or parsing.label_of(status.get("description")),
        reply=None if status.get("code") in _ITS_OWN_CODES else status.get("code"),
        host=status.get("mx-host"),
    )


def _meaning(item: dict[str, Any]) -> Meaning:
    event, severity, reason = _labels(item)
    keys = ((event, severity, reason), (event, severity, ""), (event, "", ""))
    return next((EVENTS[key] for key in keys if key in EVENTS), UNMAPPED)


def _labels(item: dict[str, Any]) -> tuple[str, str, str]:
    event = parsing.label_of(item.get("event"))
    if event != "failed":
        return event, "", ""
    return event, parsing.label_of(item.get("severity")), parsing.label_of(item.get("reason"))


def _event_name(item: dict[str, Any]) -> str:
    return ".".join(part for part in _labels(item) if part)


def _by_machine(client: Any) -> bool:
    """Mailgun names the bot, `apple`, `gmail` or `generic`, and leaves the field empty for people."""
    return isinstance(client, dict) and bool(parsing.label_of(client.get("bot")))


def _header(item: dict[str, Any], name: str) -> Any:
    message = item.get("message")
    headers = message.get("headers") if isinstance(message, dict) else None
    return headers.get(name) if isinstance(headers, dict) else None


def _only_address(value: object) -> str | None:
    """Return the address of a To field with one: some events name their recipient nowhere else."""
    text = parsing.text(value, 1000)
    people = getaddresses([text]) if text else []
    return parsing.address_of(people[0][1]) if len(people) == 1 else None


def _legacy_item(fields: forms.Fields) -> dict[str, Any]:
    """Return a form's fields by name. User variables follow Mailgun's own fields, but for those of the signature."""
    item: dict[str, Any] = {}
    for name, value in fields:
        item.setdefault(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
    if "event" not in item:
        raise WebhookBodyError("Mailgun posts a JSON object, or a form with an event")
    tags = forms.values(fields, "tag") or forms.values(fields, "X-Mailgun-Tag")
    return item | {"tag": tags, "timestamp": forms.last(fields, "timestamp")}


def _legacy_event(item: dict[str, Any]) -> ProviderEvent:
    code = parsing.label_of(item.get("code"))
    enhanced = parsing.enhanced_status(code) or parsing.enhanced_status(item.get("error"))
    meaning = _legacy_meaning(item)
    message_id = bracketed(item.get("Message-Id") or item.get("message-id"))
    recipient = parsing.address_of(item.get("recipient"))
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=parsing.fingerprint(
            item.get("event"), message_id, (recipient or "").lower(), item.get("timestamp"), item.get("url"), code
        ),
        occurred_at=parsing.epoch_moment(item.get("timestamp")),
        delivery_id=parsing.delivery_of(item.get("mailglass_id")),
        provider_message_id=message_id,
        recipient=recipient,
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=enhanced,
        click_hash=parsing.click_hash(item.get("url")),
        tags=parsing.tags_of(item.get("tag")),
    )
    return parsing.with_refusal(event, (NAME, "permanent/bounce"), item.get("error"), reply=code)


def _legacy_meaning(item: dict[str, Any]) -> Meaning:
    event = parsing.label_of(item.get("event"))
    meaning = LEGACY_EVENTS.get((event, parsing.label_of(item.get("code"))))
    return meaning or LEGACY_EVENTS.get((event, ""), UNMAPPED)


def _legacy_name(item: dict[str, Any]) -> str:
    return parsing.label_of(item.get("event"))
