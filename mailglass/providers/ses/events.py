"""SES's events in SNS messages: by event publishing (`eventType`) or by an identity's notifications."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import parseaddr
from typing import Any, Final

from mailglass.errors import WebhookBodyError
from mailglass.mail.addresses import MAX_MAILBOX
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import parsing
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.providers.ses.sending import ID_TAG, LABEL_TAG, decode_tag
from mailglass.providers.ses.sns import NOTIFICATION, SNSMessage, content_of

_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT
_ALREADY_BOUNCED: Final = Meaning(EventKind.REJECTED, None, RejectReason.BOUNCED)

EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("Send", ""): Meaning(EventKind.SENT),
    ("Delivery", ""): Meaning(EventKind.DELIVERED),
    ("DeliveryDelay", ""): Meaning(EventKind.DEFERRED),
    ("Bounce", "Permanent"): Meaning(EventKind.BOUNCED, _HARD),
    # SES did not try: the address stands on a list because of what happened before
    ("Bounce", "Permanent/Suppressed"): _ALREADY_BOUNCED,
    ("Bounce", "Permanent/OnAccountSuppressionList"): _ALREADY_BOUNCED,
    ("Bounce", "Permanent/UnsubscribedRecipient"): Meaning(EventKind.REJECTED, None, RejectReason.UNSUBSCRIBED),
    ("Bounce", "Transient"): Meaning(EventKind.BOUNCED, _SOFT),
    ("Bounce", ""): Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    ("Complaint", ""): Meaning(EventKind.COMPLAINED),
    ("Complaint", "OnAccountSuppressionList"): Meaning(EventKind.REJECTED, None, RejectReason.SPAM),
    # somebody took the mail out of the spam folder; the taxonomy has no word for praise
    ("Complaint", "not-spam"): UNMAPPED,
    ("Reject", ""): Meaning(EventKind.REJECTED, None, RejectReason.BLOCKED),
    ("Rendering Failure", ""): Meaning(EventKind.FAILED),
    ("Open", ""): Meaning(EventKind.OPENED),
    ("Click", ""): Meaning(EventKind.CLICKED),
    ("Subscription", "opted_out"): Meaning(EventKind.UNSUBSCRIBED),
    ("Subscription", "opted_in"): Meaning(EventKind.SUBSCRIBED),
    ("Received", ""): UNMAPPED,
}
"""(type, detail). The detail is a bounce's type with its subtype; a complaint's subtype or feedback type; which way a
subscription went. The most exact row counts, "" stands for any."""

_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "Delivery": ("delivery", "recipients"),
    "DeliveryDelay": ("deliveryDelay", "delayedRecipients"),
    "Bounce": ("bounce", "bouncedRecipients"),
    "Complaint": ("complaint", "complainedRecipients"),
    "Send": ("send", ""),
    "Reject": ("reject", ""),
    "Rendering Failure": ("failure", ""),
    "Open": ("open", ""),
    "Click": ("click", ""),
    "Subscription": ("subscription", ""),
}
"""Fields of an event's own facts and, in them, of its recipients; "" for those of the mail."""

# one act by one of the recipients, SES does not say which: still one event
_ONE_ACT: Final = frozenset({"Open", "Click", "Subscription"})
# what SNS and SES publish to say that they can
_GREETINGS: Final = ("Successfully validated SNS topic",)
_GREETING_TYPES: Final = frozenset({"AmazonSnsSubscriptionSucceeded"})
# what other senders' mail met lately
_SUPPRESSED_FOR_OTHERS: Final = "Permanent/Suppressed"
_ID_HEADER: Final = "x-mailglass-id"


def read_events(body: bytes, account: str) -> list[ProviderEvent]:
    """Return the events in a verified message: one per recipient, none in a message about a subscription.

    Raises:
        WebhookBodyError: not a message of SNS, or its content is no event of SES.
    """
    message = SNSMessage.parse(body)
    if message.type != NOTIFICATION or message.fields["Message"].startswith(_GREETINGS):
        return []
    content = content_of(message)
    if not isinstance(content, dict):
        raise WebhookBodyError("the notification carries no event of Amazon SES")
    kind = _type(content)
    if kind in _GREETING_TYPES:
        return []
    items = list(_items(message, kind, content))
    return parsing.read_items(items, _event, _event_name, provider="ses", account=account)


def _type(content: Mapping[str, Any]) -> str:
    return parsing.label_of(content.get("eventType") or content.get("notificationType"))


