"""Turns: work that one process at a time does, by a lease that ends whatever became of its holder."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from mailglass.ledger.database import Runs


class Turn(NamedTuple):
    """The answer to one that wanted a turn.

    Attributes:
        taken: whether it has it.
        seconds: until it may be taken where it was not.
    """

    taken: bool
    seconds: float


def take(ledger: Runs, name: str, holder: UUID, lease: float, *, eager: bool = False) -> Turn:
    """Take a turn, or keep it. The database's clock counts, so no process needs a right one.

    Args:
        ledger: runs the statement.
        name: of the work.
        holder: names this process to the others.
        lease: seconds; then the turn is free.
        eager: take it also before the rest after the last one is over.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    (row,) = ledger.run("take_turn", {"name": name, "holder": str(holder), "lease": lease, "eager": eager})
    return Turn(row.taken, row.seconds)


def end(ledger: Runs, name: str, holder: UUID, rest: float = 0.0) -> None:
    """Give a turn up, if this process still has it.

    Args:
        ledger: runs the statement.
        name: of the work.
        holder: as it was taken.
        rest: seconds until it is free.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    ledger.run("end_turn", {"name": name, "holder": str(holder), "rest": rest})
