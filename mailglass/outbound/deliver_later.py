"""`deliver_later`: a Celery task object whose call records a delivery in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import Task
from celery.utils.threads import LocalStack

from mailglass.celery import app
from mailglass.errors import MessageError
from mailglass.ledger.session import NOT_GIVEN, NotGiven
from mailglass.mail.in_process import IN_PROCESS, REMEDY, InProcess

if TYPE_CHECKING:
    from celery.canvas import Signature

    from mailglass.ledger.session import AsyncSessionLike, SessionLike
    from mailglass.ledger.submit import Item, Recorded
    from mailglass.outbound.recording import Sendable
    from mailglass.outbound.results import DeliveryGroup, DeliveryResult
    from mailglass.routing.scope import AnyTenant

# options that Celery itself passes with a call, which change nothing about a delivery
_CANVAS_OPTIONS = {IN_PROCESS} | set(
    "task_id root_id parent_id group_id group_index reply_to replaced_task_nesting stamped_headers headers "
    "ignore_result retry retry_policy connection producer router add_to_parent argsrepr kwargsrepr".split()
)
# options by which Celery would continue in a worker
_FOLLOWERS = frozenset({"chain", "link", "link_error", "chord"})
# options of a call that Celery runs itself
_EAGER_OPTIONS = frozenset({"app", "logfile", "loglevel", "retries", "throw"})


class DeliverLater(Task):
    """Celery task that records a message in the ledger, for a worker to deliver.

    >>> from mailglass import Message, deliver_later, tenant
    >>> with tenant("acme"):
    ...     result = deliver_later.delay(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))
    ...     result.state
    'queued'

    A call publishes no message: countdown, eta, priority and expires are stored in the ledger, and the broker only
    carries a ring.
    """

    name = "mailglass.deliver_later"
    ignore_result = True
    typing = False
    # bound to the app when Celery first asks for it: binding reads the settings
    _app = app
    request_stack: Any = LocalStack()

    def run(self, message: Sendable, session: SessionLike | NotGiven = NOT_GIVEN) -> str:
        """Record a message in this process; returns the id of the delivery or group, for `deliver_later(message)`."""
        return str(self.apply_async((message,), {"session": session}).id)

    def delay(self, message: Sendable, session: SessionLike | NotGiven = NOT_GIVEN) -> DeliveryResult | DeliveryGroup:
        """Record a message for delivery as soon as possible.

        Args:
            message: a `Message` or a `Mailable`.
            session: a SQLAlchemy session or connection, or a psycopg connection, of the ledger's database. The delivery
                commits or rolls back with it. Workers are rung after the commit, by the pump if need be. None is an
                error.

        Returns:
            A `DeliveryResult` whose id is the delivery's; for several recipients a `DeliveryGroup` of them.

        Raises:
            SuppressedError: the recipient is suppressed.
            RouteError: no route for this tenant and stream.
            IdempotencyError: another message has the idempotency key.
            SessionError: the session belongs to another database than the ledger's.
            LedgerUnavailableError: the database cannot be reached. If it was lost during the call, the message may have
                been recorded. With an `idempotency_key` you can safely repeat the call.
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
        session: SessionLike | NotGiven = NOT_GIVEN,
        **options: Any,
    ) -> DeliveryResult | DeliveryGroup:
        """Record a message with Celery's options.

        Args:
            args: `(message,)`.
            kwargs: `message` and `session`, unless given otherwise.
            countdown: seconds until it is due.
            eta: the aware moment at which it is due.
            send_at: the same as `eta`.
            expires: seconds, or an aware moment, after which it is not sent any more.
            priority: 0 to 9, 9 the most urgent, on every broker.
            session: as for `delay`.
            options: `task_id`, a UUID, becomes the id of the first delivery, so that the same call again finds its
                deliveries. Options of Celery's canvas are ignored, and others are refused.

        Returns:
            As for `delay`.

        Raises:
            IdempotencyError: another message has this task_id.
            TypeError: an option that has no meaning for a delivery.
        """
        from mailglass.outbound.recording import record
        from mailglass.outbound.schedule import make_schedule

        message, session, first_id = _read_call(args, kwargs, session, options)
        schedule = make_schedule(countdown, eta, send_at, expires, priority)
        return _result(record(message, schedule, session, first_id))

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> DeliveryResult | DeliveryGroup:
        """Record a message in this process, as `apply_async` does; Celery's way of running a task eagerly."""
        options = {name: value for name, value in options.items() if name not in _EAGER_OPTIONS}
        return self.apply_async(args, kwargs, **options)

    async def adelay(
        self, message: Sendable, session: AsyncSessionLike | NotGiven = NOT_GIVEN
    ) -> DeliveryResult | DeliveryGroup:
        """Record a message like `delay`, from a coroutine. The event loop waits for neither database nor broker.

        >>> import asyncio
        >>> from mailglass import Message, deliver_later, tenant
        >>> async def main() -> str:
        ...     with tenant("acme"):
        ...         result = await deliver_later.adelay(
        ...             Message(to="ada@example.com", subject="Receipt 1001", text="Thank you.")
        ...         )
        ...         return await result.astate()
        >>> asyncio.run(main())
        'queued'

        If the awaiting task is canceled, the message is recorded as a whole or not at all. With `session` your commit
        or rollback decides as always.

        Args:
            message: a `Message` or a `Mailable`.
            session: a SQLAlchemy AsyncSession or AsyncConnection of the ledger's database. The delivery commits or
                rolls back with it. Workers are rung after the commit, by the pump if need be. None is an error.

        Returns:
            As for `delay`.

        Raises:
            MailglassError: as `delay` raises it.
        """
        return await self.aapply_async((message,), {"session": session})

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        send_at: datetime | None = None,
        expires: float | datetime | None = None,
        priority: int | None = None,
        session: AsyncSessionLike | NotGiven = NOT_GIVEN,
        **options: Any,
    ) -> DeliveryResult | DeliveryGroup:
        """Record a message with Celery's options, from a coroutine.

        Args:
            args: `(message,)`.
            kwargs: `message` and `session`, unless given otherwise.
            countdown: seconds until it is due.
            eta: the aware moment at which it is due.
            send_at: the same as `eta`.
            expires: seconds, or an aware moment, after which it is not sent any more.
            priority: 0 to 9, 9 the most urgent, on every broker.
            session: as for `adelay`.
            options: as for `apply_async`.

        Returns:
            As for `delay`.

        Raises:
            MailglassError: as `apply_async` raises it.
            TypeError: an option that has no meaning for a delivery.
        """
        from mailglass.outbound.recording import arecord
        from mailglass.outbound.schedule import make_schedule

        message, session, first_id = _read_call(args, kwargs, session, options)
        schedule = make_schedule(countdown, eta, send_at, expires, priority)
        return await arecord(message, schedule, session, first_id, _result)

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Signature:
        """Return a signature to call in this process, alone or in a `group`. It cannot pass a broker."""
        made = super().signature(args, *starargs, **starkwargs)
        made.options[IN_PROCESS] = InProcess()
        return made

    subtask = signature

    def AsyncResult(self, task_id: str, *, tenant: str | AnyTenant | None = None, **_: Any) -> DeliveryResult:
        """Return the result of an earlier call, by its delivery's id.

        Args:
            task_id: the id of the delivery.
            tenant: the owner; by default the tenant in scope, `ANY_TENANT` for any.

        Raises:
            TenantError: no tenant is in scope.
        """
        from mailglass.outbound.results import DeliveryResult

        return DeliveryResult(task_id, tenant)


