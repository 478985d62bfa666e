"""The one clock of a process. Due times and leases use the database's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current moment, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds on a clock that never goes back, for durations and deadlines within one process."""
    return time.monotonic()


class Cooldown:
    """Pause after failures, so that callers do not each wait for a dead server. It doubles from 1 to 10 seconds."""

    _FIRST = 1.0
    _LONGEST = 10.0

    def __init__(self) -> None:
        self._until = 0.0
        self._seconds = self._FIRST

    @property
    def active(self) -> bool:
        """True if the pause lasts."""
        return monotonic() < self._until

    def start(self) -> None:
        """Begin a pause, twice as long as the one before."""
        self._until = monotonic() + self._seconds
        self._seconds = min(self._seconds * 2, self._LONGEST)

    def reset(self) -> None:
        """Make the next pause the shortest again, after a success."""
        self._seconds = self._FIRST
