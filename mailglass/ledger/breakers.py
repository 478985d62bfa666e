"""Breakers: whether an account can be used, shared by all workers. Closed ones have no row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mailglass.ledger.database import Runs
from mailglass.routing import Lane

PROBE_SECONDS: Final = 60.0
LONGEST_OPEN: Final = 1800.0
BASE_OPEN: Final[Mapping[str, float]] = {"misconfigured": 60.0, "quota": 300.0, "transient": 10.0}
PAUSED: Final = "paused"
# seconds after which mail of a paused account is looked at again; the end of a pause wakes it before
PAUSED_SECONDS: Final = 600.0
# deliveries that one statement wakes, and statements that one change of an account takes
_WOKEN: Final = 5000
_MOST_STATEMENTS: Final = 40


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker that is not closed.

    Attributes:
        account: whose.
        reason: misconfigured, quota, transient; or paused, by somebody.
        seconds: until it is half-open; 0 where it is.
        half_open_for: seconds since it could be tried; 0 where it cannot yet.
        failed_delivery: the mail that failed last, which is not the one to try it.
    """

    account: str
    reason: str
    seconds: float
    half_open_for: float = 0.0
    failed_delivery: UUID | None = None

    @property
    def half_open(self) -> bool:
        """True if it can be tried."""
        return self.seconds <= 0


def breakers(ledger: Runs, accounts: Sequence[str]) -> dict[str, Breaker]:
    """Return the breakers of these accounts that are not closed, and those of paused accounts, by account."""
    return {row.account: _breaker(row) for row in ledger.run("breakers", {"accounts": list(accounts)})}


def _breaker(row: Any) -> Breaker:
    seconds = PAUSED_SECONDS if row.seconds is None else row.seconds
    return Breaker(row.account, row.reason, max(seconds, 0.0), max(-seconds, 0.0), row.failed_delivery)


def trip(
    ledger: Runs,
    account: str,
    reason: str,
    reset: float | None = None,
    *,
    delivery: UUID | None = None,
    error: str | None = None,
) -> float:
    """Open an account's breaker.

    Args:
        ledger: runs the statement.
        account: whose breaker.
        reason: misconfigured, quota or transient.
        reset: seconds until the provider says it works again; else a while that doubles with each failure in a row.
        delivery: the mail that failed.
        error: what it failed with, a short closed code.

    Returns:
        Seconds until it is half-open.
    """
    (row,) = ledger.run(
        "trip",
        {
            "account": account,
            "reason": reason,
            "reset": reset,
            "base": BASE_OPEN[reason],
            "longest": LONGEST_OPEN,
            "delivery": None if delivery is None else str(delivery),
            "error": error,
        },
    )
    return float(row.seconds)


def probe(ledger: Runs, account: str) -> bool:
    """Claim the one try of a half-open breaker; return whether this worker has it."""
    return bool(ledger.run("probe", {"account": account, "seconds": PROBE_SECONDS}))


def end_probe(ledger: Runs, account: str) -> None:
    """Let the next mail try a half-open breaker: this worker's has told nothing of the account."""
    ledger.run("end_probe", {"account": account})


def reset(ledger: Runs, account: str) -> bool:
    """Close a half-open breaker, because the account works again; return whether it was not closed yet."""
    return bool(ledger.run("reset_breaker", {"account": account}))


def close(ledger: Runs, account: str) -> bool:
    """Close a breaker by hand, open or half-open; return whether there was one."""
    return bool(ledger.run("close_breaker", {"account": account}))


def wake(ledger: Runs, account: str | None = None) -> set[Lane]:
    """Make mail due now that waits for an account which can be used again.

    Args:
        ledger: runs the statement.
        account: which; None for any.

    Returns:
        Its lanes.
    """
    lanes: set[Lane] = set()
    for _ in range(_MOST_STATEMENTS):
        rows = ledger.run("wake_awaiting", {"account": account, "size": _WOKEN})
        lanes.update(Lane(row.queue, row.tenant_id, row.stream) for row in rows)
        if len(rows) < _WOKEN:
            break
    return lanes
