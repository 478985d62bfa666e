"""Selection of accounts for deliveries: routes, weights, failover, breakers."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from mailglass import clock, telemetry
from mailglass.engine.assignment import AccountBatch, Assignment
from mailglass.engine.bulkhead import Bulkhead, Call
from mailglass.engine.destinations import Destinations
from mailglass.engine.prepare import ACCOUNT_UNAVAILABLE, ReadyDelivery, refusal
from mailglass.engine.unknown_routes import without_route
from mailglass.engine.verdicts import NO_EVIDENCE, remembers, window
from mailglass.errors import ConfigError, RouteError
from mailglass.ledger.breakers import PAUSED, Breaker, breakers, end_probe, probe
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Doubt, Status
from mailglass.mail.refusal import Scope
from mailglass.mail.streams import Stream, StreamPolicy, UncertainPolicy
from mailglass.providers.registry import Accounts
from mailglass.refusals.understand import scope_of
from mailglass.routing import Lane, Mode, RouteContext, Router, ordered_accounts
from mailglass.settings import Route, Settings

_PROBING = 2.0
# seconds until a mail is offered again whose recipients' domain is tried by another one
_TRYING = 5.0
# seconds that a half-open breaker waits for a mail that has not failed before
_FRESH_ONLY = 30.0
_CACHED = 0.5
# of a delivery, beside its lane, that its route may depend on: domain, tags, mode and mailable
_Facts = tuple[str, tuple[str, ...], Mode, str | None]
_NO_FACTS: Final[_Facts] = ("", (), Mode.LATER, None)
# seconds until a mail is offered again whose account the application does not tell
_UNRESOLVED = 15.0
# seconds until a mail is offered again whose account has no slot of the worker's left
_WITHOUT_SLOT = 1.0


@dataclass(slots=True)
class _Choices:
    """Accounts chosen for the deliveries of one batch, while it is gone through.

    Attributes:
        by_account: deliveries by account and route.
        verdicts: on those that no account sends now.
        left: those whose only usable accounts were excluded.
        unknown: those whose route or account this worker does not know.
    """

    by_account: dict[tuple[str, Route], list[ReadyDelivery]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    left: list[ReadyDelivery] = field(default_factory=list)
    unknown: list[Claimed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Opened:
    """Result of opening one account for its deliveries.

    Attributes:
        batch: deliveries that it is to send; None if it sends none now.
        verdicts: on the others.
        without_slot: its slow calls hold all the slots that they may have.
    """

    batch: AccountBatch | None
    verdicts: tuple[Verdict, ...] = ()
    without_slot: str | None = None


class AccountSelector:
    """Selector of the account for each delivery. Safe to use from several threads.

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
        # the accounts whose providers hang, as a batch that was assigned at this moment has found
        self._hanging: tuple[float, dict[str, bool]] = (0.0, {})
        self._cache: dict[tuple[str, ...], tuple[float, dict[str, Breaker]]] = {}

    def assign(
        self, lane: Lane, ready: Sequence[ReadyDelivery], calls: ExitStack, without: Set[str] = frozenset()
    ) -> Assignment:
        """Choose an account for each delivery.

        Args:
            lane: of the deliveries.
            ready: deliveries with their content.
            calls: gives the worker's slots for provider calls back when the batch ends.
            without: accounts that are not to be used now, though they will be.
        """
        choices = self._choices(lane, ready, without)
        batches: list[AccountBatch] = []
        verdicts = choices.verdicts
        without_slot: set[str] = set()
        for (account, route), items in choices.by_account.items():
            all_quick = all(batch.quick for batch in batches)
            opened = self._open(lane, account, route, items, calls, all_quick)
            verdicts += opened.verdicts
            if opened.batch is not None:
                batches.append(opened.batch)
            if opened.without_slot is not None:
                without_slot.add(opened.without_slot)
        verdicts += without_route(self._ledger, choices.unknown)
        return Assignment(
            by_account=tuple(batches),
            ended=tuple(verdict for verdict in verdicts if verdict.status is not Status.QUEUED),
            waiting=tuple(verdict for verdict in verdicts if verdict.status is Status.QUEUED),
            left=tuple(choices.left),
            without_slot=frozenset(without_slot),
        )

    def _choices(self, lane: Lane, ready: Sequence[ReadyDelivery], without: Set[str]) -> _Choices:
        choices = _Choices()
        began = clock.monotonic()
        # the same lists: most mails have the very same route, and to compare routes costs more
        by_identity: dict[tuple[str, int], list[ReadyDelivery]] = {}
        # of routes without weights, which give all mails without a past the same account
        usual: dict[int, str] = {}
        for item, route in zip(ready, self._routes(lane, ready), strict=True):
            delivery = item.delivery
            if isinstance(route, RouteError) or (delivery.ask_again and self._asks_elsewhere(delivery)):
                choices.unknown.append(delivery)
                continue
            alike = not route.weights and _has_no_past(delivery)
            chosen: str | Verdict | None = usual.get(id(route)) if alike else None
            if chosen is None:
                chosen = self._choose(lane, route, delivery, without, began)
                if alike and isinstance(chosen, str):
                    usual[id(route)] = chosen
            if chosen is None:
                choices.left.append(item)
            elif isinstance(chosen, Verdict):
                choices.verdicts.append(chosen)
            else:
                known = by_identity.get((chosen, id(route)))
                if known is None:
                    known = by_identity[chosen, id(route)] = choices.by_account.setdefault((chosen, route), [])
                known.append(item)
        return choices

    def elsewhere(self, route: Route, account: str) -> bool:
        """Return whether the route has another account that can be used now."""
        others = tuple(name for name in route.accounts if name != account)
        return any(name not in self._breakers(others) for name in others)

    def forget(self) -> None:
        """Forget the breakers, because one has changed."""
        self._cache.clear()

    def not_probed(self, batch: AccountBatch) -> None:
        """Let another mail try a half-open breaker: the one that was to has told nothing of the account."""
        if batch.probing:
            end_probe(self._ledger, batch.account)

    def _asks_elsewhere(self, delivery: Claimed) -> bool:
        """Return whether an account is to be asked about it that only other workers know."""
        return delivery.ask_again and delivery.account is not None and not self._router.knows_account(delivery.account)

    def _routes(self, lane: Lane, ready: Sequence[ReadyDelivery]) -> list[Route | RouteError]:
        """Return the route of each delivery, or why there is none."""
        try:
            by_delivery = self._router.by_delivery
        except RouteError as error:
            return [error] * len(ready)
        if not by_delivery:
            return [self._route(lane, _NO_FACTS)] * len(ready) if ready else []
        facts = [_facts(item) for item in ready]
        routes = {key: self._route(lane, key) for key in dict.fromkeys(facts)}
        return [routes[key] for key in facts]

    def _route(self, lane: Lane, facts: _Facts) -> Route | RouteError:
        try:
            return self._router.resolve(RouteContext(lane.tenant, lane.stream, *facts))
        except RouteError as error:
            telemetry.emit("mailglass.route.failed", level=logging.ERROR, lane=str(lane), reason=str(error))
            return error

    def _choose(
        self, lane: Lane, route: Route, delivery: Claimed, without: Set[str], began: float
    ) -> str | Verdict | None:
        """Return the first account that can be used, beginning with the one whose turn it is.

        Returns:
            Its name, or None if only those of `without` could be used, or a verdict if none can be used.
        """
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
        """Return the first account whose provider does not hang now; what was attempted before stays with the first."""
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
            # held for that reason when the account is opened
            return True

    def _open(
        self,
        lane: Lane,
        account: str,
        route: Route,
        chosen: Sequence[ReadyDelivery],
        calls: ExitStack,
        all_quick: bool,
    ) -> _Opened:
        """Open an account for its deliveries, as far as it can be called now.

        Args:
            lane: of the deliveries.
            account: which one.
            route: theirs.
            chosen: the deliveries.
            calls: gives the slot for its calls back when the batch ends.
            all_quick: the batch has no other account that may be slow.
        """
        items, verdicts = self._come_later(lane, account, chosen)
        try:
            provider = self._accounts.open(account)
            sender = self._accounts.settings(account).sender or self._settings.default_from
        except ConfigError as error:
            telemetry.emit("mailglass.account.failed", level=logging.ERROR, account=account, reason=str(error))
            if self._accounts.is_resolved(account):
                # nobody has to release its mail once the application tells it again
                verdicts += (self._wait(lane, item.delivery, account, _UNRESOLVED) for item in items)
                return _Opened(None, tuple(verdicts))
            return _Opened(None, (*verdicts, *_held(items, "account_misconfigured")))
        if sender is None:
            verdicts += _held([item for item in items if "from" not in item.content], "no_sender")
            items = [item for item in items if "from" in item.content]
        if not items:
            return _Opened(None, tuple(verdicts))
        admitted, call = self._call(account, calls, all_quick)
        if not admitted:
            verdicts += (self._wait(lane, item.delivery, account, _WITHOUT_SLOT, "account_slow") for item in items)
            return _Opened(None, tuple(verdicts), account)
        breaker = self._breakers(route.accounts).get(account)
        if breaker is not None:
            items, waiting = self._probes(account, breaker, items)
            verdicts += (self._wait(lane, item.delivery, account, _PROBING) for item in waiting)
        batch = AccountBatch(account, provider, sender, route, tuple(items), probing=breaker is not None, call=call)
        if not items:
            batch.release()
            return _Opened(None, tuple(verdicts))
        return _Opened(batch, tuple(verdicts))

    def _probes(
        self, account: str, breaker: Breaker, items: Sequence[ReadyDelivery]
    ) -> tuple[list[ReadyDelivery], list[ReadyDelivery]]:
        """Return the one delivery that tries a half-open breaker now, if any, and those that wait."""
        candidate = _candidate(breaker, items)
        if candidate is None or not probe(self._ledger, account):
            return [], list(items)
        return [candidate], [item for item in items if item is not candidate]

    def _come_later(
        self, lane: Lane, account: str, items: Sequence[ReadyDelivery]
    ) -> tuple[Sequence[ReadyDelivery], list[Verdict]]:
        """Put mail off whose recipients' domain has asked this account to come later; one at a time tries it then."""
        waits = self.destinations.waits(account)
        if not waits:
            return items, []
        going: list[ReadyDelivery] = []
        verdicts: list[Verdict] = []
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
                verdicts.append(wait._replace(awaits_account=None))
        return going, verdicts

    def _call(self, account: str, calls: ExitStack, all_quick: bool) -> tuple[bool, Call | None]:
        """Take leave to call an account: a batch waits for one account that may be slow at the most.

        Returns:
            Whether it may be called now, and the leave, which a process that is no worker does not need.
        """
        if self._bulkhead is None:
            return True, None
        call = self._bulkhead.admit(account)
        if call is None:
            return False, None
        if not call.quick and not all_quick:
            call.release()
            return False, None
        calls.callback(call.release)
        return True, call

    def _wait(
        self, lane: Lane, delivery: Claimed, account: str, seconds: float, reason: str = ACCOUNT_UNAVAILABLE
    ) -> Verdict:
        """Let a delivery wait until an account may be usable; jittered, and without an event: nothing was attempted.

        It is due at the latest when it becomes too old, so that it is held then, and not at the account's next try.
        """
        delay = max(seconds, 0.5) * (1 + random.random() / 5)  # noqa: S311
        left = self._settings.streams[Stream(lane.stream)].max_age - delivery.age
        delay = min(delay, max(left, 0.0) + 0.5)
        return Verdict(delivery.id, Status.QUEUED, None, reason, delay=delay, counted=False, awaits_account=account)

    def _breakers(self, accounts: tuple[str, ...], since: float | None = None) -> dict[str, Breaker]:
        """Return the breakers that are not closed.

        Args:
            accounts: of these.
            since: what was seen before this moment on the monotonic clock is out of date; None: half a second ago.
        """
        cached = self._cache.get(accounts)
        now = clock.monotonic()
        if cached is None or cached[0] < (now - _CACHED if since is None else since):
            cached = self._cache[accounts] = (now, breakers(self._ledger, accounts))
        return cached[1]


