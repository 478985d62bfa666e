"""Deliveries by filter, to be canceled or released: counted first, then moved batch by batch.

A selection is what stood when it was made: what is recorded later is not part of it. It is walked in the order of the
keys, each batch is moved by one statement, and what was moved no longer matches: interrupted at any moment, the same
selection finds the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy

from mailglass.ledger import deliveries
from mailglass.ledger.audit import Actor, digest
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Cancellation
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.settlement import SETTLEABLE, Settlement
from mailglass.ledger.settlement import settle as settle_these
from mailglass.ledger.tables import deliveries as table
from mailglass.routing import Lane

# deliveries moved by one statement: some hundred milliseconds, in which their rows are locked
BATCH = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries; what is None does not matter. Times are aware.

    Attributes:
        tenant: whose.
        status: queued, held or uncertain.
        stream: transactional, operational or bulk.
        mailable: `package.module:Class`.
        group: of one message to several people.
        recipient: their address; compared in lower case, and never logged.
        account: the account that attempted them last.
        in_doubt: True for those that may have been sent, False for those that cannot have been.
        reason: the last error; `template_failed` also stands for `template_failed:…`.
        created_after, created_before: when they were recorded.
        due_after, due_before: when they are due; what is held has no such moment.
    """

    tenant: str | None = None
    status: Status | None = None
    stream: str | None = None
    mailable: str | None = None
    group: UUID | None = None
    recipient: str | None = field(default=None, repr=False)
    account: str | None = None
    in_doubt: bool | None = None
    reason: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    due_after: datetime | None = None
    due_before: datetime | None = None

    @property
    def narrows(self) -> bool:
        """Whether it says more than whose they are."""
        return any(getattr(self, item.name) is not None for item in fields(self) if item.name != "tenant")

    def described(self) -> dict[str, object]:
        """The filter as the audit keeps it: what is given, the recipient as a digest."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        found = {name: value for name, value in given.items() if value is not None and name != "tenant"}
        return found if self.recipient is None else {**found, "recipient": digest(self.recipient)}

    def conditions(self, statuses: Sequence[Status]) -> Iterator[sqlalchemy.ColumnElement[bool]]:
        """As SQL, over deliveries that stand in one of `statuses`."""
        wanted = [status.value for status in statuses if self.status in (None, status)]
        yield table.c.status.in_(wanted)
        exact: Mapping[str, object] = {
            "tenant_id": self.tenant,
            "stream": self.stream,
            "mailable": self.mailable,
            "group_id": self.group,
            "account": self.account,
            "in_doubt": self.in_doubt,
        }
        for column, value in exact.items():
            if value is not None:
                yield table.c[column] == value
        if self.recipient is not None:
            yield sqlalchemy.func.lower(table.c.recipient) == self.recipient.lower()
        if self.reason is not None:
            begins = table.c.last_error.startswith(f"{self.reason}:", autoescape=True)
            yield sqlalchemy.or_(table.c.last_error == self.reason, begins)
        for column, after, before in (
            ("created_at", self.created_after, self.created_before),
            ("due_at", self.due_after, self.due_before),
        ):
            if after is not None:
                yield table.c[column] >= after
            if before is not None:
                yield table.c[column] < before


@dataclass(frozen=True, slots=True)
class Found:
    """What a selection holds at this moment.

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
# what is uncertain is never canceled, and counted with what else may have been sent
_CANCELED_OR_COUNTED = (*CANCELABLE, Status.UNCERTAIN)


def look_to_cancel(database: Database, selection: Selection, sample: int = 10) -> tuple[Found, int]:
    """Count a selection that is to be canceled, and move nothing.

    Returns:
        What `cancel` would take back, and how many it would leave because they may have been sent.
    """
    whole = look(database, selection, _CANCELED_OR_COUNTED, sample=0)
    found = look(database, replace(whole.selection, in_doubt=False), CANCELABLE, sample)
    if selection.in_doubt:
        found = Found(found.selection, 0, ())
    return replace(found, selection=whole.selection), whole.count - found.count


def look(database: Database, selection: Selection, statuses: Sequence[Status], sample: int = 10) -> Found:
    """Count a selection and move nothing.

    Args:
        statuses: `CANCELABLE`, `RELEASABLE` or `SETTLEABLE`.
        sample: how many ids are named.
    """
    ((moment,),) = database.query(sqlalchemy.select(sqlalchemy.func.clock_timestamp()))
    if selection.created_before is None or selection.created_before > moment:
        selection = replace(selection, created_before=moment)
    matching = sqlalchemy.select(sqlalchemy.func.count()).select_from(table).where(*selection.conditions(statuses))
    ((count,),) = database.query(matching)
    ids = _page(database, selection, statuses, None, sample) if count else []
    return Found(selection, count, tuple(ids))


def cancel(
    database: Database, selection: Selection, *, actor: Actor | None = None, batch: int = BATCH
) -> Iterator[Cancellation]:
    """Take back what is selected and that nobody has claimed: each step looks at one batch and yields what it did.

    Args:
        selection: of one tenant; bounded by `look`, or it follows what is recorded meanwhile.

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
    """Let what is selected and held go again: each step moves one batch and yields the lanes to ring, by delivery."""
    return _moved(database, selection, RELEASABLE, batch, lambda ids: deliveries.release(database, ids, actor=actor))


def settle(
    database: Database,
    selection: Selection,
    settlement: Settlement,
    *,
    actor: Actor | None = None,
    batch: int = BATCH,
) -> Iterator[dict[UUID, Lane]]:
    """Say by hand what became of what is selected and may have been sent: each step settles one batch, as `release`."""
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
