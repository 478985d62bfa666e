"""Saying what to send: `deliver_later`, `deliver_many`, `deliver`.

Each records first and rings after: once the ledger's row is committed the platform owes the mail, and the broker's
state can no longer change that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Union
from uuid import UUID

from celery import Task

from mailglass import clock
from mailglass.batch_results import BatchResults, ItemOutcome, ItemResult
from mailglass.celery import app
from mailglass.errors import (
    BatchFailedError,
    BatchFailureType,
    DeliveryError,
    IdempotencyError,
    MailglassError,
    MessageError,
    RateLimitError,
    RateLimitType,
    RouteError,
    SuppressedError,
    SuppressionType,
)
from mailglass.ids import uuid7
from mailglass.ledger.submit import Item, Recorded, Runner, submit
from mailglass.mailable import Mailable
from mailglass.message import Message
from mailglass.routing import Lane, RouteContext
from mailglass.runtime import get_runtime
from mailglass.tenancy import current_tenant

if TYPE_CHECKING:
    from mailglass.ledger.deliveries import Delivery
    from mailglass.results import DeliveryGroup, DeliveryResult

Sendable = Union[Message, Mailable]  # noqa: UP007 - read by Celery at run time

DEFAULT_PRIORITY = 5
CHUNK = 500
# a delivery sent in the caller's process is due for the workers after this, should the caller die; seconds
_SYNC_GRACE = 60.0
_FARTHEST = 10 * 366 * 86400.0

# what Celery itself passes along with a call, which changes nothing about a delivery
_CANVAS_OPTIONS = frozenset(
    "task_id root_id parent_id group_id group_index reply_to replaced_task_nesting stamped_headers headers "
    "ignore_result retry retry_policy connection producer router add_to_parent argsrepr kwargsrepr".split()
)


@dataclass(frozen=True, slots=True)
class _When:
    """Celery's manners, as the ledger keeps them. `grace`: seconds that the workers wait for the caller to send it."""

    delay: float = 0.0
    grace: float = 0.0
    lifetime: float | None = None
    priority: int = DEFAULT_PRIORITY

    @property
    def now(self) -> bool:
        """Whether the workers are to be rung at once."""
        return self.delay + self.grace <= 0


def _when(
    countdown: float | None,
    eta: datetime | None,
    send_at: datetime | None,
    expires: float | datetime | None,
    priority: int | None,
) -> _When:
    if sum(given is not None for given in (countdown, eta, send_at)) > 1:
        raise MessageError("eta", "give one of eta, send_at and countdown")
    eta = send_at if eta is None else eta
    delay = _seconds(countdown, "countdown") if countdown is not None else 0.0
    if eta is not None:
        delay = _seconds_until(eta, "eta")
    lifetime: float | None = None
    if expires is not None:
        lifetime = _seconds_until(expires, "expires") if isinstance(expires, datetime) else _seconds(expires, "expires")
        if lifetime <= 0:
            raise MessageError("expires", "lies in the past")
    if priority is not None and (type(priority) is not int or priority not in range(10)):
        raise MessageError("priority", "must be 0 to 9; 9 is the most urgent on every broker")
    return _When(max(delay, 0.0), lifetime=lifetime, priority=DEFAULT_PRIORITY if priority is None else priority)


def _seconds_until(moment: datetime, field: str) -> float:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise MessageError(field, "must be a datetime with a time zone")
    return _seconds((moment - clock.now()) / timedelta(seconds=1), field)


def _seconds(value: object, field: str) -> float:
    # NaN compares with nothing
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _FARTHEST:
        raise MessageError(field, "must be seconds as a number, at most ten years")
    return float(value)


def _items(message: Sendable, tenant: str, when: _When, first_id: UUID | None = None) -> list[Item]:
    """One item for each recipient; those of one message share its content."""
    if not isinstance(message, Message | Mailable):
        raise MessageError("message", f"must be a Message or a Mailable, not {type(message).__name__}")
    runtime = get_runtime()
    settings = runtime.settings
    route = runtime.router.resolve(RouteContext(tenant, str(message.stream)))
    account = settings.accounts[route.accounts[0]]
    if message.from_ is None and account.sender is None and settings.default_from is None:
        raise MessageError("from_", "missing: name a sender, or set `from` for the account or default_from")
    body = message.content()
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    lane = Lane(route.queue, tenant, str(message.stream))
    message_id = uuid7()
    several = len(message.to) > 1
    mailable = body["mailable"]["class"] if isinstance(message, Mailable) else None
    digest = None
    if message.idempotency_key is not None:
        if several:
            raise MessageError(
                "idempotency_key", "allowed with exactly one `to`: each recipient is a delivery of its own"
            )
        digest = hashlib.blake2b(f"{message.to[0].key}\n{content}".encode(), digest_size=16).hexdigest()
    return [
        Item(
            id=first_id if first_id is not None and position == 0 else uuid7(),
            lane=lane,
            message_id=message_id,
            content=content,
            recipient=recipient,
            frozen=mailable is None,
            group_id=message_id if several else None,
            mailable=mailable,
            idempotency_key=message.idempotency_key,
            digest=digest,
            priority=when.priority,
            delay=when.delay,
            grace=when.grace,
            lifetime=when.lifetime,
        )
        for position, recipient in enumerate(message.to)
    ]


