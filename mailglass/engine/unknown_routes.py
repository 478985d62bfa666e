"""Deliveries whose route or account this worker does not know: given back, because another worker may know it.

In a rolling deployment some workers have the new settings and some the old ones, and a worker may have been started
without its settings file. Only what no worker has known for ten minutes waits for a person.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from mailglass.engine.prepare import refusal
from mailglass.ledger import leases
from mailglass.ledger.database import Runs
from mailglass.ledger.leases import UNPLACED, Claimed, Verdict
from mailglass.ledger.lifecycle import Status

# seconds until it is offered again
_ELSEWHERE: Final = 15.0
# seconds after which a person is asked
_NOBODY_KNOWS: Final = 600.0


def without_route(ledger: Runs, deliveries: Sequence[Claimed]) -> list[Verdict]:
    """Return verdicts on claimed deliveries that this worker has no account for."""
    if not deliveries:
        return []
    since = leases.note_unplaced(ledger, [delivery.id for delivery in deliveries])
    return [_verdict(delivery, since.get(delivery.id, 0.0)) for delivery in deliveries]


def _verdict(delivery: Claimed, seconds: float) -> Verdict:
    if seconds >= _NOBODY_KNOWS:
        return refusal(delivery, Status.HELD, "no_route")
    delay = _ELSEWHERE * (1 + random.random())  # noqa: S311
    return Verdict(delivery.id, Status.QUEUED, None, UNPLACED, delay=delay, counted=False)
