"""Redis and PostgreSQL give the same answers as a model of ten times fewer lines, whatever is asked of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass.errors import RateLimitType
from mailglass.ledger.database import Database
from mailglass.limits.batch import compile_batch, exact_microseconds
from mailglass.limits.gcra_ledger import LedgerGcra
from mailglass.limits.gcra_redis import RedisGcra
from mailglass.limits.rate_adjustment import RateAdjustment
from mailglass.limits.rules import Cap, Limit, Rule

DAY = 86_400_000_000
NOON = 20_000 * DAY + DAY // 2
SECOND = 1_000_000
HORIZON = 30 * SECOND


@dataclass
class Bucket:
    stamp: int
    level: Fraction = Fraction(0)
    promised: Fraction = Fraction(0)
    promised_urgent: Fraction = Fraction(0)
    changed: bool = False
    rule: tuple[Fraction, int] | None = None
    guard: Guard | None = None


@dataclass(frozen=True)
class Guard:
    """The loosest rule since the first change, and what was taken and has not drained at its rate."""

    interval: Fraction
    burst: int
    level: Fraction


@dataclass
class AccountState:
    pause_until: Fraction = Fraction(0)
    slow_until: Fraction = Fraction(0)
    factor: Fraction = Fraction(1)
    rate: Fraction = Fraction(0)
    rate_until: Fraction = Fraction(0)


@dataclass
class Model:
    """GCRA mail by mail, in exact fractions of a microsecond."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    feedback: dict[str, AccountState] = field(default_factory=dict)
    view: dict[str, Bucket] = field(default_factory=dict)

    def take(self, requests: Sequence[tuple[Limit, ...]], seed: float, urgent: bool, now: int) -> list[tuple[int, str]]:
        answers: list[tuple[int, str]] = []
        self.view = {}
        refusals = 0
        for request in requests:
            limits = {limit.key: limit for limit in request}.values()
            full = [limit for limit in limits if not self.fits(limit, now)]
            if full:
                spread = Fraction(math.modf(seed + refusals * 0.6180339887498949)[0])
                refusals += 1
                waits = {limit.key: self.wait(limit, now, spread, urgent) for limit in full}
                longest = max(sorted(waits), key=lambda key: waits[key])
                answers.append((math.ceil(waits[longest]), longest))
                continue
            for limit in limits:
                bucket = self.bucket(limit, now)
                interval = self.figures(limit, now)[0]
                bucket.level += interval
                if bucket.guard is not None:
                    bucket.guard = replace(bucket.guard, level=bucket.guard.level + bucket.guard.interval)
                # a mail that takes nothing leaves nothing behind
                bucket.changed = bucket.changed or interval > 0
            answers.append((0, ""))
        self.buckets |= {key: replace(bucket, changed=False) for key, bucket in self.view.items() if bucket.changed}
        return answers

    def bucket(self, limit: Limit, now: int) -> Bucket:
        if limit.key not in self.view:
            self.view[limit.key] = self.load(limit, now)
        return self.view[limit.key]

    def load(self, limit: Limit, now: int) -> Bucket:
        kept = self.buckets.get(limit.key, Bucket(0))
        set_back = kept.stamp - now > SECOND
        if isinstance(limit, Cap):
            return replace(kept)
        elapsed = max(0, now - kept.stamp)
        rule = (Fraction(exact_microseconds(limit.interval)), limit.burst)
        kept = replace(kept)
        if rule[0] == 0:
            kept.guard = None
        elif kept.rule is not None and kept.rule[0] > 0 and kept.rule != rule:
            before, burst = kept.rule
            if kept.guard is None:
                kept.guard = Guard(before, burst, min(kept.level, before * burst))
            if before != rule[0]:
                kept.level = mails(kept.level / before) * rule[0]
            kept.promised = kept.promised_urgent = Fraction(0)
        if kept.guard is not None:
            interval, burst = min(kept.guard.interval, rule[0]), max(kept.guard.burst, rule[1])
            level = kept.guard.level
            if interval != kept.guard.interval:
                level = mails(level / kept.guard.interval) * interval
            level = max(Fraction(0), min(level, interval * burst) - elapsed)
            kept.guard = Guard(interval, burst, level) if level > 0 else None
        _, _, full, _ = self.figures(limit, now)
        level = max(Fraction(0), kept.level - elapsed)
        return Bucket(
            now if set_back else max(now, kept.stamp),
            min(level, full),
            max(Fraction(0), kept.promised - elapsed),
            max(Fraction(0), kept.promised_urgent - elapsed),
            rule=rule,
            guard=kept.guard,
        )

    def figures(self, limit: Limit, now: int) -> tuple[Fraction, Fraction, Fraction, Fraction]:
        """Interval, tolerance, the tolerance of those for whom nothing is reserved, and pause."""
        if isinstance(limit, Cap):
            return Fraction(1), Fraction(limit.maximum), Fraction(limit.maximum), Fraction(0)
        interval = Fraction(exact_microseconds(limit.interval))
        tolerance, full = interval * (limit.burst - limit.reserve), interval * limit.burst
        state = self.feedback.get(limit.account, AccountState())
        if now < state.rate_until:
            tolerance, full = tolerance or Fraction(2 * SECOND), full or Fraction(2 * SECOND)
            interval = max(interval, SECOND / state.rate)
        if now < state.slow_until:
            interval *= state.factor
        pause = max(Fraction(0), state.pause_until - now)
        return interval, max(tolerance, interval), max(full, interval), pause

    def fits(self, limit: Limit, now: int) -> bool:
        interval, tolerance, _, pause = self.figures(limit, now)
        if interval == 0:
            return pause == 0
        bucket = self.bucket(limit, now)
        return pause == 0 and bucket.level + interval <= tolerance and self.guarded(bucket) <= 0

    def guarded(self, bucket: Bucket) -> Fraction:
        """How long until one more mail fits by the loosest rule."""
        guard = bucket.guard
        return Fraction(0) if guard is None else guard.level + guard.interval - guard.interval * guard.burst

    def wait(self, limit: Limit, now: int, spread: Fraction, urgent: bool) -> Fraction:
        interval, tolerance, _, pause = self.figures(limit, now)
        if isinstance(limit, Cap):
            return max(1, math.ceil(limit.until - now / 1e6)) * SECOND + spread * HORIZON
        if interval == 0:
            return pause + spread * min(pause, HORIZON)
        bucket = self.bucket(limit, now)
        pause = max(pause, self.guarded(bucket))
        free = max(pause, bucket.level + interval - tolerance)
        ahead = bucket.promised_urgent if urgent else max(bucket.promised, bucket.promised_urgent)
        promise = max(ahead, bucket.level, pause + tolerance - interval) + interval
        if promise - tolerance - free > HORIZON:
            return free + HORIZON * (1 - spread / 3)
        bucket.changed = True
        if urgent:
            bucket.promised_urgent = promise
        else:
            bucket.promised = promise
        return promise - tolerance

    def apply_feedback(self, account: str, adjustment: RateAdjustment, now: int) -> None:
        state = self.feedback.setdefault(account, AccountState())
        pause = Fraction(adjustment.pause)
        if adjustment.factor > 1:
            if now >= state.slow_until:
                state.factor = Fraction(min(16, adjustment.factor))
            elif now >= state.pause_until:
                state.factor = min(Fraction(16), state.factor * Fraction(adjustment.factor))
            if pause < 0:
                pause = Fraction(0) if now < state.pause_until else state.factor * SECOND / 2
            state.slow_until = max(state.slow_until, now + pause + Fraction(adjustment.lasting))
        if pause > 0:
            state.pause_until = max(state.pause_until, now + pause)
        if adjustment.rate > 0:
            state.rate, state.rate_until = Fraction(adjustment.rate), now + Fraction(adjustment.rate_lasting)


