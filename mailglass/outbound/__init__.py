"""Saying what to send: `deliver_later`, `deliver_many`, `deliver`.

Each records first and rings after: once the ledger's row is committed the platform owes the mail, and the broker's
state can no longer change that. What is not to be sent after all is told to `mailglass.outbound.standing`, which who
only sends need not load.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailglass.outbound.later import DeliverLater, deliver_later
    from mailglass.outbound.many import deliver_many, deliver_many_or_raise
    from mailglass.outbound.now import deliver
    from mailglass.outbound.recording import Sendable

__all__ = [
    "DeliverLater",
    "Sendable",
    "deliver",
    "deliver_later",
    "deliver_many",
    "deliver_many_or_raise",
]

_HOMES = {
    "DeliverLater": "later",
    "Sendable": "recording",
    "deliver": "now",
    "deliver_later": "later",
    "deliver_many": "many",
    "deliver_many_or_raise": "many",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mailglass.outbound' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mailglass.outbound.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
