"""`deliver`: send one message in this process, by the same path as a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mailglass.errors import (
    DeliveryError,
    MessageError,
    RateLimitError,
    RateLimitType,
    SuppressedError,
    SuppressionType,
)
from mailglass.ledger.session import NOT_GIVEN
from mailglass.mail.mailable import Mailable
from mailglass.mail.message import Message
from mailglass.outbound.recording import Sendable, items_of, raise_if_suppressed, record_items
from mailglass.outbound.schedule import Schedule
from mailglass.routing import Mode
from mailglass.routing.scope import current_tenant
from mailglass.runtime import get_runtime

if TYPE_CHECKING:
    from mailglass.engine.reservation import Reservation
    from mailglass.ledger.database import Database
    from mailglass.ledger.deliveries import Delivery
    from mailglass.ledger.submit import Item

# seconds after which workers send the delivery, if the caller has died
_GRACE = 60.0


def deliver(message: Sendable) -> Delivery:
    """Deliver one message in this process, now, by the same path as a worker.

    >>> from mailglass import Message, deliver, tenant
    >>> with tenant("acme"):
    ...     delivery = deliver(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))
    >>> delivery.status.value
    'sent'

    Args:
        message: a `Message` or a `Mailable` with exactly one recipient.

    Returns:
        The delivery after its attempt: `sent`, `queued` for a retry, `uncertain` or `held`.

    Raises:
        SuppressedError: the recipient is suppressed.
        DeliveryError: it failed for good; holds the recorded reason.
        RateLimitError: a limit is reached; nothing is recorded or sent, now or later.
        RouteError: there is no route for the tenant and stream.
        LedgerUnavailableError: the database cannot be reached. If the message was recorded, workers send it. With an
            `idempotency_key` you can safely repeat the call.
    """
    if isinstance(message, Message | Mailable) and len(message.to) != 1:
        raise MessageError("to", "deliver() takes one recipient; use deliver_later or deliver_many for several")
    from mailglass.ledger import deliveries
    from mailglass.ledger.lifecycle import Status

    runtime = get_runtime()
    schedule = Schedule(grace=_GRACE, mode=Mode.NOW)
    (item,) = items_of(message, current_tenant(), schedule)
    with _places_for(item) as reservation:
        (recorded,) = record_items([item], schedule, NOT_GIVEN)
        raise_if_suppressed([recorded])
        if not recorded.known:
            runtime.engine.run_these(item.lane, [item.id], reservation)
    delivery = deliveries.get(runtime.database, recorded.id)
    if delivery.status is Status.SUPPRESSED:
        raise SuppressedError(SuppressionType.ADDRESS, delivery.id)
    if delivery.status is Status.FAILED:
        raise DeliveryError(delivery.id, delivery.status, delivery.last_error)
    return delivery


async def adeliver(message: Sendable) -> Delivery:
    """Deliver one message now, like `deliver`, from a coroutine. The event loop goes on meanwhile.

    >>> import asyncio
    >>> from mailglass import Message, adeliver, tenant
    >>> async def main() -> str:
    ...     with tenant("acme"):
    ...         delivery = await adeliver(
    ...             Message(to="ada@example.com", subject="Receipt 1001", text="Thank you.")
    ...         )
    ...     return delivery.status.value
    >>> asyncio.run(main())
    'sent'

    At most ten of a process are sent at a time, and the others wait for them. If the awaiting task is canceled while
    it waits, nothing is recorded. After that the delivery goes on to its end: what is recorded is owed.

    Args:
        message: a `Message` or a `Mailable` with exactly one recipient.

    Returns:
        As for `deliver`.

    Raises:
        MailglassError: as `deliver` raises it.
    """
    from mailglass.outbound.event_loop import Kind, in_thread

    return await in_thread(lambda: deliver(message), Kind.PROVIDER)


@contextmanager
def _places_for(item: Item) -> Iterator[Reservation | None]:
    """Take the mail's places within the limits before it is recorded, and return unused ones.

    A recorded mail is owed. So a limit is checked before the record; one that is reached meanwhile delays the mail.
    Neither a repeated mail nor a suppressed recipient needs a place.

    Raises:
        RateLimitError: a limit is reached; nothing was recorded.
    """
    engine, database = get_runtime().engine, get_runtime().database
    if _needs_no_place(database, item):
        yield None
        return
    reservation = engine.reserve(item)
    try:
        limited = reservation.limited
        if limited is not None:
            raise RateLimitError(limited.type or RateLimitType.PER_ACCOUNT, limited.delay)
        yield reservation
    finally:
        engine.give_back(reservation)


def _needs_no_place(database: Database, item: Item) -> bool:
    from mailglass.ledger.submit import existing
    from mailglass.ledger.suppressions import blocked_copies

    if item.idempotency_key is not None and existing(database.run, item) is not None:
        return True
    return bool(blocked_copies(database, item.lane.tenant, item.lane.stream, [item.recipient]))
