"""The answers of `cancel` and `cancel_many`: what was taken back, and what cannot be because it may have been sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CancelOutcome(Enum):
    """The answer of `DeliveryResult.cancel`; true only where the delivery was taken back.

    CANCELED: it was taken back, and is never sent.
    IN_DOUBT: it may have been sent, because the outcome of an attempt is not known. It can only be settled.
    LEFT: a worker has it, or it has ended.
    """

    CANCELED = "canceled"
    IN_DOUBT = "in_doubt"
    LEFT = "left"

    def __bool__(self) -> bool:
        return self is CancelOutcome.CANCELED


@dataclass(frozen=True, slots=True)
class CancelCounts:
    """The answer of `cancel_many` and `DeliveryGroup.cancel`; true where at least one was taken back.

    Attributes:
        canceled: deliveries that were taken back, and are never sent.
        in_doubt: deliveries that may have been sent, because the outcome of an attempt is not known. They were left,
            and can only be settled.
    """

    canceled: int
    in_doubt: int = 0

    def __bool__(self) -> bool:
        return self.canceled > 0
