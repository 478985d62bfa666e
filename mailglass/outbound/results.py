"""Results of `deliver_later`: Celery's AsyncResult, read from the ledger instead of a result backend."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from celery.exceptions import TimeoutError as CeleryTimeoutError

from mailglass import clock
from mailglass.celery import app
from mailglass.errors import DeliveryError, DeliveryNotFoundError, SuppressedError, SuppressionType
from mailglass.ledger.lifecycle import Status
from mailglass.outbound.cancel_results import CancelCounts, CancelOutcome
from mailglass.routing.scope import ANY_TENANT, AnyTenant, check_tenant, current_tenant
from mailglass.runtime import get_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailglass.ledger.deliveries import Delivery

    class AsyncResult:
        """Celery's, which has no types: with them, a result can be told from a group."""

        task_id: str

        def __init__(self, id: str, **_: Any) -> None: ...

else:
    from celery.result import AsyncResult

T = TypeVar("T")
_SETTLED = frozenset({Status.SENT, Status.FAILED, Status.SUPPRESSED, Status.CANCELED})
# of a group: the most urgent status first
_BY_URGENCY: list[str] = [
    Status.HELD,
    Status.UNCERTAIN,
    Status.SENDING,
    Status.CLAIMED,
    Status.QUEUED,
    Status.FAILED,
    Status.SUPPRESSED,
    Status.CANCELED,
    Status.SENT,
]
_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.5


