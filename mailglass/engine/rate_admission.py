"""Who of a batch gets a place within the limits, who goes through another account, and who waits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.engine.account_selector import Placed, Placement, Placer
from mailglass.engine.prepare import Ready, refusal
from mailglass.engine.recorder import BatchReport
from mailglass.errors import ConfigError, RouteError
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.limits import Cap, Grant, Limit, Limiter, Mail, RuleBook, warmup_cap
from mailglass.mail.addresses import Address
from mailglass.mail.streams import Stream
from mailglass.routing import Lane, LimitContext, Router
from mailglass.settings import LimitRule, Settings

# what a held delivery says where the application's limits could not be learnt
NO_LIMITS: Final = "no_limits"


@dataclass(slots=True)
class _Round:
    """What is known of one batch while places are taken for it.

    Attributes:
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

    def cap(self, placed: Placed, item: Ready) -> Cap | None:
        """What an account's plan asks of a mail. One that is asked about again has its place of the day already."""
        return None if item.delivery.ask_again else self.caps.get(placed.account)

    def over(self, delivery: Claimed, grant: Grant) -> None:
        """Remember the earliest moment at which one of the accounts it may go through has places again."""
        known = self.waits.get(delivery.id)
        if known is None or grant.delay < known.delay:
            self.waits[delivery.id] = grant


class Places:
    """Takes places for batches. Safe to use from several threads.

    Args:
        settings: limits and warm-up plans.
        limiter: shared by all workers; None for no limits.
        placer: finds other accounts for what is over an account's plan.
        router: knows the application's limits.
    """

    def __init__(self, settings: Settings, limiter: Limiter | None, placer: Placer, router: Router) -> None:
        self._limiter = limiter
        self._placer = placer
        self._router = router
        self._book = RuleBook(settings.limits)
        self._plans = {name: account.warmup for name, account in settings.accounts.items() if account.warmup}

    def take(self, lane: Lane, placement: Placement, report: BatchReport) -> list[Verdict]:
        """Leave in a placement what may be sent now, all of it asked for at once.

        What is over the day's plan of an account goes to the next one of its route, and takes that one's places.

        Returns:
            Of those that may not go now: when they are due.
        """
        if self._limiter is None:
            return []
        batch = _Round(lane, self._caps())
        verdicts: list[Verdict] = []
        pending, placement.placed = placement.placed, []
        while pending:
            over = self._ask(self._limiter, batch, pending, verdicts, report)
            for placed in pending:
                if placed.items:
                    placement.placed.append(placed)
                else:
                    self._placer.not_probed(placed)
                    placed.release()
            again = self._placer.place(lane, over, without=batch.used_up) if over else Placement()
            verdicts += again.verdicts
            placement.join(again)
            for item in again.left:
                verdicts.append(_limited(item.delivery, batch.waits[item.delivery.id], report))
            pending = again.placed
        return verdicts

    def _ask(
        self, limiter: Limiter, batch: _Round, pending: Sequence[Placed], verdicts: list[Verdict], report: BatchReport
    ) -> list[Ready]:
        """Take what places there are; returns those whose account has sent what its plan allows today."""
        over: list[Ready] = []
        asking: list[tuple[Placed, Ready]] = []
        requests: list[tuple[Limit, ...]] = []
        for placed in pending:
            items, placed.items = placed.items, []
            for item in items:
                limits = self._limits(batch, placed, item)
                if limits is None:
                    verdicts.append(refusal(item.delivery, Status.HELD, NO_LIMITS))
                else:
                    asking.append((placed, item))
                    requests.append(limits)
        grants = limiter.take(requests, urgent=batch.lane.stream == Stream.TRANSACTIONAL)
        for (placed, item), grant in zip(asking, grants, strict=True):
            if grant.granted:
                placed.items.append(item)
                if (cap := batch.cap(placed, item)) is not None:
                    placed.places[item.delivery.id] = cap.key
            elif grant.used_up:
                batch.used_up.add(placed.account)
                batch.over(item.delivery, grant)
                over.append(item)
            else:
                verdicts.append(_limited(item.delivery, grant, report))
        return over

    def _limits(self, batch: _Round, placed: Placed, item: Ready) -> tuple[Limit, ...] | None:
        """The limits of one mail; None where the application could not tell its own."""
        cap = batch.cap(placed, item)
        domain = item.delivery.recipient.rpartition("@")[2]
        key = (placed.account, domain, _sender_domain(item.content, placed.sender), cap is not None)
        if key not in batch.limits:
            extra = self._extra(batch, domain)
            mail = Mail(batch.lane.tenant, batch.lane.stream, *key[:3])
            batch.limits[key] = None if extra is None else self._book.rules_for(mail, extra, cap)
        return batch.limits[key]

    def _extra(self, batch: _Round, domain: str) -> tuple[LimitRule, ...] | None:
        if domain not in batch.extra:
            lane = batch.lane
            try:
                batch.extra[domain] = self._router.limits(LimitContext(lane.tenant, lane.stream, domain))
            except (ConfigError, RouteError) as error:
                telemetry.emit("mailglass.limits.failed", level=logging.ERROR, lane=str(lane), reason=str(error))
                batch.extra[domain] = None
        return batch.extra[domain]

    def _caps(self) -> dict[str, Cap]:
        if not self._plans:
            return {}
        now = clock.now()
        return {name: cap for name, plan in self._plans.items() if (cap := warmup_cap(name, plan, now)) is not None}


def _limited(delivery: Claimed, grant: Grant, report: BatchReport) -> Verdict:
    """Not an attempt and not a failure, so no event: it is due at its slot."""
    report.limited = grant
    reason = f"rate_limited:{grant.type.value}" if grant.type else "rate_limited"
    return Verdict(delivery.id, Status.QUEUED, None, reason, delay=grant.delay, counted=False)


def _sender_domain(content: Any, sender: Address | None) -> str:
    named = content.get("from")
    if named:
        return str(named[1]).rpartition("@")[2]
    return sender.domain if sender else ""
