"""Suppressions that follow from providers' events, and those that such events end.

| event | entry | reason |
| --- | --- | --- |
| complained | the address | `complaint` |
| bounced, rejected or failed, class hard | the address | `hard_bounce` |
| refused as possibly gone, twice within weeks and at least a day apart | the address, for 30 days | `hard_bounce` |
| rejected because it bounced or complained before, or is no address | the address | `provider` |
| unsubscribed, or rejected because the person had unsubscribed | the address on the delivery's stream | `unsubscribe` |
| subscribed | ends an earlier `unsubscribe` of that stream by the same account | |

An entry belongs to the delivery's tenant. One that a person removed after the event stays removed. A refusal for an
earlier unsubscription concerns that stream only. A refusal that is blocked, timed out or unexplained says nothing about
the person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from mailglass import clock
from mailglass.errors import MessageError
from mailglass.ledger import webhooks
from mailglass.ledger.database import Runs
from mailglass.ledger.suppressions import Suppression, refused_again, suppress
from mailglass.ledger.webhooks import IncomingEvent, Match, SubscriptionChange
from mailglass.mail.addresses import parse_address
from mailglass.mail.events import BounceClass, EventKind, RejectReason
from mailglass.refusals.consequences import SECOND

_HARD = frozenset({EventKind.BOUNCED, EventKind.REJECTED, EventKind.FAILED})
_REFUSED_PERSON = frozenset({RejectReason.INVALID, RejectReason.BOUNCED, RejectReason.SPAM})


def update_suppressions(ledger: Runs, linked: Iterable[tuple[IncomingEvent, Match]]) -> int:
    """Update the suppression list by events.

    If a person left a stream and came back to it, the later event counts, by the provider's time.

    Args:
        ledger: the ledger.
        linked: events with their deliveries, in any order.

    Returns:
        The number of entries written.
    """
    entries = _refused_again(ledger, linked := list(linked))
    changes: dict[tuple[str, str, str], tuple[SubscriptionChange, bool]] = {}
    # most events concern no list, and checking that is cheaper than sorting and parsing addresses
    relevant = [(event, match) for event, match in linked if _reason(event) or _leaves(event) is not None]
    for event, match in sorted(relevant, key=lambda pair: (pair[0].occurred_at, pair[0].id)):
        value = _address(event, match)
        if value is None:
            continue
        if reason := _reason(event):
            entries.append(
                Suppression(match.tenant, value, reason, "webhook", account=event.account, created_at=event.occurred_at)
            )
        elif (left := _leaves(event)) is not None:
            change = SubscriptionChange(match.tenant, value, match.stream, event.account, event.occurred_at)
            changes[match.tenant, value, match.stream] = change, left
    written = suppress(ledger, entries) if entries else 0
    if leaving := [change for change, left in changes.values() if left]:
        written += webhooks.unsubscribe(ledger, leaving)
    if returning := [change for change, left in changes.values() if not left]:
        webhooks.resubscribe(ledger, returning)
    return written


def _refused_again(ledger: Runs, linked: Sequence[tuple[IncomingEvent, Match]]) -> list[Suppression]:
    """Return entries for recipients that were refused as possibly gone at least a day apart."""
    doubts = [
        (match.tenant, value, event)
        for event, match in linked
        if event.doubted and (value := _address(event, match)) is not None
    ]
    if not doubts:
        return []
    latest: dict[tuple[str, str], IncomingEvent] = {}
    for tenant, value, event in sorted(doubts, key=lambda doubt: (doubt[2].occurred_at, doubt[2].id)):
        latest[tenant, value] = event
    again = refused_again(ledger, [(tenant, value, event.occurred_at) for tenant, value, event in doubts])
    expires_at = clock.now() + timedelta(days=SECOND.days or 0)
    return [
        Suppression(
            tenant,
            value,
            SECOND.reason,
            "webhook",
            account=latest[tenant, value].account,
            expires_at=expires_at,
            created_at=latest[tenant, value].occurred_at,
        )
        for tenant, value in sorted(again)
    ]


def _reason(event: IncomingEvent) -> str | None:
    """Return the reason to suppress the address, by the table above; None for most events."""
    if event.kind == EventKind.COMPLAINED:
        return "complaint"
    if event.bounce_class == BounceClass.HARD and event.kind in _HARD:
        return "hard_bounce"
    if event.kind == EventKind.REJECTED and event.reject_reason in _REFUSED_PERSON and not event.doubted:
        return "provider"
    return None


def _leaves(event: IncomingEvent) -> bool | None:
    """Return True if the person leaves the stream, False if they come back to it, else None."""
    if event.kind == EventKind.SUBSCRIBED:
        return False
    refused = event.kind == EventKind.REJECTED and event.reject_reason == RejectReason.UNSUBSCRIBED
    return True if refused or event.kind == EventKind.UNSUBSCRIBED else None


def _address(event: IncomingEvent, match: Match) -> str | None:
    """Return the address that an event is about: the one it names, which may be a copy's, or the delivery's."""
    try:
        return parse_address(event.recipient or match.recipient, "recipient").key
    except MessageError:
        # no mail can go to an invalid address
        return None
