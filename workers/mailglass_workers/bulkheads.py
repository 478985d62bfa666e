"""Bootstep: a worker's bulkhead, made before its pool forks, and kept in step with the size of the pool."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from mailglass.celery import app
from mailglass.engine import bulkhead
from mailglass.engine.bulkhead import Bulkhead
from mailglass.settings import get_settings

_INTERVAL = 1.0


class Bulkheads(bootsteps.StartStopStep):
    """Counts the slow provider calls of this worker.

    A prefork pool that ends processes while it runs (autoscaling, a number of tasks or an amount of memory for each)
    takes a process without a task for idle. There slow calls hold their slots.
    """

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, autoscale: Any = None, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._entry: Any = None
        ends = autoscale or worker.max_tasks_per_child or worker.max_memory_per_child
        forks = worker.pool_cls.__module__.endswith("concurrency.prefork")
        slots = max(_most(autoscale), int(worker.concurrency or 1))
        bulkhead.install(Bulkhead(slots, leaves=not (forks and ends), lease=get_settings().engine.lease))

    def start(self, worker: Any) -> None:
        """Follow the size of the pool."""
        self._entry = worker.timer.call_repeatedly(_INTERVAL, _resize, (worker,))

    def stop(self, worker: Any) -> None:
        """Stop following the size of the pool."""
        if self._entry is not None:
            self._entry.cancel()


def _resize(worker: Any) -> None:
    walls = bulkhead.current()
    if walls is not None and worker.pool is not None:
        walls.resize(int(worker.pool.num_processes))


def _most(autoscale: Any) -> int:
    """Return the largest size of an autoscaled pool, from `--autoscale=10,3`; 0 without one."""
    if not autoscale:
        return 0
    return int(autoscale.partition(",")[0]) if isinstance(autoscale, str) else int(autoscale[0])


app.steps["worker"].add(Bulkheads)
