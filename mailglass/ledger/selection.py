"""Deliveries by filter, to be canceled or released: counted first, then moved batch by batch.

A selection is what stood when it was made: what is recorded later is not part of it. It is walked in the order of the
keys, each batch is moved by one statement, and what was moved no longer matches: interrupted at any moment, the same
selection finds the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy

from mailglass.ledger import deliveries
from mailglass.ledger.audit import Actor
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Cancellation
from mailglass.ledger.filters import Selection
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.settlement import SETTLEABLE, Settlement
from mailglass.ledger.settlement import settle as settle_these
from mailglass.ledger.tables import deliveries as table
from mailglass.routing import Lane

# deliveries moved by one statement: some hundred milliseconds, in which their rows are locked
BATCH = 5000


@dataclass(frozen=True, slots=True)
class Preview:
    """The deliveries of a selection at this moment.

    Attributes:
        selection: bounded by that moment, so that what is recorded later is not part of it.
        count: how many.
        sample: the ids of the first few.
    """

    selection: Selection
    count: int
    sample: tuple[UUID, ...]


CANCELABLE = (Status.QUEUED, Status.HELD)
RELEASABLE = (Status.HELD,)
RESCHEDULABLE = (Status.QUEUED,)
HOLDABLE = (Status.QUEUED, Status.CLAIMED, Status.SENDING, Status.UNCERTAIN)
# what is uncertain is never canceled, and counted with what else may have been sent
_CANCELED_OR_COUNTED = (*CANCELABLE, Status.UNCERTAIN)


def preview_cancel(database: Database, selection: Selection, sample: int = 10) -> tuple[Preview, int]:
    """Count a selection that is to be canceled, and move nothing.

    Returns:
        What `cancel` would take back, and how many it would leave because they may have been sent.
    """
    whole = preview(database, selection, _CANCELED_OR_COUNTED, sample=0)
    found = preview(database, replace(whole.selection, in_doubt=False), CANCELABLE, sample)
    if selection.in_doubt:
        found = Preview(found.selection, 0, ())
    return replace(found, selection=whole.selection), whole.count - found.count


def preview(database: Database, selection: Selection, statuses: Sequence[Status], sample: int = 10) -> Preview:
    """Count a selection and move nothing.

    Args:
        database: runs the statement.
        selection: which deliveries.
        statuses: `CANCELABLE`, `RELEASABLE`, `RESCHEDULABLE`, `HOLDABLE` or `SETTLEABLE`.
        sample: how many ids are named.
    """
    ((moment,),) = database.query(sqlalchemy.select(sqlalchemy.func.clock_timestamp()))
    if selection.created_before is None or selection.created_before > moment:
        selection = replace(selection, created_before=moment)
    matching = sqlalchemy.select(sqlalchemy.func.count()).select_from(table).where(*selection.conditions(statuses))
    ((count,),) = database.query(matching)
    ids = _page(database, selection, statuses, None, sample) if count else []
    return Preview(selection, count, tuple(ids))


def cancel(
    database: Database, selection: Selection, *, actor: Actor | None = None, batch: int = BATCH
) -> Iterator[Cancellation]:
    """Cancel what is selected and that no worker has claimed: each step takes one batch and yields its result.

    Args:
        database: runs the statement.
        selection: of one tenant; bounded by `preview`, or it follows what is recorded meanwhile.
        actor: who does it, for the audit; None where the application does.
        batch: deliveries that one statement moves.

    Raises:
        ValueError: no tenant.
    """
    tenant = selection.tenant
    if tenant is None:
        raise ValueError("deliveries are canceled for one tenant: name it")
    return _moved(
        database,
        selection,
        _CANCELED_OR_COUNTED,
        batch,
        lambda ids: deliveries.cancel(database, ids, tenant, actor=actor),
    )


def release(
    database: Database, selection: Selection, *, actor: Actor | None = None, batch: int = BATCH
) -> Iterator[dict[UUID, Lane]]:
    """Queue what is selected and held again: each step moves one batch and yields the lanes to ring, by delivery."""
    return _moved(database, selection, RELEASABLE, batch, lambda ids: deliveries.release(database, ids, actor=actor))


def hold(
    database: Database, selection: Selection, *, actor: Actor | None = None, batch: int = BATCH
) -> Iterator[set[UUID]]:
    """Hold what is selected and owed, because it may have been sent: each step holds one batch and yields it."""
    return _moved(database, selection, HOLDABLE, batch, lambda ids: deliveries.hold(database, ids, actor=actor))


def reschedule(
    database: Database, selection: Selection, moment: datetime, *, actor: Actor | None = None, batch: int = BATCH
) -> Iterator[dict[UUID, Lane]]:
    """Make what is selected and that nobody has claimed due at another moment; each step as `release`.

    Raises:
        ValueError: no tenant.
    """
    tenant = selection.tenant
    if tenant is None:
        raise ValueError("deliveries are rescheduled for one tenant: name it")
    return _moved(
        database,
        selection,
        RESCHEDULABLE,
        batch,
        lambda ids: deliveries.reschedule(database, ids, tenant, moment, actor=actor),
    )


def settle(
    database: Database,
    selection: Selection,
    settlement: Settlement,
    *,
    actor: Actor | None = None,
    batch: int = BATCH,
) -> Iterator[dict[UUID, Lane]]:
    """Settle what is selected and may have been sent: each step takes one batch and yields as `release` does."""
    return _moved(
        database,
        replace(selection, in_doubt=True),
        SETTLEABLE,
        batch,
        lambda ids: settle_these(database, ids, settlement, actor=actor),
    )


def _moved(
    database: Database,
    selection: Selection,
    statuses: Sequence[Status],
    batch: int,
    move: Callable[[Sequence[UUID]], Any],
) -> Iterator[Any]:
    after: UUID | None = None
    while ids := _page(database, selection, statuses, after, batch):
        yield move(ids)
        after = ids[-1]


def _page(
    database: Database, selection: Selection, statuses: Sequence[Status], after: UUID | None, size: int
) -> list[UUID]:
    query = sqlalchemy.select(table.c.id).where(*selection.conditions(statuses)).order_by(table.c.id).limit(size)
    if after is not None:
        query = query.where(table.c.id > after)
    return [row.id for row in database.query(query)]