def _items(message: SNSMessage, kind: str, content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One item per recipient, each with all that its event is read from."""
    name, listed = _PARTS.get(kind, ("", ""))
    part, mail = _object(content.get(name)), _object(content.get("mail"))
    recipients = part.get(listed) if listed else mail.get("destination")
    if not isinstance(recipients, list) or not recipients:
        recipients = [None]
    if kind in _ONE_ACT and len(recipients) > 1:
        recipients = [None]
    for index, recipient in enumerate(recipients):
        yield {
            "id": f"{message.id}.{index}",
            "type": kind,
            "part": part,
            "mail": mail,
            "recipient": recipient,
            "posted": message.fields.get("Timestamp"),
        }


def _event(item: dict[str, Any]) -> ProviderEvent:
    part, mail = item["part"], item["mail"]
    recipient = _object(item["recipient"])
    status = _status(recipient) if item["type"] in ("Bounce", "DeliveryDelay") else None
    meaning = _meaning(item["type"], part)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=item["id"],
        occurred_at=_moment(part.get("timestamp"), mail.get("timestamp"), item["posted"]),
        delivery_id=_delivery_id(mail),
        provider_message_id=parsing.text(mail.get("messageId")),
        recipient=_address(recipient.get("emailAddress") if recipient else item["recipient"]),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=status,
        click_hash=parsing.click_hash(part.get("link")),
        tags=_labels(mail),
    )
    if item["type"] not in ("Bounce", "DeliveryDelay"):
        return event
    label = f"{parsing.label_of(part.get('bounceType'))}/{parsing.label_of(part.get('bounceSubType'))}"
    if label == _SUPPRESSED_FOR_OTHERS:
        return parsing.doubted(event, ("ses", label))
    told = parsing.with_refusal(event, ("ses", label), recipient.get("diagnosticCode"))
    undetermined = told.kind is EventKind.BOUNCED and not label.startswith(("Permanent", "Transient"))
    return replace(told, bounce_class=BounceClass.UNDETERMINED) if undetermined else told


def _meaning(kind: str, part: Mapping[str, Any]) -> Meaning:
    for detail in _details(kind, part):
        if detail and (meaning := EVENTS.get((kind, detail))):
            return meaning
    return EVENTS.get((kind, ""), UNMAPPED)


def _details(kind: str, part: Mapping[str, Any]) -> list[str]:
    """Return the event's further words for itself, the most exact first."""
    if kind == "Bounce":
        name = parsing.label_of(part.get("bounceType"))
        return [f"{name}/{parsing.label_of(part.get('bounceSubType'))}", name]
    if kind == "Complaint":
        return [parsing.label_of(part.get("complaintSubType")), parsing.label_of(part.get("complaintFeedbackType"))]
    if kind == "Subscription":
        return ["opted_out" if _opts_out(part) else "opted_in"]
    return []


def _opts_out(part: Mapping[str, Any]) -> bool:
    """Return whether the person left the list, or a topic of it that they were not out of before."""
    new, old = _object(part.get("newTopicPreferences")), _object(part.get("oldTopicPreferences"))
    return new.get("unsubscribeAll") is True or bool(_topics_out(new) - _topics_out(old))


def _topics_out(preferences: Mapping[str, Any]) -> set[str]:
    topics = preferences.get("topicSubscriptionStatus")
    return {
        parsing.label_of(topic.get("topicName"))
        for topic in (topics if isinstance(topics, list) else [])
        if isinstance(topic, dict) and parsing.label_of(topic.get("subscriptionStatus")).lower() == "optout"
    }


def _event_name(item: dict[str, Any]) -> str:
    kind: str = item["type"]
    if kind == "Complaint":
        return f"{kind}.{parsing.label_of(item['part'].get('complaintFeedbackType'))}"
    return kind


def _status(recipient: Mapping[str, Any]) -> str | None:
    return parsing.enhanced_status(recipient.get("status")) or parsing.enhanced_status(recipient.get("diagnosticCode"))


def _moment(*values: object) -> datetime | None:
    return next((moment for value in values if (moment := parsing.iso_moment(value))), None)


def _delivery_id(mail: Mapping[str, Any]) -> Any:
    """From the tag, which event publishing returns, else from the header, which identities return when asked to."""
    tagged = _object(mail.get("tags")).get(ID_TAG)
    if isinstance(tagged, list) and tagged and (delivery_id := parsing.delivery_of(tagged[0])):
        return delivery_id
    headers = mail.get("headers")
    for header in headers if isinstance(headers, list) else []:
        if isinstance(header, dict) and parsing.label_of(header.get("name")).lower() == _ID_HEADER:
            return parsing.delivery_of(header.get("value"))
    return None


def _labels(mail: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the application's tags, in the order in which it wrote them."""
    numbered: dict[int, str] = {}
    for name, values in _object(mail.get("tags")).items():
        number = name.removeprefix(LABEL_TAG)
        if number != name and number.isascii() and number.isdigit() and len(number) < 4 and isinstance(values, list):
            numbered[int(number)] = decode_tag(parsing.label_of(values[0] if values else ""))
    return parsing.tags_of([numbered[number] for number in sorted(numbered)])


def _address(value: object) -> str | None:
    """Return the address itself where SES repeats a header's `Name <address>`."""
    text = parsing.text(value, MAX_MAILBOX)
    return parsing.address_of(parseaddr(text)[1] if text and "<" in text else text)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
