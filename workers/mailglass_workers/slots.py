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

_lock = threading.Lock()
_executor: tuple[int, ThreadPoolExecutor] | None = None


def run(work: Callable[[], None]) -> None:
    """Run a batch of mails in this slot; leave the slot when a provider call of it turns out to be slow.

    The call then goes on in its thread, and its batch is recorded there. A process that is told to stop waits for it.
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


def run_beside(work: Callable[[], None]) -> None:
    """Run what asks a provider for something else than to send; leave the slot where that takes long.

    Such tasks have one ring each, so they need not be counted.
    """
    walls = bulkhead.current()
    if walls is None or not walls.leaves:
        work()
        return
    future = _threads(walls).submit(work)
    try:
        future.result(SLOW)
    except TimeoutError:
        if future.done():
            raise
        future.add_done_callback(_log_failure)


def wait() -> None:
    """Wait for what goes on beside the slots of this process: what was begun is recorded before it ends."""
    global _executor
    with _lock:
        mine, _executor = _executor, None
    if mine is not None and mine[0] == os.getpid():
        mine[1].shutdown(wait=True)


def _watched(walls: Bulkhead, job: Job, work: Callable[[], None]) -> None:
    try:
        with walls.watched(job):
            work()
    finally:
        job.changed.set()


def _threads(walls: Bulkhead) -> ThreadPoolExecutor:
    """This process's threads; idle ones are used again."""
    global _executor
    with _lock:
        if _executor is None or _executor[0] != os.getpid():
            _executor = (os.getpid(), ThreadPoolExecutor(walls.most_jobs, "mailglass-slot"))
        return _executor[1]


def _log_failure(future: Future[None]) -> None:
    error = future.exception()
    if error is not None:
        telemetry.emit("mailglass.task.failed", level=logging.ERROR, error_type=type(error).__name__)
