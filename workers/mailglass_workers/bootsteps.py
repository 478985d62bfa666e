"""Bootsteps: any worker, busy or idle, runs the pump if none has for a second. With beat, fewer workers try.

A thread of the worker's main process does it, since slots may all be busy while a provider answers. In the gevent and
eventlet pools it is a green thread. While another worker pumps, a try is one index probe in the ledger.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from typing import Any, Final

from celery import bootsteps

from mailglass import telemetry
from mailglass.celery import app
from mailglass.runtime import get_runtime
from mailglass_workers import heartbeats, pumping

_LONGEST_PAUSE: Final = 5.0
# seconds that a fork waits for a run of the pump
_FORK_WAITS: Final = 2.0


class _ForkGuard:
    """Guard against forks during a run of the pump.

    A child would inherit the locks that the pump's thread holds at that moment, and no thread would release them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._held = False

    def before(self) -> None:
        self._held = self.lock.acquire(timeout=_FORK_WAITS)

    def in_parent(self) -> None:
        if self._held:
            self._held = False
            self.lock.release()

    def in_child(self) -> None:
        self.lock, self._held = threading.Lock(), False


_guard = _ForkGuard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_guard.before, after_in_parent=_guard.in_parent, after_in_child=_guard.in_child)


class Pump(bootsteps.StartStopStep):
    """Bootstep that runs the pump in a thread, whenever the turn is free."""

    # its processes are forked by then
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        """Start the thread."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="mailglass pump", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """End the thread, and wait for its run."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_LONGEST_PAUSE)

    def _run(self) -> None:
        pause, failures = random.random(), 0  # noqa: S311 - spreads, hides nothing
        while not self._ended.wait(pause):
            try:
                with _guard.lock:
                    pause = pumping.take_turn(get_runtime())
                failures = 0
            except Exception as error:
                failures += 1
                pause = min(pumping.INTERVAL * failures, _LONGEST_PAUSE)
                telemetry.emit("mailglass.pump.failed", level=logging.WARNING, error_type=type(error).__name__)
            if (heartbeat := heartbeats.current()) is not None:
                heartbeat.beat_pump(failures == 0)
            # workers that wait for the same moment do not ask at the same time
            pause += random.uniform(0.0, 0.1)  # noqa: S311


app.steps["worker"].add(Pump)