def _read_call(
    args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, session: object, options: Mapping[str, Any]
) -> tuple[Any, Any, UUID | None]:
    """Return the message of a call, its session, and the id of its first delivery if one is given.

    Raises:
        TypeError: an argument or option that has no meaning for a delivery.
    """
    message, session = _arguments(args, kwargs, session)
    given = {name for name, value in options.items() if value or (value is not None and name not in _FOLLOWERS)}
    unknown = given - _CANVAS_OPTIONS
    if unknown & _FOLLOWERS:
        raise TypeError(f"nothing can follow deliver_later ({', '.join(sorted(unknown))}): {REMEDY}")
    if unknown:
        raise TypeError(
            f"deliver_later has no option {', '.join(sorted(unknown))}: "
            "countdown, eta, expires and priority are kept in the ledger; routes choose the queue"
        )
    return message, session, _as_uuid(options.get("task_id"))


def _result(pairs: Sequence[tuple[Item, Recorded]]) -> DeliveryResult | DeliveryGroup:
    """Return the result of a call from each of its items with its record.

    Raises:
        SuppressedError: all recipients are suppressed.
    """
    from mailglass.outbound.recording import raise_if_suppressed
    from mailglass.outbound.results import DeliveryGroup, DeliveryResult

    recorded = [answer for _, answer in pairs]
    raise_if_suppressed(recorded)
    first = pairs[0][0]
    results = [DeliveryResult(str(answer.id), first.lane.tenant) for answer in recorded]
    if len(results) == 1:
        return results[0]
    return DeliveryGroup(str(first.group_id), results, first.lane.tenant)


def _arguments(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, session: object) -> tuple[Any, Any]:
    values = dict(kwargs or {})
    positional = list(args or ())
    if positional:
        values["message"] = positional.pop(0)
    if positional:
        values["session"] = positional.pop(0)
    unknown = values.keys() - {"message", "session"}
    if positional or unknown or "message" not in values:
        raise TypeError("deliver_later takes a message, and optionally session=")
    if session is not NOT_GIVEN:
        if values.get("session", session) is not session:
            raise TypeError("deliver_later was given two sessions")
        values["session"] = session
    return values["message"], values.get("session", NOT_GIVEN)


def _as_uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value)) if value else None
    except ValueError:
        raise MessageError("task_id", "must be a UUID; for a name of your own use idempotency_key") from None


deliver_later = DeliverLater()


def _register(sender: Any, **_: Any) -> None:
    sender.register_task(deliver_later)


# registering reads the settings, which are not read by an import
if app.finalized:
    _register(app)
else:
    app.on_after_finalize.connect(_register, weak=False)
