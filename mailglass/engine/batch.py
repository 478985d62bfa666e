"""Work through one batch of a lane.

Where the process may die, and what follows: before the claim, nothing; after it, the lease expires and the delivery is
queued again; after the mark, it is uncertain until evidence or the stream's policy settles it; after the record, it is
done. A provider call never happens inside a transaction, and no send starts near the lease's end.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.engine.account_selector import AccountSelector
from mailglass.engine.assignment import AccountBatch, Admitted, Assignment
from mailglass.engine.attempt import Attempter
from mailglass.engine.batch_report import AttemptResult, BatchReport, Claim, StepResult
from mailglass.engine.batch_sizer import BatchSizer
from mailglass.engine.bulkhead import Bulkhead
from mailglass.engine.outside_production import OutsideProduction
from mailglass.engine.prepare import CONTENT_REFUSED, Prepared, ReadyDelivery, prepare, refusal
from mailglass.engine.rate_admission import RateAdmission
from mailglass.engine.rate_feedback import RateFeedback
from mailglass.engine.recorder import Recorder, new_lease
from mailglass.engine.reservation import Reservation
from mailglass.engine.verdicts import still_in_doubt
from mailglass.engine.waiting_lanes import WaitingLanes
from mailglass.errors import LedgerError, LedgerUnavailableError, failure
from mailglass.ledger import leases
from mailglass.ledger.database import Database
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.low_water import ClaimMarks
from mailglass.ledger.submit import Item
from mailglass.ledger.suppressions import blocked_copies
from mailglass.limits import Limiter
from mailglass.mail.addresses import Address, encodable
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.recipients import NOT_ALLOWED_HERE
from mailglass.mail.streams import Stream, StreamPolicy
from mailglass.providers.registry import Accounts
from mailglass.rendering.outgoing import outgoing
from mailglass.routing import Lane, Router
from mailglass.settings import Settings

# reason of a held delivery that met an error of ours before it could be sent
UNEXPECTED: Final = "unexpected_error"


class _Once:
    """Callback that is called at most once.

    Args:
        callback: called with the first argument.
    """

    def __init__(self, callback: Callable[[bool], None]) -> None:
        self._callback: Callable[[bool], None] | None = callback

    def __call__(self, argument: bool) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(argument)


@dataclass(frozen=True, slots=True)
class _Batch:
    """One claimed batch, with what each of its steps needs.

    Attributes:
        lane: of its deliveries.
        policy: of their stream.
        claim: the leased deliveries.
        recorder: writes down what becomes of them.
        after_claim: called once, with whether there is more to do at once.
        should_stop: asked between sends.
    """

    lane: Lane
    policy: StreamPolicy
    claim: Claim
    recorder: Recorder
    after_claim: _Once
    should_stop: Callable[[], bool]


class Engine:
    """Engine that claims, sends and records. One per process; safe to use from several threads.

    Args:
        settings: routes, policies and the engine's own figures.
        ledger: where the truth is.
        accounts: the opened providers.
        limiter: shared by all workers; None for no limits.
        router: resolves routes; from the settings when left out.
        bulkhead: of the worker whose slots run this; None in a process that is no worker.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Database,
        accounts: Accounts,
        limiter: Limiter | None = None,
        router: Router | None = None,
        bulkhead: Bulkhead | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._router = router or Router(settings)
        self._sizer = BatchSizer(settings.engine.claim_size, settings.engine.slice)
        self._selector = AccountSelector(settings, ledger, accounts, self._router, bulkhead)
        self._marks = ClaimMarks()
        self._waiting = WaitingLanes(bulkhead)
        self._admission = RateAdmission(settings, limiter, self._selector, self._router)
        self._rate_feedback = RateFeedback(limiter)
        self._attempter = Attempter(settings, ledger, accounts, self._selector, self._rate_feedback)

    def run(
        self,
        lane: Lane,
        *,
        after_claim: Callable[[bool], None] = lambda full: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> BatchReport:
        """Claim one batch of a lane and process each of its deliveries once.

        Args:
            lane: which one.
            after_claim: called with whether there is more to do at once, before anything is sent: the moment to ring
                again.
            should_stop: asked between sends; when true the rest is given back unsent.
        """
        if self._waiting.waits(lane):
            after_claim(False)
            return BatchReport()
        size = self._sizer.claim_size(lane)
        lease = new_lease(self._settings.engine)
        cap = self._router.concurrency(lane)
        engine = self._settings.engine
        claimed = leases.claim(
            self._ledger, lane, lease.token, size, engine.lease, cap, engine.claim_bytes, marks=self._marks
        )
        full = len(claimed) >= size or any(delivery.left_behind for delivery in claimed)
        claim = Claim(claimed, full=full, capped=cap is not None and bool(claimed))
        return self._process(self._batch(lane, claim, Recorder(self._ledger, lease, claimed), after_claim, should_stop))

    def run_these(self, lane: Lane, ids: Sequence[UUID], reservation: Reservation | None = None) -> BatchReport:
        """Process these deliveries now; skip any that another worker has leased.

        Args:
            lane: of the deliveries.
            ids: theirs.
            reservation: the account and places that the one delivery has already.
        """
        lease = new_lease(self._settings.engine)
        claimed = leases.claim_these(self._ledger, ids, lease.token, self._settings.engine.lease)
        recorder = Recorder(self._ledger, lease, claimed, wait_for_database=False)
        batch = self._batch(lane, Claim(claimed), recorder, lambda full: None, lambda: False)
        return self._process(batch, reservation)

    def reserve(self, item: Item) -> Reservation:
        """Take an account and places within the limits for a delivery that is not recorded yet.

        If the process dies before it records the delivery, the places are lost and nothing else.

        Raises:
            LedgerUnavailableError: neither Redis nor the database can be reached.
        """
        claimed = Claimed(
            id=item.id,
            message_id=item.message_id,
            recipient=item.recipient.email,
            recipient_name=item.recipient.name,
            account=None,
            attempts=0,
            scheduled_at=clock.now(),
            priority=item.priority,
            expired=False,
            age=0.0,
            lifetime=None,
            content=None,
            frozen=item.frozen,
            suppressed_by=None,
        )
        with ExitStack() as calls:
            ready = [ReadyDelivery(claimed, json.loads(item.content))]
            assigned = self._selector.assign(item.lane, ready, calls)
            return Reservation(self._admission.admit(item.lane, assigned, calls), calls.pop_all())

    def give_back(self, reservation: Reservation) -> None:
        """Give back the places of a mail that is not sent; do nothing for one that was handed over to be sent."""
        admitted = reservation.withdraw()
        if admitted is None:
            return
        for batch in admitted.batches:
            self._selector.not_probed(batch)
            self._rate_feedback.not_sent(batch, batch.cap_keys)

    def _batch(
        self,
        lane: Lane,
        claim: Claim,
        recorder: Recorder,
        after_claim: Callable[[bool], None],
        should_stop: Callable[[], bool],
    ) -> _Batch:
        policy = self._settings.streams[Stream(lane.stream)]
        return _Batch(lane, policy, claim, recorder, _Once(after_claim), should_stop)

    def _process(self, batch: _Batch, reservation: Reservation | None = None) -> BatchReport:
        """Process a batch, each delivery alone after an error; report what was done."""
        claim, recorder = batch.claim, batch.recorder
        if not claim.deliveries:
            batch.after_claim(False)
            return BatchReport()
        started = clock.monotonic()
        attempts: list[AttemptResult] = []
        try:
            try:
                steps = [self._step(batch, claim.deliveries, attempts, reservation)]
            except LedgerUnavailableError:
                raise
            except BaseException as error:
                if clock.monotonic() >= recorder.lease.send_until:
                    # a time limit, of which nobody knows whose it is: the lease ends, and the next claim is smaller
                    raise
                _note(batch.lane, error)
                batch.after_claim(claim.full)
                steps = self._one_by_one(batch, attempts)
            else:
                seconds = clock.monotonic() - started
                self._sizer.learn(batch.lane, sum(attempt.attempted for attempt in attempts), seconds)
        except LedgerUnavailableError:
            with suppress(LedgerUnavailableError):
                recorder.give_back_rest()
            raise
        orphans_waiting = self._orphans_waiting(attempts)
        report = BatchReport.of(claim, recorder.moved, steps, attempts, orphans_waiting=orphans_waiting)
        telemetry.emit(
            "mailglass.dispatch.batch",
            lane=str(batch.lane),
            claimed=report.claimed,
            duration_ms=round((clock.monotonic() - started) * 1000),
            **{status.value: count for status, count in report.moved.items() if status.value in telemetry.FIELDS},
        )
        return report

    def _one_by_one(self, batch: _Batch, attempts: list[AttemptResult]) -> list[StepResult]:
        """Go on alone with each delivery of a batch that met an error: whichever meets it again is held for it."""
        recorder = batch.recorder
        rest = [delivery for delivery in batch.claim.deliveries if recorder.holds(delivery.id)]
        steps: list[StepResult] = []
        for index, delivery in enumerate(rest):
            # not when a slice is over: given back to be claimed together again, they would never be told apart
            if clock.monotonic() >= recorder.lease.send_until or batch.should_stop():
                recorder.give_back([left.id for left in rest[index:]])
                break
            try:
                steps.append(self._step(batch, [delivery], attempts))
            except LedgerUnavailableError:
                raise
            except BaseException as error:
                _note(batch.lane, error, delivery)
                if recorder.holds(delivery.id):
                    recorder.record([_held(delivery, UNEXPECTED, batch.policy)])
        return steps

    def _step(
        self,
        batch: _Batch,
        deliveries: Sequence[Claimed],
        attempts: list[AttemptResult],
        reservation: Reservation | None = None,
    ) -> StepResult:
        """Prepare, assign and admit deliveries; record those that go nowhere now, and send the others.

        Args:
            batch: to which they belong.
            deliveries: all of the batch's, or one that is worked on alone.
            attempts: gets the result of each provider call at once, so that no later error loses it.
            reservation: the account and places that the one delivery has already.
        """
        lane, recorder = batch.lane, batch.recorder
        with ExitStack() as calls:
            prepared = prepare(self._ledger, deliveries, batch.policy)
            assigned, admitted = self._admit(lane, prepared, calls, reservation)
            self._waiting.learn(lane, admitted)
            waiting = (*prepared.waiting, *assigned.waiting, *admitted.waiting)
            # a lane that is held up, by limits or by breakers, comes back when the pump rings it, not at once
            held_up = 2 * len(waiting) > len(deliveries)
            batch.after_claim(batch.claim.full and not held_up)
            ended = _in_doubt(deliveries, (*prepared.ended, *assigned.ended, *admitted.ended), batch.policy)
            recorder.record((*ended, *waiting))
            unsent = False
            # a batch that a slow provider holds up has sent the rest before
            for mine in sorted(self._without_blocked_copies(lane, admitted.batches), key=lambda mine: not mine.quick):
                unsent = self._send(batch, mine, attempts) or unsent
        return StepResult(held_up, unsent, admitted.limited)

    def _admit(
        self, lane: Lane, prepared: Prepared, calls: ExitStack, reservation: Reservation | None
    ) -> tuple[Assignment, Admitted]:
        """Assign deliveries to accounts and take places within the limits, or what was reserved of both."""
        if reservation is not None and prepared.ready:
            reserved = reservation.hand_over(prepared.ready[0], calls)
            if reserved is not None:
                return Assignment(), reserved
        assigned = self._selector.assign(lane, prepared.ready, calls)
        return assigned, self._admission.admit(lane, assigned, calls)

    def _without_blocked_copies(self, lane: Lane, batches: Sequence[AccountBatch]) -> Sequence[AccountBatch]:
        """Return the batches without suppressed cc and bcc; a question repeats what was sent before."""
        copies = [
            Address(email)
            for batch in batches
            for item in batch.deliveries
            if _has_copies(item)
            for key in ("cc", "bcc")
            for _, email in item.content.get(key, ())
        ]
        blocked = blocked_copies(self._ledger, lane.tenant, lane.stream, copies) if copies else set()
        if not blocked:
            return batches
        kept = [
            replace(batch, deliveries=tuple(_without_copies(item, blocked) for item in batch.deliveries))
            for batch in batches
        ]
        changed = [
            (after.delivery, _as_text(after.content))
            for old, new in zip(batches, kept, strict=True)
            for before, after in zip(old.deliveries, new.deliveries, strict=True)
            if after is not before
        ]
        if changed:
            leases.drop_copies(self._ledger, lane.tenant, changed)
        return kept

    def _send(self, batch: _Batch, mine: AccountBatch, attempts: list[AttemptResult]) -> bool:
        """Hand an account its mails in pieces, until they are sent, the time is up or the account fails.

        Args:
            batch: to which they belong.
            mine: the account's deliveries.
            attempts: gets the result of each provider call.

        Returns:
            Whether mails were given back that the account could take.
        """
        recorder = batch.recorder
        mails = self._mails(batch, mine)
        size = self._sizer.chunk_size(batch.lane, mine.provider.batch_size)
        claimed = {item.delivery.id: item.delivery for item in mine.deliveries}
        usable = True
        while mails and usable and not recorder.lease.over and not batch.should_stop():
            most = 1 if self._attempter.doubtful(mine.account) else size
            chunk, mails = mails[:most], mails[most:]
            result = self._attempter.attempt(batch.lane, mine, chunk, claimed, recorder)
            attempts.append(result)
            usable = result.usable
        if not mails:
            return False
        left = [mail.delivery_id for mail in mails]
        self._selector.not_probed(mine)
        # before they can be claimed again
        self._rate_feedback.not_sent(mine, left)
        recorder.give_back(left)
        return usable

    def _mails(self, batch: _Batch, mine: AccountBatch) -> list[Outgoing]:
        """Make the mails of an account; a delivery whose mail cannot be made is held.

        Outside production this is the last step before a provider is called, and each mail is cut to whom it may go to.
        """
        mails: list[Outgoing] = []
        failed: list[Verdict] = []
        guard = OutsideProduction(self._settings.recipients)
        for item in mine.deliveries:
            try:
                mail = outgoing(
                    delivery_id=item.delivery.id,
                    tenant=batch.lane.tenant,
                    stream=batch.lane.stream,
                    recipient=Address(item.delivery.recipient, item.delivery.recipient_name),
                    created_at=item.delivery.scheduled_at,
                    content=item.content,
                    default_sender=mine.sender,
                    start_by=batch.recorder.lease.expiry(item.delivery.lifetime),
                )
                allowed = guard.restrict(mail)
            except BaseException as error:
                _note(batch.lane, error, item.delivery)
                failed.append(_held(item.delivery, CONTENT_REFUSED, batch.policy))
            else:
                if allowed is None:
                    failed.append(_not_allowed(item.delivery, batch.policy))
                else:
                    mails.append(allowed)
        guard.note(self._ledger, batch.lane.tenant, mine.account)
        if failed:
            if not mails:
                self._selector.not_probed(mine)
            self._rate_feedback.not_sent(mine, [verdict.id for verdict in failed])
            batch.recorder.record(failed)
        return mails

    def _orphans_waiting(self, attempts: Sequence[AttemptResult]) -> bool:
        """Return whether events wait for one of the ids that providers gave."""
        learnt = [message_id for attempt in attempts for message_id in attempt.provider_message_ids]
        try:
            return bool(learnt) and leases.orphans_waiting(self._ledger, learnt)
        except (LedgerError, LedgerUnavailableError):
            # all is recorded, and beat rings for them too
            return False


def _note(lane: Lane, error: BaseException, delivery: Claimed | None = None) -> None:
    telemetry.emit(
        "mailglass.dispatch.mail_failed" if delivery else "mailglass.dispatch.batch_failed",
        level=logging.ERROR,
        lane=str(lane),
        delivery_id=delivery.id if delivery else None,
        error_type=failure(error),
    )


def _held(delivery: Claimed, reason: str, policy: StreamPolicy) -> Verdict:
    """Return the verdict on a delivery that no provider can be asked about: a person sees to it."""
    verdict = refusal(delivery, Status.HELD, reason)
    return still_in_doubt(verdict, delivery, policy) if delivery.in_doubt else verdict


def _not_allowed(delivery: Claimed, policy: StreamPolicy) -> Verdict:
    """Return the verdict on a delivery whose recipient may not get mail in this environment."""
    verdict = refusal(delivery, Status.FAILED, NOT_ALLOWED_HERE)
    return still_in_doubt(verdict, delivery, policy) if delivery.in_doubt else verdict


def _in_doubt(deliveries: Sequence[Claimed], ended: Sequence[Verdict], policy: StreamPolicy) -> Sequence[Verdict]:
    """Return verdicts on deliveries that end unattempted, with regard to earlier attempts that may have sent them."""
    doubtful = {delivery.id: delivery for delivery in deliveries if delivery.in_doubt} if ended else {}
    if not doubtful:
        return ended
    return [
        still_in_doubt(verdict, doubtful[verdict.id], policy) if verdict.id in doubtful else verdict
        for verdict in ended
    ]


def _as_text(content: dict[str, Any]) -> str:
    """Return content as JSON; as ASCII only if it holds what UTF-8 cannot write."""
    text = json.dumps(content, ensure_ascii=False)
    return text if encodable(text) else json.dumps(content)


def _has_copies(item: ReadyDelivery) -> bool:
    return ("cc" in item.content or "bcc" in item.content) and not item.delivery.ask_again


def _without_copies(item: ReadyDelivery, blocked: Set[str]) -> ReadyDelivery:
    """Return a delivery without its suppressed copies, or itself if it has none."""
    if not _has_copies(item):
        return item
    kept = {
        key: [pair for pair in item.content[key] if pair[1].lower() not in blocked]
        for key in ("cc", "bcc")
        if key in item.content
    }
    if all(len(pairs) == len(item.content[key]) for key, pairs in kept.items()):
        return item
    return item._replace(content={**item.content, **kept})
