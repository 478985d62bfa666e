"""Leadership among beats: a turn in the ledger that ends by itself.

The leader keeps its turn at every look. One that was killed, frozen or cut off does not, and within seconds another one
leads. A leader that thaws knows by its own clock that its time may be over, and rings nothing before it has asked.
"""

from __future__ import annotations

import logging
from typing import Final
from uuid import uuid4

from mailglass import clock, telemetry
from mailglass.errors import LedgerError, LedgerUnavailableError
from mailglass.ledger import turns
from mailglass.ledger.database import Runs

# seconds after which a leader that does not say otherwise is no longer one; it says so every second
LEASE: Final = 10.0
_NAME: Final = "mailglass.beat"


class Leader:
    """Holds, or waits for, the turn.

    Args:
        ledger: where it is kept.
        lease: seconds after which another beat takes over.
    """

    def __init__(self, ledger: Runs, lease: float = LEASE) -> None:
        self._ledger = ledger
        self._lease = lease
        self._holder = uuid4()
        self._until: float | None = None

    @property
    def in_time(self) -> bool:
        """Return whether the turn is this process's for certain, without a question to the ledger."""
        return self._until is not None and clock.monotonic() < self._until

    def leads(self) -> bool:
        """Keep the turn, or take it where nobody has it. Never raises.

        Returns:
            Whether this process leads now.
        """
        # from before the question: the ledger counts from later on
        asked = clock.monotonic()
        try:
            taken = turns.take(self._ledger, _NAME, self._holder, self._lease).taken
        except (LedgerUnavailableError, LedgerError) as error:
            telemetry.emit("mailglass.beat.ledger_lost", level=logging.WARNING, error_type=type(error).__name__)
            # nobody else can take over either; the rings that it would publish are about what the ledger holds
            return False
        led, self._until = self._until is not None, asked + self._lease if taken else None
        if taken != led:
            telemetry.emit("mailglass.beat.leads" if taken else "mailglass.beat.follows")
        return taken

    def resign(self) -> None:
        """Give the turn up, if it is held, so that another beat leads at once. Never raises."""
        if self._until is None:
            return
        self._until = None
        try:
            turns.end(self._ledger, _NAME, self._holder)
        except (LedgerUnavailableError, LedgerError) as error:
            telemetry.emit("mailglass.beat.ledger_lost", level=logging.WARNING, error_type=type(error).__name__)
