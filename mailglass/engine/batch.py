"""Work through one batch of a lane.

Where the process may die, and what follows: before the claim, nothing; after it, the lease expires and the delivery is
queued again; after the mark, it is uncertain until evidence or the stream's policy settles it; after the record, it is
done. A provider call never happens inside a transaction, and no send starts near the lease's end.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from mailglass import clock, telemetry
from mailglass.addresses import Address
from mailglass.engine.verdicts import decide
from mailglass.errors import ConfigError, LedgerUnavailableError, RouteError, TemplateError
from mailglass.ledger import leases
from mailglass.ledger.database import Database
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.suppressions import Suppression, blocked_copies, suppress
from mailglass.providers.base import Outcome, OutcomeClass, Outgoing, Provider
from mailglass.providers.registry import Accounts
from mailglass.rendering.outgoing import outgoing
from mailglass.routing import Lane, resolve_route
from mailglass.settings import Settings
from mailglass.streams import Stream

_RECORD_RETRY = 0.5


@dataclass(slots=True)
class BatchReport:
    """What one batch came to: deliveries by where they went, and whether the claim was full."""

    claimed: int = 0
    full: bool = False
    orphans_waiting: bool = False
    moved: dict[Status, int] = field(default_factory=dict)

    def count(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            self.moved[verdict.status] = self.moved.get(verdict.status, 0) + 1


@dataclass(frozen=True, slots=True)
class _Lease:
    """This batch's hold on its deliveries. Times are on the monotonic clock."""

    token: UUID
    stop_at: float
    send_until: float
    record_until: float


