"""Low-water marks: where a scan for work may start, because it has left nothing below.

While something holds PostgreSQL's vacuum horizon (a long report, an idle transaction, a replication slot), the index
entries of all that was worked off stay, and a scan from the beginning walks over each of them. A process that remembers
how far its scans have come starts there. What comes up below a mark is seen later, never missed:

* Writers that were at work when the mark was set commit below it. The scan is told of them, and starts at the beginning
  once one has ended. Of those that had just begun nothing is below, because no mark is within `MARGIN` of its moment.
* What others had locked and let go of unchanged, as a claim that was broken off, and what a clock that was set back
  makes due: seen by the next scan from the beginning, a second after the last one, or as long as it takes for that one
  to have cost a fortieth of the time, and at most `MOST` seconds.
* What a statement writes that waited for a lock before its first write: it has no transaction id until then, so no scan
  is told of it. It is seen by the next scan from the beginning too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, TypeVar
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
MOST: Final = 30.0
"""Seconds between two scans from the beginning, at the most, whatever they cost: how long mail below may wait. A scan's
seconds are also those of a wait for a connection, and of a database that answered nobody."""
CHEAP: Final = 0.025
"""Seconds; scans that take less may all start at the beginning, unless one follows the other at once."""

_PRIORITIES: Final = range(9, -1, -1)
_REMEMBERED: Final = 10_000
_MOST_WRITERS: Final = 1000
_LOWEST: Final = UUID(int=0)
_FIRST_MOMENT: Final = datetime.min.replace(tzinfo=UTC)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rescan:
    """Schedule of scans that start at the beginning.

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
        at = clock.monotonic() + max(LEAST, min(SHARE * seconds, MOST))
        return Rescan(at, self.slow + 1 if seconds >= CHEAP else 0, more)


class LowWater(Generic[T]):
    """Starts of one kind of scans in this process. Safe to use from several threads.

    Args:
        lowest: the beginning.
    """

    def __init__(self, lowest: T) -> None:
        self._lowest = lowest
        self._mark = lowest
        self._rescan = Rescan()
        self._lock = threading.Lock()

    def start(self) -> Scan[T]:
        """Return the next scan."""
        with self._lock:
            whole = self._rescan.due()
            return Scan(self._lowest if whole else self._mark, whole, clock.monotonic())

    def learn(self, scan: Scan[T], reached: T, *, more: bool = False) -> None:
        """Remember what a scan has come to.

        Args:
            scan: as it was started.
            reached: below this it has left nothing.
            more: whether it left something to do.
        """
        with self._lock:
            self._rescan = self._rescan.after(clock.monotonic() - scan.begun, whole=scan.whole, more=more)
            self._mark = reached


@dataclass(frozen=True, slots=True)
class Scan(Generic[T]):
    """One scan.

    Attributes:
        after: where it starts.
        whole: whether that is the beginning.
        begun: at this moment of the monotonic clock.
    """

    after: T
    whole: bool
    begun: float


def seen_by(moment: datetime) -> datetime:
    """Return the moment before which a scan has seen everything, but for what late writers still bring.

    Args:
        moment: of the scan, by the database's clock.
    """
    return moment - MARGIN


def by_moment() -> LowWater[datetime]:
    """Return the mark of scans in the order of moments."""
    return LowWater(_FIRST_MOMENT)


def by_id() -> LowWater[UUID]:
    """Return the mark of scans in the order of ids."""
    return LowWater(_LOWEST)


class Pace:
    """Schedule of a scan that always starts at the beginning. Safe to use from several threads."""

    def __init__(self) -> None:
        self._rescan = Rescan()

    def due(self) -> bool:
        """Return whether the scan is to be made."""
        return self._rescan.due()

    def learn(self, seconds: float) -> None:
        """Remember how many seconds the scan has taken."""
        self._rescan = self._rescan.after(seconds, whole=True)


class LowWaters:
    """Starts of one process's scans, claims and sweeps apart."""

    def __init__(self) -> None:
        self.woken = by_moment()
        self.ready = Pace()
        self.webhooks = by_id()
        self.webhooks_waiting = by_id()


