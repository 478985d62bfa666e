"""Deliveries of which nobody knows whether they were sent: seen, and settled by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy

from mailglass.ledger import arrays
from mailglass.ledger.audit import NO_ACTOR, Actor
from mailglass.ledger.database import Database, Runs
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.tables import deliveries as table
from mailglass.routing import Lane

# where a person can settle what is in doubt; elsewhere a worker has it, or it ended
SETTLEABLE = (Status.UNCERTAIN, Status.QUEUED, Status.HELD)


class Settlement(StrEnum):
    """A person's word on a delivery in doubt.

    sent: it went out.
    resend: send it again, now, whether or not it went out.
    give_up: it is not to be sent any more.
    """

    SENT = "sent"
    RESEND = "resend"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A delivery in doubt: it waits for evidence, to be asked about or sent again, or for a person.

    Attributes:
        account: that attempted it last.
        ask_again: its account is to be asked about it again.
        hold_until: when its stream's policy decides, of one that waits for evidence.
        search_from: its next turn to be searched for, where its account can be searched.
    """

    id: UUID
    tenant: str
    stream: str
    status: Status
    account: str | None
    attempts: int
    ask_again: bool
    last_error: str | None
    created_at: datetime
    hold_until: datetime | None
    search_from: datetime | None


def unsettled(
    database: Database, *, tenant: str | None = None, account: str | None = None, limit: int = 100
) -> list[Unsettled]:
    """Return the deliveries in doubt that wait, oldest first.

    Args:
        database: runs the statement.
        tenant: only this tenant's; None for all, which is for operators.
        account: only those that this account may have sent.
        limit: at most this many, 1 to 1000.
    """
    columns = table.c
    query = (
        sqlalchemy.select(
            columns.id,
            columns.tenant_id,
            columns.stream,
            columns.status,
            columns.account,
            columns.attempts,
            columns.ask_again,
            columns.last_error,
            columns.created_at,
            columns.lease_expires_at,
            columns.search_at,
        )
        .where(columns.in_doubt, columns.status.in_([status.value for status in SETTLEABLE]))
        .order_by(columns.id)
        .limit(min(max(limit, 1), 1000))
    )
    for column, value in ((columns.tenant_id, tenant), (columns.account, account)):
        if value is not None:
            query = query.where(column == value)
    return [
        Unsettled(
            row.id,
            row.tenant_id,
            row.stream,
            Status(row.status),
            row.account,
            row.attempts,
            row.ask_again,
            row.last_error,
            row.created_at,
            row.lease_expires_at,
            row.search_at,
        )
        for row in database.query(query)
    ]


def settle(
    ledger: Runs, ids: Sequence[UUID], settlement: Settlement, *, actor: Actor | None = None
) -> dict[UUID, Lane]:
    """Settle deliveries that are in doubt and that no worker has; others are left alone.

    Evidence that comes later still counts: one that was given up has it in its timeline, one that is queued again is
    settled as sent until a worker hands it to a provider.

    Args:
        ledger: runs the statement.
        ids: which.
        settlement: what became of them, or is to become.
        actor: who says so, for the audit; None: no entry.

    Returns:
        The lanes of those that were settled, by delivery; to be rung where they are sent again.
    """
    return _settle(ledger, dict.fromkeys(ids), settlement, "settled_by_hand", None, actor)


def settle_found(
    ledger: Runs, found: Mapping[UUID, str | None], account: str, *, actor: Actor | None = None
) -> dict[UUID, Lane]:
    """Settle deliveries as sent that an operator has found at a provider.

    Args:
        ledger: runs the statement.
        found: the provider's message ids by delivery, as far as it tells them.
        account: whose provider has them.
        actor: who searched, for the audit.

    Returns:
        Those that were settled.
    """
    return _settle(ledger, found, Settlement.SENT, "search_evidence", account, actor)


def _settle(
    ledger: Runs,
    ids: Mapping[UUID, str | None],
    settlement: Settlement,
    reason: str,
    account: str | None,
    actor: Actor | None,
) -> dict[UUID, Lane]:
    if not ids:
        return {}
    rows = ledger.run(
        "settle",
        {
            "ids": arrays.uuids(ids),
            "event_ids": arrays.new_uuids(len(ids)),
            "provider_message_ids": arrays.texts(ids.values()),
            "how": settlement.value,
            "reason": reason,
            "account": account,
            **(actor.params() if actor else NO_ACTOR),
        },
    )
    return {row.id: Lane(row.queue, row.tenant_id, row.stream) for row in rows}
