"""SendGrid's webhooks as events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import parsing
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.providers.sendgrid.sending import NAME, message_id

EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("processed", ""): Meaning(EventKind.QUEUED),
    ("delivered", ""): Meaning(EventKind.DELIVERED),
    ("deferred", ""): Meaning(EventKind.DEFERRED),
    ("bounce", "bounce"): Meaning(EventKind.BOUNCED, BounceClass.HARD),
    # the receiving side blocked the sender; SendGrid itself does not suppress these
    ("bounce", "blocked"): Meaning(EventKind.BOUNCED, BounceClass.SOFT),
    ("bounce", ""): Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    ("dropped", "invalid"): Meaning(EventKind.REJECTED, None, RejectReason.INVALID),
    ("dropped", "unsubscribed address"): Meaning(EventKind.REJECTED, None, RejectReason.UNSUBSCRIBED),
    ("dropped", "bounced address"): Meaning(EventKind.REJECTED, None, RejectReason.BOUNCED),
    ("dropped", "spam reporting address"): Meaning(EventKind.REJECTED, None, RejectReason.SPAM),
    ("dropped", ""): Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    ("open", ""): Meaning(EventKind.OPENED),
    ("click", ""): Meaning(EventKind.CLICKED),
    ("spamreport", ""): Meaning(EventKind.COMPLAINED),
    ("unsubscribe", ""): Meaning(EventKind.UNSUBSCRIBED),
    ("group_unsubscribe", ""): Meaning(EventKind.UNSUBSCRIBED),
    ("group_resubscribe", ""): Meaning(EventKind.SUBSCRIBED),
    ("account_status_change", ""): UNMAPPED,
}
"""(event, detail): the detail is a bounce's `type` and a drop's `reason`; "" stands for any other."""


def normalise(body: bytes, account: str) -> list[ProviderEvent]:
    """Return the events in a verified body.

    Raises:
        WebhookBodyError: it is not what SendGrid posts.
    """
    items = parsing.parse_json(body)
    if not isinstance(items, list):
        raise WebhookBodyError("SendGrid posts a JSON array")
    return parsing.read_items(items, _event, _event_name, provider=NAME, account=account)


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = _meaning(item)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=parsing.text(item.get("sg_event_id"), 100) or parsing.whole_fingerprint(item),
        occurred_at=parsing.epoch_moment(item.get("timestamp")),
        delivery_id=parsing.delivery_of(item.get("mailglass_id")),
        provider_message_id=message_id(item.get("sg_message_id")),
        recipient=parsing.address_of(item.get("email")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=parsing.enhanced_status(item.get("status")),
        machine=item.get("sg_machine_open") is True,
        click_hash=parsing.click_hash(item.get("url")),
        tags=parsing.tags_of(item.get("category")),
    )
    kind, classified = parsing.label_of(item.get("type")), parsing.label_of(item.get("bounce_classification"))
    return parsing.with_refusal(event, ("sendgrid", f"{kind}/{classified}"), item.get("reason") or item.get("response"))


def _meaning(item: dict[str, Any]) -> Meaning:
    event = parsing.label_of(item.get("event"))
    detail = {"bounce": "type", "dropped": "reason"}.get(event, "")
    return EVENTS.get((event, parsing.label_of(item.get(detail)).lower())) or EVENTS.get((event, ""), UNMAPPED)


def _event_name(item: dict[str, Any]) -> str:
    return parsing.label_of(item.get("event"))
