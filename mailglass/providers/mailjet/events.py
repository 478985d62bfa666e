"""Mailjet's webhooks as events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import parsing
from mailglass.providers.mailjet.sending import NAME, number
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.refusals.labels import LABELS

_OF_ADDRESSES: Final = frozenset({"user unknown", "mailbox inactive", "invalid domain", "no mail host", "typofix"})
_BOUNCED_FOR_OTHERS: Final = "preblocked"

EVENTS: Final[Mapping[str, Meaning]] = {
    "sent": Meaning(EventKind.DELIVERED),  # the receiving server took it
    "open": Meaning(EventKind.OPENED),
    "click": Meaning(EventKind.CLICKED),
    "bounce": Meaning(EventKind.BOUNCED),
    "blocked": Meaning(EventKind.REJECTED),
    "spam": Meaning(EventKind.COMPLAINED),
    "unsub": Meaning(EventKind.UNSUBSCRIBED),
}
"""`event`; what a bounce or a block means in full depends on its error."""
_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT

CAUSES: Final[Mapping[str, tuple[BounceClass | None, RejectReason]]] = {
    "user unknown": (_HARD, RejectReason.BOUNCED),
    "mailbox inactive": (_HARD, RejectReason.BOUNCED),
    "quota exceeded": (_SOFT, RejectReason.OTHER),
    # on a list of Mailjet's, which cannot be read: what we learn of it here is all we learn
    "blacklisted": (None, RejectReason.BOUNCED),
    "preblocked": (None, RejectReason.BOUNCED),
    "spam reporter": (None, RejectReason.SPAM),
    "invalid domain": (_HARD, RejectReason.INVALID),
    "no mail host": (_HARD, RejectReason.INVALID),
    "typofix": (None, RejectReason.INVALID),
    "relay/access denied": (_SOFT, RejectReason.BLOCKED),
    "greylisted": (_SOFT, RejectReason.OTHER),
    # the sender or the content is what is refused, which says nothing about the person
    "sender blocked": (_SOFT, RejectReason.BLOCKED),
    "content blocked": (_SOFT, RejectReason.BLOCKED),
    "policy issue": (_SOFT, RejectReason.BLOCKED),
    "system issue": (_SOFT, RejectReason.OTHER),
    "protocol issue": (_SOFT, RejectReason.OTHER),
    "connection issue": (_SOFT, RejectReason.OTHER),
    "duplicate in campaign": (None, RejectReason.OTHER),
}
"""`error` of a bounce or block: how lasting it is, and why Mailjet would not send."""

FAILURES: Final = frozenset({"bad or empty template", "error in template language"})
"""Errors of a mail that Mailjet could not make."""


def normalise(body: bytes, account: str) -> list[ProviderEvent]:
    """Return the events in a verified body.

    Raises:
        WebhookBodyError: it is not what Mailjet posts.
    """
    posted = parsing.parse_json(body)
    # version 1 of the event API posts one object, version 2 an array
    items = [posted] if isinstance(posted, dict) else posted
    if not isinstance(items, list):
        raise WebhookBodyError("Mailjet posts a JSON object or an array of them")
    return parsing.read_items(items, _event, _event_name, provider=NAME, account=account)


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = _meaning(item)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=_identity(item),
        occurred_at=parsing.epoch_moment(item.get("time")),
        delivery_id=parsing.delivery_of(item.get("CustomID")),
        provider_message_id=_event_message_id(item),
        recipient=parsing.address_of(item.get("email")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=parsing.enhanced_status(item.get("smtp_reply")) or parsing.enhanced_status(item.get("comment")),
        click_hash=parsing.click_hash(item.get("url")) if _event_name(item) == "click" else None,
        tags=parsing.tags_of(item.get("customcampaign")),
    )
    error = parsing.label_of(item.get("error")).strip().lower()
    if error == _BOUNCED_FOR_OTHERS and event.kind is EventKind.REJECTED:
        return parsing.doubted(event, (NAME, error))
    hard = item.get("hard_bounce")
    flag = "hard" if hard is True else "soft" if hard is False else ""
    # the flag says whether Mailjet mails the address again
    label = error if error in LABELS[NAME] and not (error in _OF_ADDRESSES and hard is False) else flag
    return parsing.with_refusal(
        event,
        (NAME, label),
        parsing.label_of(item.get("smtp_reply")) or parsing.label_of(item.get("comment")),
    )


def _meaning(item: dict[str, Any]) -> Meaning:
    event, error = _event_name(item), parsing.label_of(item.get("error")).strip().lower()
    usual = EVENTS.get(event, UNMAPPED)
    if event not in ("bounce", "blocked"):
        return usual
    if error in FAILURES:
        return Meaning(EventKind.FAILED)
    hard = item.get("hard_bounce")
    if error == "greylisted" and hard is not True:  # Mailjet tries again
        return Meaning(EventKind.DEFERRED, _SOFT)
    lasting, reason = CAUSES.get(error, (None, RejectReason.OTHER))
    if event == "blocked":
        return Meaning(usual.kind, lasting, reason)
    if isinstance(hard, bool):
        lasting = _HARD if hard else _SOFT
    # a bounce is the receiving side's word: of Mailjet's reasons not to send only a block can be one of theirs
    return Meaning(usual.kind, lasting or BounceClass.UNDETERMINED, reason if reason is RejectReason.BLOCKED else None)


def _event_name(item: dict[str, Any]) -> str:
    return parsing.label_of(item.get("event"))


def _event_message_id(item: dict[str, Any]) -> str | None:
    return number(item.get("MessageID")) or number(item.get("mj_message_id"))


def _identity(item: dict[str, Any]) -> str:
    """Mailjet gives events no id: one is known by message, kind, recipient, time and target, hashed."""
    message_id, moment = _event_message_id(item), item.get("time")
    if not message_id or not moment:
        return parsing.whole_fingerprint(item)
    email = parsing.label_of(item.get("email")).lower()
    return parsing.fingerprint(message_id, _event_name(item), email, moment, item.get("url"))
