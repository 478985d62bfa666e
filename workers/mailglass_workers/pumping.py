"""The pump: take expired leases back, ring lanes with due work. One process runs it at a time.

A process that dies or freezes during a run keeps its turn for seconds only. Two concurrent runs do no harm: a lease is
taken back once, and a lane has one ring.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import uuid4

from mailglass import clock, telemetry
from mailglass.doorbell import PUMP, SETTLE, WEBHOOKS
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import lanes, pauses, turns
from mailglass.ledger.events import EngineEvent
from mailglass.routing import Lane
from mailglass.runtime import Runtime
from mailglass.webhooks import process

# seconds after which an unanswered ring of `mailglass.settle` is lost; longer than the task runs
SETTLE_RING_TIMEOUT: Final = 60.0
# what a sweep may have queued again
_QUEUED: Final = frozenset({EngineEvent.RELEASED, EngineEvent.RESENT, EngineEvent.UNCERTAIN})
# seconds in which one run rings lanes, once it has read them; the next run rings the rest
BUDGET: Final = 10.0
# seconds between the beginnings of two runs; a run that takes longer is followed by a rest as long
INTERVAL: Final = 1.0
# seconds that a rest takes at the longest: well within what a turn may last
LONGEST_REST: Final = 60.0
# seconds after which a run that does not renew its turn counts as dead
LEASE: Final = 5.0


def take_turn(runtime: Runtime, *, eager: bool = False) -> float:
    """Run the pump, unless another process runs it, or did within the last second.

    Args:
        runtime: of the process.
        eager: run even if the last run ended within the last second.

    Returns:
        The seconds after which to try again.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    token = uuid4()
    turn = turns.take(runtime.database, PUMP, token, LEASE, eager=eager)
    if not turn.taken:
        return min(turn.seconds, INTERVAL)
    started = clock.monotonic()
    rest = INTERVAL

    def keep() -> None:
        turns.take(runtime.database, PUMP, token, LEASE)

    try:
        finished = run(runtime, keep)
        took = clock.monotonic() - started
        rest = min(max(INTERVAL - took, took), LONGEST_REST) if finished else 0.0
    finally:
        # or the turn ends by itself
        with suppress(LedgerUnavailableError):
            turns.end(runtime.database, PUMP, token, rest)
    return rest


def run(runtime: Runtime, keep: Callable[[], None] = lambda: None) -> bool:
    """Take expired leases back, settle overdue deliveries, and ring lanes with due work.

    Args:
        runtime: of the process.
        keep: called now and then, to renew the turn.

    Returns:
        Whether there was time to ring all lanes.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    started = clock.monotonic()
    ring_timeout, doorbell = runtime.settings.engine.ring_timeout, runtime.doorbell
    marks, moved = runtime.low_water, runtime.settler.sweep()
    paused = pauses.pauses(runtime.database)
    rung, woken, looked = 0, set[Lane](), float("-inf")

    def look() -> None:
        """Ring lanes with scheduled mail, which does not wait until all other lanes are read and rung."""
        nonlocal rung, looked
        keep()
        if clock.monotonic() - looked >= INTERVAL / 2:
            looked = clock.monotonic()
            found = list(pauses.unpaused(paused, lanes.lanes_woken(runtime.database, mark=marks.woken)))
            woken.update(found)
            rung += doorbell.ring(found)

    look()
    queued = {lane for lane, kind in moved if kind in _QUEUED}
    found = {*lanes.lanes_ready(runtime.database, after_page=look, pace=marks.ready), *queued}
    due = {*pauses.unpaused(paused, found), *woken}
    until = clock.monotonic() + BUDGET

    def go_on() -> bool:
        look()
        return clock.monotonic() < until

    repaired = doorbell.repair(due, ring_timeout, go_on)
    rung += repaired
    finished = clock.monotonic() < until
    if process.waiting(runtime.database, marks.webhooks_waiting):
        rung += doorbell.ring_task(WEBHOOKS, ring_timeout)
    if runtime.settler.waiting():
        rung += doorbell.ring_task(SETTLE, SETTLE_RING_TIMEOUT)
    uncertain = sum(kind == EngineEvent.UNCERTAIN for _, kind in moved)
    if moved or rung:
        telemetry.emit(
            "mailglass.pump",
            # workers that ended in the middle of a call have left these
            level=logging.WARNING if uncertain else logging.INFO,
            settled=len(moved),
            uncertain=uncertain,
            lanes=len(due),
            rung=rung,
            duration_ms=round((clock.monotonic() - started) * 1000),
        )
    return finished
