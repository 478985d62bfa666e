"""Which account sends which delivery: routes, weights, failover, breakers."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.engine.bulkhead import Bulkhead, Call
from mailglass.engine.destinations import Destinations
from mailglass.engine.prepare import ACCOUNT_UNAVAILABLE, Ready, refusal
from mailglass.engine.unplaced import unplaced
from mailglass.engine.verdicts import NO_EVIDENCE, remembers, window
from mailglass.errors import ConfigError, RouteError
from mailglass.ledger.breakers import PAUSED, Breaker, breakers, end_probe, probe
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Doubt, Status
from mailglass.mail.addresses import Address
from mailglass.mail.refusal import Scope
from mailglass.mail.streams import Stream, StreamPolicy, UncertainPolicy
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts
from mailglass.refusals.understand import scope_of
from mailglass.routing import Lane, RouteContext, Router, ordered_accounts
from mailglass.settings import Route, Settings

_PROBING = 2.0
# seconds until a mail is offered again whose recipients' domain is tried by another one
_TRYING = 5.0
# seconds that a half-open breaker waits for a mail that has not failed before
_FRESH_ONLY = 30.0
_CACHED = 0.5
# seconds until a mail is offered again whose account has no slot of the worker's left
_WITHOUT_SLOT = 1.0


@dataclass(slots=True)
class Placed:
    """The deliveries that one account is to send.

    Attributes:
        sender: From of those that name none.
        route: for failover: which other accounts there are.
        probing: the account's breaker is half-open, and this is the one mail that tries it.
        places: of those that took a place in the account's plan for the day: the key it is counted under.
        call: leave to call the provider from one of this worker's slots; None in a process that is no worker.
    """

    account: str
    provider: Provider
    sender: Address | None
    route: Route
    items: list[Ready] = field(default_factory=list)
    probing: bool = False
    places: dict[UUID, str] = field(default_factory=dict)
    call: Call | None = None

    @property
    def quick(self) -> bool:
        """Return whether nobody need fear that the account's provider is slow."""
        return self.call is None or self.call.quick

    def release(self) -> None:
        """No call follows: give the worker's slot for it back."""
        if self.call is not None:
            self.call.release()


@dataclass(slots=True)
class Placement:
    """Where the deliveries of a batch go, and what becomes of those that go nowhere now.

    Attributes:
        left: those for which only accounts that were not to be used could be.
        without_slot: accounts whose slow calls have all the slots that they may have.
        calls: leave that this batch has to call providers.
    """

    placed: list[Placed] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    left: list[Ready] = field(default_factory=list)
    without_slot: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)

    def join(self, other: Placement) -> None:
        """Take over what another one says beside where its deliveries go."""
        self.without_slot |= other.without_slot
        self.calls += other.calls

    def release(self) -> None:
        """The batch is over: no call follows."""
        for call in self.calls:
            call.release()


