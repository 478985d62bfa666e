"""Admission of a batch within the rate limits: mails that may go now, through another account, or later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.engine.account_selector import AccountSelector
from mailglass.engine.assignment import AccountBatch, Admitted, Assignment
from mailglass.engine.prepare import ReadyDelivery, refusal
from mailglass.errors import ConfigError, RouteError
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.limits import Cap, Grant, Limit, Limiter, Mail, RuleBook, warmup_cap
from mailglass.mail.addresses import Address
from mailglass.mail.streams import Stream
from mailglass.routing import Lane, LimitContext, Router
from mailglass.settings import LimitRule, Settings

# reason of a held delivery if the application's limits could not be learnt
NO_LIMITS: Final = "no_limits"


@dataclass(slots=True)
class _Round:
    """Notes on one batch while its mails ask for places; no other batch sees them.

    Attributes:
        lane: of the batch.
        caps: what the accounts' warm-up plans allow today.
        used_up: accounts that have sent what their plans allow today.
        waits: when those that were over a cap may go, by delivery.
        limits: by account, recipient's domain, sender's domain and whether the cap counts.
        extra: the application's limits by recipient's domain; None where it could not tell.
    """

    lane: Lane
    caps: dict[str, Cap]
    used_up: set[str] = field(default_factory=set)
    waits: dict[UUID, Grant] = field(default_factory=dict)
    limits: dict[tuple[str, str, str, bool], tuple[Limit, ...] | None] = field(default_factory=dict)
    extra: dict[str, tuple[LimitRule, ...] | None] = field(default_factory=dict)

    def cap(self, batch: AccountBatch, item: ReadyDelivery) -> Cap | None:
        """Return the cap of an account's plan on a mail; a mail that is asked about again was counted before."""
        return None if item.delivery.ask_again else self.caps.get(batch.account)

    def over(self, account: str, delivery: Claimed, grant: Grant) -> None:
        """Note an account whose plan is used up, and when the delivery may go through one of its accounts."""
        self.used_up.add(account)
        known = self.waits.get(delivery.id)
        if known is None or grant.delay < known.delay:
            self.waits[delivery.id] = grant


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers of the limiter to one question.

    Attributes:
        batches: those that were asked for, with the mails that got places.
        over: mails whose account has sent what its plan allows today.
        limited: mails that a limit holds up, with it.
        ended: verdicts on mails that nobody knows the limits of.
    """

    batches: tuple[AccountBatch, ...]
    over: tuple[ReadyDelivery, ...]
    limited: tuple[tuple[Claimed, Grant], ...]
    ended: tuple[Verdict, ...]


class RateAdmission:
    """Admission of mails within the rate limits. Safe to use from several threads.

    Args:
        settings: limits and warm-up plans.
        limiter: shared by all workers; None for no limits.
        selector: finds other accounts for mails over an account's plan.
        router: knows the application's limits.
    """

    def __init__(self, settings: Settings, limiter: Limiter | None, selector: AccountSelector, router: Router) -> None:
        self._limiter = limiter
        self._selector = selector
        self._router = router
        self._book = RuleBook(settings.limits)
        self._plans = {name: account.warmup for name, account in settings.accounts.items() if account.warmup}

    def admit(self, lane: Lane, assigned: Assignment, calls: ExitStack) -> Admitted:
        """Admit what may be sent now; all mails of a batch ask at once.

        A mail over the day's plan of its account goes to the next account of its route, and asks for a place there.

        Args:
            lane: of the batch.
            assigned: its mails by account.
            calls: gives back the slots of further accounts.
        """
        if self._limiter is None:
            return Admitted(assigned.by_account, without_slot=assigned.without_slot)
        notes = _Round(lane, self._caps())
        batches: list[AccountBatch] = []
        ended: list[Verdict] = []
        waiting: list[Verdict] = []
        limited: list[tuple[Claimed, Grant]] = []
        without_slot = assigned.without_slot
        pending = assigned.by_account
        while pending:
            answers = self._ask(self._limiter, notes, pending)
            for batch in answers.batches:
                if batch.deliveries:
                    batches.append(batch)
                else:
                    self._selector.not_probed(batch)
                    batch.release()
            again = Assignment()
            if answers.over:
                again = self._selector.assign(lane, answers.over, calls, without=frozenset(notes.used_up))
            ended += (*answers.ended, *again.ended)
            waiting += again.waiting
            limited += answers.limited
            limited += ((item.delivery, notes.waits[item.delivery.id]) for item in again.left)
            without_slot |= again.without_slot
            pending = again.by_account
        waiting += (_limited(delivery, grant) for delivery, grant in limited)
        last = limited[-1][1] if limited else None
        return Admitted(tuple(batches), tuple(ended), tuple(waiting), last, without_slot)

    def _ask(self, limiter: Limiter, notes: _Round, pending: Sequence[AccountBatch]) -> _Answers:
        """Take places for the mails of these accounts, as far as there are any."""
        asking: list[tuple[int, ReadyDelivery]] = []
        requests: list[tuple[Limit, ...]] = []
        ended: list[Verdict] = []
        for index, batch in enumerate(pending):
            for item in batch.deliveries:
                limits = self._limits(notes, batch, item)
                if limits is None:
                    ended.append(refusal(item.delivery, Status.HELD, NO_LIMITS))
                else:
                    asking.append((index, item))
                    requests.append(limits)
        grants = limiter.take(requests, urgent=notes.lane.stream == Stream.TRANSACTIONAL)
        granted: list[list[ReadyDelivery]] = [[] for _ in pending]
        over: list[ReadyDelivery] = []
        limited: list[tuple[Claimed, Grant]] = []
        for (index, item), grant in zip(asking, grants, strict=True):
            if grant.granted:
                granted[index].append(item)
            elif grant.used_up:
                notes.over(pending[index].account, item.delivery, grant)
                over.append(item)
            else:
                limited.append((item.delivery, grant))
        batches = tuple(_with(notes, batch, items) for batch, items in zip(pending, granted, strict=True))
        return _Answers(batches, tuple(over), tuple(limited), tuple(ended))

    def _limits(self, notes: _Round, batch: AccountBatch, item: ReadyDelivery) -> tuple[Limit, ...] | None:
        """Return the limits of one mail; None where the application could not tell its own."""
        cap = notes.cap(batch, item)
        domain = item.delivery.recipient.rpartition("@")[2]
        key = (batch.account, domain, _sender_domain(item.content, batch.sender), cap is not None)
        if key not in notes.limits:
            extra = self._extra(notes, domain)
            mail = Mail(notes.lane.tenant, notes.lane.stream, *key[:3])
            notes.limits[key] = None if extra is None else self._book.rules_for(mail, extra, cap)
        return notes.limits[key]

    def _extra(self, notes: _Round, domain: str) -> tuple[LimitRule, ...] | None:
        if domain not in notes.extra:
            lane = notes.lane
            try:
                notes.extra[domain] = self._router.limits(LimitContext(lane.tenant, lane.stream, domain))
            except (ConfigError, RouteError) as error:
                telemetry.emit("mailglass.limits.failed", level=logging.ERROR, lane=str(lane), reason=str(error))
                notes.extra[domain] = None
        return notes.extra[domain]

    def _caps(self) -> dict[str, Cap]:
        if not self._plans:
            return {}
        now = clock.now()
        return {name: cap for name, plan in self._plans.items() if (cap := warmup_cap(name, plan, now)) is not None}


def _with(notes: _Round, batch: AccountBatch, granted: list[ReadyDelivery]) -> AccountBatch:
    """Return a batch with the mails that got places, and the keys under which its account's plan counts them."""
    caps = ((item.delivery.id, notes.cap(batch, item)) for item in granted) if batch.account in notes.caps else ()
    return replace(
        batch,
        deliveries=tuple(granted),
        cap_keys={delivery_id: cap.key for delivery_id, cap in caps if cap is not None},
    )


def _limited(delivery: Claimed, grant: Grant) -> Verdict:
    """Return the verdict on a mail that is due at its slot: not an attempt and not a failure, so no event."""
    reason = f"rate_limited:{grant.type.value}" if grant.type else "rate_limited"
    return Verdict(delivery.id, Status.QUEUED, None, reason, delay=grant.delay, counted=False)


def _sender_domain(content: Any, sender: Address | None) -> str:
    named = content.get("from")
    if named:
        return str(named[1]).rpartition("@")[2]
    return sender.domain if sender else ""
