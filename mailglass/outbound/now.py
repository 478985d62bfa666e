"""`deliver`: one message in this process, now, by the same path as a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailglass.errors import (
    DeliveryError,
    MessageError,
    RateLimitError,
    RateLimitType,
    SuppressedError,
    SuppressionType,
)
from mailglass.mailable import Mailable
from mailglass.message import Message
from mailglass.outbound.recording import Sendable, raise_if_suppressed, record
from mailglass.outbound.schedule import Schedule
from mailglass.runtime import get_runtime

if TYPE_CHECKING:
    from mailglass.ledger.deliveries import Delivery

# a delivery sent in the caller's process is due for the workers after this, should the caller die; seconds
_GRACE = 60.0


def deliver(message: Sendable) -> Delivery:
    """Deliver one message in this process, now, by the same path as a worker.

    Args:
        message: to exactly one recipient.

    Returns:
        The delivery after its attempt: `sent`, or `queued` when it will be tried again, `uncertain` or `held`.

    Raises:
        SuppressedError: the recipient is suppressed.
        DeliveryError: it failed for good; holds what was recorded.
        RateLimitError: a limit is reached; nothing is sent, now or later, since nobody would wait for it.
        RouteError: as for `deliver_later`.
        LedgerUnavailableError: the database cannot be reached. What was recorded by then is sent by the workers: with
            an `idempotency_key` the same call again is safe.
    """
    if isinstance(message, Message | Mailable) and len(message.to) != 1:
        raise MessageError("to", "deliver() takes one recipient; use deliver_later or deliver_many for several")
    from mailglass.ledger import deliveries
    from mailglass.ledger.lifecycle import Status

    runtime = get_runtime()
    ((item, recorded),) = record(message, Schedule(grace=_GRACE), None)
    raise_if_suppressed([recorded])
    if not recorded.known:
        limited = runtime.engine.run_these(item.lane, [item.id]).limited
        if limited is not None and deliveries.cancel(runtime.database, [item.id], item.lane.tenant, forget_key=True):
            raise RateLimitError(limited.type or RateLimitType.PER_ACCOUNT, limited.delay)
    delivery = deliveries.get(runtime.database, recorded.id)
    if delivery.status is Status.SUPPRESSED:
        raise SuppressedError(SuppressionType.ADDRESS, delivery.id)
    if delivery.status is Status.FAILED:
        raise DeliveryError(delivery.id, delivery.status, delivery.last_error)
    return delivery
