"""Batching of concurrent work: requests that wait together are started together and finished in threads.

No request is delayed to make a batch larger. The first one starts at once and alone; the next batch fills meanwhile.
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
CONCURRENT_BATCHES = 2
# seconds; a batch that takes longer waits for something that other batches need not wait for
SLOW_AFTER = 0.05
MAX_CONCURRENT_BATCHES = 8
MAX_ITEMS = 100
MAX_BYTES = 4 * 1024 * 1024
# seconds; a queue all of whose batches have run for this long takes no more
STUCK_AFTER = 5.0


@dataclass(slots=True)
class _Queue(Generic[T, R]):
    """Items with one key, which share batches only with each other."""

    waiting: deque[tuple[T, int, asyncio.Future[R]]] = field(default_factory=deque)
    started: list[float] = field(default_factory=list)
    scheduled: bool = False


class Batcher(Generic[T, R]):
    """Runner of work in batches. Used from one event loop.

    Args:
        begin: starts a batch. It runs in the event loop, so it must not block. It returns the rest of the work, which
            runs in a thread and returns one result for each item, in order.
        threads: runs the rest of the work.
        max_bytes: limit of one batch, unless a single item is larger; `MAX_BYTES` by default.
    """

    def __init__(
        self,
        begin: Callable[[Sequence[T]], Callable[[], Sequence[R]]],
        threads: Executor,
        max_bytes: int | None = None,
    ) -> None:
        self._begin = begin
        self._threads = threads
        self._max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._queues: dict[str, _Queue[T, R]] = {}

    def submit(self, key: str, item: T, size: int) -> asyncio.Future[R]:
        """Queue an item for the next batch with its key.

        Args:
            key: items with different keys never wait for each other.
            item: the work.
            size: bytes that the item holds.

        Returns:
            A future of the item's result.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        queue = self._queues.setdefault(key, _Queue())
        queue.waiting.append((item, size, future))
        self._schedule(loop, queue, 0.0)
        return future

    def is_stuck(self, key: str) -> bool:
        """Return whether a new item would wait behind batches that have run for seconds."""
        queue = self._queues.get(key)
        return (
            queue is not None
            and len(queue.started) >= MAX_CONCURRENT_BATCHES
            and time.monotonic() - min(queue.started) >= STUCK_AFTER
        )

    def discard_abandoned(self, key: str) -> None:
        """Drop items that wait for a batch although their callers have left."""
        queue = self._queues.get(key)
        if queue is not None:
            queue.waiting = deque(entry for entry in queue.waiting if not entry[2].done())

    def _schedule(self, loop: asyncio.AbstractEventLoop, queue: _Queue[T, R], delay: float) -> None:
        """Start batches soon, so that all items of this round of the loop share one."""
        if delay:
            loop.call_later(delay, self._start, loop, queue)
        elif not queue.scheduled:
            queue.scheduled = True
            loop.call_soon(self._start, loop, queue)

    def _start(self, loop: asyncio.AbstractEventLoop, queue: _Queue[T, R]) -> None:
        queue.scheduled = False
        now = time.monotonic()
        while queue.waiting and len(queue.started) < MAX_CONCURRENT_BATCHES:
            if sum(now - started < SLOW_AFTER for started in queue.started) >= CONCURRENT_BATCHES:
                self._schedule(loop, queue, SLOW_AFTER)
                return
            self._run(loop, queue, now)

    def _run(self, loop: asyncio.AbstractEventLoop, queue: _Queue[T, R], now: float) -> None:
        items: list[T] = []
        futures: list[asyncio.Future[R]] = []
        total = 0
        while (
            queue.waiting and len(items) < MAX_ITEMS and (not items or total + queue.waiting[0][1] <= self._max_bytes)
        ):
            item, size, future = queue.waiting.popleft()
            items.append(item)
            futures.append(future)
            total += size
        queue.started.append(now)

        def finish(done: asyncio.Future[Sequence[R]]) -> None:
            queue.started.remove(now)
            self._schedule(loop, queue, 0.0)
            _resolve(futures, done)

        try:
            rest = self._begin(items)
        except Exception as error:
            queue.started.remove(now)
            _fail(futures, error)
            return
        loop.run_in_executor(self._threads, rest).add_done_callback(finish)


def _fail(futures: Sequence[asyncio.Future[R]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _resolve(futures: Sequence[asyncio.Future[R]], done: asyncio.Future[Sequence[R]]) -> None:
    error = asyncio.CancelledError() if done.cancelled() else done.exception()
    results: Sequence[R] = () if error is not None else done.result()
    for index, future in enumerate(futures):
        if future.done():  # the caller has left
            continue
        if error is None and index < len(results):
            future.set_result(results[index])
        else:
            future.set_exception(error or RuntimeError("the work has no result"))
