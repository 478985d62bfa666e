"""Places within the limits, taken for a mail before anybody can see it."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.engine.account_selector import Placement
from mailglass.engine.prepare import Ready
from mailglass.limits import Grant


@dataclass(slots=True)
class Reservation:
    """What one mail has taken: an account, and its places there.

    Attributes:
        placement: with the account that is to send it; with none where no account can be used now.
        limited: the limit that is reached; None where the mail may go.
        used: the mail has been handed to the engine with it, which gives back what it does not need.
    """

    placement: Placement
    limited: Grant | None = None
    used: bool = False

    def placed(self, item: Ready) -> Placement:
        """Return the placement for the delivery as it was claimed."""
        self.used = True
        for placed in self.placement.placed:
            placed.items = [item]
        return self.placement