def mails(count: Fraction) -> Fraction:
    """A count of mails, rounded up as the servers round it."""
    return Fraction(math.ceil(count * 2**20), 2**20)


@dataclass(frozen=True)
class Take:
    """What is asked for.

    Attributes:
        requests: the limits of each mail.
        rules: figures by key that the limits have meanwhile: interval and burst.
    """

    requests: list[tuple[Limit, ...]]
    seed: float
    urgent: bool
    rules: dict[str, tuple[float, int]]

    def limit(self, limit: Limit) -> Limit:
        if not isinstance(limit, Rule):
            return limit
        interval, burst = self.rules.get(limit.key, (limit.interval, limit.burst))
        reserve = 0 if self.urgent else burst // 10
        return replace(limit, interval=interval, burst=burst, reserve=reserve)


@dataclass(frozen=True)
class Feedback:
    account: str
    adjustment: RateAdjustment


Step = tuple[int, Take | Feedback]

LIMITS: list[Limit] = [
    Rule("tenant:acme", 1 / 3, 1, RateLimitType.PER_TENANT),
    Rule("tenant:b", 0.01, 200, RateLimitType.PER_TENANT),
    Rule("domain:example.com", 1 / 7, 5, RateLimitType.PER_DOMAIN),
    Rule("stream:bulk", 1 / 3000, 40, RateLimitType.PER_STREAM),
    Rule("account:one", 0.02, 100, RateLimitType.PER_ACCOUNT, "one"),
    Rule("account:two", 0.0, 1, RateLimitType.PER_ACCOUNT, "two"),
    Rule("daily:x", 8640.0, 2, RateLimitType.PER_TENANT),
    Cap("warmup:one", 60, NOON / 1e6 + 30_000.25),
    Cap("warmup:two", 0, NOON / 1e6 + 3600),
]