class Engine:
    """Claims, sends and records. One per process; safe to use from several threads.

    Args:
        settings: routes, policies and the engine's own figures.
        ledger: where the truth is.
        accounts: the opened providers.
    """

    def __init__(self, settings: Settings, ledger: Database, accounts: Accounts) -> None:
        self._settings = settings
        self._ledger = ledger
        self._accounts = accounts

    def run(
        self,
        lane: Lane,
        *,
        after_claim: Callable[[bool], None] = lambda full: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> BatchReport:
        """Claim one batch of a lane and bring each of its deliveries one step on.

        Args:
            after_claim: called with whether the claim was full, before anything is sent: the moment to ring again.
            should_stop: asked between sends; when true the rest is given back unsent.
        """
        size = self._settings.engine.claim_size
        lease = self._lease()
        claimed = leases.claim(self._ledger, lane, lease.token, size, self._settings.engine.lease)
        report = BatchReport(claimed=len(claimed), full=len(claimed) >= size)
        after_claim(report.full)
        self._work(lane, lease, claimed, report, should_stop)
        return report

    def run_these(self, lane: Lane, ids: Sequence[UUID]) -> BatchReport:
        """Bring these deliveries one step on, now, unless somebody else has them."""
        lease = self._lease()
        claimed = leases.claim_these(self._ledger, ids, lease.token, self._settings.engine.lease)
        report = BatchReport(claimed=len(claimed))
        self._work(lane, lease, claimed, report, lambda: False)
        return report

    def _lease(self) -> _Lease:
        engine = self._settings.engine
        start = clock.monotonic()
        return _Lease(
            token=uuid4(),
            stop_at=start + engine.task_budget,
            send_until=start + engine.lease - engine.send_margin,
            record_until=start + engine.lease,
        )

    def _work(
        self,
        lane: Lane,
        lease: _Lease,
        claimed: Sequence[Claimed],
        report: BatchReport,
        should_stop: Callable[[], bool],
    ) -> None:
        if not claimed:
            return
        started = clock.monotonic()
        refused, ready = self._prepare(lane, claimed)
        self._record(lease, refused, report)
        chunks = list(self._chunks(lane, ready, lease, report))
        for index, (name, provider, mails) in enumerate(chunks):
            if should_stop() or clock.monotonic() >= lease.stop_at:
                self._give_back(lease, [mail for _, _, later in chunks[index:] for mail in later], report)
                break
            self._attempt(lane, lease, name, provider, mails, report)
        telemetry.emit(
            "mailglass.dispatch.batch",
            lane=str(lane),
            claimed=report.claimed,
            duration_ms=round((clock.monotonic() - started) * 1000),
            **{status.value: count for status, count in report.moved.items() if status.value in telemetry.FIELDS},
        )

    def _prepare(self, lane: Lane, claimed: Sequence[Claimed]) -> tuple[list[Verdict], list[tuple[Claimed, Any]]]:
        """Sort out what is never sent, and read or render the content of the rest."""
        refused: list[Verdict] = []
        ready: list[tuple[Claimed, Any]] = []
        rendered: dict[UUID, dict[str, Any] | TemplateError] = {}
        policy = self._settings.streams[Stream(lane.stream)]
        for delivery in claimed:
            if delivery.suppressed_by is not None:
                refused.append(_refusal(delivery, Status.SUPPRESSED, f"suppressed_{delivery.suppressed_by}"))
            elif delivery.expired:
                refused.append(_refusal(delivery, Status.FAILED, "expired"))
            elif delivery.age > policy.max_age:
                refused.append(_refusal(delivery, Status.FAILED, "too_old"))
            elif delivery.content is None:
                refused.append(_refusal(delivery, Status.FAILED, "content_scrubbed"))
            else:
                content = json.loads(delivery.content)
                if not delivery.frozen and delivery.message_id not in rendered:
                    rendered[delivery.message_id] = _render(content)
                ready.append((delivery, content))
        if rendered:
            ready = self._frozen(ready, rendered, refused)
        return refused, ready

    def _frozen(
        self,
        ready: Sequence[tuple[Claimed, Any]],
        rendered: dict[UUID, dict[str, Any] | TemplateError],
        refused: list[Verdict],
    ) -> list[tuple[Claimed, Any]]:
        """Keep what was rendered before the first attempt, and take what stands should another have been first."""
        good = {key: json.dumps(content) for key, content in rendered.items() if isinstance(content, dict)}
        standing = leases.freeze(self._ledger, good) if good else {}
        kept: list[tuple[Claimed, Any]] = []
        for delivery, content in ready:
            if delivery.message_id not in rendered:
                kept.append((delivery, content))
            elif delivery.message_id in standing:
                kept.append((delivery, json.loads(standing[delivery.message_id])))
            else:
                refused.append(_refusal(delivery, Status.FAILED, "template_failed"))
        return kept

    def _chunks(
        self, lane: Lane, ready: Sequence[tuple[Claimed, Any]], lease: _Lease, report: BatchReport
    ) -> Iterator[tuple[str, Provider, list[Outgoing]]]:
        """The mails by account, in pieces of what one provider call takes."""
        if not ready:
            return
        try:
            name = resolve_route(self._settings, lane.tenant, lane.stream).accounts[0]
            provider = self._accounts.open(name)
            sender = self._accounts.settings(name).sender or self._settings.default_from
        except (RouteError, ConfigError) as error:
            telemetry.emit(
                "mailglass.dispatch.misconfigured",
                level=logging.ERROR,
                lane=str(lane),
                error_type=type(error).__name__,
            )
            reason = "no_route" if isinstance(error, RouteError) else "account_misconfigured"
            self._record(lease, [_refusal(delivery, Status.HELD, reason) for delivery, _ in ready], report)
            return
        blocked = self._blocked_copies(lane, [content for _, content in ready])
        mails: list[Outgoing] = []
        held: list[Verdict] = []
        dropped: list[UUID] = []
        for delivery, content in ready:
            if sender is None and "from" not in content:
                held.append(_refusal(delivery, Status.HELD, "no_sender"))
                continue
            if blocked and _drop_copies(content, blocked):
                dropped.append(delivery.id)
            mails.append(
                outgoing(
                    delivery_id=delivery.id,
                    tenant=lane.tenant,
                    stream=lane.stream,
                    recipient=Address(delivery.recipient, delivery.recipient_name),
                    created_at=delivery.created_at,
                    content=content,
                    default_sender=sender,
                )
            )
        self._record(lease, held, report)
        if dropped:
            leases.note(self._ledger, lane.tenant, dropped, EngineEvent.COPY_DROPPED, "suppressed_copy")
        for start in range(0, len(mails), provider.batch_size):
            yield name, provider, mails[start : start + provider.batch_size]

    def _blocked_copies(self, lane: Lane, contents: Sequence[Any]) -> set[str]:
        copies = [Address(email) for content in contents for key in ("cc", "bcc") for _, email in content.get(key, ())]
        return blocked_copies(self._ledger, lane.tenant, lane.stream, copies) if copies else set()

    def _attempt(
        self,
        lane: Lane,
        lease: _Lease,
        name: str,
        provider: Provider,
        mails: Sequence[Outgoing],
        report: BatchReport,
    ) -> None:
        if clock.monotonic() >= lease.send_until:
            # the lease's end is near: what is not sent now is given back, not risked
            self._give_back(lease, mails, report)
            return
        try:
            attempts = leases.mark(self._ledger, lease.token, [mail.delivery_id for mail in mails], name, provider.name)
        except LedgerUnavailableError:
            # the mark may stand, and nothing was sent: say so as soon as the database is back
            self._give_back(lease, mails, report)
            raise
        mails = [mail for mail in mails if mail.delivery_id in attempts]
        if not mails:
            return
        started = clock.monotonic()
        outcomes = _send(provider, mails, lease.send_until)
        duration = round((clock.monotonic() - started) * 1000)
        policy = self._settings.streams[Stream(lane.stream)]
        now = clock.now()
        verdicts = [
            decide(
                mail.delivery_id,
                outcome,
                attempt=attempts[mail.delivery_id],
                age=(now - mail.created_at).total_seconds(),
                policy=policy,
                duration_ms=duration,
            )
            for mail, outcome in zip(mails, outcomes, strict=True)
        ]
        self._record(lease, verdicts, report)
        self._learn(lane, name, mails, outcomes, report)

    def _give_back(self, lease: _Lease, mails: Sequence[Outgoing], report: BatchReport) -> None:
        self._record(
            lease,
            [
                Verdict(mail.delivery_id, Status.QUEUED, EngineEvent.RELEASED, "given_back", counted=False)
                for mail in mails
            ],
            report,
        )

    def _record(self, lease: _Lease, verdicts: Sequence[Verdict], report: BatchReport) -> None:
        """Write verdicts down, trying for as long as the lease lives: what a provider answered is known only here."""
        if not verdicts:
            return
        while True:
            try:
                written = leases.record(self._ledger, lease.token, verdicts)
                break
            except LedgerUnavailableError:
                if clock.monotonic() >= lease.record_until:
                    raise
                time.sleep(_RECORD_RETRY)
        report.count(verdict for verdict in verdicts if verdict.id in written)

    def _learn(
        self, lane: Lane, account: str, mails: Sequence[Outgoing], outcomes: Sequence[Outcome], report: BatchReport
    ) -> None:
        """Mirror refused recipients into the suppression list; notice webhooks that came before their id."""
        entries = [
            Suppression(
                tenant=lane.tenant,
                value=mail.recipient.key,
                reason="hard_bounce" if outcome.hard_bounce else "provider",
                source="attempt",
                account=account,
            )
            for mail, outcome in zip(mails, outcomes, strict=True)
            if outcome.hard_bounce or outcome.kind is OutcomeClass.SUPPRESSED
        ]
        if entries:
            suppress(self._ledger, entries)
        learnt = [outcome.provider_message_id for outcome in outcomes if outcome.provider_message_id]
        if learnt and not report.orphans_waiting:
            report.orphans_waiting = leases.orphans_waiting(self._ledger, learnt)


def _send(provider: Provider, mails: Sequence[Outgoing], deadline: float) -> list[Outcome]:
    """The provider's answers; whatever escapes it may have happened after the request was written."""
    try:
        outcomes = provider.send(mails, deadline=deadline)
    except Exception as error:
        telemetry.emit(
            "mailglass.dispatch.provider_failed",
            level=logging.ERROR,
            account=provider.account,
            provider=provider.name,
            error_type=type(error).__name__,
        )
        return [Outcome(OutcomeClass.UNCERTAIN, reason=f"provider_error:{type(error).__name__}")] * len(mails)
    if len(outcomes) != len(mails):
        return [Outcome(OutcomeClass.UNCERTAIN, reason="provider_error:wrong_count")] * len(mails)
    return outcomes


def _refusal(delivery: Claimed, status: Status, reason: str) -> Verdict:
    event = {
        Status.SUPPRESSED: EngineEvent.SUPPRESSED,
        Status.FAILED: EngineEvent.FAILED,
        Status.HELD: EngineEvent.HELD,
    }[status]
    return Verdict(delivery.id, status, event, reason)


def _render(content: dict[str, Any]) -> dict[str, Any] | TemplateError:
    from mailglass.rendering import render_content

    try:
        return render_content(content)
    except TemplateError as error:
        telemetry.emit("mailglass.render.failed", level=logging.ERROR, error_type=type(error).__name__)
        return error


def _drop_copies(content: dict[str, Any], blocked: set[str]) -> bool:
    """Take suppressed copies out; whether there were any."""
    found = False
    for key in ("cc", "bcc"):
        if key in content:
            kept = [pair for pair in content[key] if pair[1].lower() not in blocked]
            found = found or len(kept) != len(content[key])
            content[key] = kept
    return found
