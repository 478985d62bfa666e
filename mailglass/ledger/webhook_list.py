"""Stored webhooks for an operator's eyes: which there are and why they are dead. Never their bodies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy

from mailglass.ledger.database import Database
from mailglass.ledger.tables import webhook_events as table


@dataclass(frozen=True, slots=True)
class ListedWebhook:
    """One stored webhook.

    Attributes:
        status: received, processed or dead.
        reason: why it is dead, or what it waits for.
    """

    id: UUID
    account: str
    provider: str
    tenant: str | None
    status: str
    reason: str | None
    attempts: int
    received_at: datetime


def find(
    database: Database,
    *,
    status: str | None = None,
    account: str | None = None,
    reason: str | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[ListedWebhook]:
    """Return stored webhooks by filter, oldest first.

    Args:
        database: runs the statement.
        status: received, processed or dead; None for any.
        account: only this account's; None for any.
        reason: the whole of it, or what stands before its first colon.
        after: continue behind this id (the last one of the page before).
        limit: at most this many, 1 to 5000.
    """
    query = sqlalchemy.select(table).order_by(table.c.id).limit(min(max(limit, 1), 5000))
    for column, value in (("status", status), ("account", account)):
        if value is not None:
            query = query.where(table.c[column] == value)
    if reason is not None:
        begins = table.c.reason.startswith(f"{reason}:", autoescape=True)
        query = query.where(sqlalchemy.or_(table.c.reason == reason, begins))
    if after is not None:
        query = query.where(table.c.id > after)
    # the bodies stay where they are
    query = query.with_only_columns(*(column for column in table.c if column.name not in ("body", "headers")))
    return [
        ListedWebhook(
            row.id, row.account, row.provider, row.tenant_id, row.status, row.reason, row.attempts, row.received_at
        )
        for row in database.query(query)
    ]
