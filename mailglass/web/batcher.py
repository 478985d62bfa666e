"""Work that is cheaper together: what waits is begun in groups and ended in threads; meanwhile the next group grows.

Nothing is held back to make a group larger: a first request goes at once and alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# one is verified while the other waits for the disk
AT_ONCE = 2
# a group that takes longer waits for something that others need not wait for
STALE = 0.05
MOST_AT_ONCE = 8
LARGEST = 100
HEAVIEST = 4 * 1024 * 1024
# a lane all of whose groups have hung for as long takes no more
HUNG = 5.0


@dataclass(slots=True)
class _Lane(Generic[T, R]):
    """Work of one kind, that goes into groups with its like only."""

    waiting: deque[tuple[T, int, asyncio.Future[R]]] = field(default_factory=deque)
    begun: list[float] = field(default_factory=list)
    looks: bool = False


class Gathering(Generic[T, R]):
    """Hands work to threads in groups. To be used from one event loop.

    Args:
        begin: called in the loop with a group, so it must not wait; answers the rest of its work, which a thread does
            and which comes to one result for each item, in order.
        threads: where that is done.
        heaviest: bytes that a group holds at the most, unless one item alone is heavier; `HEAVIEST` when left out.
    """

    def __init__(
        self,
        begin: Callable[[Sequence[T]], Callable[[], Sequence[R]]],
        threads: Executor,
        heaviest: int | None = None,
    ) -> None:
        self._begin = begin
        self._threads = threads
        self._heaviest = HEAVIEST if heaviest is None else heaviest
        self._lanes: dict[str, _Lane[T, R]] = {}

    def hand_in(self, lane: str, item: T, weight: int) -> asyncio.Future[R]:
        """Have an item worked on, together with others of its lane that wait.

        Args:
            lane: one that is slow keeps no other waiting.
            item: the work.
            weight: bytes that it holds.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        place = self._lanes.setdefault(lane, _Lane())
        place.waiting.append((item, weight, future))
        self._look(loop, place, 0.0)
        return future

    def hangs(self, lane: str) -> bool:
        """Whether what is handed in now would wait behind groups that have not ended for seconds."""
        place = self._lanes.get(lane)
        return place is not None and len(place.begun) >= MOST_AT_ONCE and time.monotonic() - min(place.begun) >= HUNG

    def sweep(self, lane: str) -> None:
        """Let go of what nobody waits for any more."""
        place = self._lanes.get(lane)
        if place is not None:
            place.waiting = deque(entry for entry in place.waiting if not entry[2].done())

    def _look(self, loop: asyncio.AbstractEventLoop, lane: _Lane[T, R], delay: float) -> None:
        """Look soon whether a group can start: what this round of the loop brings is in it."""
        if delay:
            loop.call_later(delay, self._start, loop, lane)
        elif not lane.looks:
            lane.looks = True
            loop.call_soon(self._start, loop, lane)

    def _start(self, loop: asyncio.AbstractEventLoop, lane: _Lane[T, R]) -> None:
        lane.looks = False
        now = time.monotonic()
        while lane.waiting and len(lane.begun) < MOST_AT_ONCE:
            if sum(now - begun < STALE for begun in lane.begun) >= AT_ONCE:
                self._look(loop, lane, STALE)
                return
            self._run(loop, lane, now)

    def _run(self, loop: asyncio.AbstractEventLoop, lane: _Lane[T, R], now: float) -> None:
        items: list[T] = []
        futures: list[asyncio.Future[R]] = []
        weight = 0
        while lane.waiting and len(items) < LARGEST and (not items or weight + lane.waiting[0][1] <= self._heaviest):
            item, size, future = lane.waiting.popleft()
            items.append(item)
            futures.append(future)
            weight += size
        lane.begun.append(now)

        def finish(done: asyncio.Future[Sequence[R]]) -> None:
            lane.begun.remove(now)
            self._look(loop, lane, 0.0)
            _settle(futures, done)

        try:
            rest = self._begin(items)
        except Exception as error:
            lane.begun.remove(now)
            _fail(futures, error)
            return
        loop.run_in_executor(self._threads, rest).add_done_callback(finish)


def _fail(futures: Sequence[asyncio.Future[R]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _settle(futures: Sequence[asyncio.Future[R]], done: asyncio.Future[Sequence[R]]) -> None:
    error = asyncio.CancelledError() if done.cancelled() else done.exception()
    results: Sequence[R] = () if error is not None else done.result()
    for place, future in enumerate(futures):
        if future.done():  # whoever asked has left
            continue
        if error is None and place < len(results):
            future.set_result(results[place])
        else:
            future.set_exception(error or RuntimeError("the work has no result"))
