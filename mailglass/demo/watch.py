"""Watching a run: where its deliveries stand, until all are final and nothing more is on its way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from uuid import UUID

from mailglass.demo.facts import pieces, webhooks_waiting
from mailglass.demo.outside import Outside
from mailglass.ledger import deliveries
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import FINAL

_INTERVAL = 0.2
# longer than the lease on webhooks that a killed worker held; seconds
_QUIET_TIMEOUT = 70.0


class Watch:
    """Looks at a growing set of deliveries; final ones are not looked at again.

    Args:
        database: the ledger.
        ids: the deliveries, read anew at each look.
        show: gets how many are final, and all of them by status.
        look: called at each look.
    """

    def __init__(
        self,
        database: Database,
        ids: Collection[UUID],
        show: Callable[[int, Mapping[str, int]], None],
        look: Callable[[], None],
    ) -> None:
        self._database = database
        self._ids = ids
        self._show = show
        self._look = look
        self._final: dict[UUID, str] = {}
        self._last = 0.0

    def tick(self) -> bool:
        """Look, unless the last time is not long ago. Returns whether it looked and all are final."""
        if time.monotonic() - self._last < _INTERVAL:
            return False
        self._look()
        statuses: Counter[str] = Counter()
        for piece in pieces([key for key in self._ids if key not in self._final]):
            for key, state in deliveries.states(self._database, piece).items():
                if state.status in FINAL:
                    self._final[key] = state.status.value
                else:
                    statuses[state.status.value] += 1
        statuses.update(self._final.values())
        self._show(len(self._final), statuses)
        self._last = time.monotonic()
        return len(self._final) == len(self._ids)

    def until_final(self, timeout: float) -> bool:
        """Wait until all are final; false when `timeout` seconds passed without one more becoming it."""
        best, deadline = -1, 0.0
        while not self.tick():
            if len(self._final) > best:
                best, deadline = len(self._final), time.monotonic() + timeout
            elif time.monotonic() > deadline:
                return False
            time.sleep(_INTERVAL / 4)
        return True

    def until_quiet(self, outside: Outside, accounts: Collection[str]) -> bool:
        """Wait until the providers have told all they know and it is understood; false when that took too long."""
        deadline = time.monotonic() + _QUIET_TIMEOUT
        while outside.counts()["webhooks_pending"] or webhooks_waiting(self._database, accounts):
            if time.monotonic() > deadline:
                return False
            self._look()
            time.sleep(_INTERVAL)
        return True
