"""Sizes of batches, so that lanes take turns every half second whatever the provider's speed."""

from __future__ import annotations

import threading
from typing import Final

from mailglass.routing import Lane

# Providers keep several requests in flight. Fewer mails than those carry take as long, which would look like a slower
# provider and make the next piece smaller still: down to one mail at a time.
_LEAST: Final = 16
_LEAST_OF_A_CALL: Final = 4
_FIRST: Final = 50
_WEIGHT: Final = 0.5
_REMEMBERED: Final = 10_000


class BatchSizer:
    """Sizes of claims and provider calls, by the seconds per mail of each lane. Safe to use from several threads.

    Args:
        most: deliveries in one claim at the most.
        slice: seconds that one batch should take.
    """

    def __init__(self, most: int, slice: float) -> None:
        self._most = most
        self._slice = slice
        self._seconds: dict[Lane, float] = {}
        self._lock = threading.Lock()

    def claim_size(self, lane: Lane) -> int:
        """Return the number of deliveries to claim: what a slice has time for, as far as is known."""
        seconds = self._seconds.get(lane)
        size = _FIRST if seconds is None else int(self._slice / seconds)
        return max(min(_LEAST, self._most), min(self._most, size))

    def chunk_size(self, lane: Lane, batch_size: int) -> int:
        """Return the number of mails for one provider call.

        It is at most half a slice's worth, so that a batch can end between two calls, and at least a quarter of what
        the provider takes.

        Args:
            lane: of the mails.
            batch_size: mails that one call of the provider takes.
        """
        seconds = self._seconds.get(lane)
        if seconds is None:
            return batch_size
        return max(1, batch_size // _LEAST_OF_A_CALL, min(batch_size, int(self._slice / 2 / seconds)))

    def learn(self, lane: Lane, mails: int, seconds: float) -> None:
        """Remember how long so many mails took."""
        if mails <= 0:
            return
        measured = max(seconds / mails, 1e-6)
        with self._lock:
            if len(self._seconds) >= _REMEMBERED:
                self._seconds.clear()
            known = self._seconds.get(lane, measured)
            self._seconds[lane] = known + (measured - known) * _WEIGHT
