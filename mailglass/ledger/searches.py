"""Uncertain deliveries that are searched for at their providers: whose turn it is, and which were never taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from mailglass.ledger import arrays
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EVIDENCE
from mailglass.routing import Lane


@dataclass(frozen=True, slots=True)
class Search:
    """An uncertain delivery whose turn it is.

    Attributes:
        attempts: as they stood when it was taken.
        scheduled_at: its latest attempt was not before.
        first: when the outcome of one of its attempts was first unknown; the attempt itself was earlier.
        age: seconds since it became uncertain.
        taken_at: now, by the ledger's clock like the other moments: a worker's own may be wrong.
    """

    id: UUID
    stream: str
    recipient: str = field(repr=False)
    provider_message_id: str | None
    attempts: int
    scheduled_at: datetime
    first: datetime
    age: float
    taken_at: datetime


def due(ledger: Runs, lags: Mapping[str, float]) -> list[str]:
    """Return the accounts that have deliveries to search for.

    Args:
        ledger: runs the statement.
        lags: by account: seconds after which its provider's search knows of a mail.
    """
    if not lags:
        return []
    rows = ledger.run("searches_due", {"accounts": arrays.texts(lags), "lags": arrays.numbers(lags.values())})
    return [row.account for row in rows]


def accounts_in_doubt(ledger: Runs) -> list[str]:
    """Return accounts whose deliveries were being sent when their lease ended, or are searched for: some hundred."""
    return [row.account for row in ledger.run("accounts_in_doubt") if row.account is not None]


def claim(ledger: Runs, account: str, *, lag: float, size: int, budget: float) -> list[Search]:
    """Take up to `size` deliveries of an account that have their turn; for `budget` seconds their hold does not end."""
    rows = ledger.run("claim_searches", {"account": account, "lag": lag, "size": size, "budget": budget})
    return [
        Search(
            row.id,
            row.stream,
            row.recipient,
            row.provider_message_id,
            row.attempts,
            row.scheduled_at,
            row.first,
            row.age,
            row.taken_at,
        )
        for row in rows
    ]


def resume(ledger: Runs, absent: Sequence[Search], most: Mapping[str, int]) -> dict[UUID, Lane]:
    """Queue deliveries again that were proved never taken, if they still are as they were.

    Args:
        ledger: runs the statement.
        absent: as they were claimed.
        most: by stream: counted attempts.

    Returns:
        The lanes to ring, by delivery.
    """
    if not absent:
        return {}
    rows = ledger.run(
        "resume",
        {
            "ids": arrays.uuids(search.id for search in absent),
            "attempts": arrays.numbers(search.attempts for search in absent),
            "most": arrays.numbers(most[search.stream] for search in absent),
            "event_ids": arrays.new_uuids(len(absent)),
            "evidence": arrays.texts(sorted(EVIDENCE)),
        },
    )
    return {row.id: Lane(row.queue, row.tenant_id, row.stream) for row in rows}
