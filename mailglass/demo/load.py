"""The application's part: every order becomes a mail, by each of the ways the API has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mailglass.demo.mails import confirmation
from mailglass.demo.orders import Order
from mailglass.outbound.deliver_later import deliver_later
from mailglass.outbound.deliver_many import deliver_many
from mailglass.routing.scope import tenant

_BATCHED = "globex"
_MOST_BATCHED = 100
# one delivery is asked for in two seconds, and before all others then
_LATER, _URGENT = 2.0, 9


@dataclass(slots=True)
class Submitted:
    """The load that was asked for.

    Attributes:
        orders: by the delivery that confirms them.
        repeated: deliveries that a repeated call made, which should have made none.
    """

    orders: dict[UUID, Order] = field(default_factory=dict)
    repeated: list[UUID] = field(default_factory=list)


def submit(orders: Sequence[Order], run: str, submitted: Submitted, tick: Callable[[], object]) -> None:
    """Ask for a confirmation of each order.

    The last one is asked for later, a batch at once, the others one by one, and one of them twice.

    Args:
        orders: at least one.
        run: for idempotency keys.
        submitted: filled while it goes.
        tick: called between calls.
    """
    singles, batch, last = split(orders)
    _one(last, run, submitted, countdown=_LATER, priority=_URGENT)
    for order in singles:
        _one(order, run, submitted)
        tick()
    if singles:
        _again(singles[0], run, submitted)
    _many(batch, run, submitted)
    tick()


def split(orders: Sequence[Order]) -> tuple[list[Order], list[Order], Order]:
    """Return the orders that are confirmed one by one, those of one shop that go as a batch, and the one for later."""
    *rest, last = orders
    batch = [order for order in reversed(rest) if order.tenant == _BATCHED][: min(_MOST_BATCHED, len(rest) // 6)]
    batched = {order.number for order in batch}
    return [order for order in rest if order.number not in batched], batch, last


def _one(
    order: Order, run: str, submitted: Submitted, countdown: float | None = None, priority: int | None = None
) -> None:
    with tenant(order.tenant):
        result = deliver_later.apply_async((confirmation(order, run),), countdown=countdown, priority=priority)
    submitted.orders[UUID(str(result.id))] = order


def _again(order: Order, run: str, submitted: Submitted) -> None:
    """Make the same call once more, as an application does that did not hear the answer."""
    with tenant(order.tenant):
        result = deliver_later.delay(confirmation(order, run))
    if (delivery := UUID(str(result.id))) not in submitted.orders:
        submitted.repeated.append(delivery)


def _many(orders: Sequence[Order], run: str, submitted: Submitted) -> None:
    if not orders:
        return
    with tenant(_BATCHED):
        results = deliver_many(confirmation(order, run) for order in orders)
    for order, result in zip(orders, results, strict=True):
        if result.error is not None:
            raise result.error
        submitted.orders[result.ids[0]] = order
