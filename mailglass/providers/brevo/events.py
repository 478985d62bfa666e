"""Brevo's webhooks: single events or, in batched mode, arrays of them; known by what they say, as they have no id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import parsing
from mailglass.providers.parsing import UNMAPPED, Meaning

NAME: Final = "brevo"

CUSTOM: Final = "X-Mailin-custom"
"""The header whose text comes back in webhooks."""
DELIVERY: Final = "mailglass_id"
METADATA: Final = "mailglass_metadata"

EVENTS: Final[Mapping[str, Meaning]] = {
    "request": Meaning(EventKind.QUEUED),
    "delivered": Meaning(EventKind.DELIVERED),
    "hard_bounce": Meaning(EventKind.BOUNCED, BounceClass.HARD),
    "soft_bounce": Meaning(EventKind.BOUNCED, BounceClass.SOFT),
    "invalid_email": Meaning(EventKind.BOUNCED, BounceClass.HARD, RejectReason.INVALID),
    # on the account's own list; why is told there and not here
    "blocked": Meaning(EventKind.REJECTED, None, RejectReason.BLOCKED),
    "deferred": Meaning(EventKind.DEFERRED),
    "spam": Meaning(EventKind.COMPLAINED),
    "complaint": Meaning(EventKind.COMPLAINED),
    "opened": Meaning(EventKind.OPENED),
    "unique_opened": Meaning(EventKind.OPENED),
    "proxy_open": Meaning(EventKind.OPENED),
    "unique_proxy_open": Meaning(EventKind.OPENED),
    "click": Meaning(EventKind.CLICKED),
    "unsubscribe": Meaning(EventKind.UNSUBSCRIBED),
    "unsubscribed": Meaning(EventKind.UNSUBSCRIBED),
    "error": Meaning(EventKind.FAILED),
    "list_addition": Meaning(EventKind.SUBSCRIBED),
}
"""Brevo's `event`. Inbound mail is none."""

MACHINES: Final = frozenset({"proxy_open", "unique_proxy_open"})
"""Opens by a proxy that fetches images for its users."""

# as seconds this would be the year 5138, as milliseconds it is 1973
_MILLISECONDS: Final = 100_000_000_000
_REPLIES: Final = frozenset({"hard_bounce", "soft_bounce", "invalid_email", "deferred"})
_TIMES: Final = ("ts_epoch", "ts_event", "ts", "date")


def bracketed(value: object) -> str | None:
    """Return a message id with its angle brackets, which answers have and some webhooks lack."""
    name = parsing.text(value, parsing.MAX_ID - 2)
    if name is None or name.startswith("<"):
        return name
    return f"<{name}>"


def normalise(body: bytes, account: str) -> list[ProviderEvent]:
    """Return the events of a body.

    Raises:
        WebhookBodyError: it is neither a JSON object nor an array.
    """
    posted = parsing.parse_json(body)
    if not isinstance(posted, dict | list):
        raise WebhookBodyError("Brevo posts a JSON object, or an array of them")
    items = posted if isinstance(posted, list) else [posted]
    return parsing.read_items(items, _event, _event_name, provider=NAME, account=account)


def _event(item: dict[str, Any]) -> ProviderEvent:
    name = _event_name(item)
    meaning = EVENTS.get(name, UNMAPPED)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=_identity(item),
        occurred_at=_moment(item),
        delivery_id=_delivery(item.get(CUSTOM)),
        provider_message_id=bracketed(item.get("message-id")),
        recipient=parsing.address_of(item.get("email")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=parsing.enhanced_status(item.get("reason")) if name in _REPLIES else None,
        machine=name in MACHINES,
        click_hash=parsing.click_hash(item.get("link")),
        tags=parsing.tags_of(item.get("tags") or _listed(item.get("tag"))),
    )
    return parsing.with_refusal(event, (NAME, name), item.get("reason"))


def _event_name(item: dict[str, Any]) -> str:
    return parsing.label_of(item.get("event"))


def _identity(item: dict[str, Any]) -> str:
    """Message, event, recipient, time and link, hashed: `id` is the webhook's own number and the same for all."""
    message_id, time = bracketed(item.get("message-id")), next((item[key] for key in _TIMES if item.get(key)), None)
    if message_id is None or time is None:
        return parsing.whole_fingerprint(item)
    recipient = parsing.label_of(item.get("email")).lower()
    return parsing.fingerprint(message_id, _event_name(item), recipient, time, parsing.label_of(item.get("link")))


def _moment(item: Mapping[str, Any]) -> datetime | None:
    """Unix time of the event: `ts_epoch` in milliseconds, at times in seconds, else `ts_event` or `ts` in seconds.

    `date` is in the account's own zone, which it does not name.
    """
    for name in ("ts_epoch", "ts_event", "ts"):
        value = item.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 47:
            continue
        return datetime.fromtimestamp(value / 1000 if value >= _MILLISECONDS else value, UTC)
    return None


def _delivery(value: Any) -> UUID | None:
    """Our id in what came back: JSON, or the id by itself."""
    if not isinstance(value, str):
        return None
    try:
        custom = json.loads(value)
    except (ValueError, RecursionError):
        return parsing.delivery_of(value)
    return parsing.delivery_of(custom.get(DELIVERY)) if isinstance(custom, dict) else None


def _listed(tag: Any) -> Any:
    """`tag` is one label, or several as the text of a JSON array."""
    if not isinstance(tag, str) or not tag.startswith("["):
        return tag
    try:
        return json.loads(tag)
    except (ValueError, RecursionError):
        return tag
