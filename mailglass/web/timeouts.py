"""Timeouts for clients: one shared timer, because a timer for each wait costs more than the read it bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

# a wait ends at most this part of its limit too late
_TOLERANCE = 0.1


class SharedTimeout:
    """One limit for all waits of one event loop."""

    def __init__(self) -> None:
        # in the order in which the waits began, so in the order in which they end
        self._since: dict[asyncio.Task[Any], float] = {}
        self._canceled: set[asyncio.Task[Any]] = set()
        self._scheduled = False

    async def wait(self, work: Awaitable[T], limit: float) -> T:
        """Wait for work, and cancel it after the limit. A task can wait once at a time.

        Args:
            work: the awaitable.
            limit: seconds; the wait may take a tenth longer.

        Returns:
            The result of the work.

        Raises:
            TimeoutError: the work took longer.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise RuntimeError("waiting needs a task: call it from one")
        self._since[task] = loop.time()
        if not self._scheduled:
            self._scheduled = True
            loop.call_later(limit * _TOLERANCE, self._check, loop, limit)
        try:
            return await work
        except asyncio.CancelledError:
            if task in self._canceled and task.uncancel() == 0:
                raise TimeoutError from None
            # somebody else cancels it too
            raise
        finally:
            del self._since[task]
            self._canceled.discard(task)

    def cancel(self, task: asyncio.Task[Any] | None) -> None:
        """End a task's wait with a `TimeoutError`. Does nothing if the task does not wait."""
        if task in self._since and task not in self._canceled:
            self._canceled.add(task)
            task.cancel()

    def _check(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        for task, since in self._since.items():
            if loop.time() - since < limit:
                break
            if task not in self._canceled:
                self._canceled.add(task)
                task.cancel()
        self._scheduled = bool(self._since)
        if self._scheduled:
            loop.call_later(limit * _TOLERANCE, self._check, loop, limit)
