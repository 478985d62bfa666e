"""What chaos rounds came to, and the table of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

COLUMNS = ("rounds", "mails", "sent", "resent", "twice", "duplicates", "lost")
HEADER = f"{'fault':<28}" + "".join(f"{column:>11}" for column in (*COLUMNS, "seconds"))
LEGEND = "resent: uncertain, and sent again by policy; twice: of these, received twice; duplicates: any other"


@dataclass
class Tally:
    """The rounds of one fault.

    Attributes:
        rounds: that came to their end, good or bad.
        sent: mails that ended as sent and were received.
        resent: mails that were uncertain and sent again, as the stream's policy wants.
        twice: of these, the ones received more than once.
        duplicates: mails received more often than the ledger accounts for.
        lost: mails that did not end as sent, or never arrived.
    """

    fault: str
    rounds: int = 0
    mails: int = 0
    sent: int = 0
    resent: int = 0
    twice: int = 0
    duplicates: int = 0
    lost: int = 0
    broken: str = ""
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    def count(self, ids: Iterable[str], sent: set[str], received: Counter[str], resent: Counter[str]) -> None:
        """Add one round.

        Args:
            ids: of its deliveries.
            sent: those that the ledger says were sent.
            received: how often the world accepted each.
            resent: how often each was sent again for want of evidence.
        """
        self.rounds += 1
        for key in ids:
            self.mails += 1
            arrived = key in sent and received[key] > 0
            self.sent += arrived
            self.lost += not arrived
            self.resent += resent[key] > 0
            self.twice += received[key] > 1 and resent[key] > 0
            self.duplicates += received[key] > 1 + resent[key]
        self.ended = time.monotonic()

    def line(self) -> str:
        """Its row of the table."""
        seconds = (self.ended or time.monotonic()) - self.started
        figures = "".join(f"{getattr(self, column):>11}" for column in COLUMNS)
        return f"{self.fault:<28}{figures}{seconds:>11.0f}  {self.broken}".rstrip()


def total(tallies: Iterable[Tally]) -> Tally:
    """The last row of the table."""
    whole = Tally("all")
    for tally in tallies:
        for name in COLUMNS:
            setattr(whole, name, getattr(whole, name) + getattr(tally, name))
        whole.started = min(whole.started, tally.started)
        whole.ended = max(whole.ended, tally.ended)
    return whole