class Snapshot(NamedTuple):
    """Observation of a claim, and its moment.

    Attributes:
        moment: of the database's clock.
        next: the transaction id after the last one that had ended.
        writers: of the transactions before, those that had not ended.
        own: the claim's own transaction id; None where it wrote nothing.
    """

    moment: datetime
    next: int
    writers: frozenset[int]
    own: int | None

    @classmethod
    def of(cls, row: Any) -> Snapshot:
        """Return the snapshot of a claim's answer."""
        _, following, writers = row.snapshot.split(":")
        running = frozenset(int(writer) for writer in writers.split(",") if writer)
        own = None if row.own_writer is None else int(row.own_writer)
        return cls(row.looked_at, int(following), running, own)

    def has_ended(self, writer: int) -> bool:
        """Return whether a transaction had ended."""
        return writer < self.next and writer not in self.writers


class Writers:
    """The writers whose end may bring something up below the marks of a process's claims."""

    def __init__(self) -> None:
        self._own: deque[tuple[datetime, int]] = deque()
        self._lock = threading.Lock()

    def older(self, snapshot: Snapshot, own: int) -> tuple[int, ...] | None:
        """Return those at work in a snapshot but for those that have begun within `YOUNG` before it.

        Args:
            snapshot: of a claim.
            own: the claim's own transaction id.

        Returns:
            Their transaction ids, and some of transactions that have never been; None if they are too many.
        """
        with self._lock:
            # a clock that was set back makes useless what was seen before
            while self._own and not snapshot.moment - YOUNG <= self._own[0][0] <= snapshot.moment:
                self._own.popleft()
            self._own.append((snapshot.moment, own))
            # ids are given in order: a later one than ours was given after ours
            young = self._own[0][1]
        if young - snapshot.next > _MOST_WRITERS:
            return None
        # a snapshot does not list the writers after the last one that had ended
        return *(writer for writer in snapshot.writers if writer < young), *range(snapshot.next, young)


class Mark(NamedTuple):
    """Start of the scan of one priority: after this delivery."""

    due_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class _Scanned:
    """Progress of the claims of one lane."""

    marks: Mapping[int, Mark]
    writers: tuple[int, ...]
    rescan: Rescan


_NOTHING: Final = _Scanned({}, (), Rescan())


class Start(NamedTuple):
    """Start of a claim.

    Attributes:
        params: of the statement `claim`.
        whole: whether that is the beginning.
        scanned: how far the claims before had come.
    """

    params: Mapping[str, Any]
    whole: bool
    scanned: _Scanned = _NOTHING


class ClaimMarks:
    """Progress of this process's claims in each lane. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Scanned] = {}
        self._writers = Writers()
        self._lock = threading.Lock()

    def start(self, lane: Lane) -> Start:
        """Return where the next claim of a lane starts."""
        scanned = self._lanes.get(lane, _NOTHING)
        if scanned.rescan.due():
            return BEGINNING._replace(scanned=scanned)
        return Start(_params(scanned.marks, scanned.writers), False, scanned)

    def learn(self, lane: Lane, start: Start, rows: Sequence[Any], seconds: float, size: int) -> None:
        """Remember how far a claim has come.

        Args:
            lane: whose claim.
            start: where it started.
            rows: its answer.
            seconds: that it took.
            size: deliveries that were asked for.
        """
        told, scanned = rows[-1], start.scanned
        if not told.saw_all and all(row.due_at is None for row in rows):
            # of a paused lane nothing was looked at, nor where suspects went first
            return
        whole = start.whole or told.from_start
        more = bool(told.left_behind) or sum(row.id is not None for row in rows) >= size
        rescan = scanned.rescan.after(seconds, whole=whole, more=more)
        snapshot = Snapshot.of(told)
        if snapshot.own is None:
            # nothing was left below the marks before; who is at work now nobody knows
            running = tuple(writer for writer in scanned.writers if not snapshot.has_ended(writer))
            scanned = _Scanned(scanned.marks, running, rescan)
        elif (writers := self._writers.older(snapshot, snapshot.own)) is None:
            scanned = _Scanned({}, (), rescan)
        else:
            reached = _reached(rows, seen_by(snapshot.moment))
            scanned = _Scanned(reached if whole else {**scanned.marks, **reached}, writers, rescan)
        with self._lock:
            if len(self._lanes) >= _REMEMBERED:
                self._lanes.clear()
            self._lanes[lane] = scanned


def _reached(rows: Sequence[Any], latest: datetime) -> dict[int, Mark]:
    """Return the marks that a claim has reached, none of them after a moment."""
    if rows[-1].saw_all:
        return dict.fromkeys(_PRIORITIES, Mark(latest, _LOWEST))
    # they come in order, and the mark of any of them would do
    last = {row.priority: Mark(row.due_at, row.id) for row in rows if row.due_at is not None}
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
"""Start of a claim of which nothing is known."""