def _check_repeated(item: Item, recorded: Recorded) -> None:
    if recorded.known and item.idempotency_key is not None and recorded.digest != item.digest:
        raise IdempotencyError(
            f"another message was accepted under this idempotency key as delivery {recorded.id}: use a new key"
        )


def _submit(message: Sendable, when: _When, session: Any, first_id: UUID | None = None) -> list[tuple[Item, Recorded]]:
    runtime = get_runtime()
    items = _items(message, current_tenant(), when, first_id)
    run: Runner = runtime.database.run if session is None else _runner(session)
    recorded = submit(run, items)
    for item, answer in zip(items, recorded, strict=True):
        _check_repeated(item, answer)
    if any(not answer.known and answer.status == "queued" for answer in recorded) and when.now:
        lane = items[0].lane
        if session is None:
            runtime.doorbell.ring([lane])
        else:
            _ring_after_commit(session, lane)
    return list(zip(items, recorded, strict=True))


def _raise_if_suppressed(recorded: Sequence[Recorded]) -> None:
    """One recipient who is suppressed, or several of whom all are, is the caller's to know."""
    scopes = [answer.suppressed_by for answer in recorded if answer.suppressed_by is not None]
    if len(scopes) == len(recorded):
        raise SuppressedError(SuppressionType(scopes[0]), recorded[0].id)


class DeliverLater(Task):
    """`deliver_later.delay(message)`: record a message now, deliver it soon.

    A Celery task object whose call records the delivery in the ledger instead of publishing a message: countdown, eta,
    priority and expires land in the ledger, none in the broker.
    """

    name = "mailglass.deliver_later"
    ignore_result = True
    typing = False

    def run(self, message: Sendable, session: Any = None) -> str:
        """Record in this process, as `deliver_later(message)` does; returns the delivery's (or the group's) id."""
        return str(self.apply_async((message,), {"session": session}).id)

    def delay(self, message: Sendable, session: Any = None) -> DeliveryResult | DeliveryGroup:
        """Record a message for delivery as soon as possible.

        Args:
            message: a `Message` or a `Mailable`.
            session: a SQLAlchemy session or connection of the caller's: the delivery commits or rolls back with it.

        Returns:
            A `DeliveryResult` whose id is the delivery's; for several recipients a `DeliveryGroup` of them.

        Raises:
            SuppressedError: the recipient is suppressed.
            RouteError: no route for this tenant and stream.
            LedgerUnavailableError: the database cannot be reached; nothing was recorded.
        """
        return self.apply_async((message,), {"session": session})

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        send_at: datetime | None = None,
        expires: float | datetime | None = None,
        priority: int | None = None,
        **options: Any,
    ) -> DeliveryResult | DeliveryGroup:
        """Record a message with Celery's options.

        Args:
            args: `(message,)`.
            kwargs: `session`, as for `delay`.
            countdown: seconds until it is due.
            eta: the aware moment at which it is due; `send_at` is another word for it.
            expires: seconds, or an aware moment, after which it is no longer sent.
            priority: 0 to 9, 9 the most urgent, on every broker.
            options: what Celery's canvas passes along is ignored; anything else is refused.

        Raises:
            TypeError: an option that has no meaning for a delivery.
        """
        from mailglass.results import DeliveryGroup, DeliveryResult

        message, session = _arguments(args, kwargs)
        unknown = {name for name, value in options.items() if value is not None} - _CANVAS_OPTIONS
        if unknown:
            raise TypeError(
                f"deliver_later has no option {', '.join(sorted(unknown))}: "
                "countdown, eta, expires and priority are kept in the ledger; routes choose the queue"
            )
        when = _when(countdown, eta, send_at, expires, priority)
        pairs = _submit(message, when, session, _as_uuid(options.get("task_id")))
        recorded = [answer for _, answer in pairs]
        _raise_if_suppressed(recorded)
        results: list[DeliveryResult] = [DeliveryResult(str(answer.id)) for answer in recorded]
        if len(results) == 1:
            return results[0]
        return DeliveryGroup(str(pairs[0][0].group_id), results)

    def AsyncResult(self, task_id: str, **_: Any) -> DeliveryResult:
        """The result of an earlier call, by its delivery's id."""
        from mailglass.results import DeliveryResult

        return DeliveryResult(task_id)


def _arguments(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> tuple[Any, Any]:
    values = dict(kwargs or {})
    positional = list(args or ())
    if positional:
        values["message"] = positional.pop(0)
    if positional:
        values["session"] = positional.pop(0)
    unknown = values.keys() - {"message", "session"}
    if positional or unknown or "message" not in values:
        raise TypeError("deliver_later takes a message, and optionally session=")
    return values["message"], values.get("session")


def _as_uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value)) if value else None
    except ValueError:
        return None


