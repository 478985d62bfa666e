"""The newest that the ledger holds, for the checklist: calls, webhooks, tenants and entries, bounded in number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mailglass.ledger.database import Runs

NEWEST: Final = 20_000
"""Rows that one look takes in at the most."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The newest calls of one account.

    Attributes:
        attempts: mails that were attempted.
        latency: seconds that nineteen of twenty calls stayed within.
        throttled: mails that the provider refused because of its rate.
    """

    attempts: int
    latency: float
    throttled: int


def calls(ledger: Runs) -> Mapping[str, Calls]:
    """Return the newest calls by account."""
    rows = ledger.run("recent_attempts", {"size": NEWEST})
    return {row.account: Calls(row.attempts, row.duration_ms / 1000, row.throttled) for row in rows}


def webhooks(ledger: Runs) -> Mapping[str, datetime]:
    """Return when the newest webhook of each account came."""
    return {row.account: row.received_at for row in ledger.run("recent_webhooks", {"size": NEWEST})}


def tenants(ledger: Runs) -> tuple[tuple[str, str], ...]:
    """Return the tenants of the newest deliveries with their streams, in order."""
    return tuple((row.tenant_id, row.stream) for row in ledger.run("recent_tenants", {"size": NEWEST}))


def suppressed(ledger: Runs) -> int:
    """Return the number of suppressions in force, `NEWEST` where there are more."""
    (row,) = ledger.run("live_suppressions", {"size": NEWEST})
    return int(row.entries)
