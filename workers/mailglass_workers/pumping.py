"""One run of the pump: take expired leases back, ring what has due work."""

from __future__ import annotations

from itertools import chain
from typing import Final

from mailglass import clock, telemetry
from mailglass.doorbell import SETTLE, WEBHOOKS
from mailglass.ledger import lanes
from mailglass.runtime import Runtime
from mailglass.webhooks import process

# seconds after which a ring of `mailglass.settle` that nobody answered is taken for lost; longer than it runs
SETTLE_PATIENCE: Final = 60.0
# seconds that one run rings lanes for; those that are left are the next one's
BUDGET: Final = 2.0


def run(runtime: Runtime) -> None:
    """Take expired leases back, settle what waited long enough, and ring what has due work.

    Args:
        runtime: whose deliveries.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    started = clock.monotonic()
    patience, doorbell = runtime.settings.engine.ring_patience, runtime.doorbell
    moved = runtime.settler.sweep()
    woken = lanes.lanes_woken(runtime.database)
    # mail that somebody put off to a moment does not wait until a hundred thousand lanes are read
    rung = doorbell.ring(woken)
    due = set(chain(woken, lanes.lanes_ready(runtime.database)))
    rung += doorbell.repair(due, patience, lambda: clock.monotonic() - started < BUDGET)
    if process.waiting(runtime.database):
        rung += doorbell.ring_task(WEBHOOKS, patience)
    if runtime.settler.waiting():
        rung += doorbell.ring_task(SETTLE, SETTLE_PATIENCE)
    if moved or rung:
        telemetry.emit(
            "mailglass.pump",
            settled=len(moved),
            lanes=len(due),
            rung=rung,
            duration_ms=round((clock.monotonic() - started) * 1000),
        )
