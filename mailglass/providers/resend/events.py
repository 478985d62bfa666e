"""Resend's webhooks: one event per request, whose identity is the request's own id."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers import parsing
from mailglass.providers.parsing import UNMAPPED, Meaning
from mailglass.providers.signatures import standard_webhook_id

NAME: Final = "resend"

DELIVERY: Final = "mailglass_id"
COPIES: Final = "mailglass_copies"
"""Marks a mail with cc or bcc."""
TAG: Final = "mailglass_tag_"
"""With a number behind it."""

EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("email.scheduled", ""): Meaning(EventKind.QUEUED),
    ("email.sent", ""): Meaning(EventKind.SENT),
    ("email.delivered", ""): Meaning(EventKind.DELIVERED),
    ("email.delivery_delayed", ""): Meaning(EventKind.DEFERRED),
    ("email.bounced", "Permanent"): Meaning(EventKind.BOUNCED, BounceClass.HARD),
    ("email.bounced", "Transient"): Meaning(EventKind.BOUNCED, BounceClass.SOFT),
    ("email.bounced", "Undetermined"): Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    ("email.bounced", ""): Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    ("email.suppressed", "previous_bounce"): Meaning(EventKind.REJECTED, None, RejectReason.BOUNCED),
    ("email.suppressed", "previous_complaint"): Meaning(EventKind.REJECTED, None, RejectReason.SPAM),
    ("email.suppressed", ""): Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    ("email.failed", ""): Meaning(EventKind.FAILED),
    ("email.complained", ""): Meaning(EventKind.COMPLAINED),
    ("email.opened", ""): Meaning(EventKind.OPENED),
    ("email.clicked", ""): Meaning(EventKind.CLICKED),
}
"""(type, detail): the detail is the `type` of a bounce or suppression; "" stands for any other."""

_DETAILS: Final[Mapping[str, str]] = {"email.bounced": "bounce", "email.suppressed": "suppressed"}


def normalise(body: bytes, headers: Mapping[str, str], account: str) -> list[ProviderEvent]:
    """Return the one event of a body.

    Raises:
        WebhookBodyError: it is no JSON object.
    """
    item = parsing.parse_json(body)
    if not isinstance(item, dict):
        raise WebhookBodyError("Resend posts one JSON object")
    identity = parsing.text(standard_webhook_id(headers))
    return parsing.read_items([item], partial(_event, identity), _event_name, provider=NAME, account=account)


def _event(identity: str | None, item: dict[str, Any]) -> ProviderEvent:
    data = _dict(item.get("data"))
    tags = _tags(data.get("tags"))
    to = data.get("to")
    people = to if isinstance(to, list) else [to]
    meaning = _meaning(item)
    several = COPIES in tags or len(people) > 1
    if several:
        meaning = _about_somebody(meaning)
    bounce = _dict(data.get("bounce"))
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=identity or parsing.whole_fingerprint(item),
        occurred_at=parsing.iso_moment(item.get("created_at")),
        delivery_id=parsing.delivery_of(tags.get(DELIVERY)),
        provider_message_id=parsing.text(data.get("email_id")),
        recipient=_address(people[0]) if len(people) == 1 else None,
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=_status(bounce.get("diagnosticCode")) or parsing.enhanced_status(bounce.get("message")),
        click_hash=parsing.click_hash(_dict(data.get("click")).get("link")),
        tags=parsing.tags_of([tags[name] for name in sorted(tags, key=_by_number) if name.startswith(TAG)]),
    )
    label = f"{parsing.label_of(bounce.get('type'))}/{parsing.label_of(bounce.get('subType'))}"
    return parsing.with_refusal(event, (NAME, label), _said(bounce), named=not several)


def _meaning(item: dict[str, Any]) -> Meaning:
    event, detail = _labels(item)
    return EVENTS.get((event, detail)) or EVENTS.get((event, ""), UNMAPPED)


def _labels(item: dict[str, Any]) -> tuple[str, str]:
    event = parsing.label_of(item.get("type"))
    details = _dict(_dict(item.get("data")).get(_DETAILS.get(event, "")))
    return event, parsing.label_of(details.get("type"))


def _event_name(item: dict[str, Any]) -> str:
    return ".".join(part for part in _labels(item) if part)


def _about_somebody(meaning: Meaning) -> Meaning:
    """Of a mail to several people Resend does not say whom it tells of, so nobody is suppressed for a bounce."""
    bounce_class = BounceClass.UNDETERMINED if meaning.bounce_class is BounceClass.HARD else meaning.bounce_class
    reject_reason = RejectReason.OTHER if meaning.reject_reason else None
    return Meaning(meaning.kind, bounce_class, reject_reason)


def _tags(value: Any) -> dict[str, Any]:
    """By name: an object as documented, or pairs as they were sent."""
    if isinstance(value, list):
        pairs = [pair for pair in value if isinstance(pair, dict) and isinstance(pair.get("name"), str)]
        return {pair["name"]: pair.get("value") for pair in pairs}
    return _dict(value)


def _by_number(name: str) -> tuple[int, str]:
    return len(name), name


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _address(value: Any) -> str | None:
    """Return the address in `Name <address>`, or by itself."""
    text = parsing.label_of(value)
    return parsing.address_of(text.rpartition("<")[2].partition(">")[0].strip())


def _said(bounce: Mapping[str, Any]) -> str:
    """Return what the receiver answered: the diagnosis, several lines where it has several; else Resend's own words."""
    codes = bounce.get("diagnosticCode")
    lines = [line for line in (codes if isinstance(codes, list) else [codes]) if isinstance(line, str)]
    return "\n".join(lines[:10]) or parsing.label_of(bounce.get("message"))


def _status(codes: Any) -> str | None:
    lines = codes if isinstance(codes, list) else [codes]
    return next((status for line in lines if (status := parsing.enhanced_status(line))), None)
