"""Results of `cancel` and `cancel_many`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CancelOutcome(Enum):
    """Result of `DeliveryResult.cancel`; true only if the delivery was canceled.

    >>> from mailglass import Message, deliver_later
    >>> later = deliver_later.apply_async((Message(to="ada@example.com", subject="Hi", text="Hi."),), countdown=60)
    >>> later.cancel()
    <CancelOutcome.CANCELED: 'canceled'>

    CANCELED: it is never sent.
    IN_DOUBT: it may have been sent, because the outcome of an attempt is not known. It can only be settled.
    LEFT: a worker has claimed it, or it has ended.
    """

    CANCELED = "canceled"
    IN_DOUBT = "in_doubt"
    LEFT = "left"

    def __bool__(self) -> bool:
        return self is CancelOutcome.CANCELED


@dataclass(frozen=True, slots=True)
class CancelCounts:
    """Result of `cancel_many` and `DeliveryGroup.cancel`; true if at least one delivery was canceled.

    >>> from mailglass import Message, cancel_many, deliver_later
    >>> later = deliver_later.apply_async((Message(to="ada@example.com", subject="Hi", text="Hi."),), countdown=60)
    >>> cancel_many(stream="transactional").canceled
    1

    Attributes:
        canceled: number of canceled deliveries, which are never sent.
        in_doubt: number of deliveries that may have been sent, because the outcome of an attempt is not known. They can
            only be settled.
    """

    canceled: int
    in_doubt: int = 0

    def __bool__(self) -> bool:
        return self.canceled > 0
