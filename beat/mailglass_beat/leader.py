"""Leadership among beats: a turn in the ledger that ends by itself.

The leader renews its turn at every tick. A killed, frozen or disconnected leader does not, and within seconds another
beat leads. A leader that thaws sees by its own clock that its time may be over, and rings nothing before it has the
turn again.
"""

from __future__ import annotations

import logging
from typing import Final
from uuid import uuid4

from mailglass import clock, telemetry
from mailglass.errors import LedgerError, LedgerUnavailableError
from mailglass.ledger import turns
from mailglass.ledger.database import Runs

# seconds after which a turn ends; the leader renews it every second
LEASE: Final = 10.0
_NAME: Final = "mailglass.beat"


class Leader:
    """Candidate for the lead: it holds the turn, or waits for it.

    Args:
        ledger: keeps the turn.
        lease: seconds after which another beat takes over.
    """

    def __init__(self, ledger: Runs, lease: float = LEASE) -> None:
        self._ledger = ledger
        self._lease = lease
        self._holder = uuid4()
        self._until: float | None = None
        self._heard = False

    @property
    def heard(self) -> bool:
        """True if the ledger answered the last question."""
        return self._heard

    @property
    def in_time(self) -> bool:
        """True if this process certainly has the turn, without asking the ledger."""
        return self._until is not None and clock.monotonic() < self._until

    def leads(self) -> bool:
        """Renew the turn, or take it if it is free. Never raises.

        Returns:
            Whether this process leads now.
        """
        # measured before the statement, since the ledger counts from a later moment
        asked = clock.monotonic()
        try:
            taken = turns.take(self._ledger, _NAME, self._holder, self._lease).taken
        except (LedgerUnavailableError, LedgerError) as error:
            telemetry.emit("mailglass.beat.ledger_lost", level=logging.WARNING, error_type=type(error).__name__)
            # no other beat can take over either, and its rings concern the ledger's work
            self._heard = False
            return False
        self._heard = True
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
