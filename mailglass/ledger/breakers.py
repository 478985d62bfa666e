"""Breakers: whether an account can be used, shared by all workers. Closed ones have no row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mailglass.ledger.database import Runs

PROBE_SECONDS: Final = 60.0
LONGEST_OPEN: Final = 1800.0
BASE_OPEN: Final[Mapping[str, float]] = {"misconfigured": 60.0, "quota": 300.0, "transient": 10.0}


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker that is not closed.

    Attributes:
        account: whose.
        reason: misconfigured, quota or transient.
        seconds: until it is half-open; 0 where it is.
    """

    account: str
    reason: str
    seconds: float

    @property
    def half_open(self) -> bool:
        return self.seconds <= 0


def breakers(ledger: Runs, accounts: Sequence[str]) -> dict[str, Breaker]:
    """The breakers of these accounts that are not closed, by account."""
    rows = ledger.run("breakers", {"accounts": list(accounts)})
    return {row.account: Breaker(row.account, row.reason, row.seconds) for row in rows}


def trip(ledger: Runs, account: str, reason: str, reset: float | None = None) -> float:
    """Open an account's breaker.

    Args:
        reason: misconfigured, quota or transient.
        reset: seconds until the provider says it works again; else a while that doubles with each failure in a row.

    Returns:
        Seconds until it is half-open.
    """
    (row,) = ledger.run(
        "trip",
        {"account": account, "reason": reason, "reset": reset, "base": BASE_OPEN[reason], "longest": LONGEST_OPEN},
    )
    return float(row.seconds)


def probe(ledger: Runs, account: str) -> bool:
    """Whether this worker may try one mail on a half-open breaker."""
    return bool(ledger.run("probe", {"account": account, "seconds": PROBE_SECONDS}))


def end_probe(ledger: Runs, account: str) -> None:
    """Let the next mail try a half-open breaker: this worker's has told nothing of the account."""
    ledger.run("end_probe", {"account": account})


def reset(ledger: Runs, account: str) -> None:
    """Close a half-open breaker: the account works again."""
    ledger.run("reset_breaker", {"account": account})
