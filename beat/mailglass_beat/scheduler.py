"""The scheduler: any number of beats may run, and the leader rings.

Nothing is stored. Every task may run twice or be missed, and a missed one is rung a moment later.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.beat import ScheduleEntry, Scheduler

from mailglass import telemetry
from mailglass.heartbeat import Heartbeat
from mailglass.runtime import get_runtime
from mailglass_beat.leader import Leader
from mailglass_beat.schedule import SCHEDULE

_STANDBY = 1.0
# seconds after which a ring counts as lost; idle workers notice sooner, and while no worker runs rings collect at this
# pace
_RING_TIMEOUT = 60.0


class LedgerScheduler(Scheduler):
    """Scheduler of the tasks in `mailglass_beat.schedule`: it rings them while it is the leader."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._leader = Leader(get_runtime().database)
        self._heartbeat = Heartbeat("beat")
        super().__init__(*args, **kwargs)

    # Celery would open a broker connection here, and wait for it for ever
    producer = None

    def setup_schedule(self) -> None:
        """Use the schedule of this package."""
        self.merge_inplace(SCHEDULE)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Ring the tasks that are due, if this beat leads; returns the seconds until the next tick."""
        leads = self._leader.leads()
        self._heartbeat.beat("loop", *(["database"] if self._leader.heard else []))
        if not leads:
            return _STANDBY
        return min(float(super().tick(*args, **kwargs)), _STANDBY)

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> None:
        """Ring a task, unless a ring of it is pending, or this process was frozen until another beat may lead."""
        if not self._leader.in_time:
            return
        if advance:
            self.reserve(entry)
        try:
            get_runtime().doorbell.ring_task(entry.task, _RING_TIMEOUT)
        except Exception as error:
            telemetry.emit("mailglass.beat.failed", level=logging.ERROR, error_type=type(error).__name__)

    def close(self) -> None:
        """Give up the lead."""
        self._leader.resign()
        self._heartbeat.end()
        super().close()