def _has_no_past(delivery: Claimed) -> bool:
    """Return whether no earlier attempt has a say in which account a delivery gets."""
    return not (delivery.tries or delivery.in_doubt or delivery.ask_again) and delivery.refusal is None


def _facts(item: ReadyDelivery) -> _Facts:
    content = item.content
    mailable = content.get("mailable")
    path = mailable.get("class") if isinstance(mailable, dict) else None
    return (
        item.delivery.recipient.rpartition("@")[2],
        tuple(content.get("tags", ())),
        Mode.NOW if content.get("mode") == Mode.NOW else Mode.LATER,
        path if isinstance(path, str) else None,
    )


def _turn(delivery: Claimed, order: Sequence[str], route: Route) -> int:
    """Return the index of the account whose turn it is, by the number of attempts and by the last refusal.

    Greylisting and the like want to see the same sender again. A refusal that was about the account wants another one.
    """
    refusal = delivery.refusal
    if refusal is not None and delivery.account in order:
        last, scope = order.index(delivery.account), scope_of(refusal)
        if scope in (Scope.MAILBOX, Scope.SENDER, Scope.ACCOUNT):
            return last if scope is Scope.MAILBOX else last + 1
    return delivery.tries // route.failover_after


def _without_answer(delivery: Claimed, policy: StreamPolicy) -> Verdict:
    """Return the policy's verdict on a delivery that may have been sent, with nobody to ask any more."""
    if policy.uncertain is UncertainPolicy.RESEND:
        return Verdict(delivery.id, Status.QUEUED, EngineEvent.RESENT, NO_EVIDENCE, delay=0.0, doubt=Doubt.OPEN)
    return refusal(delivery, Status.HELD, NO_EVIDENCE)._replace(doubt=Doubt.OPEN)


def _held(items: Sequence[ReadyDelivery], reason: str) -> list[Verdict]:
    return [refusal(item.delivery, Status.HELD, reason) for item in items]


def _candidate(breaker: Breaker, items: Sequence[ReadyDelivery]) -> ReadyDelivery | None:
    """Return the mail that may try a half-open breaker: one that has not failed before, or None.

    Where none comes for a while the one with the fewest attempts does, and the mail that failed last only alone.
    """
    others = [item for item in items if item.delivery.id != breaker.failed_delivery]
    for item in others:
        if not item.delivery.tries and not item.delivery.in_doubt:
            return item
    if breaker.half_open_for < _FRESH_ONLY:
        return None
    return min(others or items, key=lambda item: item.delivery.tries)
