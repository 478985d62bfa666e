"""Ring a task for many webhooks at once: what is asked for within a moment is one ring, at the moment's end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor

# far below what a person or a provider could notice, and some ten groups of webhooks under load
MOMENT = 0.05


class SteadyRing:
    """Rings at once, and then at most once a moment; the last ring asked for is never left out.

    To be called from threads.

    Args:
        ring: rings a task by its name.
        loop: keeps the time.
        threads: where a ring that was put off is rung.
    """

    def __init__(self, ring: Callable[[str], object], loop: asyncio.AbstractEventLoop, threads: Executor) -> None:
        self._ring = ring
        self._loop = loop
        self._threads = threads
        self._lock = threading.Lock()
        self._rung = float("-inf")
        self._put_off = False

    def __call__(self, task: str) -> None:
        with self._lock:
            if self._put_off:
                return
            rest = self._rung + MOMENT - time.monotonic()
            self._put_off = rest > 0
            if rest <= 0:
                self._rung = time.monotonic()
        if rest <= 0:
            self._ring(task)
        else:
            self._loop.call_soon_threadsafe(self._put_off_for, rest, task)

    def _put_off_for(self, rest: float, task: str) -> None:
        self._loop.call_later(rest, lambda: self._threads.submit(self._ring_now, task))

    def _ring_now(self, task: str) -> None:
        with self._lock:
            self._put_off = False
            self._rung = time.monotonic()
        self._ring(task)
