"""A worker's slots: each waits for its task, but not for a provider that is slow."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from mailglass import telemetry
from mailglass.engine import bulkhead
from mailglass.engine.bulkhead import SLOW, Bulkhead, Job

# how often a slot looks at the call that it waits for
_LOOK: Final = 0.25
# threads of one kind of task that is no mail
_SIDE_THREADS: Final = 4

_lock = threading.Lock()
_executor: tuple[int, ThreadPoolExecutor] | None = None
_all_side_threads: list[SideThreads] = []


def run(work: Callable[[], None]) -> None:
    """Run a batch of mails in this slot, and leave the slot if a provider call is slow.

    The call goes on in its thread, and its batch is recorded there. A process that stops waits for it.
    """
    walls = bulkhead.current()
    if walls is None:
        work()
        return
    job = Job()
    future = _threads(walls).submit(_watched, walls, job, work)
    while not future.done():
        job.changed.wait(_LOOK)
        job.changed.clear()
        call = job.call
        if call is not None and job.overdue and call.step_aside():
            future.add_done_callback(_log_failure)
            return
    future.result()


class SideThreads:
    """Threads for tasks that call providers for other reasons than to send. A slot does not wait for slow calls.

    Each kind of task has a few threads of its own, so that many rings take no slots from mail. A task without a free
    thread waits without a slot.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: tuple[int, ThreadPoolExecutor] | None = None
        self._running = 0
        _all_side_threads.append(self)

    def __call__(self, work: Callable[[], None]) -> None:
        """Run work, and leave the slot if it is slow."""
        walls = bulkhead.current()
        if walls is None or not walls.leaves:
            work()
            return
        with self._lock:
            if self._executor is None or self._executor[0] != os.getpid():
                self._executor = (os.getpid(), ThreadPoolExecutor(_SIDE_THREADS, "mailglass-side"))
                self._running = 0
            free = self._running < _SIDE_THREADS
            self._running += 1
            future = self._executor[1].submit(work)
        future.add_done_callback(self._ended)
        try:
            future.result(SLOW if free else 0.0)
        except TimeoutError:
            if future.done():
                raise
            future.add_done_callback(_log_failure)

    def wait(self) -> None:
        """Wait for running work. Queued work is dropped, and rung again like a lost ring."""
        with self._lock:
            mine, self._executor = self._executor, None
        if mine is not None and mine[0] == os.getpid():
            mine[1].shutdown(wait=True, cancel_futures=True)

    def _ended(self, future: Future[None]) -> None:
        with self._lock:
            self._running -= 1


def wait() -> None:
    """Wait for work that has left its slot, so that it is recorded before the process ends."""
    global _executor
    with _lock:
        mine, _executor = _executor, None
    if mine is not None and mine[0] == os.getpid():
        mine[1].shutdown(wait=True)
    for side_threads in _all_side_threads:
        side_threads.wait()


def _watched(walls: Bulkhead, job: Job, work: Callable[[], None]) -> None:
    try:
        with walls.watched(job):
            work()
    finally:
        job.changed.set()


def _threads(walls: Bulkhead) -> ThreadPoolExecutor:
    """Return this process's threads; idle ones are reused."""
    global _executor
    with _lock:
        if _executor is None or _executor[0] != os.getpid():
            _executor = (os.getpid(), ThreadPoolExecutor(walls.most_jobs, "mailglass-slot"))
        return _executor[1]


def _log_failure(future: Future[None]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        telemetry.emit("mailglass.task.failed", level=logging.ERROR, error_type=type(error).__name__)
