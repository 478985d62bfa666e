"""`deliver_many`: a few hundred messages in each statement, and a result for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from mailglass.errors import (
    BatchFailedError,
    BatchFailureType,
    IdempotencyError,
    LedgerError,
    LedgerUnavailableError,
    MailglassError,
    MessageError,
)
from mailglass.ledger.session import NOT_GIVEN, NotGiven, async_session, runner_of
from mailglass.ledger.submit import Item, Recorded, Runner, submit
from mailglass.outbound.batch_results import BatchResults, ItemOutcome, ItemResult
from mailglass.outbound.recording import Sendable, check_repeated, is_new, items_of, make_ready, ring
from mailglass.outbound.schedule import Schedule, expires_before_due, make_schedule
from mailglass.routing.scope import current_tenant
from mailglass.runtime import get_runtime

if TYPE_CHECKING:
    from mailglass.ledger.session import AsyncSessionLike, SessionLike

# deliveries in one statement, and characters of their content, which one message may exceed
CHUNK = 500
CHUNK_SIZE = 8 * 1024 * 1024
# the same where the driver writes the statement in the event loop, which it would hold up for too long
LOOP_CHUNK = 100
LOOP_CHUNK_SIZE = 256 * 1024
# messages that are read from an iterable before the rest of an event loop takes its turn
TURN = 20

# a message as it is to be recorded, or why it cannot be
Prepared = list[Item] | MailglassError


def deliver_many(
    messages: Iterable[Sendable],
    *,
    countdown: float | None = None,
    eta: datetime | None = None,
    send_at: datetime | None = None,
    expires: float | datetime | None = None,
    priority: int | None = None,
    session: SessionLike | NotGiven = NOT_GIVEN,
) -> BatchResults:
    """Record many messages: one statement for every few hundred deliveries, results in input order.

    >>> from mailglass import Message, deliver_many, tenant
    >>> with tenant("acme"):
    ...     results = deliver_many(
    ...         Message(to=f"reader{number}@example.com", subject="News", text="Hello.") for number in range(3)
    ...     )
    >>> results
    <BatchResults: 3 queued>

    Args:
        messages: any iterable. A generator is read step by step, and at most one statement's messages are held. Each
            message belongs to the tenant that is in scope when it is read.
        countdown: seconds until all of them are due.
        eta: the aware moment at which they are due.
        send_at: the same as `eta`.
        expires: seconds, or an aware moment, after which they are not sent any more.
        priority: 0 to 9, 9 the most urgent.
        session: as for `deliver_later.delay`.

    Returns:
        One `ItemResult` for each message, in a few bytes each. A message that cannot be accepted does not stop the
        others.

    Raises:
        BatchFailedError: the database was lost, or refused a statement, after some messages had been recorded. Its
            results cover all messages that were read. Those of the last statement are `unknown`, or `invalid` if they
            were certainly not recorded. If each has an `idempotency_key`, you can give the same messages again.
        LedgerUnavailableError: the database was lost with the first statement.
        LedgerError: the database refused the first statement.
        TenantError: no tenant is in scope for a message. This error, or one of the iterable itself, ends the batch
            without results. Messages recorded before stay recorded.
    """
    due = make_schedule(countdown, eta, send_at, expires, priority)
    _check_call(session)
    results = BatchResults()
    for prepared in _chunked(messages, due):
        _record_chunk(results, prepared, due, session)
    return results


async def adeliver_many(
    messages: Iterable[Sendable] | AsyncIterable[Sendable],
    *,
    countdown: float | None = None,
    eta: datetime | None = None,
    send_at: datetime | None = None,
    expires: float | datetime | None = None,
    priority: int | None = None,
    session: AsyncSessionLike | NotGiven = NOT_GIVEN,
) -> BatchResults:
    """Record many messages like `deliver_many`, from a coroutine.

    >>> import asyncio
    >>> from mailglass import Message, adeliver_many, tenant
    >>> async def main() -> None:
    ...     with tenant("acme"):
    ...         print(await adeliver_many([Message(to="ada@example.com", subject="News", text="Hello.")]))
    >>> asyncio.run(main())
    <BatchResults: 1 queued>

    The iterable is read in the event loop, a few messages at a time. If the awaiting task is canceled, each statement's
    messages are recorded as a whole or not at all, and none of later ones. With `session` your commit or rollback
    decides as always.

    Args:
        messages: any iterable, asynchronous ones too; otherwise as for `deliver_many`.
        countdown: seconds until all of them are due.
        eta: the aware moment at which they are due.
        send_at: the same as `eta`.
        expires: seconds, or an aware moment, after which they are not sent any more.
        priority: 0 to 9, 9 the most urgent.
        session: as for `deliver_later.adelay`.

    Returns:
        As for `deliver_many`.

    Raises:
        MailglassError: as `deliver_many` raises it.
    """
    from mailglass.outbound.event_loop import in_thread

    due = make_schedule(countdown, eta, send_at, expires, priority)
    within = None if session is NOT_GIVEN else async_session(session)
    await in_thread(make_ready)
    results = BatchResults()
    chunks = _Chunks(due) if within is None else _Chunks(due, LOOP_CHUNK, LOOP_CHUNK_SIZE)

    async def record(prepared: list[Prepared]) -> None:
        if within is None:
            await in_thread(lambda: _record_chunk(results, prepared, due, NOT_GIVEN))
        else:
            await within.run_sync(lambda own: _record_chunk(results, prepared, due, own))

    async with aclosing(_read_in_loop(messages)) as groups:
        async for group in groups:
            for prepared in await in_thread(partial(chunks.add_all, group)):
                await record(prepared)
    if rest := chunks.rest():
        await record(rest)
    return results


def _record_chunk(results: BatchResults, prepared: list[Prepared], due: Schedule, session: object) -> None:
    """Record the messages of one statement, and add their results.

    Raises:
        BatchFailedError: it failed, and there are results.
    """
    answers = _Chunk(prepared, due, session)
    try:
        answers.submit()
    except (LedgerUnavailableError, LedgerError) as error:
        # in the caller's own transaction nothing stands that was recorded before
        if session is not NOT_GIVEN or not results:
            raise
        results.extend(answers.lost(error))
        raise BatchFailedError.interrupted(results, len(prepared), error.retryable) from error
    if not results and answers.late:
        raise expires_before_due()
    results.extend(answers.results)


async def _read_in_loop(
    messages: Iterable[Sendable] | AsyncIterable[Sendable],
) -> AsyncGenerator[list[tuple[Sendable, str]], None]:
    """Yield a few messages at a time with their tenants, so that others of the event loop take their turn."""
    group: list[tuple[Sendable, str]] = []
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            group.append((message, current_tenant()))
            if len(group) >= TURN:
                yield group
                group = []
    else:
        for message in messages:
            group.append((message, current_tenant()))
            if len(group) >= TURN:
                yield group
                group = []
    if group:
        yield group


def _check_call(session: object) -> None:
    """Raise errors of the settings or the session, which concern no message."""
    get_runtime()
    if session is not NOT_GIVEN:
        runner_of(session)


def deliver_many_or_raise(messages: Iterable[Sendable], **options: Any) -> BatchResults:
    """Record many messages like `deliver_many`, and raise if one is invalid or suppressed.

    >>> from mailglass import Message, deliver_many_or_raise, tenant
    >>> with tenant("acme"):
    ...     deliver_many_or_raise([Message(to="ada@example.com", subject="Receipt 1001", text="Thank you.")])
    <BatchResults: 1 queued>

    Args:
        messages: as for `deliver_many`.
        options: as for `deliver_many`.

    Returns:
        The results, all queued or known.

    Raises:
        BatchFailedError: `partial_failure` or `all_failed`, with the results. Queued messages stay queued.
    """
    return _complete(deliver_many(messages, **options))


def _complete(results: BatchResults) -> BatchResults:
    """Return results, if all messages are queued or known.

    Raises:
        BatchFailedError: some are not.
    """
    counts = results.counts
    failed = counts.get(ItemOutcome.INVALID, 0) + counts.get(ItemOutcome.SUPPRESSED, 0)
    if failed:
        kind = BatchFailureType.ALL_FAILED if failed == len(results) else BatchFailureType.PARTIAL_FAILURE
        raise BatchFailedError(kind, results, failed)
    return results


async def adeliver_many_or_raise(
    messages: Iterable[Sendable] | AsyncIterable[Sendable], **options: Any
) -> BatchResults:
    """Record many messages like `adeliver_many`, and raise if one is invalid or suppressed.

    >>> import asyncio
    >>> from mailglass import Message, adeliver_many_or_raise
    >>> messages = [Message(to="ada@example.com", subject="Receipt 1001", text="Thank you.")]
    >>> asyncio.run(adeliver_many_or_raise(messages))
    <BatchResults: 1 queued>

    Args:
        messages: as for `adeliver_many`.
        options: as for `adeliver_many`.

    Returns:
        The results, all queued or known.

    Raises:
        BatchFailedError: `partial_failure` or `all_failed`, with the results. Queued messages stay queued.
    """
    return _complete(await adeliver_many(messages, **options))


def _chunked(messages: Iterable[Sendable], due: Schedule) -> Iterator[list[Prepared]]:
    chunks = _Chunks(due)
    for message in messages:
        if full := chunks.add(message, current_tenant()):
            yield full
    if rest := chunks.rest():
        yield rest


class _Chunks:
    """Messages collected until they fill a statement."""

    def __init__(self, due: Schedule, count: int | None = None, size: int | None = None) -> None:
        self._due = due
        self._max_count, self._max_size = count or CHUNK, size or CHUNK_SIZE
        self._chunk: list[Prepared] = []
        self._count = self._size = 0

    def add(self, message: Sendable, tenant: str) -> list[Prepared]:
        """Add a message; returns the messages of a statement if it fills one, else none."""
        entry = _prepared(message, tenant, self._due)
        self._chunk.append(entry)
        if isinstance(entry, list):
            self._count += len(entry)
            self._size += len(entry[0].content)
        full = max(self._count, len(self._chunk)) >= self._max_count or self._size >= self._max_size
        return self.rest() if full else []

    def add_all(self, messages: Iterable[tuple[Sendable, str]]) -> list[list[Prepared]]:
        """Add messages with their tenants; returns the statements that they fill."""
        return [full for message, tenant in messages if (full := self.add(message, tenant))]

    def rest(self) -> list[Prepared]:
        """Return what has been collected, and begin anew."""
        chunk, self._chunk, self._count, self._size = self._chunk, [], 0, 0
        return chunk


class _Chunk:
    """The messages of one statement: recorded, and answered."""

    def __init__(self, prepared: Sequence[Prepared], due: Schedule, session: object) -> None:
        self._prepared = prepared
        self._due = due
        self._session = session
        self.results: list[ItemResult] = []
        # whether nothing was recorded, because it would expire before it is due by the database's clock
        self.late = False

    def submit(self) -> None:
        """Record all valid messages, and ring if a new one is due now."""
        refusal: LedgerError | None = None
        try:
            self._record()
        except LedgerError as error:
            # in the caller's own transaction nothing can follow a statement that was refused
            if self._session is not NOT_GIVEN or not _unwritable(error):
                raise
            refusal = error
        # outside of the handler: a refusal must not travel along with another one
        if refusal is not None:
            self.results = self._halves() if len(self._prepared) > 1 else self.lost(refusal)

    def _halves(self) -> list[ItemResult]:
        """Record both halves apart, to find the message with the refused value. Nothing was recorded of any."""
        middle = len(self._prepared) // 2
        halves = [_Chunk(part, self._due, NOT_GIVEN) for part in (self._prepared[:middle], self._prepared[middle:])]
        for half in halves:
            half.submit()
        return [result for half in halves for result in half.results]

    def _record(self) -> None:
        items = [item for entry in self._prepared if isinstance(entry, list) for item in entry]
        recorded = _submitted(runner_of(self._session), items, self._due) if items else []
        self.late = bool(recorded) and all(answer.late for answer in recorded)
        answers = iter(recorded)
        self.results = [
            _item_result(entry, [next(answers) for _ in entry]) if isinstance(entry, list) else _invalid(entry)
            for entry in self._prepared
        ]
        lanes = {item.lane for item, answer in zip(items, recorded, strict=True) if is_new(answer)}
        if lanes and self._due.is_due_now:
            ring(lanes, self._session)

    def lost(self, error: LedgerUnavailableError | LedgerError) -> list[ItemResult]:
        """Return results after an error: unknown if the database was lost, invalid if it refused the statement."""
        if isinstance(error, LedgerError):
            refusal = error.with_traceback(None)
            return [_invalid(entry if isinstance(entry, MailglassError) else refusal) for entry in self._prepared]
        return [
            ItemResult(ItemOutcome.UNKNOWN, tuple(item.id for item in entry))
            if isinstance(entry, list)
            else _invalid(entry)
            for entry in self._prepared
        ]


def _unwritable(error: LedgerError) -> bool:
    """Return whether one value could not be written at all: refused by the driver, a data exception or a limit."""
    return error.sqlstate is None or error.sqlstate.startswith(("22", "54"))


def _submitted(run: Runner, items: Sequence[Item], due: Schedule) -> list[Recorded]:
    try:
        return submit(run, items, due.called_at)
    except UnicodeError as error:
        problem = type(error).__name__
    # outside of the handler: the error holds the text that it is about
    raise LedgerError("submit", None, problem)


def _prepared(message: Sendable, tenant: str, due: Schedule) -> Prepared:
    """Return the items of a message, or its error, which concerns no other message."""
    try:
        return items_of(message, tenant, due)
    except MailglassError as error:
        # the traceback would keep this message, and the others of its chunk, for as long as the answer
        return error.with_traceback(None)
    except Exception as error:
        problem = type(error).__name__
    # outside of the handler: the error may quote content, so it must not travel along as __context__
    return MessageError("message", f"cannot be recorded ({problem}): a value in it is not what it seems")


def _invalid(error: MailglassError) -> ItemResult:
    return ItemResult(ItemOutcome.INVALID, error=error)


def _item_result(items: Sequence[Item], recorded: Sequence[Recorded]) -> ItemResult:
    if recorded[0].late:
        return _invalid(expires_before_due())
    ids = tuple(answer.id for answer in recorded)
    if all(answer.suppressed_by is not None for answer in recorded):
        return ItemResult(ItemOutcome.SUPPRESSED, ids)
    if recorded[0].known:
        try:
            check_repeated(items[0], recorded[0])
        except IdempotencyError as error:
            return _invalid(error.with_traceback(None))
        return ItemResult(ItemOutcome.DUPLICATE, ids)
    return ItemResult(ItemOutcome.QUEUED, ids)
