"""Passing of time in a ledger: every moment that it compares with its clock is moved back, in the database."""

from __future__ import annotations

from typing import Final

import sqlalchemy

from mailglass.ledger.database import Database

MOVED: Final = {
    "address_doubts": ("since", "latest"),
    "breakers": ("open_until", "probe_until"),
    "deliveries": ("due_at", "scheduled_at", "expires_at", "lease_expires_at", "search_at", "unplaced_since"),
    "destinations": ("until",),
    "domains": ("due_at", "since", "checked_at"),
    "doorbells": ("rung_at",),
    "pauses": ("paused_at",),
    "secret_uses": ("seen_at", "used_at", "refused_at"),
    "suppression_sync": ("synced_at",),
    "suppressions": ("expires_at",),
    "turns": ("until",),
    "webhook_events": ("received_at", "lease_expires_at"),
    "webhook_proofs": ("used_at",),
}
"""By table, the moments that the ledger compares with its clock."""

HISTORY: Final = {
    "audit": ("at",),
    "deliveries": (
        "created_at",
        "sent_at",
        "deferred_at",
        "delivered_at",
        "rejected_at",
        "failed_at",
        "bounced_at",
        "complained_at",
        "opened_at",
        "clicked_at",
        "unsubscribed_at",
        "last_event_at",
    ),
    "events": ("occurred_at", "recorded_at"),
    "messages": ("created_at", "scrubbed_at"),
    "orphans": ("created_at",),
    "suppression_removals": ("removed_at",),
    "suppressions": ("created_at",),
    "webhook_events": ("processed_at",),
}
"""By table, the moments at which something happened, which stay."""


def advance(ledger: Database, seconds: float) -> None:
    """Let time pass in the ledger, by one statement for each table.

    Args:
        ledger: that of a test.
        seconds: that pass.
    """
    for table, columns in MOVED.items():
        changes = ", ".join(f"{column} = {column} - make_interval(secs => :seconds)" for column in columns)
        # names of this module, and no value
        statement = sqlalchemy.text(f"UPDATE mailglass.{table} SET {changes}")  # noqa: S608
        ledger.query(statement.bindparams(seconds=seconds))
