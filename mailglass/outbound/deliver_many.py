"""`deliver_many`: a few hundred messages a statement, an answer for each."""

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
from mailglass.ledger.submit import Item, Recorded, Runner, submit
from mailglass.outbound.batch_results import BatchResults, ItemOutcome, ItemResult
from mailglass.outbound.recording import Sendable, check_repeated, is_new, items_of, ring
from mailglass.outbound.schedule import Schedule, ends_before_it_is_due, schedule
from mailglass.outbound.session import NOT_GIVEN, NotGiven, runner_of
from mailglass.routing.scope import current_tenant
from mailglass.runtime import get_runtime

if TYPE_CHECKING:
    from mailglass.outbound.session import SessionLike

# what one statement records: deliveries, and characters of their content, a little more of which may be one message's
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
    """Record many messages: one statement for every few hundred deliveries, answers in input order.

    Args:
        messages: any iterable; a generator is read as it goes, and no more of it is held than one statement records.
            Each belongs to the tenant that is in scope when it is read.
        countdown, eta, send_at, expires, priority: as for `deliver_later.apply_async`, for all of them.
        session: as for `deliver_later.delay`.

    Returns:
        A sequence of one `ItemResult` a message, in a few bytes each. A message that cannot be accepted does not stop
        the others.

    Raises:
        BatchFailedError: the database was lost, or refused a statement, after some messages had been recorded. Its
            results are those of all messages that were read: what the last statement held is `unknown`, or `invalid`
            where it was certainly not recorded. What was not read is not recorded. With an `idempotency_key` each,
            the same messages may be given again.
        LedgerUnavailableError, LedgerError: the same, with the first statement.
        TenantError: no tenant is in scope for a message. This, and what the iterable itself raises, ends the batch
            without an answer: what was recorded before, a few hundred deliveries at a time, stays recorded.
    """
    due = schedule(countdown, eta, send_at, expires, priority)
    # what is wrong with the settings or the session is no message's fault
    get_runtime()
    if session is not NOT_GIVEN:
        runner_of(session)
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
            raise ends_before_it_is_due()
        results.extend(answers.results)
    return results


def deliver_many_or_raise(messages: Iterable[Sendable], **options: Any) -> BatchResults:
    """As `deliver_many`, but raises where a message was neither queued nor known before.

    Raises:
        BatchFailedError: `partial_failure` or `all_failed`; its results tell which. What was queued stays queued.
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
        # whether nothing was recorded, since by the database's clock the call's own moments forbid it
        self.late = False

    def submit(self) -> None:
        """Record all that can be, and ring where anything new is due now."""
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
        """Find the message whose value is refused: nothing was recorded of any, and the others may be yet."""
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
        if lanes and self._due.now:
            ring(lanes, self._session)

    def lost(self, error: LedgerUnavailableError | LedgerError) -> list[ItemResult]:
        """The answers where the statement had none: one that was refused has recorded nothing."""
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
    """Return the items of a message, or why there are none: no message's error is another one's."""
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
        return _invalid(ends_before_it_is_due())
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
