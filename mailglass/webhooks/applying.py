"""Application of incoming events to the ledger: match, append, project, suppress. Every step may be repeated.

The ledger's events are the truth, and projections follow from them. Of two events with one identity the first counts.
If the process dies after any step, a second run repairs the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from mailglass.errors import LedgerError, LedgerUnavailableError, MailglassError
from mailglass.ledger import webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.events import COPY, EVIDENCE, Event, Projection, Source, join, single
from mailglass.ledger.webhooks import IncomingEvent, Match, ProjectionUpdate, RecordedEvent
from mailglass.refusals.counting import count_refusals
from mailglass.suppressions import from_events

CHUNK = 1000


@dataclass(slots=True)
class Applied:
    """Result of applying incoming events.

    Attributes:
        linked: ids of events whose delivery is known.
        appended: number of linked events that were new.
        settled: number of deliveries that the events settled as sent.
        suppressed: number of suppressions written.
        unlinked: events whose delivery is not known.
        refused: ids of events that the ledger refuses, with the type of the error.
    """

    linked: set[UUID] = field(default_factory=set)
    appended: int = 0
    settled: int = 0
    suppressed: int = 0
    unlinked: list[IncomingEvent] = field(default_factory=list)
    refused: dict[UUID, str] = field(default_factory=dict)

    def add(self, other: Applied) -> None:
        """Add the result of another part."""
        self.linked |= other.linked
        self.appended += other.appended
        self.settled += other.settled
        self.suppressed += other.suppressed
        self.unlinked += other.unlinked
        self.refused |= other.refused


def apply(database: Database, events: Iterable[IncomingEvent]) -> Applied:
    """Apply incoming events to the ledger, in chunks of 1,000. An event that it refuses affects no other.

    Args:
        database: the ledger.
        events: in any order.

    Returns:
        The result of all chunks.

    Raises:
        LedgerUnavailableError: the database cannot be reached; finished chunks stand.
    """
    distinct: dict[UUID, IncomingEvent] = {}
    for event in events:
        distinct.setdefault(event.id, event)
    result, queue = Applied(), list(distinct.values())
    for start in range(0, len(queue), CHUNK):
        result.add(_apply_or_halve(database, queue[start : start + CHUNK]))
    return result


def link(database: Database, orphans: Sequence[IncomingEvent]) -> Applied:
    """Apply orphaned events, and drop those that have found their delivery."""
    result = apply(database, orphans)
    if result.linked:
        webhooks.drop_orphans(database, result.linked)
    return result


def _apply_or_halve(database: Database, events: Sequence[IncomingEvent]) -> Applied:
    """Apply events; if a value in them is refused, apply both halves, down to the event at fault."""
    try:
        return _apply(database, events)
    except Exception as error:
        if not _is_of_a_value(error):
            raise
        if len(events) == 1:
            return Applied(
                refused={events[0].id: error.kind if isinstance(error, LedgerError) else type(error).__name__}
            )
    half = len(events) // 2
    result = _apply_or_halve(database, events[:half])
    result.add(_apply_or_halve(database, events[half:]))
    return result


@contextmanager
def retryable_ledger_errors() -> Iterator[None]:
    """Turn errors of statements into a retryable one, without the values that a database error quotes.

    Raises:
        LedgerUnavailableError: in place of a `LedgerError`.
    """
    try:
        yield
    except LedgerError as error:
        state = error.sqlstate or error.kind
        raise LedgerUnavailableError(f"the database refused to record webhook events ({state})") from None


def _is_of_a_value(error: Exception) -> bool:
    if isinstance(error, LedgerError):
        return error.of_a_value
    if isinstance(error, MailglassError):
        return False
    return isinstance(error, ValueError | TypeError | ArithmeticError)


def _apply(database: Database, events: Sequence[IncomingEvent]) -> Applied:
    matches = webhooks.match(database, events)
    linked = [(event, matches[event.id]) for event in events if event.id in matches]
    result = Applied(
        linked={event.id for event, _ in linked}, unlinked=[event for event in events if event.id not in matches]
    )
    if not linked:
        return result
    new = webhooks.append(database, linked)
    result.appended = len(new)
    _count_refusals(event for event, _ in linked if event.id in new)
    recorded = webhooks.recorded_events(database, [event.id for event, _ in linked if event.id not in new])
    for event, match in linked:
        recorded.setdefault(event.id, RecordedEvent(_ledger_event(event, match), event.webhook_id))
    result.settled = len(webhooks.project(database, _updates(linked, recorded)))
    # only the webhook that brought an event first suppresses: an entry removed since then stays removed
    result.suppressed = from_events.update_suppressions(
        database, [(event, match) for event, match in linked if recorded[event.id].webhook_id == event.webhook_id]
    )
    return result


def _count_refusals(events: Iterable[IncomingEvent]) -> None:
    by_account: dict[str, list[str | None]] = {}
    for event in events:
        if event.refusal is not None:
            by_account.setdefault(event.account, []).append(event.refusal)
    for account, codes in by_account.items():
        count_refusals(account, codes)


def _updates(
    linked: Sequence[tuple[IncomingEvent, Match]], recorded: dict[UUID, RecordedEvent]
) -> list[ProjectionUpdate]:
    projections: dict[UUID, Projection] = {}
    evidence: set[UUID] = set()
    for item in recorded.values():
        event = item.event
        so_far = projections.get(event.delivery_id)
        projections[event.delivery_id] = single(event) if so_far is None else join(so_far, single(event))
        # one request carries a mail with its copies: an event of a copy proves that the mail was accepted
        if event.kind in EVIDENCE:
            evidence.add(event.delivery_id)
    message_ids = {
        match.delivery_id: event.provider_message_id
        for event, match in sorted(linked, key=lambda pair: pair[0].id.int, reverse=True)
        # a copy may have an id of its own
        if event.provider_message_id and event.account == match.account and not match.is_copy(event)
    }
    searched = {match.delivery_id for event, match in linked if event.webhook_id is None}
    return [
        ProjectionUpdate(
            delivery_id,
            projection,
            delivery_id in evidence,
            message_ids.get(delivery_id),
            "search_evidence" if delivery_id in searched else "webhook_evidence",
        )
        for delivery_id, projection in projections.items()
    ]


def _ledger_event(event: IncomingEvent, match: Match) -> Event:
    return Event(
        id=event.id,
        delivery_id=match.delivery_id,
        kind=event.kind,
        source=Source.PROVIDER,
        occurred_at=event.occurred_at,
        reason=COPY if match.is_copy(event) else None,
        bounce_class=event.bounce_class,
        machine=event.machine,
        refusal=event.refusal,
    )
