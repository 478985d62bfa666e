"""The worker's heartbeat: main loop, pool, broker and database, each noted where it is proved.

| part | is heard of when |
| --- | --- |
| loop | the consumer's loop goes round; while the broker is away, the pump's thread does |
| broker | the loop goes round while it is connected |
| pool | no task has run past its hard limit, and the pool takes tasks |
| database | the pump had an answer from the ledger |

A task that runs is no sign of a hang. One that outlives its hard time limit is: Celery ends it in a process, and cannot
in a thread.
"""

from __future__ import annotations

import math
from typing import Any, Final

from celery import bootsteps
from celery.worker import state

from mailglass import clock
from mailglass.celery import app
from mailglass.heartbeat import Heartbeat

# seconds between two rounds of an event loop that are noted
EVERY: Final = 2.0
# seconds between two looks at the pool
_LOOK: Final = 1.0
# seconds past the hard limit in which Celery may end a task
_GRACE: Final = 15.0
# seconds in which the pool takes a task that it was given
_TAKES: Final = 15.0


class PoolWatch:
    """Watch over the pool, from the requests that Celery knows of: it takes tasks, and ends them in time.

    Args:
        limit: the hard time limit of tasks, in seconds.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit + _GRACE
        self._active: dict[str, float] = {}
        self._not_taken_since: float | None = None

    def is_alive(self, now: float) -> bool:
        """Return whether no task has outlived its hard limit, and those that were given to the pool are taken.

        Args:
            now: by the monotonic clock.
        """
        try:
            active = {request.id for request in state.active_requests}
        except RuntimeError:
            # a thread of the pool has just taken a task
            return True
        self._active = {key: self._active.get(key, now) for key in active}
        if any(now - since > self._limit for since in self._active.values()):
            return False
        # while tasks run, those behind them wait for a slot
        if active or not state.reserved_requests:
            self._not_taken_since = None
            return True
        if self._not_taken_since is None:
            self._not_taken_since = now
        return now - self._not_taken_since <= _TAKES


class WorkerHeartbeat:
    """Heartbeat of this worker.

    Args:
        hostname: the worker's node name.
    """

    def __init__(self, hostname: str) -> None:
        self._heartbeat = Heartbeat("worker", named(hostname))
        self._pool = PoolWatch(float(app.conf.task_time_limit or math.inf))
        self._looked = -math.inf
        # the consumer waits for its broker: to start the worker anew would not bring it back
        self.connecting = False

    def beat_pump(self, reached: bool) -> None:
        """Note that the pump has looked.

        Args:
            reached: the database answered.
        """
        if reached:
            self._heartbeat.beat("database")
        if self.connecting:
            self.beat_loop(False)

    def beat_loop(self, connected: bool) -> None:
        """Note that the consumer's loop has gone round.

        Args:
            connected: to the broker.
        """
        now = clock.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        parts = ["loop", *(["broker"] if connected else []), *(["pool"] if self._pool.is_alive(now) else [])]
        self._heartbeat.beat(*parts)

    def end(self) -> None:
        """End the heartbeat with the worker."""
        self._heartbeat.end()


_current: WorkerHeartbeat | None = None


def current() -> WorkerHeartbeat | None:
    """Return this worker's heartbeat; None in a process that is no worker, or not started yet."""
    return _current


class Heartbeats(bootsteps.StartStopStep):
    """Bootstep that writes the worker's heartbeat."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Begin the heartbeat."""
        global _current
        _current = WorkerHeartbeat(worker.hostname)

    def stop(self, worker: Any) -> None:
        """End the heartbeat."""
        global _current
        if _current is not None:
            _current.end()
        _current = None


def named(hostname: str) -> str:
    """Return the name of a worker's heartbeat: "" for Celery's own node name, which is the only one of its machine."""
    return "" if str(hostname).partition("@")[0] == "celery" else str(hostname)


app.steps["worker"].add(Heartbeats)
