"""Work through one batch of a lane.

Where the process may die, and what follows: before the claim, nothing; after it, the lease expires and the delivery is
queued again; after the mark, it is uncertain until evidence or the stream's policy settles it; after the record, it is
done. A provider call never happens inside a transaction, and no send starts near the lease's end.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.engine.account_selector import Placed, Placement, Placer
from mailglass.engine.attempt import Attempter
from mailglass.engine.batch_size import Pace
from mailglass.engine.bulkhead import Bulkhead
from mailglass.engine.prepare import CONTENT_REFUSED, Ready, refusal, sort_out
from mailglass.engine.rate_admission import Places
from mailglass.engine.rate_feedback import RateFeedback
from mailglass.engine.recorder import BatchReport, Recorder, new_lease
from mailglass.engine.reservation import Reservation
from mailglass.engine.verdicts import still_in_doubt
from mailglass.engine.waiting import WaitingLanes
from mailglass.errors import LedgerUnavailableError
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
from mailglass.mail.streams import Stream, StreamPolicy
from mailglass.providers.registry import Accounts
from mailglass.rendering.outgoing import outgoing
from mailglass.routing import Lane, Router
from mailglass.settings import Settings

# what a held delivery says that met an error of ours before it could be sent
UNEXPECTED: Final = "unexpected_error"


class Engine:
    """Claims, sends and records. One per process; safe to use from several threads.

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
        self._pace = Pace(settings.engine.claim_size, settings.engine.slice)
        self._placer = Placer(settings, ledger, accounts, self._router, bulkhead)
        self._marks = ClaimMarks()
        self._waiting = WaitingLanes(bulkhead)
        self._places = Places(settings, limiter, self._placer, self._router)
        self._rate_feedback = RateFeedback(limiter)
        self._attempter = Attempter(settings, ledger, self._placer, self._rate_feedback)

    def run(
        self,
        lane: Lane,
        *,
        after_claim: Callable[[bool], None] = lambda full: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> BatchReport:
        """Claim one batch of a lane and bring each of its deliveries one step on.

        Args:
            after_claim: called with whether there is more to do at once, before anything is sent: the moment to ring
                again.
            should_stop: asked between sends; when true the rest is given back unsent.
        """
        if self._waiting.waits(lane):
            after_claim(False)
            return BatchReport()
        size = self._pace.claim_size(lane)
        lease = new_lease(self._settings.engine)
        cap = self._router.concurrency(lane)
        engine = self._settings.engine
        claimed = leases.claim(
            self._ledger, lane, lease.token, size, engine.lease, cap, engine.claim_bytes, marks=self._marks
        )
        full = len(claimed) >= size or any(delivery.left_behind for delivery in claimed)
        recorder = Recorder(self._ledger, lease, claimed, full=full)
        # a claim that the cap cut short looks like the lane's last one
        recorder.report.more = cap is not None and bool(claimed)
        self._work(lane, claimed, recorder, after_claim, should_stop)
        return recorder.report

    def run_these(self, lane: Lane, ids: Sequence[UUID], reservation: Reservation | None = None) -> BatchReport:
        """Bring these deliveries one step on, now, unless somebody else has them.

        Args:
            reservation: the places that the one delivery has already.
        """
        lease = new_lease(self._settings.engine)
        claimed = leases.claim_these(self._ledger, ids, lease.token, self._settings.engine.lease)
        recorder = Recorder(self._ledger, lease, claimed, wait_for_database=False)
        self._work(lane, claimed, recorder, lambda full: None, lambda: False, reservation)
        return recorder.report

    def reserve(self, item: Item) -> Reservation:
        """Take an account and places within the limits for a delivery that is not recorded yet.

        If the process dies before it records the delivery, the places are lost and nothing else.

        Raises:
            LedgerUnavailableError: neither Redis nor the database can be reached.
        """
        recipient = item.recipient
        claimed = Claimed(
            item.id,
            item.message_id,
            recipient.email,
            recipient.name,
            None,
            0,
            clock.now(),
            item.priority,
            expired=False,
            age=0.0,
            lifetime=None,
            content=None,
            frozen=item.frozen,
            suppressed_by=None,
        )
        placement = self._placer.place(item.lane, [Ready(claimed, json.loads(item.content))])
        report = BatchReport()
        reservation = Reservation(placement)
        try:
            self._places.take(item.lane, placement, report)
        except BaseException:
            self.give_back(reservation)
            raise
        reservation.limited = report.limited
        return reservation

    def give_back(self, reservation: Reservation) -> None:
        """Give back the places of a mail that is not sent; does nothing for one that was handed over to be sent."""
        if reservation.used:
            return
        reservation.used = True
        for placed in reservation.placement.placed:
            self._placer.not_probed(placed)
            self._rate_feedback.not_sent(placed, list(placed.places))
        reservation.placement.release()

    def _place(
        self, lane: Lane, ready: Sequence[Ready], report: BatchReport, reservation: Reservation | None
    ) -> tuple[Placement, list[Verdict]]:
        """Return where the deliveries go, and what becomes of those that a limit holds up."""
        if reservation is not None and reservation.placement.placed and ready and not reservation.used:
            return reservation.placed(ready[0]), []
        placement = self._placer.place(lane, ready)
        try:
            return placement, self._places.take(lane, placement, report)
        except BaseException:
            placement.release()
            raise

    def _work(
        self,
        lane: Lane,
        claimed: Sequence[Claimed],
        recorder: Recorder,
        after_claim: Callable[[bool], None],
        should_stop: Callable[[], bool],
        reservation: Reservation | None = None,
    ) -> None:
        if not claimed:
            after_claim(False)
            return
        told: list[bool] = []

        def tell(full: bool) -> None:
            told.append(full)
            after_claim(full)

        try:
            try:
                self._step(lane, claimed, recorder, tell, should_stop, reservation)
            except LedgerUnavailableError:
                raise
            except Exception as error:
                if clock.monotonic() >= recorder.lease.send_until:
                    # a time limit, of which nobody knows whose it is: the lease ends, and the next claim is smaller
                    raise
                _note(lane, error)
                if not told:
                    after_claim(recorder.report.full)
                self._one_by_one(lane, claimed, recorder, should_stop)
        except LedgerUnavailableError:
            with suppress(LedgerUnavailableError):
                recorder.give_back_rest()
            raise

    def _one_by_one(
        self, lane: Lane, claimed: Sequence[Claimed], recorder: Recorder, should_stop: Callable[[], bool]
    ) -> None:
        """Go on alone with each delivery of a batch that met an error: whichever meets it again is held for it."""
        policy = self._settings.streams[Stream(lane.stream)]
        rest = [delivery for delivery in claimed if recorder.holds(delivery.id)]
        for index, delivery in enumerate(rest):
            # not when a slice is over: given back to be claimed together again, they would never be told apart
            if clock.monotonic() >= recorder.lease.send_until or should_stop():
                recorder.give_back([left.id for left in rest[index:]])
                return
            try:
                self._step(lane, [delivery], recorder, lambda full: None, should_stop)
            except LedgerUnavailableError:
                raise
            except Exception as error:
                _note(lane, error, delivery)
                if recorder.holds(delivery.id):
                    recorder.record([_held(delivery, UNEXPECTED, policy)])

    def _step(
        self,
        lane: Lane,
        claimed: Sequence[Claimed],
        recorder: Recorder,
        after_claim: Callable[[bool], None],
        should_stop: Callable[[], bool],
        reservation: Reservation | None = None,
    ) -> None:
        started = clock.monotonic()
        report = recorder.report
        policy = self._settings.streams[Stream(lane.stream)]
        refused, ready = sort_out(self._ledger, claimed, policy)
        placement, limited = self._place(lane, ready, report, reservation)
        try:
            self._waiting.learn(lane, placement)
            in_doubt = {delivery.id: delivery for delivery in claimed if delivery.in_doubt}
            verdicts = [
                still_in_doubt(verdict, in_doubt[verdict.id], policy) if verdict.id in in_doubt else verdict
                for verdict in (*refused, *placement.verdicts, *limited)
            ]
            # a lane that is held up, by limits or by breakers, comes back when the pump rings it, not at once
            held_up = 2 * sum(verdict.status is Status.QUEUED for verdict in verdicts) > len(claimed)
            after_claim(report.full and not held_up)
            report.more = report.more and not held_up
            recorder.record(verdicts)
            self._drop_blocked_copies(lane, placement)
            # a batch that a slow provider holds up has sent the rest before
            for placed in sorted(placement.placed, key=lambda placed: not placed.quick):
                self._send(lane, placed, recorder, should_stop)
        finally:
            placement.release()
        if report.attempted:
            self._pace.learn(lane, report.attempted, clock.monotonic() - started)
        telemetry.emit(
            "mailglass.dispatch.batch",
            lane=str(lane),
            claimed=report.claimed,
            duration_ms=round((clock.monotonic() - started) * 1000),
            **{status.value: count for status, count in report.moved.items() if status.value in telemetry.FIELDS},
        )

    def _drop_blocked_copies(self, lane: Lane, placement: Placement) -> None:
        """Take suppressed cc and bcc out of what is about to be sent; a question repeats what was sent before."""
        items = [
            item
            for placed in placement.placed
            for item in placed.items
            if ("cc" in item.content or "bcc" in item.content) and not item.delivery.ask_again
        ]
        copies = [Address(email) for item in items for key in ("cc", "bcc") for _, email in item.content.get(key, ())]
        blocked = blocked_copies(self._ledger, lane.tenant, lane.stream, copies) if copies else set()
        dropped = [item for item in items if blocked and _drop_copies(item.content, blocked)]
        if dropped:
            kept = [(item.delivery, _as_text(item.content)) for item in dropped]
            leases.drop_copies(self._ledger, lane.tenant, kept)

    def _send(self, lane: Lane, placed: Placed, recorder: Recorder, should_stop: Callable[[], bool]) -> None:
        """Hand an account its mails in pieces, until they are sent, the time is up or the account fails."""
        mails = self._mails(lane, placed, recorder)
        size = self._pace.chunk_size(lane, placed.provider.batch_size)
        claimed = {item.delivery.id: item.delivery for item in placed.items}
        usable = True
        while mails and usable and not recorder.lease.over and not should_stop():
            most = 1 if self._attempter.doubtful(placed.account) else size
            chunk, mails = mails[:most], mails[most:]
            usable = self._attempter.attempt(lane, placed, chunk, claimed, recorder)
        if mails:
            recorder.report.more = recorder.report.more or usable
            self._placer.not_probed(placed)
            # before they can be claimed again
            self._rate_feedback.not_sent(placed, [mail.delivery_id for mail in mails])
        recorder.give_back([mail.delivery_id for mail in mails])

    def _mails(self, lane: Lane, placed: Placed, recorder: Recorder) -> list[Outgoing]:
        """Make the mails of an account; a delivery of whose content there can be none is held."""
        policy = self._settings.streams[Stream(lane.stream)]
        mails: list[Outgoing] = []
        failed: list[Verdict] = []
        for item in placed.items:
            try:
                mail = outgoing(
                    delivery_id=item.delivery.id,
                    tenant=lane.tenant,
                    stream=lane.stream,
                    recipient=Address(item.delivery.recipient, item.delivery.recipient_name),
                    created_at=item.delivery.scheduled_at,
                    content=item.content,
                    default_sender=placed.sender,
                    start_by=recorder.lease.expiry(item.delivery.lifetime),
                )
            except Exception as error:
                _note(lane, error, item.delivery)
                failed.append(_held(item.delivery, CONTENT_REFUSED, policy))
            else:
                mails.append(mail)
        if failed:
            if not mails:
                self._placer.not_probed(placed)
            self._rate_feedback.not_sent(placed, [verdict.id for verdict in failed])
            recorder.record(failed)
        return mails


def _note(lane: Lane, error: Exception, delivery: Claimed | None = None) -> None:
    telemetry.emit(
        "mailglass.dispatch.mail_failed" if delivery else "mailglass.dispatch.batch_failed",
        level=logging.ERROR,
        lane=str(lane),
        delivery_id=delivery.id if delivery else None,
        error_type=type(error).__name__,
    )


def _held(delivery: Claimed, reason: str, policy: StreamPolicy) -> Verdict:
    """Return what becomes of a delivery that no provider can be asked about: a person sees to it."""
    verdict = refusal(delivery, Status.HELD, reason)
    return still_in_doubt(verdict, delivery, policy) if delivery.in_doubt else verdict


def _as_text(content: dict[str, Any]) -> str:
    """Content as JSON; as ASCII only where it holds what UTF-8 cannot write."""
    text = json.dumps(content, ensure_ascii=False)
    return text if encodable(text) else json.dumps(content)


def _drop_copies(content: dict[str, Any], blocked: set[str]) -> bool:
    """Take suppressed copies out; whether there were any."""
    found = False
    for key in ("cc", "bcc"):
        if key in content:
            kept = [pair for pair in content[key] if pair[1].lower() not in blocked]
            found = found or len(kept) != len(content[key])
            content[key] = kept
    return found