_requests = st.lists(
    st.tuples(st.lists(st.sampled_from(LIMITS), max_size=4, unique=True), st.sampled_from([1, 1, 2, 30])),
    min_size=1,
    max_size=8,
).map(lambda runs: [tuple(limits) for limits, times in runs for _ in range(times)])
_figures = st.sampled_from([(1.0, 90), (0.01, 100), (0.01, 7), (1 / 3, 1), (2.0, 1000), (0.0, 1)])
_rules = st.dictionaries(st.sampled_from([limit.key for limit in LIMITS if isinstance(limit, Rule)]), _figures)
_takes = st.builds(Take, _requests, st.floats(0, 0.999), st.booleans(), st.one_of(st.just({}), _rules))
# figures of few bits, so that the model's fractions and the servers' doubles stay the same
_adjustments = st.one_of(
    st.builds(
        RateAdjustment,
        pause=st.sampled_from([-1.0, 0.0, 300_000.0, 90_000_000.0]),
        factor=st.sampled_from([1.5, 2.0, 4.0]),
        lasting=st.sampled_from([1_000_000.0, 60_000_000.0]),
    ),
    st.builds(RateAdjustment, pause=st.sampled_from([1_000_000.0, 3_600_000_000.0])),
    st.builds(RateAdjustment, rate=st.sampled_from([0.5, 8.0, 40.0, 1000.0]), rate_lasting=st.just(90_000_000.0)),
)
_feedback = st.builds(Feedback, st.sampled_from(["one", "two"]), _adjustments)
_elapsed = st.one_of(
    st.integers(0, 50_000),
    st.integers(0, 3_000_000),
    st.integers(0, 90_000_000),
    st.sampled_from([-900_000, -1_000_000, -5_000_000, DAY // 4]),
)
_steps = st.lists(st.tuples(_elapsed, st.one_of(_takes, _takes, _takes, _feedback)), min_size=1, max_size=12)


@pytest.fixture(params=["redis", "ledger"])
def server(request: pytest.FixtureRequest) -> RedisGcra | LedgerGcra:
    if request.param == "redis":
        return RedisGcra(request.getfixturevalue("redis_url"))
    return LedgerGcra(Database(request.getfixturevalue("database_url")))


@pytest.fixture
def numbers() -> Iterator[int]:
    return count()


def renamed(limit: Limit, prefix: str) -> Limit:
    """The same limit for another example, so that no example sees what another took."""
    account = getattr(limit, "account", "")
    key = f"{prefix}{limit.key}"
    return replace(limit, key=key, account=f"{prefix}{account}") if account else replace(limit, key=key)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=_steps)
def test_a_server_answers_as_the_model_does(
    server: RedisGcra | LedgerGcra, numbers: Iterator[int], steps: list[Step]
) -> None:
    prefix = f"{next(numbers)}:"
    model, now = Model(), NOON
    for elapsed, step in steps:
        now += elapsed
        if isinstance(step, Feedback):
            model.apply_feedback(prefix + step.account, step.adjustment, now)
            server.apply_feedback(prefix + step.account, step.adjustment, now=now)
            continue
        # counts are kept in the ledger alone
        kinds = (Rule, Cap) if isinstance(server, LedgerGcra) else (Rule,)
        requests = [
            tuple(renamed(step.limit(limit), prefix) for limit in request if isinstance(limit, kinds))
            for request in step.requests
        ]
        batch = compile_batch(requests, now / 1e6)
        if not batch.limits:
            continue
        expected = model.take(requests, step.seed, step.urgent, now)
        types = {limit.key: limit.type for limit in batch.limits}
        grants = server.take(batch, urgent=step.urgent, horizon=HORIZON, seed=step.seed, now=now)
        assert [grant.granted for grant in grants] == [not key for _, key in expected]
        assert [grant.type for grant in grants] == [types.get(key) for _, key in expected]
        assert [grant.delay * SECOND for grant in grants] == pytest.approx([delay for delay, _ in expected], abs=1.5)


# a change of a limit: seconds since the last one, interval and burst, and how often it is asked meanwhile
_change = st.tuples(
    st.floats(0.001, 20.0),
    st.sampled_from([0.002, 0.01, 0.1, 1 / 3, 1.0, 7.0]),
    st.sampled_from([1, 2, 10, 90, 300]),
    st.integers(1, 6),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(changes=st.lists(_change, min_size=1, max_size=12), urgent=st.booleans())
def test_rules_in_any_order_admit_what_the_loosest_would_and_one_burst_at_most(
    server: RedisGcra | LedgerGcra, numbers: Iterator[int], changes: list[tuple[float, float, int, int]], urgent: bool
) -> None:
    key, now = f"changed:{next(numbers)}", NOON
    taken: list[tuple[int, int]] = []
    for seconds, interval, burst, asks in changes:
        rule = Rule(key, interval, burst, RateLimitType.PER_ACCOUNT, reserve=0 if urgent else burst // 10)
        for _ in range(asks):
            now += int(seconds * SECOND / asks)
            batch = compile_batch([(rule,)] * 1000, now / 1e6)
            grants = server.take(batch, urgent=urgent, horizon=HORIZON, seed=0.5, now=now)
            taken.append((now, sum(grant.granted for grant in grants)))
    most = max(burst for _, _, burst, _ in changes)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            elapsed = (taken[last][0] - taken[first][0]) / SECOND
            loosest = max(burst + elapsed / interval for _, interval, burst, _ in changes)
            assert sum(count for _, count in taken[first : last + 1]) <= loosest + most + 1e-6


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(changes=st.lists(_change, min_size=2, max_size=6), mixed=st.booleans())
def test_the_first_urgent_mail_leaves_within_one_interval_of_a_new_rule(
    server: RedisGcra | LedgerGcra, numbers: Iterator[int], changes: list[tuple[float, float, int, int]], mixed: bool
) -> None:
    key, now = f"changed:{next(numbers)}", NOON
    before = None
    for seconds, interval, burst, asks in changes:
        if before == (interval, burst):
            continue
        before = (interval, burst)
        urgent = Rule(key, interval, burst, RateLimitType.PER_ACCOUNT)
        (grant,) = server.take(compile_batch([(urgent,)], now / 1e6), urgent=True, horizon=HORIZON, seed=0.5, now=now)
        assert grant.granted or grant.delay <= interval + 1e-5
        other = replace(urgent, reserve=burst // 10)
        for number in range(asks):
            rule, hasty = (other, False) if mixed and number % 2 else (urgent, True)
            # more than there is room for, so that places are promised far ahead
            batch = compile_batch([(rule,)] * (burst + 50), now / 1e6)
            server.take(batch, urgent=hasty, horizon=HORIZON, seed=0.5, now=now)
            now += int(seconds * SECOND / asks)


def test_a_limit_that_is_removed_binds_nobody_any_more(server: RedisGcra | LedgerGcra, numbers: Iterator[int]) -> None:
    key = f"removed:{next(numbers)}"
    before = Rule(key, 1.0, 90, RateLimitType.PER_ACCOUNT, "one")
    server.take(compile_batch([(before,)] * 120, NOON / 1e6), urgent=False, horizon=HORIZON, seed=0.5, now=NOON)
    without = Rule(key, 0.0, 1, RateLimitType.PER_ACCOUNT, "one")
    grants = server.take(
        compile_batch([(without,)] * 1000, NOON / 1e6), urgent=True, horizon=HORIZON, seed=0.5, now=NOON + 1
    )
    assert all(grant.granted for grant in grants)


def test_other_mail_takes_nothing_from_what_is_left_to_urgent_mail(
    server: RedisGcra | LedgerGcra, numbers: Iterator[int]
) -> None:
    urgent = Rule(f"shared:{next(numbers)}", 1.0, 100, RateLimitType.PER_ACCOUNT)
    other = replace(urgent, reserve=10)

    def take(rule: Rule, count: int) -> int:
        batch = compile_batch([(rule,)] * count, NOON / 1e6)
        grants = server.take(batch, urgent=rule is urgent, horizon=HORIZON, seed=0.5, now=NOON)
        return sum(grant.granted for grant in grants)

    assert take(other, 200) == 90
    # asked in turns, neither is a change of the other's rule
    assert [take(urgent, 4), take(other, 5), take(urgent, 4), take(other, 5), take(urgent, 4)] == [4, 0, 4, 0, 2]
