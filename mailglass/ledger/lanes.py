"""Lanes that have due work, found without a look at those whose mail is due later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from mailglass import clock
from mailglass.ledger.database import Runs
from mailglass.ledger.low_water import LowWater, Pace, by_moment, seen_by
from mailglass.routing import Lane

# lanes that one statement answers
_PAGE: Final = 2000
# moments of lanes that one statement walks over
_MOMENTS: Final = 2000
# deliveries that one statement lets count as due
_READY: Final = 5000


def lanes_due(ledger: Runs) -> list[Lane]:
    """Return the lanes that have due work, each once, in order."""
    return sorted({*lanes_woken(ledger), *lanes_ready(ledger)})


def lanes_ready(
    ledger: Runs, size: int = _PAGE, after_page: Callable[[], None] = lambda: None, pace: Pace | None = None
) -> Iterator[Lane]:
    """Yield the lanes that have work which was due when it was written, or that `lanes_woken` made ready.

    Args:
        ledger: runs the statements.
        size: lanes that one statement answers.
        after_page: called between two statements.
        pace: when to look; where it is not yet time, no lane is answered.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    if pace is not None and not pace.due():
        return
    after, seconds = Lane("", "", ""), 0.0
    while True:
        begun = clock.monotonic()
        page = [
            Lane(row.queue, row.tenant_id, row.stream)
            for row in ledger.run(
                "lanes_ready", {"tenant": after.tenant, "queue": after.queue, "stream": after.stream, "size": size}
            )
        ]
        seconds += clock.monotonic() - begun
        yield from page
        if len(page) < size:
            if pace is not None:
                pace.learn(seconds)
            return
        after = page[-1]
        after_page()


def lanes_woken(ledger: Runs, size: int = _MOMENTS, mark: LowWater[datetime] | None = None) -> list[Lane]:
    """Return the lanes of mail that was put off and is due by now.

    Few such moments are only read: what they ring is soon claimed. Of many the oldest are made ready, so that the next
    look does not walk over them again. The lanes of all that was made ready are answered, because no later look finds
    them but that of `lanes_ready`, which is paced.

    Args:
        ledger: runs the statements.
        size: moments of lanes to walk over; the lanes of later ones that were not made ready are answered by the next
            call.
        mark: how far this process's looks have come; None to start at the beginning.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    mark = mark or by_moment()
    scan = mark.start()
    rows = ledger.run("lanes_woken", {"size": size, "after": scan.after})
    # what is left to be claimed is rung again by the next look
    mark.learn(scan, min(seen_by(rows[0].looked_at), *(row.first or row.looked_at for row in rows)))
    woken = [row for row in rows if row.moments]
    if sum(row.moments for row in rows) >= size:
        woken += ledger.run("ready", {"size": max(size, _READY), "after": scan.after})
    return list({Lane(row.queue, row.tenant_id, row.stream): None for row in woken})