deliver_later: DeliverLater = app.register_task(DeliverLater())


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
        RouteError, LedgerUnavailableError: as for `deliver_later`.
    """
    if isinstance(message, Message | Mailable) and len(message.to) != 1:
        raise MessageError("to", "deliver() takes one recipient; use deliver_later or deliver_many for several")
    from mailglass.ledger import deliveries
    from mailglass.ledger.lifecycle import Status

    runtime = get_runtime()
    ((item, recorded),) = _submit(message, _When(grace=_SYNC_GRACE), None)
    _raise_if_suppressed([recorded])
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


def deliver_many(
    messages: Iterable[Sendable],
    *,
    countdown: float | None = None,
    eta: datetime | None = None,
    send_at: datetime | None = None,
    expires: float | datetime | None = None,
    priority: int | None = None,
    session: Any = None,
) -> BatchResults:
    """Record many messages: one statement for every few hundred, answers in input order.

    Args:
        messages: any iterable; a generator is read as it goes.
        countdown, eta, send_at, expires, priority: as for `deliver_later.apply_async`, for all of them.
        session: as for `deliver_later.delay`.

    Returns:
        A sequence of one `ItemResult` a message, in a few bytes each. A message that cannot be accepted does not stop
        the others.
    """
    when = _when(countdown, eta, send_at, expires, priority)
    results = BatchResults()
    for chunk in _chunked(messages, CHUNK):
        for result in _deliver_chunk(chunk, when, session):
            results.append(result)
    return results


def deliver_many_or_raise(messages: Iterable[Sendable], **options: Any) -> BatchResults:
    """As `deliver_many`, but raises where a message was neither queued nor known before.

    Raises:
        BatchFailedError: `partial_failure` or `all_failed`; its results tell which. What was queued stays queued.
    """
    results = deliver_many(messages, **options)
    failed = sum(result.outcome in (ItemOutcome.INVALID, ItemOutcome.SUPPRESSED) for result in results)
    if failed:
        kind = BatchFailureType.ALL_FAILED if failed == len(results) else BatchFailureType.PARTIAL_FAILURE
        raise BatchFailedError(kind, results, failed)
    return results


def _chunked(messages: Iterable[Sendable], size: int) -> Iterator[list[Sendable]]:
    iterator = iter(messages)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _deliver_chunk(chunk: Sequence[Sendable], when: _When, session: Any) -> list[ItemResult]:
    runtime = get_runtime()
    tenant = current_tenant()
    prepared: list[list[Item] | MailglassError] = []
    for message in chunk:
        try:
            prepared.append(_items(message, tenant, when))
        except (MessageError, RouteError) as error:
            prepared.append(error)
    items = [item for entry in prepared if isinstance(entry, list) for item in entry]
    run: Runner = runtime.database.run if session is None else _runner(session)
    answers = iter(submit(run, items) if items else ())
    results: list[ItemResult] = []
    for entry in prepared:
        if isinstance(entry, MailglassError):
            results.append(ItemResult(ItemOutcome.INVALID, error=entry))
        else:
            results.append(_item_result(entry, [next(answers) for _ in entry]))
    lanes = {item.lane for item in items}
    if when.now:
        if session is None:
            runtime.doorbell.ring(lanes)
        else:
            for lane in lanes:
                _ring_after_commit(session, lane)
    return results


def _item_result(items: Sequence[Item], recorded: Sequence[Recorded]) -> ItemResult:
    ids = tuple(answer.id for answer in recorded)
    if all(answer.suppressed_by is not None for answer in recorded):
        return ItemResult(ItemOutcome.SUPPRESSED, ids)
    if recorded[0].known:
        try:
            _check_repeated(items[0], recorded[0])
        except IdempotencyError as error:
            return ItemResult(ItemOutcome.INVALID, error=error)
        return ItemResult(ItemOutcome.DUPLICATE, ids)
    return ItemResult(ItemOutcome.QUEUED, ids)


def _runner(session: Any) -> Runner:
    """Runs statements inside the caller's transaction."""
    from mailglass.ledger.database import run_on

    connection = _connection(session)
    return lambda name, params: run_on(connection, name, params)


def _connection(session: Any) -> Any:
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(session, Connection):
        return session
    if isinstance(session, Session | scoped_session):
        return session.connection()
    raise TypeError(
        f"session must be a SQLAlchemy Session or Connection, not {type(session).__name__}; "
        "with an AsyncSession use `await session.run_sync(lambda s: deliver_later.delay(message, session=s))`"
    )


def _ring_after_commit(session: Any, lane: Lane) -> None:
    from mailglass.aftercommit import ring_after_commit

    ring_after_commit(session, lane, get_runtime().doorbell)
