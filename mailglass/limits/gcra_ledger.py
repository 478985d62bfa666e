"""Limits in PostgreSQL: one function call for a batch, without Redis and while it is away."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import accumulate

from mailglass.ledger import arrays
from mailglass.ledger.database import Runs
from mailglass.limits.batch import Batch, Grant
from mailglass.limits.rate_adjustment import RateAdjustment
from mailglass.limits.rules import Rule


class LedgerGcra:
    """Limits in `mailglass.rate_limits`, feedback in `mailglass.rate_lessons`.

    Args:
        ledger: runs the statements.
    """

    def __init__(self, ledger: Runs) -> None:
        self._ledger = ledger

    def take(self, batch: Batch, *, urgent: bool, horizon: float, seed: float, now: int | None) -> list[Grant]:
        """Take places for a batch. Durations are microseconds.

        Raises:
            LedgerUnavailableError: the database cannot be reached.
        """
        (row,) = self._ledger.run(
            "take_limits",
            {
                "keys": arrays.texts(limit.key for limit in batch.limits),
                "intervals": arrays.numbers(batch.intervals),
                "tolerances": arrays.numbers(batch.tolerances),
                "fulls": arrays.numbers(batch.fulls),
                "counted": arrays.numbers(batch.counted),
                "accounts": arrays.texts(limit.account if isinstance(limit, Rule) else "" for limit in batch.limits),
                "members": arrays.numbers(position for group in batch.groups for position in group),
                "starts": arrays.numbers(accumulate((len(group) for group in batch.groups), initial=0)),
                "runs": arrays.numbers(batch.runs),
                "urgent": urgent,
                "horizon": horizon,
                "seed": seed,
                "now": now,
            },
        )
        return batch.grants(row.granted, row.delays, row.blockers)

    def give(self, mails: Mapping[str, int]) -> None:
        """Return places of counts.

        Raises:
            LedgerUnavailableError: the database cannot be reached.
        """
        keys = sorted(mails)
        self._ledger.run(
            "return_slots",
            {
                "keys": arrays.texts(keys),
                "mails": arrays.numbers(mails[key] for key in keys),
                # identifies the call, so that a repeated statement changes nothing
                "token": random.random(),  # noqa: S311
            },
        )

    def apply_feedback(self, account: str, adjustment: RateAdjustment, *, now: int | None) -> None:
        """Adjust an account's rate as its provider asks.

        Raises:
            LedgerUnavailableError: the database cannot be reached.
        """
        self._ledger.run(
            "apply_feedback",
            {
                "account": account,
                "pause": adjustment.pause,
                "factor": adjustment.factor,
                "lasting": adjustment.lasting,
                "rate": adjustment.rate,
                "rate_lasting": adjustment.rate_lasting,
                "now": now,
            },
        )


def prune(ledger: Runs, size: int = 10_000) -> int:
    """Delete up to `size` drained limits that were not used for two days; returns their number."""
    return len(ledger.run("prune_limits", {"size": size}))