class DeliveryResult(AsyncResult):
    """Result of one recorded delivery. Every access reads the ledger.

    >>> from mailglass import DeliveryResult, Message, deliver_later, tenant
    >>> with tenant("acme"):
    ...     sent = deliver_later.delay(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))
    ...     result = DeliveryResult(sent.id)
    ...     result.state, result.ready()
    ('queued', False)

    Args:
        id: of the delivery.
        tenant: the owner; by default the tenant in scope, `ANY_TENANT` for any.

    Attributes:
        id: the delivery's id.

    Raises:
        TenantError: no tenant is in scope.
    """

    id: str

    def __init__(self, id: str, tenant: str | AnyTenant | None = None, **_: Any) -> None:
        super().__init__(id, app=app)
        self._tenant = _bound(tenant)

    @property
    def delivery(self) -> Delivery:
        """Return the delivery from the ledger.

        Raises:
            DeliveryNotFoundError: there is no such delivery, for example after a rollback, or it is another tenant's.
        """
        from mailglass.ledger import deliveries

        return deliveries.get(get_runtime().database, self.id, self._tenant)

    @property
    def state(self) -> str:
        """Return the status: queued, claimed, sending, sent, failed, suppressed, uncertain, held or canceled."""
        return self.delivery.status.value

    status = state

    def ready(self) -> bool:
        """Return whether the provider has accepted the delivery, or it has ended otherwise."""
        return Status(self.state) in _SETTLED

    def successful(self) -> bool:
        """Return whether the provider has accepted the delivery."""
        return self.state == Status.SENT

    def failed(self) -> bool:
        """Return whether the delivery has ended without being sent."""
        return Status(self.state) in _SETTLED - {Status.SENT}

    @property
    def result(self) -> str | None:
        """Return the provider's message id, once it has accepted the mail."""
        return self.delivery.provider_message_id

    info = result

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = _FIRST_WAIT,
        wait_if_held: bool = False,
        **_: Any,
    ) -> Delivery:
        """Wait until the provider has accepted the delivery, it has ended otherwise, or it is held.

        Args:
            timeout: seconds; None waits without limit.
            propagate: raise the recorded error; otherwise return the delivery in any status.
            interval: seconds between the first reads; it grows.
            wait_if_held: continue to wait while the delivery is `held`.

        Returns:
            The `Delivery`.

        Raises:
            celery.exceptions.TimeoutError: the delivery has not ended.
            SuppressedError: the recipient is suppressed.
            DeliveryError: it has ended without being sent, or is `held`; holds the recorded reason.
        """
        deadline = None if timeout is None else clock.monotonic() + timeout
        ended = _SETTLED if wait_if_held else _SETTLED | {Status.HELD}
        wait = interval
        while True:
            delivery = self.delivery
            if delivery.status in ended:
                if propagate:
                    _raise_recorded(delivery)
                return delivery
            if deadline is not None and clock.monotonic() + wait > deadline:
                raise CeleryTimeoutError(f"delivery {self.id} is still {delivery.status.value}")
            time.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT)

    wait = get

    async def adelivery(self) -> Delivery:
        """Return the delivery from the ledger, as `delivery` does, without blocking the event loop.

        Raises:
            DeliveryNotFoundError: there is no such delivery, or it is another tenant's.
        """
        return await _in_thread(lambda: self.delivery)

    async def astate(self) -> str:
        """Return the status, as `state` does, without blocking the event loop."""
        return (await self.adelivery()).status.value

    async def aready(self) -> bool:
        """Return what `ready` does, without blocking the event loop."""
        return await _in_thread(self.ready)

    async def asuccessful(self) -> bool:
        """Return what `successful` does, without blocking the event loop."""
        return await _in_thread(self.successful)

    async def afailed(self) -> bool:
        """Return what `failed` does, without blocking the event loop."""
        return await _in_thread(self.failed)

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = _FIRST_WAIT,
        wait_if_held: bool = False,
    ) -> Delivery:
        """Wait like `get`, without blocking the event loop. Canceling the wait leaves the delivery as it is.

        Waits at the same time share their reads, so many of them cost the ledger no more than a few.

        Args:
            timeout: seconds; it also ends the wait for a database that does not answer. 0 reads once. None waits
                without limit.
            propagate: raise the recorded error; otherwise return the delivery in any status.
            interval: seconds between the first reads; it grows.
            wait_if_held: continue to wait while the delivery is `held`.

        Returns:
            The `Delivery`.

        Raises:
            celery.exceptions.TimeoutError: the delivery has not ended.
            SuppressedError: the recipient is suppressed.
            DeliveryError: it has ended without being sent, or is `held`; holds the recorded reason.
        """
        import asyncio

        from mailglass.outbound.shared_reads import read_status

        ended = _SETTLED if wait_if_held else _SETTLED | {Status.HELD}
        last: Delivery | None = None
        try:
            async with asyncio.timeout(timeout or None):
                last = await self.adelivery()
                while last.status not in ended and timeout != 0:
                    await asyncio.sleep(interval)
                    interval = min(interval * 1.5, _LONGEST_WAIT)
                    status = await read_status(str(last.id))
                    if status is None or status in ended:
                        last = await self.adelivery()
        except TimeoutError:
            pass
        if last is None or last.status not in ended:
            seen = "of unknown status" if last is None else last.status.value
            raise CeleryTimeoutError(f"delivery {self.id} is still {seen}")
        if propagate:
            _raise_recorded(last)
        return last

    def cancel(self) -> CancelOutcome:
        """Cancel the delivery, if no worker has claimed it and it cannot have been sent.

        Returns:
            True if it was canceled, as a truth value; otherwise the reason.
        """
        from mailglass.ledger import deliveries

        answer = deliveries.cancel(get_runtime().database, [self.id], self.delivery.tenant)
        if answer.canceled:
            return CancelOutcome.CANCELED
        return CancelOutcome.IN_DOUBT if answer.in_doubt else CancelOutcome.LEFT

    async def acancel(self) -> CancelOutcome:
        """Cancel the delivery like `cancel`, without blocking the event loop."""
        return await _in_thread(self.cancel)

    def revoke(self, *_: Any, **__: Any) -> None:
        """Cancel, by Celery's name."""
        self.cancel()

    def forget(self) -> None:
        """Do nothing: there is no result backend, and the ledger keeps its records."""

    def __repr__(self) -> str:
        return f"<DeliveryResult: {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return DeliveryResult, (self.id, ANY_TENANT if self._tenant is None else self._tenant)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run a read or write of the ledger in a thread. Programs without an event loop load nothing of it."""
    from mailglass.outbound.event_loop import in_thread

    return await in_thread(work)


def _bound(tenant: str | AnyTenant | None) -> str | None:
    """Return the tenant whose deliveries may be read; None for any."""
    if isinstance(tenant, AnyTenant):
        return None
    return current_tenant() if tenant is None else check_tenant(tenant)


def _raise_recorded(delivery: Delivery) -> None:
    if delivery.status is Status.SUPPRESSED:
        scope = (delivery.last_error or "").removeprefix("suppressed_")
        known = scope in list(SuppressionType)
        raise SuppressedError(SuppressionType(scope) if known else SuppressionType.ADDRESS, delivery.id)
    if delivery.status is not Status.SENT:
        raise DeliveryError(delivery.id, delivery.status.value, delivery.last_error)


