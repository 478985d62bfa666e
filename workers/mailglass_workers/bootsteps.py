"""Bootsteps: a worker that has been idle rings the pump, so that beat is an economy and no single point of failure."""

from __future__ import annotations

import random
from typing import Any

from celery import bootsteps
from celery.worker import state

from mailglass.celery import app
from mailglass.doorbell import PUMP
from mailglass.runtime import get_runtime

_INTERVAL = 1.0


class IdlePump(bootsteps.StartStopStep):
    """Every second or so, rings the pump if no task was received since the last look."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._seen = -1
        self._entry: Any = None

    def start(self, worker: Any) -> None:
        interval = _INTERVAL + random.random() / 2  # noqa: S311
        self._entry = worker.timer.call_repeatedly(interval, self._look)

    def stop(self, worker: Any) -> None:
        if self._entry is not None:
            self._entry.cancel()

    def _look(self) -> None:
        handled = sum(state.total_count.values())
        idle, self._seen = handled == self._seen, handled
        if idle and not state.active_requests:
            runtime = get_runtime()
            runtime.doorbell.ring_task(PUMP, patience=runtime.settings.engine.ring_patience)


app.steps["worker"].add(IdlePump)
