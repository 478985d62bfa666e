"""Limits as the engine heeds them: warm-up plans, the application's own limits, what providers say with an answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from uuid import UUID

import pytest
import sqlalchemy

from mailglass import clock, telemetry
from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.breakers import trip
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.limits import Limiter
from mailglass.limits.gcra_redis import RedisGcra
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.base import RateSignal
from mailglass.routing import Lane, LimitContext, Router, Tenancy
from mailglass.settings import AccountSettings, LimitRule, Route, Settings, WarmupPlan
from mailglass.testing.provider import FixedAccounts, ScriptedProvider

LANE = Lane("mailglass", "acme", "transactional")
BULK = Lane("mailglass", "acme", "bulk")
DAY = 86_400


@pytest.fixture
def ledger(database_url: str) -> Database:
    return Database(database_url)


@pytest.fixture(params=["redis", "ledger"])
def limiter(request: pytest.FixtureRequest, ledger: Database) -> Limiter:
    """A limiter with its rates on either server, and its counts in the ledger."""
    if request.param == "redis":
        return Limiter(ledger, RedisGcra(request.getfixturevalue("redis_url")))
    return Limiter(ledger)


def plan(*caps: int, begun: int = 0) -> WarmupPlan:
    """A plan that began so many days ago; a day that ends while the test runs is followed by one with the same cap."""
    return WarmupPlan(today() - timedelta(days=begun), caps)


def today() -> date:
    return clock.now().date()


class Setup:
    """An engine with scripted accounts: `first`, `second` and what else has a plan."""

    def __init__(
        self, ledger: Database, limiter: Limiter, tenancy: Tenancy | None = None, **plans: WarmupPlan | None
    ) -> None:
        names = list(plans) or ["first"]
        self.settings = Settings(
            accounts={
                name: AccountSettings(name, "scripted", Address("shop@example.com"), warmup=plans.get(name))
                for name in names
            },
            routes=(Route(tuple(names)),),
        )
        self.ledger = ledger
        self.providers = {name: ScriptedProvider(account=name) for name in names}
        accounts = FixedAccounts(self.settings, self.providers)
        self.engine = Engine(self.settings, ledger, accounts, limiter, Router(self.settings, tenancy))

    def queue(self, count: int = 1, lane: Lane = LANE, domain: str = "example.com") -> list[UUID]:
        body = json.dumps({"v": 1, "subject": "s", "text": "t"})
        items = [
            Item(id=uuid7(), lane=lane, message_id=uuid7(), content=body, recipient=Address(f"u{i}@{domain}"))
            for i in range(count)
        ]
        return [recorded.id for recorded in submit(self.ledger.run, items)]

    def drain(self, lane: Lane = LANE) -> None:
        while self.engine.run(lane).claimed:
            pass

    def sent(self) -> dict[str, int]:
        return {name: len(provider.sent) for name, provider in self.providers.items()}

    def waiting(self, ids: Sequence[UUID]) -> list[float]:
        """Seconds from now at which deliveries are due, of those that are queued."""
        found = [deliveries.get(self.ledger, delivery_id) for delivery_id in ids]
        return [
            (delivery.due_at - clock.now()).total_seconds()
            for delivery in found
            if delivery.status is Status.QUEUED and delivery.due_at is not None
        ]


def until_tomorrow() -> float:
    return DAY - clock.now().timestamp() % DAY


@pytest.mark.parametrize("lane", [LANE, BULK])
def test_a_new_account_sends_what_its_plan_allows_today_and_the_rest_waits_for_tomorrow(
    ledger: Database, limiter: Limiter, lane: Lane
) -> None:
    setup = Setup(ledger, limiter, first=plan(20, 20))
    ids = setup.queue(60, lane)
    setup.drain(lane)
    assert setup.sent() == {"first": 20}
    slots = setup.waiting(ids)
    assert len(slots) == 40
    assert all(-5 < slot - until_tomorrow() < 35 for slot in slots)
    assert max(slots) - min(slots) > 10
    assert {deliveries.get(ledger, delivery_id).attempts for delivery_id in ids} == {0, 1}


def test_mail_over_the_plan_goes_through_the_next_account_in_the_same_batch(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(20, 20), second=None)
    setup.queue(45)
    report = setup.engine.run(LANE)
    assert setup.sent() == {"first": 20, "second": 25}
    assert report.limited is None
    setup.queue(5)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 20, "second": 30}


def test_the_next_account_has_limits_of_its_own(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(10, 10), second=plan(15, 15), third=plan(5, 5))
    ids = setup.queue(50)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 10, "second": 15, "third": 5}
    assert len(setup.waiting(ids)) == 20


def test_workers_share_the_count_exactly(ledger: Database, limiter: Limiter) -> None:
    clusters = [Setup(ledger, limiter, first=plan(70, 70), second=None) for _ in range(4)]
    clusters[0].queue(200)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Setup.drain, clusters))
    sent: Counter[str] = sum((Counter(setup.sent()) for setup in clusters), Counter())
    assert sent == {"first": 70, "second": 130}


def test_a_plan_that_is_over_limits_nothing(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(1, 2, begun=3))
    setup.queue(30)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 30}


def test_before_its_first_day_an_account_sends_nothing(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(50, begun=-3), second=None)
    setup.queue(3)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 0, "second": 3}


def test_unusable_next_account_leaves_the_rest_for_tomorrow(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(2, 2), second=None)
    trip(ledger, "second", "misconfigured")
    ids = setup.queue(5)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 2, "second": 0}
    assert all(-5 < slot - until_tomorrow() < 35 for slot in setup.waiting(ids))
    assert len(setup.waiting(ids)) == 3


def test_next_account_that_is_soon_back_is_waited_for(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(2, 2), second=None)
    trip(ledger, "second", "transient")
    ids = setup.queue(5)
    setup.engine.run(LANE)
    assert [slot < 60 for slot in setup.waiting(ids)] == [True] * 3


def test_a_mail_that_is_asked_about_again_has_its_place_already(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(1, 1), second=None)
    provider = setup.providers["first"]
    provider.idempotent = True
    provider.script = lambda mail: Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = setup.queue()
    setup.engine.run(LANE)
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL"))
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 2, "second": 0}
    assert deliveries.get(ledger, delivery_id).account == "first"


@pytest.mark.parametrize("kind", [OutcomeClass.TRANSIENT, OutcomeClass.REJECTED, OutcomeClass.SUPPRESSED])
def test_certainly_unsent_mail_gives_its_share_of_the_day_back(
    ledger: Database, limiter: Limiter, kind: OutcomeClass
) -> None:
    setup = Setup(ledger, limiter, first=plan(10, 10), second=None)
    provider = setup.providers["first"]
    provider.script = lambda mail: Outcome(kind if len(provider.sent) <= 4 else OutcomeClass.ACCEPTED, reason="no")
    provider.batch_size = 4
    setup.queue(4)
    setup.engine.run(LANE)
    assert deliveries.counts(ledger)["acme"] != {"sent": 4}
    waiting = "UPDATE mailglass.deliveries SET due_at = now() + interval '1 day' WHERE due_at IS NOT NULL"
    ledger.query(sqlalchemy.text(waiting))
    other = Setup(ledger, limiter, first=plan(10, 10), second=None)
    other.queue(15)
    other.engine.run(LANE)
    assert other.sent()["first"] == 10


def test_possibly_sent_mail_keeps_its_share_of_the_day(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(10, 10), second=None)
    setup.providers["first"].script = lambda mail: Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
    setup.queue(4)
    setup.engine.run(LANE)
    other = Setup(ledger, limiter, first=plan(10, 10), second=None)
    other.queue(15)
    other.engine.run(LANE)
    assert other.sent() == {"first": 6, "second": 9}


def test_mail_without_time_in_its_batch_gives_its_share_of_the_day_back(ledger: Database, limiter: Limiter) -> None:
    setup = Setup(ledger, limiter, first=plan(20, 20), second=None)
    setup.providers["first"].batch_size = 5
    setup.queue(20)
    setup.engine.run(LANE, should_stop=lambda: bool(setup.providers["first"].sent))
    assert setup.sent() == {"first": 5, "second": 0}
    setup.drain()
    assert setup.sent() == {"first": 20, "second": 0}


class Plans(Tenancy):
    """Limits by code, and how often they were asked for."""

    def __init__(self, answer: Callable[[LimitContext], object]) -> None:
        self.answer = answer
        self.asked: list[LimitContext] = []

    def resolve_limits(self, context: LimitContext) -> Sequence[LimitRule] | None:
        self.asked.append(context)
        return self.answer(context)  # type: ignore[return-value]


def test_an_application_limits_a_tenant_by_code(ledger: Database, limiter: Limiter) -> None:
    plans = Plans(lambda context: [LimitRule.of("tenant", "10/h", context.tenant, burst=7)])
    setup = Setup(ledger, limiter, plans)
    ids = setup.queue(20, BULK)
    setup.engine.run(BULK)
    assert setup.sent() == {"first": 7}
    assert len(setup.waiting(ids)) == 13
    assert deliveries.get(ledger, ids[-1]).last_error == "rate_limited:per_tenant"


def test_the_hook_is_asked_once_a_batch_for_each_domain(ledger: Database, limiter: Limiter) -> None:
    plans = Plans(lambda context: None)
    setup = Setup(ledger, limiter, plans)
    setup.queue(20, domain="gmail.com")
    setup.queue(20, domain="yahoo.com")
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 40}
    assert Counter(plans.asked) == {
        LimitContext("acme", "transactional", domain): 1 for domain in ("gmail.com", "yahoo.com")
    }


def _raise(context: LimitContext) -> object:
    raise LookupError("nobody@example.com")


@pytest.mark.parametrize(
    "answer",
    [
        _raise,
        lambda context: ["10/s"],
        lambda context: LimitRule.of("tenant", "1/s"),
        lambda context: [LimitRule.of("tenant", "1/w")],
        lambda context: [LimitRule.of("tenant", "1/s"), LimitRule.of("tenant", "2/s")],
    ],
)
def test_a_hook_that_misbehaves_holds_the_mail_and_nothing_is_sent_without_limits(
    ledger: Database, answer: Callable[[LimitContext], object]
) -> None:
    told: list[tuple[str, object]] = []
    unsubscribe = telemetry.subscribe(lambda event, fields: told.append((event, fields.get("reason"))))
    setup = Setup(ledger, Limiter(ledger), Plans(answer))
    ids = setup.queue(3)
    setup.engine.run(LANE)
    unsubscribe()
    assert setup.sent() == {"first": 0}
    held = [deliveries.get(ledger, delivery_id) for delivery_id in ids]
    assert {(delivery.status, delivery.last_error) for delivery in held} == {(Status.HELD, "no_limits")}
    (reason,) = [str(reason) for event, reason in told if event == "mailglass.limits.failed"]
    assert "resolve_limits" in reason or "tenancy" in reason
    assert "@" not in reason


def test_mail_to_other_domains_is_not_held_for_one_that_the_hook_fails_on(ledger: Database) -> None:
    plans = Plans(lambda context: _raise(context) if context.domain == "bad.example" else None)
    setup = Setup(ledger, Limiter(ledger), plans)
    setup.queue(2, domain="bad.example")
    setup.queue(3)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 3}


class Signalling(ScriptedProvider):
    """Says something of its rate limit beside each answer, and counts how often it was asked."""

    def __init__(self, *signals: RateSignal | Exception | None) -> None:
        super().__init__(account="first", batch_size=5)
        self.signals = list(signals)
        self.asked = 0

    def rate_signal(self) -> RateSignal | None:
        self.asked += 1
        signal = self.signals.pop(0) if self.signals else None
        if isinstance(signal, Exception):
            raise signal
        return signal


class Told(Limiter):
    """A limiter that notes what it is told."""

    def __init__(self, limiter: Limiter) -> None:
        self.__dict__ = limiter.__dict__
        self.observed: list[tuple[int, float]] = []

    def observe(self, account: str, remaining: int, reset_seconds: float, *, now: int | None = None) -> None:
        self.observed.append((remaining, reset_seconds))
        super().observe(account, remaining, reset_seconds, now=now)


def signalling(ledger: Database, limiter: Limiter, *signals: RateSignal | Exception | None) -> tuple[Setup, Told]:
    told = Told(limiter)
    setup = Setup(ledger, told)
    setup.providers["first"] = Signalling(*signals)
    accounts = FixedAccounts(setup.settings, setup.providers)
    setup.engine = Engine(setup.settings, ledger, accounts, told)
    return setup, told


def test_an_account_pauses_where_its_provider_says_that_nothing_remains(ledger: Database, limiter: Limiter) -> None:
    setup, _ = signalling(ledger, limiter, RateSignal(0, 600.0))
    setup.queue(5)
    setup.engine.run(LANE)
    ids = setup.queue(5)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 5}
    assert all(590 < slot < 640 for slot in setup.waiting(ids))
    assert deliveries.get(ledger, ids[0]).last_error == "rate_limited:per_account"


def test_remaining_quota_is_spread_until_reset(ledger: Database, limiter: Limiter) -> None:
    setup, _ = signalling(ledger, limiter, RateSignal(3, 30.0))
    setup.queue(5)
    setup.engine.run(LANE)
    ids = setup.queue(5)
    setup.engine.run(LANE)
    assert setup.sent() == {"first": 6}
    assert sorted(round(slot, -1) for slot in setup.waiting(ids)) == [10, 20, 30, 40]


def test_distant_reset_is_not_waited_for_while_quota_remains(ledger: Database, limiter: Limiter) -> None:
    setup, _ = signalling(ledger, limiter, RateSignal(3, 3600.0))
    for _ in range(2):
        setup.queue(5)
        setup.engine.run(LANE)
    assert setup.sent() == {"first": 10}


def test_the_limiter_is_told_only_news(ledger: Database, limiter: Limiter) -> None:
    plenty, little, nothing = RateSignal(500, 30.0), RateSignal(4, 30.0), RateSignal(0, 30.0)
    setup, told = signalling(ledger, limiter, None, plenty, little, little, nothing, nothing, little)
    setup.queue(35)
    setup.engine.run(LANE)
    assert told.observed == [(4, 30.0), (0, 30.0)]


def test_a_signal_that_cannot_be_read_fails_no_mail(ledger: Database, limiter: Limiter) -> None:
    setup, told = signalling(ledger, limiter, RuntimeError("nobody@example.com"))
    setup.queue(5)
    setup.engine.run(LANE)
    assert deliveries.counts(ledger)["acme"] == {"sent": 5}
    assert told.observed == []
