"""Reading deliveries: one by id with its timeline, many by filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import sqlalchemy

from mailglass.errors import DeliveryNotFoundError
from mailglass.ledger import arrays
from mailglass.ledger.audit import NO_ACTOR, Actor
from mailglass.ledger.database import Database
from mailglass.ledger.events import BOUNCE_RANK, Event, Projection, Source
from mailglass.ledger.filters import Selection
from mailglass.ledger.lifecycle import FINAL, Status
from mailglass.ledger.tables import deliveries as table
from mailglass.ledger.tables import messages
from mailglass.routing import Lane

# The newest are looked for in the last minute first, then further back. The index knows of page ranges, so all that is
# of an age is read and sorted. Each look goes some eight times as far back, so it reads so many times too much at most.
_AGES: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 8, 60, 8 * 60, 3 * 24 * 60, 30 * 24 * 60))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one recipient, as the ledger knows it. Times are aware; the provider's facts are its own.

    >>> from mailglass import Message, deliver
    >>> delivery = deliver(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))
    >>> delivery.status.value, delivery.account
    ('sent', 'main')

    Attributes:
        in_doubt: the outcome of an attempt is not known, so it may have been sent, whatever its status says.
        ask_again: its account is to be asked about it again, under the same idempotency key.
    """

    id: UUID
    tenant: str
    group_id: UUID | None
    message_id: UUID
    stream: str
    queue: str
    mailable: str | None
    status: Status
    recipient: str = field(repr=False)
    recipient_domain: str = field(repr=False)
    account: str | None
    provider: str | None
    provider_message_id: str | None
    idempotency_key: str | None = field(repr=False)
    priority: int
    due_at: datetime | None
    expires_at: datetime | None
    attempts: int
    in_doubt: bool
    ask_again: bool
    last_error: str | None
    scheduled_at: datetime
    created_at: datetime
    facts: Projection
    deferrals: int = 0
    refusal: str | None = None

    @property
    def final(self) -> bool:
        """True if the engine is done with it."""
        return self.status in FINAL

    @property
    def outcome(self) -> str | None:
        """Return the most telling fact: complained, bounced, failed, rejected, delivered or deferred."""
        return self.facts.outcome


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The result of a cancellation; true where at least one delivery was canceled.

    Attributes:
        canceled: those that were taken back.
        in_doubt: those that were left because they may have been sent; they can be settled.
    """

    canceled: frozenset[UUID]
    in_doubt: frozenset[UUID]

    def __bool__(self) -> bool:
        return bool(self.canceled)


def get(database: Database, delivery_id: UUID | str, tenant: str | None = None) -> Delivery:
    """Return one delivery.

    Args:
        database: runs the statement.
        delivery_id: a UUID, or its text.
        tenant: whose it must be; None for anybody's, which is for operators.

    Raises:
        DeliveryNotFoundError: no such delivery of this tenant.
    """
    try:
        key = UUID(str(delivery_id))
    except ValueError:
        # it may be anything, an address too, so it is not repeated
        raise DeliveryNotFoundError("that is no delivery's id: give the UUID that deliver_later answered") from None
    rows = database.run("delivery", {"id": str(key)})
    if not rows or tenant not in (None, rows[0].tenant_id):
        of_whom = "" if tenant is None else " of this tenant"
        raise DeliveryNotFoundError(f"no delivery {key}{of_whom} in the ledger")
    return _delivery(rows[0])


def timeline(database: Database, delivery_id: UUID | str) -> list[Event]:
    """Return the events of a delivery, in the order they were recorded."""
    return [_event(row) for row in database.run("timeline", {"id": str(delivery_id)})]


def find(database: Database, *, after: UUID | None = None, limit: int = 100, **filters: Any) -> list[Delivery]:
    """Return deliveries by filter, newest first.

    Args:
        database: runs the statement.
        after: continue behind this one, the last of the page before.
        limit: at most this many, 1 to 1000.
        filters: as of `Selection`; without a tenant those of all, which is for operators.
    """
    selection, limit = Selection(**filters), min(max(limit, 1), 1000)
    columns = table.c
    query = sqlalchemy.select(table).where(*selection.conditions())
    if after is None:
        ((moment,),) = database.query(sqlalchemy.select(sqlalchemy.func.clock_timestamp()))
    else:
        last = database.query(sqlalchemy.select(columns.created_at).where(columns.id == after))
        if not last:
            return []
        moment = last[0].created_at
        query = query.where(sqlalchemy.tuple_(columns.created_at, columns.id) < (moment, after))
    if selection.created_before is not None:
        moment = min(moment, selection.created_before)
    query = query.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
    for age in _AGES:
        if selection.created_after is not None and moment - age <= selection.created_after:
            break
        rows = database.query(query.where(columns.created_at >= moment - age))
        if len(rows) >= limit:
            return [_delivery(row) for row in rows]
    return [_delivery(row) for row in database.query(query)]


def content_of(database: Database, delivery: Delivery) -> Mapping[str, Any] | None:
    """Return what a delivery says, as `Message.content` wrote it or as it was rendered, or None if it was scrubbed."""
    rows = database.query(sqlalchemy.select(messages.c.content).where(messages.c.id == delivery.message_id))
    return rows[0].content if rows else None


def hold(database: Database, ids: Sequence[UUID | str], *, actor: Actor | None = None) -> set[UUID]:
    """Hold deliveries that are owed and may have been sent, because the ledger was restored. They are in doubt then.

    Args:
        database: runs the statement.
        ids: at most a few thousand; what has ended, is held or is with a worker is left alone.
        actor: who does it, for the audit.

    Returns:
        Those that are held now.
    """
    return {row.id for row in database.run("hold", _move_params(ids, actor))}


def reschedule(
    database: Database, ids: Sequence[UUID | str], tenant: str, moment: datetime, *, actor: Actor | None = None
) -> dict[UUID, Lane]:
    """Make queued deliveries due at another moment, from which their age counts.

    Args:
        database: runs the statement.
        ids: at most a few thousand. Left alone are others', those that are asked about again at their account, and
            those that expire before the moment.
        tenant: whose deliveries; others' are left alone.
        moment: aware; one that has passed makes them due now.
        actor: who does it, for the audit; None where the application does.

    Returns:
        The lanes of those that were moved, by delivery.
    """
    rows = database.run("reschedule", {**_move_params(ids, actor), "tenant": tenant, "moment": moment})
    return {row.id: Lane(row.queue, row.tenant_id, row.stream) for row in rows}


def cancel(
    database: Database,
    ids: Sequence[UUID | str],
    tenant: str,
    *,
    actor: Actor | None = None,
) -> Cancellation:
    """Cancel queued and held deliveries; leave those that may have been sent.

    Args:
        database: runs the statement.
        ids: at most a few thousand; others' and those that are under way are left alone.
        tenant: whose deliveries; others' are left alone.
        actor: who does it, for the audit; None where the application does.

    Returns:
        Those that were taken back, and those that were left because they may have been sent.
    """
    rows = database.run("cancel", {**_move_params(ids, actor), "tenant": tenant})
    return Cancellation(
        frozenset(row.id for row in rows if not row.in_doubt), frozenset(row.id for row in rows if row.in_doubt)
    )


def release(database: Database, ids: Sequence[UUID | str], *, actor: Actor | None = None) -> dict[UUID, Lane]:
    """Queue held deliveries again, due now, and return the lanes to ring, by delivery. Their age counts from now.

    Args:
        database: runs the statement.
        ids: at most a few thousand.
        actor: who does it, for the audit; None where the application does.
    """
    rows = database.run("release", _move_params(ids, actor))
    return {row.id: Lane(row.queue, row.tenant_id, row.stream) for row in rows}


def _move_params(ids: Sequence[UUID | str], actor: Actor | None) -> dict[str, Any]:
    return {
        "ids": arrays.uuids([UUID(str(key)) for key in ids]),
        "event_ids": arrays.new_uuids(len(ids)),
        **(NO_ACTOR if actor is None else actor.params()),
    }


def counts(database: Database) -> dict[str, dict[str, int]]:
    """Count deliveries by tenant and status."""
    found: dict[str, dict[str, int]] = {}
    for tenant, status, number in database.run("counts"):
        found.setdefault(tenant, {})[status] = number
    return found


class State(NamedTuple):
    """The state of one delivery.

    Attributes:
        last_error: for people.
        in_doubt: it may have been sent.
    """

    status: Status
    last_error: str | None
    in_doubt: bool


def states(database: Database, ids: Sequence[UUID | str], tenant: str | None = None) -> Mapping[UUID, State]:
    """Return where deliveries stand, by id; unknown ids are left out.

    Args:
        database: runs the statement.
        ids: of the deliveries.
        tenant: whose they must be; None for anybody's, which is for operators.
    """
    rows = database.run("delivery_states", {"ids": [str(delivery_id) for delivery_id in ids], "tenant": tenant})
    return {row.id: State(Status(row.status), row.last_error, row.in_doubt) for row in rows}


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row.id,
        tenant=row.tenant_id,
        group_id=row.group_id,
        message_id=row.message_id,
        stream=row.stream,
        queue=row.queue,
        mailable=row.mailable,
        status=Status(row.status),
        recipient=row.recipient,
        recipient_domain=row.recipient_domain,
        account=row.account,
        provider=row.provider,
        provider_message_id=row.provider_message_id,
        idempotency_key=row.idempotency_key,
        priority=row.priority,
        due_at=row.due_at,
        expires_at=row.expires_at,
        attempts=row.attempts,
        in_doubt=row.in_doubt,
        ask_again=row.ask_again,
        deferrals=row.deferrals,
        refusal=row.refusal,
        last_error=row.last_error,
        scheduled_at=row.scheduled_at,
        created_at=row.created_at,
        facts=_projection(row),
    )


def _projection(row: Any) -> Projection:
    return Projection(
        sent_at=row.sent_at,
        deferred_at=row.deferred_at,
        delivered_at=row.delivered_at,
        rejected_at=row.rejected_at,
        failed_at=row.failed_at,
        bounced_at=row.bounced_at,
        complained_at=row.complained_at,
        opened_at=row.opened_at,
        clicked_at=row.clicked_at,
        unsubscribed_at=row.unsubscribed_at,
        bounce_class=row.bounce_class if row.bounce_class in BOUNCE_RANK else None,
        last_event=row.last_event,
        last_event_at=row.last_event_at,
        last_event_id=row.last_event_id,
        status=Status(row.status),
    )


def _event(row: Any) -> Event:
    return Event(
        id=row.id,
        delivery_id=row.delivery_id,
        kind=row.kind,
        source=Source(row.source),
        occurred_at=row.occurred_at,
        status=Status(row.status) if row.status else None,
        outcome=row.outcome,
        reason=row.reason,
        account=row.account,
        attempt=row.attempt,
        status_code=row.status_code,
        enhanced_status=row.enhanced_status,
        duration_ms=row.duration_ms,
        bounce_class=row.bounce_class,
        reject_reason=row.reject_reason,
        machine=bool(row.machine),
        refusal=row.refusal,
    )
