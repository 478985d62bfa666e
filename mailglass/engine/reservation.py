"""Reservation of an account and of places within the limits, taken for a mail before anybody can see it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from mailglass.engine.assignment import Admitted
from mailglass.engine.prepare import ReadyDelivery


class Reservation:
    """Account and places within the limits of one mail, handed over or withdrawn once.

    Args:
        admitted: with the account that is to send the mail; with none where no account can be used now.
        calls: gives back the worker's slot for the provider call.
    """

    def __init__(self, admitted: Admitted, calls: ExitStack) -> None:
        self.limited = admitted.limited
        """The limit that is reached, or None if the mail may go."""
        self._admitted: Admitted | None = admitted
        self._calls = calls

    def hand_over(self, item: ReadyDelivery, calls: ExitStack) -> Admitted | None:
        """Return the reserved account with the delivery as it was claimed, or None if nothing is reserved.

        Args:
            item: the mail's delivery.
            calls: gives back the worker's slot from here on.
        """
        admitted = self._admitted
        if admitted is None or not admitted.batches:
            return None
        self._admitted = None
        calls.enter_context(self._calls.pop_all())
        return replace(admitted, batches=tuple(replace(batch, deliveries=(item,)) for batch in admitted.batches))

    def withdraw(self) -> Admitted | None:
        """Give back the worker's slot; return what else is to be given back, or None if it was handed over."""
        admitted, self._admitted = self._admitted, None
        self._calls.close()
        return admitted
