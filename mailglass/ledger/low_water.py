"""Low-water marks: where a scan for work may start, because it has left nothing below.

While something holds PostgreSQL's vacuum horizon (a long report, an idle transaction, a replication slot), the index
entries of all that was worked off stay, and a scan from the beginning walks over each of them. A process that remembers
how far its scans have come starts there. What comes up below a mark is seen later, never missed:

* Writers that were at work when the mark was set commit below it. The scan is told of them, and starts at the beginning
  once one has ended. Of those that had just begun nothing is below, because no mark is within `MARGIN` of its moment.
* What others had locked and let go of unchanged, as a claim that was broken off, and what a clock that was set back
  makes due: seen by the next scan from the beginning, a second after the last one, or as long as it takes for that one
  to have cost a fortieth of the time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from mailglass import clock
from mailglass.ledger import arrays
from mailglass.routing.lane import Lane

MARGIN: Final = timedelta(seconds=2)
"""No mark is nearer to the moment of its scan: a statement writes its own beginning, and is seen when it commits."""
YOUNG: Final = timedelta(seconds=1)
"""A writer that began within this before a scan has written nothing below the scan's marks."""
LEAST: Final = 1.0
"""Seconds between two scans from the beginning, at the least."""
SHARE: Final = 40
"""Scans from the beginning cost one part in so many of the time."""
CHEAP: Final = 0.025
"""Seconds; scans that take less may all start at the beginning, unless one follows the other at once."""

_PRIORITIES: Final = range(9, -1, -1)
_REMEMBERED: Final = 10_000
_LOWEST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Rescan:
    """When a scan starts at the beginning again.

    Attributes:
        at: not before this moment of the monotonic clock, where that costs more than it is worth.
        slow: how many scans from the beginning in a row were not cheap.
        bulk: the last scan left more to do, so that the next one follows at once.
    """

    at: float = float("-inf")
    slow: int = 0
    bulk: bool = False

    def due(self) -> bool:
        """Return whether the next scan starts at the beginning."""
        return clock.monotonic() >= self.at or not (self.bulk or self.slow > 1)

    def after(self, seconds: float, *, whole: bool, more: bool = False) -> Rescan:
        """Return what holds after a scan.

        Args:
            seconds: that it took.
            whole: whether it started at the beginning.
            more: whether it left something to do.
        """
        if not whole:
            return replace(self, bulk=more)
        at = clock.monotonic() + max(LEAST, SHARE * seconds)
        return Rescan(at, self.slow + 1 if seconds >= CHEAP else 0, more)


class Snapshot(NamedTuple):
    """PostgreSQL's `pg_snapshot`.

    Attributes:
        moment: of the database's clock at which it was taken.
        next: the first transaction id that was not given yet.
        writers: the transactions that had an id and had not ended.
    """

    moment: datetime
    next: int
    writers: tuple[int, ...]

    @classmethod
    def parse(cls, moment: datetime, text: str) -> Snapshot:
        """Return the snapshot of its text, `xmin:xmax:xip,xip`."""
        _, following, writers = text.split(":")
        return cls(moment, int(following), tuple(int(writer) for writer in writers.split(",") if writer))


class Writers:
    """The writers whose end may bring something up below the marks of a process's scans."""

    def __init__(self) -> None:
        self._seen: deque[tuple[datetime, int]] = deque()
        self._lock = threading.Lock()

    def older(self, snapshot: Snapshot) -> tuple[int, ...]:
        """Return those of a snapshot that are not known to have begun within `YOUNG` before it."""
        with self._lock:
            # a clock that was set back makes all that was seen before useless
            while self._seen and not snapshot.moment - YOUNG <= self._seen[0][0] <= snapshot.moment:
                self._seen.popleft()
            self._seen.append((snapshot.moment, snapshot.next))
            young = self._seen[0][1]
        return tuple(writer for writer in snapshot.writers if writer < young)


class Mark(NamedTuple):
    """Where the scan of one priority starts: after this delivery."""

    due_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class _Scanned:
    """How far the claims of one lane have come."""

    marks: Mapping[int, Mark]
    writers: tuple[int, ...]
    rescan: Rescan


class Start(NamedTuple):
    """Where a claim starts.

    Attributes:
        params: of the statement `claim`.
        whole: whether that is the beginning.
    """

    params: Mapping[str, Any]
    whole: bool


class ClaimMarks:
    """How far the claims of this process have come in each lane. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Scanned] = {}
        self._writers = Writers()
        self._lock = threading.Lock()

    def start(self, lane: Lane) -> Start:
        """Return where the next claim of a lane starts."""
        scanned = self._lanes.get(lane)
        if scanned is None or scanned.rescan.due():
            return BEGINNING
        return Start(_params(scanned.marks, scanned.writers), whole=False)

    def learn(self, lane: Lane, start: Start, rows: Sequence[Any], seconds: float, size: int) -> None:
        """Remember how far a claim has come.

        Args:
            lane: whose claim.
            start: where it started.
            rows: its answer.
            seconds: that it took.
            size: deliveries that were asked for.
        """
        snapshot = Snapshot.parse(rows[0].looked_at, rows[0].snapshot)
        writers = self._writers.older(snapshot)
        before = self._lanes.get(lane) or _Scanned({}, (), Rescan())
        whole = start.whole or rows[0].from_start
        marks = {} if whole else dict(before.marks)
        marks.update(_reached(rows, snapshot.moment - MARGIN))
        claimed = sum(row.id is not None for row in rows)
        more = claimed >= size or bool(rows[0].left_behind)
        with self._lock:
            if len(self._lanes) >= _REMEMBERED:
                self._lanes.clear()
            self._lanes[lane] = _Scanned(marks, writers, before.rescan.after(seconds, whole=whole, more=more))


def _reached(rows: Sequence[Any], latest: datetime) -> dict[int, Mark]:
    """Return the marks that a claim has reached, none of them after a moment."""
    if rows[0].saw_all:
        return dict.fromkeys(_PRIORITIES, Mark(latest, _LOWEST))
    last: dict[int, Mark] = {}
    for row in rows:
        if row.due_at is not None:
            mark = Mark(row.due_at, row.id)
            last[row.priority] = max(last.get(row.priority, mark), mark)
    if not last:
        return {}
    lowest = min(last)
    # the more urgent were seen to their end before a less urgent one was taken
    done = {priority: Mark(latest, _LOWEST) for priority in _PRIORITIES if priority > lowest}
    return {**done, lowest: min(last[lowest], Mark(latest, _LOWEST))}


def _params(marks: Mapping[int, Mark], writers: Sequence[int]) -> dict[str, Any]:
    reached = [marks.get(priority) for priority in _PRIORITIES]
    return {
        "marks": arrays.texts(mark.due_at.astimezone(UTC).isoformat() if mark else "-infinity" for mark in reached),
        "mark_ids": arrays.uuids(mark.id if mark else _LOWEST for mark in reached),
        "writers": arrays.numbers(writers),
    }


BEGINNING: Final = Start(_params({}, ()), whole=True)
"""Where a claim starts of which nothing is known."""
