"""How long may be waited for a client: one timer for all of them, because setting one each costs more than reading."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

# a wait ends at most this part of its limit too late
_PART = 0.1


class SharedTimeout:
    """Bounds waits within one event loop, all by the same limit."""

    def __init__(self) -> None:
        # in the order in which they began, so in that in which they end
        self._since: dict[asyncio.Task[Any], float] = {}
        self._given_up: set[asyncio.Task[Any]] = set()
        self._looks = False

    async def wait(self, work: Awaitable[T], limit: float) -> T:
        """What the work comes to. Cancels it where that takes longer; to be called by one task once at a time.

        Args:
            work: what is waited for.
            limit: seconds; a tenth more may pass.

        Raises:
            TimeoutError: it took longer.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise RuntimeError("waiting needs a task: call it from one")
        self._since[task] = loop.time()
        if not self._looks:
            self._looks = True
            loop.call_later(limit * _PART, self._look, loop, limit)
        try:
            return await work
        except asyncio.CancelledError:
            if task in self._given_up and task.uncancel() == 0:
                raise TimeoutError from None
            # somebody else wants it to end too
            raise
        finally:
            del self._since[task]
            self._given_up.discard(task)

    def give_up(self, task: asyncio.Task[Any] | None) -> None:
        """End a task's wait now, as if it had taken too long; nothing where it waits no more."""
        if task in self._since and task not in self._given_up:
            self._given_up.add(task)
            task.cancel()

    def _look(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        for task, since in self._since.items():
            if loop.time() - since < limit:
                break
            if task not in self._given_up:
                self._given_up.add(task)
                task.cancel()
        self._looks = bool(self._since)
        if self._looks:
            loop.call_later(limit * _PART, self._look, loop, limit)
