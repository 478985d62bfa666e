"""The one clock. Due times and leases use the database's own; this one stamps what happens in a process."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current moment, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never goes back; for durations and deadlines within one process."""
    return time.monotonic()