class Placer:
    """Places deliveries on accounts. Safe to use from several threads.

    Args:
        settings: routes and accounts.
        ledger: where the breakers are.
        accounts: the opened providers.
        router: resolves routes, hooks included.
        bulkhead: this worker's; None in a process that is no worker.
    """

    def __init__(
        self, settings: Settings, ledger: Runs, accounts: Accounts, router: Router, bulkhead: Bulkhead | None = None
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._accounts = accounts
        self._router = router
        self._bulkhead = bulkhead
        self.destinations = Destinations(ledger)
        # the accounts whose providers hang, as a batch that was placed at this moment has found
        self._hanging: tuple[float, dict[str, bool]] = (0.0, {})
        self._cache: dict[tuple[str, ...], tuple[float, dict[str, Breaker]]] = {}

    def place(self, lane: Lane, ready: Sequence[Ready], without: Set[str] = frozenset()) -> Placement:
        """Choose an account for each delivery.

        Args:
            without: accounts that are not to be used now, though they will be.
        """
        placement = Placement()
        began = clock.monotonic()
        by_account: dict[tuple[str, Route], list[Ready]] = {}
        # the same lists: most mails have the very same route, and to compare routes costs more
        by_identity: dict[tuple[str, int], list[Ready]] = {}
        routes: dict[tuple[str, tuple[str, ...]], Route | RouteError] = {}
        unknown: list[Claimed] = []
        for item in ready:
            route = self._route(lane, item, routes)
            if isinstance(route, RouteError) or self._asks_elsewhere(item.delivery):
                unknown.append(item.delivery)
                continue
            chosen = self._choose(lane, route, item.delivery, without, began)
            if chosen is None:
                placement.left.append(item)
            elif isinstance(chosen, Verdict):
                placement.verdicts.append(chosen)
            else:
                known = by_identity.get((chosen, id(route)))
                if known is None:
                    known = by_identity[chosen, id(route)] = by_account.setdefault((chosen, route), [])
                known.append(item)
        for (account, route), items in by_account.items():
            self._open(lane, placement, account, route, self._asked_to_wait(lane, placement, account, items))
        placement.verdicts += unplaced(self._ledger, unknown)
        return placement

    def elsewhere(self, route: Route, account: str) -> bool:
        """Whether the route has another account that can be used now."""
        others = tuple(name for name in route.accounts if name != account)
        return any(name not in self._breakers(others) for name in others)

    def forget(self) -> None:
        """A breaker has changed: look anew."""
        self._cache.clear()

    def not_probed(self, placed: Placed) -> None:
        """Let another mail try a half-open breaker: the one that was to has told nothing of the account."""
        if placed.probing:
            end_probe(self._ledger, placed.account)

    def _asks_elsewhere(self, delivery: Claimed) -> bool:
        """Return whether an account is to be asked about it that only other workers know."""
        return delivery.ask_again and delivery.account is not None and delivery.account not in self._settings.accounts

    def _route(
        self, lane: Lane, item: Ready, routes: dict[tuple[str, tuple[str, ...]], Route | RouteError]
    ) -> Route | RouteError:
        try:
            by_delivery = self._router.by_delivery
        except RouteError as error:
            return error
        domain = item.delivery.recipient.rpartition("@")[2] if by_delivery else ""
        key = (domain, tuple(item.content.get("tags", ())) if by_delivery else ())
        if key not in routes:
            try:
                routes[key] = self._router.resolve(RouteContext(lane.tenant, lane.stream, *key))
            except RouteError as error:
                telemetry.emit("mailglass.route.failed", level=logging.ERROR, lane=str(lane), reason=str(error))
                routes[key] = error
        return routes[key]

    def _choose(
        self, lane: Lane, route: Route, delivery: Claimed, without: Set[str], began: float
    ) -> str | Verdict | None:
        """The first account that can be used, beginning with the one whose turn it is; None: one of `without` alone."""
        order = ordered_accounts(route, delivery.id)
        if delivery.ask_again:
            # under the same idempotency key only this account knows the answer
            if delivery.account not in order or not self._remembers(delivery.account, delivery.age):
                return _without_answer(delivery, self._settings.streams[Stream(lane.stream)])
            start, order = 0, (delivery.account,)
        else:
            start = _turn(delivery, order, route)
        turn = [order[(start + step) % len(order)] for step in range(len(order))]
        if without:
            turn = [name for name in turn if name not in without]
        # before it is put off, perhaps for half an hour, what is known must not be older than the claim
        for known_since in (began - _CACHED, began):
            open_breakers = self._breakers(route.accounts, known_since)
            usable = [name for name in turn if name not in open_breakers or open_breakers[name].half_open]
            if usable:
                return self._answering(usable, delivery, began)
        reasons = {open_breakers[name].reason for name in turn}
        if without and reasons <= {"misconfigured", PAUSED}:
            return None
        # one that somebody has paused comes back when they say, and not when its time is over
        name = min(turn, key=lambda name: (open_breakers[name].reason == PAUSED, open_breakers[name].seconds))
        return self._wait(lane, delivery, name, open_breakers[name].seconds)

    def _answering(self, usable: Sequence[str], delivery: Claimed, began: float) -> str:
        """The first account whose provider does not hang just now; what was attempted before stays with the first."""
        bulkhead = self._bulkhead
        if bulkhead is None or len(usable) < 2 or delivery.tries or delivery.in_doubt:
            return usable[0]
        if self._hanging[0] != began:
            self._hanging = (began, {})
        known = self._hanging[1]
        for name in usable:
            if name not in known:
                known[name] = bulkhead.hangs(name)
            if not known[name]:
                return name
        return usable[0]

    def _remembers(self, account: str, age: float) -> bool:
        try:
            return remembers(window(self._accounts.open(account)), age)
        except ConfigError:
            # held for that reason when it is placed
            return True

    def _open(self, lane: Lane, placement: Placement, account: str, route: Route, items: list[Ready]) -> None:
        try:
            provider = self._accounts.open(account)
        except ConfigError as error:
            telemetry.emit("mailglass.account.failed", level=logging.ERROR, account=account, reason=str(error))
            placement.verdicts += [refusal(item.delivery, Status.HELD, "account_misconfigured") for item in items]
            return
        sender = self._accounts.settings(account).sender or self._settings.default_from
        if sender is None:
            nameless = [item for item in items if "from" not in item.content]
            placement.verdicts += [refusal(item.delivery, Status.HELD, "no_sender") for item in nameless]
            items = [item for item in items if "from" in item.content]
        placed = Placed(account, provider, sender, route, items)
        if not items:
            return
        if items and not self._admit(placement, placed):
            placement.without_slot.add(account)
            placement.verdicts += [
                self._wait(lane, item.delivery, account, _WITHOUT_SLOT, "account_slow") for item in items
            ]
            return
        breaker = self._breakers(route.accounts).get(account)
        if items and breaker is not None:
            candidate = _candidate(breaker, items)
            placed.probing = candidate is not None and probe(self._ledger, account)
            placed.items = [item for item in items if placed.probing and item is candidate]
            waiting = [item for item in items if not (placed.probing and item is candidate)]
            placement.verdicts += [self._wait(lane, item.delivery, account, _PROBING) for item in waiting]
        if placed.items:
            placement.placed.append(placed)
        else:
            placed.release()

    def _asked_to_wait(self, lane: Lane, placement: Placement, account: str, items: list[Ready]) -> list[Ready]:
        """Put mail off whose recipients' domain has asked this account to come later; one at a time tries it then."""
        waits = self.destinations.waits(account)
        if not waits:
            return items
        going: list[Ready] = []
        for item in items:
            domain = item.delivery.recipient.rpartition("@")[2].lower()
            seconds = None if item.delivery.ask_again else waits.get(domain)
            if seconds is None:
                going.append(item)
            elif seconds <= 0:
                going.append(item)
                waits[domain] = _TRYING
            else:
                wait = self._wait(lane, item.delivery, account, seconds, "destination_deferred")
                placement.verdicts.append(wait._replace(awaits_account=None))
        return going

    def _admit(self, placement: Placement, placed: Placed) -> bool:
        """Whether this worker may call the account now: a batch waits for one account that may be slow at the most."""
        if self._bulkhead is None:
            return True
        call = self._bulkhead.admit(placed.account)
        if call is not None and not call.quick and not all(other.quick for other in placement.placed):
            call.release()
            return False
        if call is not None:
            placement.calls.append(call)
        placed.call = call
        return call is not None

    def _wait(
        self, lane: Lane, delivery: Claimed, account: str, seconds: float, reason: str = ACCOUNT_UNAVAILABLE
    ) -> Verdict:
        """Due again when an account may be usable; jittered, and no event: nothing was attempted.

        At the latest when it becomes too old, so that it is held then, and not whenever the account is tried next.
        """
        delay = max(seconds, 0.5) * (1 + random.random() / 5)  # noqa: S311
        left = self._settings.streams[Stream(lane.stream)].max_age - delivery.age
        delay = min(delay, max(left, 0.0) + 0.5)
        return Verdict(delivery.id, Status.QUEUED, None, reason, delay=delay, counted=False, awaits_account=account)

    def _breakers(self, accounts: tuple[str, ...], since: float | None = None) -> dict[str, Breaker]:
        """The breakers that are not closed.

        Args:
            accounts: of these.
            since: what was seen before this moment on the monotonic clock is out of date; None: half a second ago.
        """
        cached = self._cache.get(accounts)
        now = clock.monotonic()
        if cached is None or cached[0] < (now - _CACHED if since is None else since):
            cached = self._cache[accounts] = (now, breakers(self._ledger, accounts))
        return cached[1]


def _turn(delivery: Claimed, order: Sequence[str], route: Route) -> int:
    """Return whose turn it is: the account's after a certain number of attempts, by what the last refusal was about.

    Greylisting and the like want to see the same sender again. What was about the account wants another one.
    """
    refusal = delivery.refusal
    if refusal is not None and delivery.account in order:
        last, scope = order.index(delivery.account), scope_of(refusal)
        if scope in (Scope.MAILBOX, Scope.SENDER, Scope.ACCOUNT):
            return last if scope is Scope.MAILBOX else last + 1
    return delivery.tries // route.failover_after


def _without_answer(delivery: Claimed, policy: StreamPolicy) -> Verdict:
    """It may have been sent, and nobody can be asked any more: what the policy says of uncertain deliveries."""
    if policy.uncertain is UncertainPolicy.RESEND:
        return Verdict(delivery.id, Status.QUEUED, EngineEvent.RESENT, NO_EVIDENCE, delay=0.0, doubt=Doubt.OPEN)
    return refusal(delivery, Status.HELD, NO_EVIDENCE)._replace(doubt=Doubt.OPEN)


def _candidate(breaker: Breaker, items: Sequence[Ready]) -> Ready | None:
    """The mail that may try a half-open breaker: one that has not failed before.

    Where none comes for a while the one with the fewest attempts does, and the mail that failed last only alone.
    """
    others = [item for item in items if item.delivery.id != breaker.failed_delivery]
    for item in others:
        if not item.delivery.tries and not item.delivery.in_doubt:
            return item
    if breaker.half_open_for < _FRESH_ONLY:
        return None
    return min(others or items, key=lambda item: item.delivery.tries)
