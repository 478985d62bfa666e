"""Figures of one run of the demo, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from mailglass.demo.check import Check
from mailglass.demo.facts import Facts
from mailglass.demo.orders import Order
from mailglass.ledger.events import Event

_MOST = 0.95


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of the run, by the database's clock.

    Attributes:
        accepted: mails the providers took.
        seconds: from the first call to the last acceptance.
        most_seconds: from the first call until 95 of 100 were taken.
    """

    accepted: int = 0
    seconds: float = 0.0
    most_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Mails a second over the whole time; 0 where none was taken."""
        return self.accepted / self.seconds if self.seconds else 0.0

    @property
    def most_per_second(self) -> float:
        """Mails a second while the first 95 of 100 were taken."""
        return ceil(self.accepted * _MOST) / self.most_seconds if self.most_seconds else 0.0


def pace(facts: Iterable[Facts]) -> Pace:
    """Return the pace of these deliveries."""
    facts = list(facts)
    taken = sorted(item.sent_at for item in facts if item.sent_at is not None)
    if not taken:
        return Pace()
    start = min(item.created_at for item in facts)
    most = taken[ceil(len(taken) * _MOST) - 1]
    return Pace(len(taken), (taken[-1] - start).total_seconds(), (most - start).total_seconds())


@dataclass(frozen=True, slots=True)
class Bounced:
    """A customer whose mailbox does not exist, and what the next mail to them met.

    Attributes:
        order: theirs.
        delivery: the one that bounced.
        refused: the delivery that records the refusal of the next mail; None where it was not refused.
        refusal: the error's words.
    """

    order: Order
    delivery: UUID
    refused: UUID | None
    refusal: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that is reported of a run.

    Attributes:
        orders: how many were to be confirmed.
        by_status: their deliveries by where they stand.
        by_outcome: by the most telling thing the providers said.
        by_tenant: by shop.
        burst: the pace of a calm burst after them; none accepted where there was none.
        received: acceptances that the lab counted for them.
        resent: how many were sent again after an uncertain outcome.
        example: the timeline of the one with the most to tell.
        outside: the lab's totals.
        quiet: whether everything the providers tell was told and understood before this was summed up.
        restarted: how often a process that had ended was started again.
    """

    orders: int
    by_status: Mapping[str, int]
    by_outcome: Mapping[str, int]
    by_tenant: Mapping[str, int]
    check: Check
    pace: Pace
    burst: Pace
    received: int
    resent: int
    example: tuple[Event, ...]
    bounced: Bounced | None
    outside: Mapping[str, int]
    quiet: bool
    restarted: int
