"""The ledger's side of keeping suppression lists in step: how far an account is, entries on their way in and out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from mailglass import clock
from mailglass.ledger import arrays
from mailglass.ledger.database import Runs
from mailglass.ledger.suppressions import Suppression, in_turns

FIRST = UUID(int=0)
# of reasons to suppress an address the last one tells most; the statements know the same order
RANKS: tuple[str, ...] = ("provider", "manual", "unsubscribe", "hard_bounce", "complaint")
# an entry's id is made a moment before it is committed, by a clock that may be a little behind
COMMIT_DELAY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class SyncState:
    """The progress of reading and writing an account's list.

    Attributes:
        pull: the provider's cursor for the next page; None at the beginning.
        pushed: the last entry of ours that was offered to the provider.
        synced_at: when its list was last read to the end.
        last_error: what stopped the last run; None where nothing did.
    """

    pull: str | None = field(default=None, repr=False)
    pushed: UUID = FIRST
    synced_at: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Pushable:
    """An entry of ours that the provider may not have."""

    id: UUID
    address: str = field(repr=False)
    reason: str
    created_at: datetime


def load(ledger: Runs, account: str) -> SyncState:
    """Return how far an account's list is read and written; the beginning where nothing was saved."""
    for row in ledger.run("sync_state", {"account": account}):
        kept = json.loads(row.cursor) if row.cursor else {}
        pushed = UUID(kept["pushed"]) if kept.get("pushed") else FIRST
        return SyncState(kept.get("pull"), pushed, row.synced_at, row.last_error)
    return SyncState()


def save(ledger: Runs, account: str, state: SyncState, *, complete: bool = False) -> None:
    """Save how far an account's list is read and written.

    Args:
        ledger: runs the statement.
        account: whose list.
        state: the cursors and the last error.
        complete: the list has just been read to its end.
    """
    kept = json.dumps({"pull": state.pull, "pushed": str(state.pushed)})
    ledger.run("save_sync", {"account": account, "cursor": kept, "complete": complete, "last_error": state.last_error})


def mirror(ledger: Runs, entries: Sequence[Suppression]) -> int:
    """Add what a provider lists to our list. Neither order nor repetition matters.

    Of several reasons the most telling stays, of several times the latest. A complaint never gives way, and what an
    operator entered gives way only to a stronger reason.

    Returns:
        How many entries were written.
    """
    return sum(
        len(ledger.run("mirror_suppressions", {"ids": arrays.new_uuids(len(turn)), **_columns(turn)}))
        for turn in in_turns(entries, _rank, _moment)
    )


def unmirrored(ledger: Runs, entries: Sequence[Suppression]) -> int:
    """Count those of these that `mirror` would enter, or give a stronger reason."""
    if not entries:
        return 0
    candidates = [entry for turn in in_turns(entries, _rank, _moment) for entry in turn]
    (row,) = ledger.run("count_unmirrored", _columns(candidates))
    return int(row.count)


def pushable(ledger: Runs, account: str, tenant: str, after: UUID, size: int) -> list[Pushable]:
    """Return lasting entries on whole addresses that bind a tenant and did not come from this account, in order.

    Args:
        ledger: runs the statement.
        account: whose provider is to get them.
        tenant: whose mail the account sends.
        after: the last one that was offered.
        size: at most so many.
    """
    before = UUID(int=int((clock.now() - COMMIT_DELAY).timestamp() * 1000) << 80)
    rows = ledger.run(
        "pushable_suppressions",
        {"account": account, "tenant": tenant, "after": str(after), "before": str(before), "size": size},
    )
    return [Pushable(row.id, row.value, row.reason, row.created_at) for row in rows]


def _rank(entry: Suppression) -> tuple[float, ...]:
    return (RANKS.index(entry.reason) if entry.reason in RANKS else -1,)


def _moment(entry: Suppression) -> float:
    return entry.created_at.timestamp() if entry.created_at else 0.0


def _columns(entries: Sequence[Suppression]) -> dict[str, str]:
    return {
        "tenants": arrays.texts(entry.tenant for entry in entries),
        "scopes": arrays.texts(entry.scope.value for entry in entries),
        "values": arrays.texts(entry.value for entry in entries),
        "streams": arrays.texts(entry.stream for entry in entries),
        "reasons": arrays.texts(entry.reason for entry in entries),
        "accounts": arrays.texts(entry.account for entry in entries),
        "moments": arrays.texts(
            None if entry.created_at is None else entry.created_at.isoformat() for entry in entries
        ),
    }
