"""Bring facts into the ledger: match, append, project, suppress. Every step may be done again without harm.

The ledger's events are the truth. What is projected is what stands in them: of two events that claim the same
identity the first one counts, and a process that died after any step leaves nothing that a second run does not repair.
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
from mailglass.ledger.webhooks import Fact, Joining, Match, Recorded
from mailglass.refusals.counting import count_refusals
from mailglass.suppressions import from_events

CHUNK = 1000


@dataclass(slots=True)
class Applied:
    """What became of facts.

    Attributes:
        linked: the ids of those whose delivery is known.
        appended: of these, how many events were new.
        settled: how many deliveries were settled as sent by them.
        suppressed: how many entries were written.
        unlinked: those whose delivery is not known.
        refused: those that the ledger cannot take, with the type of the error.
    """

    linked: set[UUID] = field(default_factory=set)
    appended: int = 0
    settled: int = 0
    suppressed: int = 0
    unlinked: list[Fact] = field(default_factory=list)
    refused: dict[UUID, str] = field(default_factory=dict)

    def add(self, other: Applied) -> None:
        """Count another part's results in."""
        self.linked |= other.linked
        self.appended += other.appended
        self.settled += other.settled
        self.suppressed += other.suppressed
        self.unlinked += other.unlinked
        self.refused |= other.refused


def apply(database: Database, facts: Iterable[Fact]) -> Applied:
    """Bring facts into the ledger, a thousand at a time; one that it cannot take sinks no other.

    Raises:
        LedgerUnavailableError: the database cannot be reached; what was done stands.
    """
    distinct: dict[UUID, Fact] = {}
    for fact in facts:
        distinct.setdefault(fact.id, fact)
    result, queue = Applied(), list(distinct.values())
    for start in range(0, len(queue), CHUNK):
        result.add(_apply_or_halve(database, queue[start : start + CHUNK]))
    return result


def link(database: Database, orphans: Sequence[Fact]) -> Applied:
    """Apply kept facts and forget those that found their delivery."""
    result = apply(database, orphans)
    if result.linked:
        webhooks.drop_orphans(database, result.linked)
    return result


def _apply_or_halve(database: Database, facts: Sequence[Fact]) -> Applied:
    """Where a statement fails because of a value in it, both halves are tried, down to the fact at fault."""
    try:
        return _apply(database, facts)
    except Exception as error:
        if not _is_of_a_value(error):
            raise
        if len(facts) == 1:
            return Applied(
                refused={facts[0].id: error.kind if isinstance(error, LedgerError) else type(error).__name__}
            )
    half = len(facts) // 2
    result = _apply_or_halve(database, facts[:half])
    result.add(_apply_or_halve(database, facts[half:]))
    return result


@contextmanager
def quoting_nothing() -> Iterator[None]:
    """Turn what a database refuses into an error after which the same is tried again later.

    Raises:
        LedgerUnavailableError: in place of `LedgerError`.
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


def _apply(database: Database, facts: Sequence[Fact]) -> Applied:
    matches = webhooks.match(database, facts)
    linked = [(fact, matches[fact.id]) for fact in facts if fact.id in matches]
    result = Applied(
        linked={fact.id for fact, _ in linked}, unlinked=[fact for fact in facts if fact.id not in matches]
    )
    if not linked:
        return result
    new = webhooks.append(database, linked)
    result.appended = len(new)
    _count_refusals(fact for fact, _ in linked if fact.id in new)
    standing = webhooks.recorded_events(database, [fact.id for fact, _ in linked if fact.id not in new])
    for fact, match in linked:
        standing.setdefault(fact.id, Recorded(_event(fact, match), fact.webhook_id))
    result.settled = len(webhooks.project(database, _joinings(linked, standing)))
    # an event that an earlier webhook brought was that one's to suppress: an entry removed since stays removed
    result.suppressed = from_events.learn(
        database, [(fact, match) for fact, match in linked if standing[fact.id].webhook_id == fact.webhook_id]
    )
    return result


def _count_refusals(facts: Iterable[Fact]) -> None:
    by_account: dict[str, list[str | None]] = {}
    for fact in facts:
        if fact.refusal is not None:
            by_account.setdefault(fact.account, []).append(fact.refusal)
    for account, codes in by_account.items():
        count_refusals(account, codes)


def _joinings(linked: Sequence[tuple[Fact, Match]], standing: dict[UUID, Recorded]) -> list[Joining]:
    known: dict[UUID, Projection] = {}
    evidence: set[UUID] = set()
    for recorded in standing.values():
        event = recorded.event
        so_far = known.get(event.delivery_id)
        known[event.delivery_id] = single(event) if so_far is None else join(so_far, single(event))
        # one request carries a mail with its copies: what became of a copy proves that it was taken
        if event.kind in EVIDENCE:
            evidence.add(event.delivery_id)
    learnt = {
        match.delivery_id: fact.provider_message_id
        for fact, match in sorted(linked, key=lambda pair: pair[0].id.int, reverse=True)
        # a copy may have an id of its own
        if fact.provider_message_id and fact.account == match.account and not match.is_copy(fact)
    }
    searched = {match.delivery_id for fact, match in linked if fact.webhook_id is None}
    return [
        Joining(
            delivery_id, projection, delivery_id in evidence, learnt.get(delivery_id),
            "search_evidence" if delivery_id in searched else "webhook_evidence",
        )
        for delivery_id, projection in known.items()
    ]  # fmt: skip


def _event(fact: Fact, match: Match) -> Event:
    return Event(
        id=fact.id,
        delivery_id=match.delivery_id,
        kind=fact.kind,
        source=Source.PROVIDER,
        occurred_at=fact.occurred_at,
        reason=COPY if match.is_copy(fact) else None,
        bounce_class=fact.bounce_class,
        machine=fact.machine,
        refusal=fact.refusal,
    )
