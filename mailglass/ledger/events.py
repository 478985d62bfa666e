"""The ledger's events, and the projection: a pure function from a set of events to what is known of a delivery.

The projection is a join over a semilattice: each event stands for a small `Projection`, and two are joined by
taking the earliest of every first time, the latest of every last time and the most serious bounce class. A join is
commutative, associative and idempotent, so order and duplication cannot matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from mailglass.ledger.lifecycle import Status


class Source(StrEnum):
    """The source of a fact."""

    ENGINE = "engine"
    PROVIDER = "provider"
    OPERATOR = "operator"


class EngineEvent(StrEnum):
    """The events of the engine and of operators; providers' have `mailglass.mail.events.EventKind`."""

    QUEUED = "queued"
    ATTEMPTED = "attempted"
    SUPPRESSED = "suppressed"
    FAILED = "failed"
    HELD = "held"
    UNCERTAIN = "uncertain"
    SETTLED = "settled"
    RESENT = "resent"
    RELEASED = "released"
    RESCHEDULED = "rescheduled"
    CANCELED = "canceled"
    COPY_DROPPED = "copy_dropped"
    COPY_REFUSED = "copy_refused"
    LEFT_OUT = "left_out"
    REDIRECTED = "redirected"


# the provider facts that are kept as a time of their own, least telling first: the outcome is the last one that is set
OUTCOMES: tuple[str, ...] = ("deferred", "delivered", "rejected", "failed", "bounced", "complained")
MARKS: tuple[str, ...] = ("opened", "clicked", "unsubscribed")
BOUNCE_RANK: dict[str | None, int] = {None: 0, "undetermined": 1, "soft": 2, "hard": 3}
# the reason of a provider's event that is about somebody who got a copy (cc, bcc) and not about the recipient
COPY = "copy"
# facts that prove that the provider had accepted the mail
EVIDENCE: frozenset[str] = frozenset(
    {"queued", "sent", "bounced", "deferred", "delivered", "autoresponded", "opened", "clicked", "complained"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact about one delivery. Append-only; holds no address and no content.

    Attributes:
        id: UUIDv7; for a provider's event derived from what it is, so a second arrival is the same row.
        kind: an `EngineEvent` or the providers' `EventKind`.
        source: who states it.
        occurred_at: the time of whoever states it (the provider's own for its events).
        status: for engine events: where the delivery stood after it.
        outcome: for attempts: the outcome class.
        reason: a closed code; of a provider's event only `COPY`.
        refusal: what a refusal meant, as `mailglass.mail.refusal.Refusal.code`.
    """

    id: UUID
    delivery_id: UUID
    kind: str
    source: Source
    occurred_at: datetime
    status: Status | None = None
    outcome: str | None = None
    reason: str | None = None
    account: str | None = None
    attempt: int | None = None
    status_code: int | None = None
    enhanced_status: str | None = None
    duration_ms: int | None = None
    bounce_class: str | None = None
    reject_reason: str | None = None
    machine: bool = False
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """A set of events, summed up for a delivery. All times are the earliest known; `last_*` the latest."""

    sent_at: datetime | None = None
    deferred_at: datetime | None = None
    delivered_at: datetime | None = None
    rejected_at: datetime | None = None
    failed_at: datetime | None = None
    bounced_at: datetime | None = None
    complained_at: datetime | None = None
    opened_at: datetime | None = None
    clicked_at: datetime | None = None
    unsubscribed_at: datetime | None = None
    bounce_class: str | None = None
    last_event: str | None = None
    last_event_at: datetime | None = None
    last_event_id: UUID | None = None
    status: Status | None = None
    status_id: UUID | None = None

    @property
    def outcome(self) -> str | None:
        """Return the most telling provider fact: complained over bounced over failed over rejected over delivered."""
        for name in reversed(OUTCOMES):
            if getattr(self, f"{name}_at") is not None:
                return name
        return None


EMPTY = Projection()
_EARLIEST = tuple(
    item.name for item in fields(Projection) if item.name.endswith("_at") and item.name != "last_event_at"
)


def project(events: Iterable[Event]) -> Projection:
    """Return what the events say, whatever their order and however often each occurs."""
    result = EMPTY
    for event in events:
        result = join(result, single(event))
    return result


def single(event: Event) -> Projection:
    """Return what one event says by itself. What befalls a copy says nothing about the delivery's recipient."""
    if event.reason == COPY and event.source is Source.PROVIDER:
        return EMPTY
    if event.source is not Source.PROVIDER:
        accepted = event.kind == EngineEvent.ATTEMPTED and event.outcome == "accepted"
        return Projection(
            sent_at=event.occurred_at if accepted or event.kind == EngineEvent.SETTLED else None,
            status=event.status,
            status_id=event.id if event.status else None,
        )
    times: dict[str, datetime] = {}
    # a machine's open or click says nothing about the person
    if event.kind in OUTCOMES or (event.kind in MARKS and not event.machine):
        times[f"{event.kind}_at"] = event.occurred_at
    return Projection(
        **times,  # type: ignore[arg-type]
        bounce_class=event.bounce_class,
        last_event=event.kind,
        last_event_at=event.occurred_at,
        last_event_id=event.id,
    )


def join(left: Projection, right: Projection) -> Projection:
    """Return the least projection that says what both say."""
    values: dict[str, object] = {}
    for name in _EARLIEST:
        values[name] = _earliest(getattr(left, name), getattr(right, name))
    latest = max(left, right, key=lambda side: _moment(side.last_event_at, side.last_event_id))
    stood = max(left, right, key=lambda side: str(side.status_id or ""))
    worst = max(left.bounce_class, right.bounce_class, key=lambda name: BOUNCE_RANK.get(name, 0))
    values.update(
        bounce_class=worst,
        last_event=latest.last_event,
        last_event_at=latest.last_event_at,
        last_event_id=latest.last_event_id,
        status=stood.status,
        status_id=stood.status_id,
    )
    return Projection(**values)  # type: ignore[arg-type]


def _earliest(left: datetime | None, right: datetime | None) -> datetime | None:
    if left is None or right is None:
        return left or right
    return min(left, right)


def _moment(at: datetime | None, identity: UUID | None) -> tuple[float, str]:
    return (at.timestamp() if at else float("-inf"), str(identity or ""))
