"""Postmark's webhooks as events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import parsing
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.providers.postmark.sending import NAME

_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT

EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("Delivery", ""): Meaning(EventKind.DELIVERED),
    ("Open", ""): Meaning(EventKind.OPENED),
    ("Click", ""): Meaning(EventKind.CLICKED),
    ("SpamComplaint", ""): Meaning(EventKind.COMPLAINED),
    ("SubscriptionChange", "HardBounce"): Meaning(EventKind.BOUNCED, _HARD),
    ("SubscriptionChange", "SpamComplaint"): Meaning(EventKind.COMPLAINED),
    ("SubscriptionChange", "ManualSuppression"): Meaning(EventKind.UNSUBSCRIBED),
    ("SubscriptionChange", "resumed"): Meaning(EventKind.SUBSCRIBED),
    ("Bounce", "HardBounce"): Meaning(EventKind.BOUNCED, _HARD),
    ("Bounce", "SoftBounce"): Meaning(EventKind.BOUNCED, _SOFT),
    ("Bounce", "VirusNotification"): Meaning(EventKind.BOUNCED, _SOFT),
    ("Bounce", "Transient"): Meaning(EventKind.DEFERRED, _SOFT),
    ("Bounce", "DnsError"): Meaning(EventKind.DEFERRED, _SOFT),
    ("Bounce", "OpenRelayTest"): Meaning(EventKind.DEFERRED, _SOFT),
    ("Bounce", "AutoResponder"): Meaning(EventKind.AUTORESPONDED),
    ("Bounce", "AddressChange"): Meaning(EventKind.AUTORESPONDED),
    ("Bounce", "ChallengeVerification"): Meaning(EventKind.AUTORESPONDED),
    ("Bounce", "BadEmailAddress"): Meaning(EventKind.REJECTED, _HARD, RejectReason.INVALID),
    ("Bounce", "ManuallyDeactivated"): Meaning(EventKind.REJECTED, None, RejectReason.BLOCKED),
    ("Bounce", "DMARCPolicy"): Meaning(EventKind.REJECTED, None, RejectReason.BLOCKED),
    # mostly a receiving provider's block of the sender, which says nothing about the mailbox
    ("Bounce", "Blocked"): Meaning(EventKind.REJECTED, _SOFT, RejectReason.BLOCKED),
    ("Bounce", "Unconfirmed"): Meaning(EventKind.REJECTED, _SOFT, RejectReason.OTHER),
    ("Bounce", "SMTPApiError"): Meaning(EventKind.FAILED),
    ("Bounce", "TemplateRenderingFailed"): Meaning(EventKind.FAILED),
    # no complaint: a filter refused the content, and the address stays active
    ("Bounce", "SpamNotification"): Meaning(EventKind.BOUNCED, _SOFT),
    ("Bounce", "SpamComplaint"): Meaning(EventKind.COMPLAINED),
    ("Bounce", "Unsubscribe"): Meaning(EventKind.UNSUBSCRIBED),
    ("Bounce", "Subscribe"): Meaning(EventKind.SUBSCRIBED),
    ("Bounce", "Unknown"): Meaning(EventKind.UNKNOWN, BounceClass.UNDETERMINED),
}
"""(RecordType, detail): the detail is a bounce's `Type` and a subscription change's reason. Inbound mail is none."""
_TIMES: Final = ("BouncedAt", "DeliveredAt", "ReceivedAt", "ChangedAt")


def delivery_id(item: dict[str, Any]) -> UUID | None:
    """Return our id in an item's metadata."""
    metadata = item.get("Metadata")
    return parsing.delivery_of(metadata.get("mailglass_id")) if isinstance(metadata, dict) else None


def normalise(body: bytes, account: str) -> list[ProviderEvent]:
    """Return the events in a verified body.

    Raises:
        WebhookBodyError: it is not what Postmark posts.
    """
    item = parsing.parse_json(body)
    if not isinstance(item, dict):
        raise WebhookBodyError("Postmark posts one JSON object")
    return parsing.read_items([item], _event, _event_name, provider=NAME, account=account)


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = EVENTS.get((parsing.label_of(item.get("RecordType")), _detail(item)), UNMAPPED)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=_identity(item),
        occurred_at=parsing.iso_moment(_time(item)),
        delivery_id=delivery_id(item),
        provider_message_id=parsing.text(item.get("MessageID")),
        recipient=parsing.address_of(item.get("Email") or item.get("Recipient")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=parsing.enhanced_status(item.get("Details")) if item.get("RecordType") == "Bounce" else None,
        click_hash=parsing.click_hash(item.get("OriginalLink")),
        tags=parsing.tags_of(item.get("Tag")),
    )
    if item.get("RecordType") != "Bounce":
        return event
    return parsing.with_refusal(event, ("postmark", _detail(item)), item.get("Details"))


def _detail(item: dict[str, Any]) -> str:
    record = item.get("RecordType")
    if record == "Bounce":
        return parsing.label_of(item.get("Type"))
    if record == "SubscriptionChange":
        return "resumed" if item.get("SuppressSending") is False else parsing.label_of(item.get("SuppressionReason"))
    return ""


def _event_name(item: dict[str, Any]) -> str:
    return ".".join(part for part in (parsing.label_of(item.get("RecordType")), _detail(item)) if part)


def _time(item: dict[str, Any]) -> Any:
    return next((item[key] for key in _TIMES if item.get(key)), None)


def _identity(item: dict[str, Any]) -> str:
    """Return a bounce's own `ID`; what has none is known by message, kind, recipient and time, hashed."""
    number = item.get("ID")
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 63:
        return str(number)
    message_id, time = item.get("MessageID"), _time(item)
    if not message_id or not time:
        return parsing.whole_fingerprint(item)
    recipient = parsing.label_of(item.get("Recipient") or item.get("Email")).lower()
    return parsing.fingerprint(message_id, item.get("RecordType"), recipient, time, _detail(item))
