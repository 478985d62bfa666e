"""Reading webhook bodies: untrusted JSON into checked values, and tables of meanings into events."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.mail.refusal import Stage
from mailglass.refusals import texts
from mailglass.refusals.consequences import bounce_class
from mailglass.refusals.understand import understand
from mailglass.telemetry import emit

MAX_ID: Final = 255
# a batch of a thousand events has some ten thousand
MAX_CONTAINERS: Final = 250_000
_ENHANCED = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")
_EVENT_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Meaning:
    """Meaning of a provider's name for an event: the right-hand side of an event table."""

    kind: EventKind
    bounce_class: BounceClass | None = None
    reject_reason: RejectReason | None = None


UNMAPPED: Final = Meaning(EventKind.UNKNOWN)


def with_refusal(
    event: ProviderEvent,
    label: tuple[str, str],
    said: object = "",
    *,
    reply: object = None,
    host: object = "",
    named: bool = True,
) -> ProviderEvent:
    """Return an event with the meaning of the refusal that it tells of; one that tells of none as it is.

    Args:
        event: a bounce's class is set by the meaning, the provider's own label notwithstanding.
        label: the provider's name and its own word for it.
        said: what the receiver answered.
        reply: the SMTP reply code, as a number or as text, where the event has one of its own.
        host: the name of the server that refused.
        named: whether it is about the recipient that the event names.
    """
    if event.kind not in (EventKind.BOUNCED, EventKind.DEFERRED):
        return event
    text = said if isinstance(said, str) else ""
    deferred = event.kind is EventKind.DEFERRED
    refusal = understand(
        Stage.PROVIDER_EVENT,
        _reply(reply) or texts.reply_in(text),
        # what the receiver itself said counts more than what was made of it
        texts.enhanced_in(text) or event.status,
        text,
        label=label,
        host=host[:255] if isinstance(host, str) else "",
        domain=(event.recipient or "").rpartition("@")[2],
        named=named,
        deferred=deferred,
    )
    severity = event.bounce_class if deferred else bounce_class(refusal, texts.enhanced_in(text) or event.status)
    return replace(event, refusal=refusal, bounce_class=severity)


def doubted(event: ProviderEvent, label: tuple[str, str]) -> ProviderEvent:
    """Return a rejection by what others' mail met before, with its meaning: the second one within weeks counts."""
    return replace(event, refusal=understand(Stage.PROVIDER_EVENT, label=label, deferred=False))


def _reply(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599 else None


def parse_json(body: bytes) -> Any:
    """Return the body's JSON value.

    Raises:
        WebhookBodyError: it is not JSON, or holds more than `MAX_CONTAINERS` objects and arrays, each of which takes
            some fifty times its size in memory.
    """
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise WebhookBodyError("the body holds too many objects")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise WebhookBodyError("the body is not JSON") from None


def read_items(
    items: Iterable[Any],
    read: Callable[[dict[str, Any]], ProviderEvent],
    name: Callable[[dict[str, Any]], str],
    *,
    provider: str,
    account: str,
) -> list[ProviderEvent]:
    """Every item as an event; one that cannot be read becomes `unknown` under an id of its own and sinks no other.

    Args:
        items: the items of a body.
        read: one item as an event; may raise on a malformed one.
        name: the provider's name of an item's event, for the warning about those that are unknown.
        provider: whose body it is.
        account: the account it was posted to.
    """
    events: list[ProviderEvent] = []
    unknown: Counter[str] = Counter()
    for item in items:
        event, label = _poisoned(item), "malformed"
        if isinstance(item, dict):
            try:
                event = read(item)
                label = name(item)
            except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
                pass
        events.append(event)
        if event.kind is EventKind.UNKNOWN:
            unknown[label if _EVENT_NAME.match(label) else "unnamed"] += 1
    for label, count in sorted(unknown.items()):
        emit(
            "mailglass.webhook.unmapped",
            level=logging.WARNING,
            provider=provider,
            account=account,
            reason=label,
            count=count,
        )
    return events


def _poisoned(item: Any) -> ProviderEvent:
    return ProviderEvent(EventKind.UNKNOWN, whole_fingerprint(item))


def text(value: object, limit: int = MAX_ID) -> str | None:
    """Return a non-empty string of at most `limit` printable characters, or None: what may become a key or a column."""
    if isinstance(value, str) and 0 < len(value) <= limit and value.isprintable():
        return value
    return None


def label_of(value: object) -> str:
    """Return a table key: the string itself, or "" for anything that is none."""
    return value if isinstance(value, str) else ""


def address_of(value: object) -> str | None:
    """Return a recipient as the provider wrote it, or None if it cannot be an address."""
    address = text(value, 320)
    return address if address and "@" in address else None


def tags_of(value: object) -> tuple[str, ...]:
    """One label or a list of labels."""
    items = value if isinstance(value, list) else [value]
    return tuple(tag for item in items[:10] if (tag := text(item, 100)))


def fingerprint(*parts: object) -> str:
    """Return a hex digest of the parts: an identity in which no address can be read."""
    joined = json.dumps([part if isinstance(part, str | int | bool | None) else str(part) for part in parts])
    return hashlib.sha256(joined.encode()).hexdigest()


def whole_fingerprint(item: Any) -> str:
    """Return a digest of a whole item, the same for the same content however it is spaced or ordered."""
    try:
        canonical = json.dumps(item, sort_keys=True)
    except (ValueError, RecursionError):
        canonical = repr(type(item))
    return hashlib.sha256(canonical.encode()).hexdigest()


def delivery_of(value: object) -> UUID | None:
    """Our delivery id as it came back, or None."""
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        return UUID(value)
    except ValueError:
        return None


def iso_moment(value: object) -> datetime | None:
    """Return an ISO 8601 time, in UTC where it names no zone; digits beyond microseconds are dropped."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def epoch_moment(value: object) -> datetime | None:
    """Return a Unix time in seconds, as a number or as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 32:
        return None
    try:
        return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def enhanced_status(value: object) -> str | None:
    """Return the first enhanced status code (RFC 3463) in a status or reply, or None."""
    match = _ENHANCED.search(value[:2000]) if isinstance(value, str) else None
    return match[1] if match else None


def click_hash(target: object) -> str | None:
    """Return the digest of a clicked target, which is content and not kept."""
    if not isinstance(target, str) or not target:
        return None
    return hashlib.sha256(target.encode(errors="surrogatepass")).hexdigest()
