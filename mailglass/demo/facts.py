"""One run's deliveries as the ledger has them, read in pieces of a thousand."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import sqlalchemy

from mailglass.demo.check import Recorded
from mailglass.ledger.database import Database
from mailglass.ledger.events import OUTCOMES, EngineEvent
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.tables import deliveries, webhook_events
from mailglass.mail.outcomes import OutcomeClass

_PIECE = 1000
_EVENTS = sqlalchemy.table(
    "events",
    sqlalchemy.column("delivery_id", sqlalchemy.Uuid),
    sqlalchemy.column("kind", sqlalchemy.Text),
    sqlalchemy.column("outcome", sqlalchemy.Text),
    schema="mailglass",
)


@dataclass(slots=True)
class Facts:
    """One delivery's.

    Attributes:
        outcome: the most telling thing the provider said.
        kinds: of its events, in no order.
    """

    id: UUID
    tenant: str
    status: Status
    created_at: datetime
    sent_at: datetime | None
    outcome: str | None
    kinds: list[str] = field(default_factory=list)

    @property
    def recorded(self) -> Recorded:
        """The fields that the check compares."""
        uncertain = {EngineEvent.UNCERTAIN.value, OutcomeClass.UNCERTAIN.value} & set(self.kinds)
        return Recorded(self.status, self.kinds.count(EngineEvent.RESENT), bool(uncertain))


def facts_of(database: Database, ids: Collection[UUID]) -> dict[UUID, Facts]:
    """Return the facts of these deliveries; unknown ids are left out."""
    found: dict[UUID, Facts] = {}
    for piece in pieces(ids):
        for row in database.query(sqlalchemy.select(deliveries).where(deliveries.c.id.in_(piece))):
            found[row.id] = _facts(row)
        for row in database.query(sqlalchemy.select(_EVENTS).where(_EVENTS.c.delivery_id.in_(piece))):
            # an attempt is told by what it came to
            found[row.delivery_id].kinds.append(row.outcome or row.kind)
    return found


def webhooks_waiting(database: Database, accounts: Collection[str]) -> int:
    """Count the stored webhooks of these accounts that are not processed yet."""
    query = sqlalchemy.select(sqlalchemy.func.count()).where(
        webhook_events.c.status == "received", webhook_events.c.account.in_(accounts)
    )
    return int(database.query(query)[0][0])


def pieces(ids: Collection[UUID]) -> Iterator[list[UUID]]:
    """Yield the ids in lists of a size that one statement takes."""
    remaining = iter(ids)
    while piece := list(islice(remaining, _PIECE)):
        yield piece


def _facts(row: Any) -> Facts:
    told = [name for name in OUTCOMES if getattr(row, f"{name}_at") is not None]
    return Facts(
        id=row.id,
        tenant=row.tenant_id,
        status=Status(row.status),
        created_at=row.created_at,
        sent_at=row.sent_at,
        outcome=told[-1] if told else None,
    )
