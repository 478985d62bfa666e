"""Debounced rings: requests within a short window share one ring at the window's end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor

# seconds; too short to notice for a person or a provider, and some ten batches of webhooks under load
WINDOW = 0.05


class DebouncedRing:
    """A ring that rings at once, then at most once in each window. The last request is never dropped.

    Safe to call from several threads.

    Args:
        ring: rings a task by its name.
        loop: keeps the time.
        threads: ring at the end of a window.
    """

    def __init__(self, ring: Callable[[str], object], loop: asyncio.AbstractEventLoop, threads: Executor) -> None:
        self._ring = ring
        self._loop = loop
        self._threads = threads
        self._lock = threading.Lock()
        self._rung_at = float("-inf")
        self._pending = False

    def __call__(self, task: str) -> None:
        """Ring now, or at the end of the window."""
        with self._lock:
            if self._pending:
                return
            rest = self._rung_at + WINDOW - time.monotonic()
            self._pending = rest > 0
            if rest <= 0:
                self._rung_at = time.monotonic()
        if rest <= 0:
            self._ring(task)
        else:
            self._loop.call_soon_threadsafe(self._ring_later, rest, task)

    def _ring_later(self, rest: float, task: str) -> None:
        self._loop.call_later(rest, lambda: self._threads.submit(self._ring_now, task))

    def _ring_now(self, task: str) -> None:
        with self._lock:
            self._pending = False
            self._rung_at = time.monotonic()
        self._ring(task)
