"""Alerts: log lines for operators, at the level of warnings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from mailglass import telemetry
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.routing import Lane

# deliveries of one call that get a line each; the others are counted
_LINES: Final = 10


def alert_uncertain(lane: Lane, account: str, verdicts: Sequence[Verdict]) -> None:
    """Log deliveries that may have been sent, with nobody knowing."""
    uncertain = [verdict for verdict in verdicts if verdict.status is Status.UNCERTAIN]
    for verdict in uncertain[:_LINES]:
        telemetry.emit(
            "mailglass.delivery.uncertain",
            level=logging.WARNING,
            lane=str(lane),
            account=account,
            delivery_id=verdict.id,
            reason=verdict.reason,
        )
    if len(uncertain) > _LINES:
        telemetry.emit(
            "mailglass.delivery.uncertain",
            level=logging.WARNING,
            lane=str(lane),
            account=account,
            count=len(uncertain) - _LINES,
            reason="more",
        )
