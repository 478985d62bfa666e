"""`deliver_many`: a few hundred messages in each statement, and a result for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
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
from mailglass.ledger.session import NOT_GIVEN, NotGiven, runner_of
from mailglass.ledger.submit import Item, Recorded, Runner, submit
from mailglass.outbound.batch_results import BatchResults, ItemOutcome, ItemResult
from mailglass.outbound.recording import Sendable, check_repeated, is_new, items_of, ring
from mailglass.outbound.schedule import Schedule, expires_before_due, make_schedule
from mailglass.routing.scope import current_tenant
from mailglass.runtime import get_runtime

if TYPE_CHECKING:
    from mailglass.ledger.session import SessionLike

# deliveries in one statement, and characters of their content, which one message may exceed
CHUNK = 500
CHUNK_SIZE = 8 * 1024 * 1024

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
    return results


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
    results = deliver_many(messages, **options)
    counts = results.counts
    failed = counts.get(ItemOutcome.INVALID, 0) + counts.get(ItemOutcome.SUPPRESSED, 0)
    if failed:
        kind = BatchFailureType.ALL_FAILED if failed == len(results) else BatchFailureType.PARTIAL_FAILURE
        raise BatchFailedError(kind, results, failed)
    return results


def _chunked(messages: Iterable[Sendable], due: Schedule) -> Iterator[list[Prepared]]:
    chunk: list[Prepared] = []
    count = size = 0
    for message in messages:
        entry = _prepared(message, current_tenant(), due)
        chunk.append(entry)
        if isinstance(entry, list):
            count += len(entry)
            size += len(entry[0].content)
        if count >= CHUNK or size >= CHUNK_SIZE or len(chunk) >= CHUNK:
            yield chunk
            chunk, count, size = [], 0, 0
    if chunk:
        yield chunk


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
