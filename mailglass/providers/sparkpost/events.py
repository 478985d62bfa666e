"""SparkPost's webhooks: arrays of wrapped events, and what each of them means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import parsing
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.providers.sparkpost.sending import NAME

BATCH_ID: Final = "x-messagesystems-batch-id"

EVENTS: Final[Mapping[str, Meaning]] = {
    "injection": Meaning(EventKind.QUEUED),
    "delivery": Meaning(EventKind.DELIVERED),
    "delay": Meaning(EventKind.DEFERRED, BounceClass.SOFT),
    "bounce": Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    "out_of_band": Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    "policy_rejection": Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    "generation_rejection": Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    "generation_failure": Meaning(EventKind.FAILED),
    "spam_complaint": Meaning(EventKind.COMPLAINED),
    "list_unsubscribe": Meaning(EventKind.UNSUBSCRIBED),
    "link_unsubscribe": Meaning(EventKind.UNSUBSCRIBED),
    "open": Meaning(EventKind.OPENED),
    "amp_open": Meaning(EventKind.OPENED),
    "click": Meaning(EventKind.CLICKED),
    "amp_click": Meaning(EventKind.CLICKED),
    # beside `open` for the same opening; see the account's option
    "initial_open": UNMAPPED,
    "amp_initial_open": UNMAPPED,
    # inbound mail
    "relay_injection": UNMAPPED,
    "relay_rejection": UNMAPPED,
    "relay_delivery": UNMAPPED,
    "relay_tempfail": UNMAPPED,
    "relay_permfail": UNMAPPED,
}
"""`type`; a bounce's and a rejection's meaning is refined by their `bounce_class`."""

INITIAL_OPENS: Final = frozenset({"initial_open", "amp_initial_open"})
BOUNCES: Final = frozenset({"bounce", "out_of_band"})
REJECTIONS: Final = frozenset({"policy_rejection", "generation_rejection"})

_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT
BOUNCE_CLASSES: Final[Mapping[str, Meaning]] = {
    "1": Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    "10": Meaning(EventKind.BOUNCED, _HARD, RejectReason.INVALID),  # invalid recipient
    "20": Meaning(EventKind.BOUNCED, _SOFT),
    "21": Meaning(EventKind.BOUNCED, _SOFT),  # DNS failure
    "22": Meaning(EventKind.BOUNCED, _SOFT),  # mailbox full
    "23": Meaning(EventKind.BOUNCED, _SOFT),  # too large
    "24": Meaning(EventKind.BOUNCED, _SOFT, RejectReason.TIMED_OUT),
    "25": Meaning(EventKind.BOUNCED, _SOFT, RejectReason.BLOCKED),  # administrative: a policy, or SparkPost's own list
    "30": Meaning(EventKind.BOUNCED, _HARD, RejectReason.INVALID),  # no RCPT
    "40": Meaning(EventKind.BOUNCED, _SOFT),
    # blocks of the sender or of the content, which say nothing about the mailbox
    "50": Meaning(EventKind.BOUNCED, _SOFT, RejectReason.BLOCKED),
    "51": Meaning(EventKind.BOUNCED, _SOFT, RejectReason.BLOCKED),
    "52": Meaning(EventKind.BOUNCED, _SOFT, RejectReason.BLOCKED),
    "53": Meaning(EventKind.BOUNCED, _SOFT, RejectReason.BLOCKED),
    "54": Meaning(EventKind.BOUNCED, _SOFT, RejectReason.BLOCKED),
    "60": Meaning(EventKind.AUTORESPONDED),
    "70": Meaning(EventKind.BOUNCED, _SOFT),
    "80": Meaning(EventKind.SUBSCRIBED),
    "90": Meaning(EventKind.UNSUBSCRIBED, None, RejectReason.UNSUBSCRIBED),
    "100": Meaning(EventKind.AUTORESPONDED),  # challenge
}
"""`bounce_class`: what a bounce means, and of a rejection only the reason."""

_CLASS: Final = "msys"


def normalise(body: bytes, account: str, *, count_initial_opens: bool) -> list[ProviderEvent]:
    """Return the events of a body; a ping has none. One that cannot be read becomes `unknown` and sinks no other.

    Raises:
        WebhookBodyError: the body is no JSON array.
    """
    posted = parsing.parse_json(body)
    if isinstance(posted, dict) and isinstance(posted.get("msys"), dict):
        posted = [posted]
    if not isinstance(posted, list):
        raise WebhookBodyError("SparkPost posts a JSON array")

    def read(item: dict[str, Any]) -> ProviderEvent:
        event = _event(item)
        if count_initial_opens and _type(item) in INITIAL_OPENS:
            return replace(event, kind=EventKind.OPENED)
        return event

    return parsing.read_items(_unwrapped(posted), read, _event_name, provider=NAME, account=account)


def read(items: Sequence[Any], account: str) -> list[ProviderEvent]:
    """Events without their wrapping, as the events API gives them."""
    return parsing.read_items(items, _event, _event_name, provider=NAME, account=account)


def _unwrapped(items: list[Any]) -> Iterator[Any]:
    """Yield the events under `msys`, each with the name of its class; what is not wrapped stays as it is."""
    for item in items:
        wrapped = item.get("msys") if isinstance(item, dict) else None
        if not isinstance(wrapped, dict):
            yield item
            continue
        for name, event in wrapped.items():
            yield event | {_CLASS: name} if isinstance(event, dict) else event


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = _meaning(item)
    metadata = item.get("rcpt_meta")
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=_identity(item),
        occurred_at=_moment(item.get("timestamp")),
        delivery_id=parsing.delivery_of(metadata.get("mailglass_id")) if isinstance(metadata, dict) else None,
        provider_message_id=_number(item.get("transmission_id")),
        recipient=parsing.address_of(item.get("raw_rcpt_to")) or parsing.address_of(item.get("rcpt_to")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=parsing.enhanced_status(item.get("raw_reason")) or parsing.enhanced_status(item.get("reason")),
        machine=_by_machine(item.get("user_agent_parsed")),
        click_hash=parsing.click_hash(item.get("target_link_url")),
        tags=parsing.tags_of(item.get("rcpt_tags")),
    )
    return parsing.with_refusal(
        event,
        (NAME, _number(item.get("bounce_class")) or ""),
        parsing.label_of(item.get("raw_reason")) or parsing.label_of(item.get("reason")),
        reply=item.get("error_code"),
    )


def _meaning(item: dict[str, Any]) -> Meaning:
    kind = _type(item)
    usual = EVENTS.get(kind, UNMAPPED)
    if kind not in BOUNCES | REJECTIONS:
        return usual
    by_class = BOUNCE_CLASSES.get(_number(item.get("bounce_class")) or "")
    if kind in BOUNCES:
        return by_class or usual
    reason = by_class.reject_reason if by_class else None
    if reason is None and _speaks_of_list(item):
        reason = RejectReason.BLOCKED
    return Meaning(usual.kind, None, reason or usual.reject_reason)


def _speaks_of_list(item: dict[str, Any]) -> bool:
    """Return whether SparkPost's own list was in the way, which alone tells the reason."""
    return any("suppress" in parsing.label_of(item.get(name)).lower() for name in ("raw_reason", "reason"))


def _type(item: dict[str, Any]) -> str:
    return parsing.label_of(item.get("type"))


def _event_name(item: dict[str, Any]) -> str:
    return ".".join(part for part in (parsing.label_of(item.get(_CLASS)), _type(item)) if part)


def _moment(value: object) -> datetime | None:
    return parsing.epoch_moment(value) or parsing.iso_moment(value)


def _number(value: object) -> str | None:
    """Return a field that SparkPost writes as digits in a string, and sometimes as a number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return str(value)
    return parsing.text(value, 100)


def _identity(item: dict[str, Any]) -> str:
    return _number(item.get("event_id")) or parsing.whole_fingerprint(item)


def _by_machine(client: Any) -> bool:
    """Return whether a mail provider fetched it ahead of, or on behalf of, its user."""
    return isinstance(client, dict) and (client.get("is_prefetched") is True or client.get("is_proxy") is True)
