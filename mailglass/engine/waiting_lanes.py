"""Lanes whose mail waits for a slot; to claim it, only to put it back, would be work for nothing."""

from __future__ import annotations

import threading
from typing import Final

from mailglass import clock
from mailglass.engine.assignment import Admitted
from mailglass.engine.bulkhead import Bulkhead
from mailglass.routing import Lane

# seconds after which a lane is looked into again: mail of another account may have come in meanwhile
_LOOKED_INTO: Final = 2.0
_REMEMBERED: Final = 10_000


class WaitingLanes:
    """Lanes whose last claim found no slot for any of its accounts. Safe to use from several threads.

    Args:
        bulkhead: of this worker; None where nothing ever waits for a slot.
    """

    def __init__(self, bulkhead: Bulkhead | None) -> None:
        self._bulkhead = bulkhead
        self._lanes: dict[Lane, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def learn(self, lane: Lane, admitted: Admitted) -> None:
        """Note whether a batch of this lane found no slot."""
        if admitted.without_slot and not admitted.batches:
            with self._lock:
                if len(self._lanes) >= _REMEMBERED:
                    self._lanes.clear()
                self._lanes[lane] = (clock.monotonic() + _LOOKED_INTO, admitted.without_slot)

    def waits(self, lane: Lane) -> bool:
        """Return whether a claim of this lane would only be put back."""
        known = self._lanes.get(lane)
        if known is None or self._bulkhead is None:
            return False
        until, accounts = known
        if clock.monotonic() < until and not any(self._bulkhead.has_room(account) for account in accounts):
            return True
        with self._lock:
            self._lanes.pop(lane, None)
        return False