class DeliveryGroup(Sequence[DeliveryResult]):
    """Results of one message to several recipients, in their order.

    >>> from mailglass import Message, deliver_later, tenant
    >>> with tenant("acme"):
    ...     group = deliver_later.delay(
    ...         Message(to=["ada@example.com", "bob@example.com"], subject="Rota", text="Here it is.")
    ...     )
    ...     len(group), group.state
    (2, 'queued')

    Attributes:
        id: of the group.
    """

    id: str

    def __init__(self, id: str, results: Sequence[DeliveryResult], tenant: str | AnyTenant | None = None) -> None:
        self.id = id
        self._results = list(results)
        self._tenant = _bound(tenant)

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> DeliveryResult: ...

    @overload
    def __getitem__(self, index: slice) -> list[DeliveryResult]: ...

    def __getitem__(self, index: int | slice) -> DeliveryResult | list[DeliveryResult]:
        return self._results[index]

    @property
    def states(self) -> dict[UUID, str]:
        """Return the status of each delivery by id, by one statement."""
        from mailglass.ledger import deliveries

        states = deliveries.states(get_runtime().database, [result.id for result in self._results], self._tenant)
        return {delivery_id: state.status.value for delivery_id, state in states.items()}

    @property
    def state(self) -> str:
        """Return the first of these that a delivery has.

        held, uncertain, sending, claimed, queued, failed, suppressed, canceled, sent.

        Raises:
            DeliveryNotFoundError: a delivery is missing, for example after a rollback.
        """
        states = self.states
        if len(states) < len(self):
            raise DeliveryNotFoundError(f"a delivery of group {self.id} is not in the ledger of this tenant")
        return min(states.values(), key=_BY_URGENCY.index)

    status = state

    def ready(self) -> bool:
        """Return whether all are accepted or have ended otherwise; False if one is missing, as after a rollback."""
        states = self.states
        return len(states) == len(self) and all(Status(state) in _SETTLED for state in states.values())

    def successful(self) -> bool:
        """Return whether the provider has accepted all of them."""
        states = self.states
        return len(states) == len(self) and set(states.values()) == {Status.SENT}

    def failed(self) -> bool:
        """Return whether any of them ended without being sent."""
        return any(Status(state) in _SETTLED - {Status.SENT} for state in self.states.values())

    def cancel(self) -> CancelCounts:
        """Cancel deliveries that no worker has claimed and that cannot have been sent.

        Returns:
            The number of canceled ones, and of those that may have been sent.
        """
        from mailglass.ledger import deliveries

        ids = [result.id for result in self]
        answer = deliveries.cancel(get_runtime().database, ids, self[0].delivery.tenant)
        return CancelCounts(len(answer.canceled), len(answer.in_doubt))

    async def astates(self) -> dict[UUID, str]:
        """Return what `states` does, without blocking the event loop."""
        return await _in_thread(lambda: self.states)

    async def astate(self) -> str:
        """Return what `state` does, without blocking the event loop."""
        return await _in_thread(lambda: self.state)

    async def aready(self) -> bool:
        """Return what `ready` does, without blocking the event loop."""
        return await _in_thread(self.ready)

    async def asuccessful(self) -> bool:
        """Return what `successful` does, without blocking the event loop."""
        return await _in_thread(self.successful)

    async def afailed(self) -> bool:
        """Return what `failed` does, without blocking the event loop."""
        return await _in_thread(self.failed)

    async def acancel(self) -> CancelCounts:
        """Cancel deliveries like `cancel`, without blocking the event loop."""
        return await _in_thread(self.cancel)

    async def aget(
        self, timeout: float | None = None, propagate: bool = True, wait_if_held: bool = False
    ) -> list[Delivery]:
        """Wait for all deliveries, within one timeout; see `DeliveryResult.aget`."""
        deadline = None if timeout is None else clock.monotonic() + timeout
        return [
            await result.aget(
                None if deadline is None else max(deadline - clock.monotonic(), 0.0),
                propagate,
                wait_if_held=wait_if_held,
            )
            for result in self._results
        ]

    def revoke(self, *_: Any, **__: Any) -> None:
        """Cancel, by Celery's name."""
        self.cancel()

    def get(self, timeout: float | None = None, propagate: bool = True, wait_if_held: bool = False) -> list[Delivery]:
        """Wait for all deliveries, within one timeout; see `DeliveryResult.get`."""
        deadline = None if timeout is None else clock.monotonic() + timeout
        return [
            result.get(
                None if deadline is None else max(deadline - clock.monotonic(), 0.0),
                propagate,
                wait_if_held=wait_if_held,
            )
            for result in self._results
        ]

    def __repr__(self) -> str:
        return f"<DeliveryGroup: {self.id} [{len(self)}]>"
