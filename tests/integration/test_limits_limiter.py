"""The limiter on both servers: who is granted, when the others come back, what providers teach it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random
from typing import Any

import psycopg
import pytest
import redis
import sqlalchemy
from psycopg.rows import namedtuple_row

from mailglass.errors import LedgerUnavailableError, RateLimitType
from mailglass.ledger import schema
from mailglass.ledger.database import Database, get_database
from mailglass.ledger.statements import statements
from mailglass.limits import Cap, Grant, Limiter, Mail, Rule, RuleBook, limiter_for, prune
from mailglass.limits.batch import compile_batch
from mailglass.limits.gcra_ledger import LedgerGcra
from mailglass.limits.gcra_redis import RedisGcra
from mailglass.settings import LimitRule, LimitScope, Secret, Settings
from mailglass.stack.postgres import PostgresServer
from mailglass.stack.valkey import EmbeddedValkey

SECOND = 1_000_000
DAY = 86_400 * SECOND
NOON = 20_000 * DAY + DAY // 2

TENANT = Rule("tenant:acme", 0.01, 200, RateLimitType.PER_TENANT)
OTHER_TENANT = Rule("tenant:other", 0.01, 200, RateLimitType.PER_TENANT)
GMAIL = Rule("domain:gmail.com", 0.5, 2, RateLimitType.PER_DOMAIN)
ACCOUNT = Rule("account:main", 0.1, 10, RateLimitType.PER_ACCOUNT, account="main")
NOBODY = Database("postgresql://nobody@127.0.0.1:1/nothing")
UNLIMITED = Rule("account:free", 0.0, 1, RateLimitType.PER_ACCOUNT, account="free")


@pytest.fixture(scope="module")
def ledger_of_this_file(postgres: PostgresServer, migrated_template: str) -> Iterator[Database]:
    name = f"limits_{os.getpid()}"
    ledger = Database(postgres.create_database(name, template=migrated_template))
    yield ledger
    ledger.dispose()
    postgres.drop_database(name)


@pytest.fixture(params=["redis", "ledger"])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    """A limiter on either server. The one in Redis has no ledger to fall back to, so that no test passes by falling."""
    if request.param == "redis":
        return Limiter(NOBODY, RedisGcra(request.getfixturevalue("redis_url")))
    ledger: Database = request.getfixturevalue("ledger_of_this_file")
    ledger.query(sqlalchemy.text("TRUNCATE mailglass.rate_limits, mailglass.rate_lessons"))
    return Limiter(ledger)


@pytest.fixture(params=["redis", "ledger"])
def counter(request: pytest.FixtureRequest) -> Limiter:
    """A limiter with its rates on either server, and its counts in the ledger."""
    ledger: Database = request.getfixturevalue("ledger_of_this_file")
    ledger.query(sqlalchemy.text("TRUNCATE mailglass.rate_limits, mailglass.rate_lessons"))
    if request.param == "redis":
        return Limiter(ledger, RedisGcra(request.getfixturevalue("redis_url")))
    return Limiter(ledger)


def count(grants: list[Grant]) -> int:
    return sum(grant.granted for grant in grants)


def delays(grants: list[Grant]) -> list[float]:
    return [grant.delay for grant in grants if not grant.granted]


def test_a_burst_passes_at_once_and_the_rest_at_the_rate(limiter: Limiter) -> None:
    assert count(limiter.take([(TENANT,)] * 300, now=NOON)) == 200
    assert count(limiter.take([(TENANT,)] * 300, now=NOON + SECOND)) == 100
    assert count(limiter.take([(TENANT,)] * 300, now=NOON + 100 * SECOND)) == 200


def test_the_servers_own_clock_is_used(limiter: Limiter) -> None:
    rule = Rule("tenant:fast", 0.0001, 1, RateLimitType.PER_TENANT)
    granted, tries = 0, 0
    started = time.monotonic()
    while granted < 20:
        granted += count(limiter.take([(rule,)]))
        tries += 1
    assert time.monotonic() - started >= 19 * 0.0001
    assert count(limiter.take([(Rule("tenant:slow", 1000.0, 1, RateLimitType.PER_TENANT),)] * 3)) == 1


def test_all_limits_of_a_mail_are_taken_or_none(limiter: Limiter) -> None:
    grants = limiter.take([(TENANT, GMAIL)] * 5, now=NOON)
    assert [grant.granted for grant in grants] == [True, True, False, False, False]
    # the three that gmail.com refused took nothing from the tenant
    assert count(limiter.take([(TENANT,)] * 300, now=NOON)) == 198


def test_mails_are_served_in_the_order_of_the_batch(limiter: Limiter) -> None:
    two = Rule("tenant:two", 1.0, 2, RateLimitType.PER_TENANT)
    grants = limiter.take([(two, GMAIL), (two,), (two, GMAIL), (two,)], now=NOON)
    assert [grant.granted for grant in grants] == [True, True, False, False]


def test_a_mail_without_limits_passes(limiter: Limiter) -> None:
    assert limiter.take([()] * 3, now=NOON) == [Grant(True)] * 3
    assert limiter.take([(), (GMAIL,), ()], now=NOON) == [Grant(True)] * 3
    assert limiter.take([]) == []


def test_more_mails_than_one_call_takes_are_answered_in_order(limiter: Limiter) -> None:
    rule = Rule("tenant:big", 1.0, 1500, RateLimitType.PER_TENANT)
    grants = limiter.take([(rule,)] * 2500, now=NOON)
    assert [grant.granted for grant in grants] == [True] * 1500 + [False] * 1000


def test_a_refusal_names_the_limit_that_takes_longest(limiter: Limiter) -> None:
    limiter.take([(TENANT,)] * 200 + [(GMAIL,)] * 2, now=NOON)
    (grant,) = limiter.take([(TENANT, GMAIL)], now=NOON)
    assert grant == Grant(False, 0.5, RateLimitType.PER_DOMAIN)


def test_a_backlog_comes_back_one_by_one(limiter: Limiter) -> None:
    limiter.take([(TENANT,)] * 200, now=NOON)
    slots = delays(limiter.take([(TENANT,)] * 150, now=NOON) + limiter.take([(TENANT,)] * 150, now=NOON))
    assert slots == pytest.approx([0.01 * position for position in range(1, 301)])


def test_a_backlog_that_keeps_its_slots_wastes_none_and_meets_no_refusal(limiter: Limiter) -> None:
    limiter.take([(TENANT,)] * 200, now=NOON)
    for slot in sorted(delays(limiter.take([(TENANT,)] * 500, now=NOON))):
        assert count(limiter.take([(TENANT,)], now=NOON + round(slot * SECOND))) == 1


def test_a_promise_reserves_nothing(limiter: Limiter) -> None:
    limiter.take([(TENANT,)] * 1000, now=NOON)
    assert count(limiter.take([(TENANT,)] * 150, now=NOON + SECOND)) == 100


def test_no_backlog_pushes_anything_beyond_the_horizon(limiter: Limiter) -> None:
    limiter.take([(TENANT,)] * 200, now=NOON)
    slots = [slot for _ in range(6) for slot in delays(limiter.take([(TENANT,)] * 1000, now=NOON))]
    in_line, beyond = slots[:3001], slots[3001:]
    assert in_line == pytest.approx([0.01 * position for position in range(1, 3002)])
    assert all(20 <= slot <= 30.02 for slot in beyond)
    # spread, not in a heap: no tenth of a second gets more than a few of these 3,000
    by_tenth = [sum(1 for slot in beyond if tenth <= slot * 10 < tenth + 1) for tenth in range(200, 300)]
    assert max(by_tenth) <= 45


def test_a_limit_slower_than_the_horizon_tells_its_real_next_place(limiter: Limiter) -> None:
    slow = Rule("tenant:slow", 8640.0, 1, RateLimitType.PER_TENANT)
    limiter.take([(slow,)], now=NOON)
    first, *others = delays(limiter.take([(slow,)] * 20, now=NOON))
    assert first == pytest.approx(8640)
    assert all(8640 + 20 <= slot <= 8640 + 30 for slot in others)
    assert len(set(others)) == len(others)


def test_a_tenants_backlog_is_not_in_the_way_of_another_at_a_shared_account(limiter: Limiter) -> None:
    account = Rule("account:shared", 0.001, 1000, RateLimitType.PER_ACCOUNT, account="shared")
    limiter.take([(TENANT, account)] * 1000, now=NOON)
    assert limiter.take([(OTHER_TENANT, account)], now=NOON) == [Grant(True)]
    limiter.take([(account,)] * 799, now=NOON)
    (grant,) = limiter.take([(OTHER_TENANT, account)], now=NOON)
    assert grant == Grant(False, 0.001, RateLimitType.PER_ACCOUNT)


def test_urgent_mail_comes_back_for_the_next_place_whatever_was_promised(limiter: Limiter) -> None:
    limiter.take([(ACCOUNT,)] * 500, now=NOON)
    assert delays(limiter.take([(ACCOUNT,)] * 2, urgent=True, now=NOON)) == pytest.approx([0.1, 0.2])
    assert delays(limiter.take([(ACCOUNT,)], urgent=True, now=NOON)) == pytest.approx([0.3])


def test_other_mail_queues_behind_what_was_promised_to_urgent_mail(limiter: Limiter) -> None:
    limiter.take([(ACCOUNT,)] * 10, now=NOON)
    limiter.take([(ACCOUNT,)] * 20, urgent=True, now=NOON)
    assert delays(limiter.take([(ACCOUNT,)] * 2, now=NOON)) == pytest.approx([2.1, 2.2])


def test_a_newsletter_that_drains_an_account_leaves_room_for_a_password(limiter: Limiter) -> None:
    book = RuleBook([LimitRule(LimitScope.ACCOUNT, "*", 10, 1, 20)])
    newsletter, password = (
        Mail("acme", stream, "main", "a.example", "b.example") for stream in ("bulk", "transactional")
    )
    assert count(limiter.take([book.rules_for(newsletter)] * 50, now=NOON)) == 18
    assert count(limiter.take([book.rules_for(password)] * 50, urgent=True, now=NOON)) == 2


def test_no_stretch_of_time_sees_more_than_burst_and_rate(limiter: Limiter) -> None:
    rng = Random(7)
    rule = Rule("tenant:window", 0.003, 17, RateLimitType.PER_TENANT)
    now, moments = NOON, []
    for _ in range(300):
        now += rng.choice([0, 1, 2_999, 3_000, 3_001, 40_000, 200_000])
        moments += [now] * count(limiter.take([(rule,)] * rng.randint(1, 40), now=now))
    for first in range(len(moments)):
        for last in range(first, min(first + 120, len(moments))):
            assert last - first + 1 <= 17 + (moments[last] - moments[first]) / 3_000


def test_a_clock_that_was_set_back_does_not_close_a_limit(limiter: Limiter) -> None:
    limiter.take([(TENANT,)] * 200, now=NOON)
    an_hour_earlier = NOON - 3600 * SECOND
    assert count(limiter.take([(TENANT,)] * 200, now=an_hour_earlier)) == 0
    assert delays(limiter.take([(GMAIL,)] * 3, now=an_hour_earlier)) == pytest.approx([0.5])
    limiter.take([(GMAIL,)] * 3, now=NOON)
    assert count(limiter.take([(GMAIL,)] * 3, now=an_hour_earlier)) == 0
    limiter.take([(GMAIL,)], now=an_hour_earlier)
    assert count(limiter.take([(GMAIL,)] * 3, now=an_hour_earlier + SECOND)) == 2


def test_a_cap_counts_exactly_and_sends_the_rest_to_its_end(counter: Limiter) -> None:
    cap = Cap("warmup:main:1", 50, NOON / 1e6 + 43_200)
    grants = counter.take([(ACCOUNT, cap)] * 5 + [(cap,)] * 60, now=NOON)
    assert [grant.granted for grant in grants] == [True] * 50 + [False] * 15
    assert {(grant.type, grant.used_up) for grant in grants[50:]} == {(RateLimitType.PER_ACCOUNT, True)}
    half_a_day = 43_200
    assert all(half_a_day <= slot <= half_a_day + 30 for slot in delays(grants))
    assert len(set(delays(grants))) == 15


def test_a_cap_never_drains_and_the_next_days_has_a_key_of_its_own(counter: Limiter) -> None:
    today, tomorrow = (Cap(f"warmup:main:{day}", 50 * day, NOON / 1e6 + 86_400 * day) for day in (1, 2))
    assert count(counter.take([(today,)] * 50, now=NOON)) == 50
    for now in (NOON + DAY - SECOND, NOON + 25 * 3600 * SECOND, NOON - 3600 * SECOND):
        assert count(counter.take([(today,)], now=now)) == 0
    assert count(counter.take([(tomorrow,)] * 120, now=NOON + DAY)) == 100


def test_places_of_a_count_can_be_given_back_and_none_that_were_not_taken(counter: Limiter) -> None:
    today = Cap("warmup:main:1", 50, NOON / 1e6 + 600)
    assert count(counter.take([(today,)] * 30, now=NOON)) == 30
    counter.give_back({"warmup:main:1": 10, "warmup:never:taken": 5})
    assert count(counter.take([(today,)] * 60, now=NOON)) == 30
    counter.give_back({"warmup:main:1": 1_000})
    assert count(counter.take([(today,)] * 60, now=NOON)) == 50


def test_a_giving_back_that_is_repeated_is_one(ledger_of_this_file: Database) -> None:
    cap = Cap("warmup:repeated:1", 50, NOON / 1e6 + 600)
    limiter = Limiter(ledger_of_this_file)
    limiter.take([(cap,)] * 50, now=NOON)
    for _ in range(2):
        ledger_of_this_file.run("return_slots", {"keys": [cap.key], "mails": [10], "token": 0.25})
    assert count(limiter.take([(cap,)] * 60, now=NOON)) == 10


def test_a_refusal_by_a_rate_uses_nothing_up(limiter: Limiter) -> None:
    assert not limiter.take([(GMAIL,)] * 3, now=NOON)[2].used_up


def test_a_full_cap_takes_nothing_from_the_other_limits(counter: Limiter) -> None:
    assert count(counter.take([(TENANT, Cap("warmup:none", 0, NOON / 1e6 + 60))] * 10, now=NOON)) == 0
    assert count(counter.take([(TENANT,)] * 300, now=NOON)) == 200


def test_a_mail_that_meets_a_rate_leaves_its_place_of_the_day_to_another(counter: Limiter) -> None:
    cap = Cap("warmup:main:1", 50, NOON / 1e6 + 600)
    grants = counter.take([(GMAIL, cap)] * 30 + [(cap,)] * 100, now=NOON)
    assert [grant.granted for grant in grants[:30]] == [True] * 2 + [False] * 28
    assert {(grant.type, grant.used_up) for grant in grants[2:30]} == {(RateLimitType.PER_DOMAIN, False)}
    assert count(grants) + count(counter.take([(cap,)] * 100, now=NOON)) == 50


def test_a_day_is_counted_on_whatever_happens_to_redis(
    valkey: EmbeddedValkey, redis_url: str, database_url: str
) -> None:
    limiter = Limiter(Database(database_url), RedisGcra(redis_url))
    mail = (ACCOUNT, Cap("warmup:main:1", 15, NOON / 1e6 + 600))
    assert count(limiter.take([mail] * 10, now=NOON)) == 10
    valkey.flush()
    assert count(limiter.take([mail] * 3, now=NOON)) == 3
    valkey.stop()
    try:
        assert count(limiter.take([mail] * 10, now=NOON)) == 2
    finally:
        valkey.start()


@pytest.mark.parametrize("rule", [ACCOUNT, UNLIMITED])
def test_after_retry_after_an_account_pauses_as_long_as_asked(limiter: Limiter, rule: Rule) -> None:
    limiter.slow_down(rule.account, retry_after=20, now=NOON)
    grants = limiter.take([(rule, TENANT)] * 5, now=NOON + SECOND)
    assert count(grants) == 0
    assert all(19 <= slot <= 19 + 30 for slot in delays(grants))
    assert len(set(delays(grants))) == 5
    assert count(limiter.take([(rule,)], now=NOON + 20 * SECOND - 1)) == 0
    assert count(limiter.take([(rule,)], now=NOON + 20 * SECOND)) == 1
    assert count(limiter.take([(TENANT,)] * 300, now=NOON + SECOND)) == 200


def test_a_lesson_bears_on_its_own_account_only(limiter: Limiter) -> None:
    limiter.slow_down("main", retry_after=20, now=NOON)
    assert count(limiter.take([(UNLIMITED,)] * 500, now=NOON)) == 500


def drained(limiter: Limiter, rule: Rule, start: int, seconds: int) -> int:
    """How many pass while somebody asks every tenth of a second."""
    ticks = range(start + SECOND // 10, start + seconds * SECOND + 1, SECOND // 10)
    return sum(count(limiter.take([(rule,)] * 30, now=tick)) for tick in ticks)


def test_an_account_that_was_refused_runs_slower_for_a_while(limiter: Limiter) -> None:
    limiter.take([(ACCOUNT,)] * 10, now=NOON)
    limiter.slow_down("main", now=NOON)
    assert count(limiter.take([(ACCOUNT,)] * 10, now=NOON + SECOND - 1)) == 0
    assert count(limiter.take([(ACCOUNT,)] * 10, now=NOON + SECOND)) == 5
    assert drained(limiter, ACCOUNT, NOON + SECOND, 60) == pytest.approx(5 * 60, abs=1)
    assert drained(limiter, ACCOUNT, NOON + 61 * SECOND, 20) == pytest.approx(10 * 20, abs=1)


def test_slowing_an_account_gives_it_no_fresh_burst(limiter: Limiter) -> None:
    limiter.take([(ACCOUNT,)] * 10, now=NOON)
    limiter.slow_down("main", retry_after=0, factor=4, now=NOON)
    assert count(limiter.take([(ACCOUNT,)] * 10, now=NOON + SECOND // 10)) == 0


def test_refusals_while_slowed_slow_further_up_to_a_sixteenth(limiter: Limiter) -> None:
    now = NOON
    for pause in (1, 2, 4, 8, 8):
        limiter.slow_down("main", now=now)
        assert count(limiter.take([(ACCOUNT,)], now=now + pause * SECOND - 1)) == 0
        now += pause * SECOND
    limiter.take([(ACCOUNT,)] * 10, now=now)
    assert drained(limiter, ACCOUNT, now, 32) == pytest.approx(20, abs=1)


def test_refusals_of_what_was_sent_before_the_pause_teach_nothing_new(limiter: Limiter) -> None:
    for late in (0, 10, 300_000, 900_000):
        limiter.slow_down("main", now=NOON + late)
    assert count(limiter.take([(ACCOUNT,)], now=NOON + SECOND)) == 1
    limiter.take([(ACCOUNT,)] * 10, now=NOON + SECOND)
    assert drained(limiter, ACCOUNT, NOON + SECOND, 10) == pytest.approx(10 * 5, abs=1)


def test_nothing_remaining_pauses_until_the_reset(limiter: Limiter) -> None:
    limiter.observe("free", 5, 600, now=NOON)
    assert count(limiter.take([(UNLIMITED,)], now=NOON)) == 1
    limiter.observe("free", 0, 600, now=NOON)
    assert count(limiter.take([(UNLIMITED,)], now=NOON + 600 * SECOND - 1)) == 0
    assert count(limiter.take([(UNLIMITED,)] * 50, now=NOON + 600 * SECOND)) == 50


def test_a_rate_that_the_provider_told_limits_an_account_without_a_limit(limiter: Limiter) -> None:
    limiter.set_rate("free", 14, now=NOON)
    assert count(limiter.take([(UNLIMITED,)] * 100, now=NOON)) == 28
    assert drained(limiter, UNLIMITED, NOON, 60) == pytest.approx(14 * 60, abs=1)
    assert count(limiter.take([(UNLIMITED,)] * 100, now=NOON + DAY)) == 100


@pytest.mark.parametrize(("told", "rate"), [(4, 4), (1000, 10)])
def test_of_a_told_and_a_configured_rate_the_lower_one_holds(limiter: Limiter, told: float, rate: float) -> None:
    limiter.set_rate("main", told, now=NOON)
    limiter.take([(ACCOUNT,)] * 100, now=NOON)
    assert drained(limiter, ACCOUNT, NOON, 60) == pytest.approx(rate * 60, abs=1)


def test_many_workers_together_take_no_more_than_one_would(limiter: Limiter) -> None:
    # overlapping limits in every order: rows that were locked as they come would lock each other out
    rules = [Rule(f"tenant:{number}", 1000.0, 40, RateLimitType.PER_TENANT) for number in range(12)]
    barrier = threading.Barrier(6)

    def work(seed: int) -> dict[str, int]:
        rng, taken = Random(seed), dict.fromkeys((rule.key for rule in rules), 0)
        barrier.wait(60)
        for _ in range(25):
            requests = [tuple(rng.sample(rules, 3)) for _ in range(6)]
            for request, grant in zip(requests, limiter.take(requests, now=NOON), strict=True):
                for rule in request if grant.granted else ():
                    taken[rule.key] += 1
        return taken

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(work, range(6)))
    together = {rule: sum(taken[rule.key] for taken in results) for rule in rules}
    assert sum(together.values()) > 12 * 40 * 0.9
    assert {rule: count(limiter.take([(rule,)] * 40, now=NOON)) for rule in rules} == {
        rule: 40 - taken for rule, taken in together.items()
    }


class Unforgiving:
    """Runs the ledger's statements on one connection, and tries none of them again."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        return self._connection.execute(statements()[name], params, binary=True).fetchall()


def test_workers_that_meet_new_limits_at_once_do_not_lock_each_other_out(database_url: str) -> None:
    batches = [
        compile_batch(
            [(Rule(f"{turn}:{number}", 1000.0, 2, RateLimitType.PER_DOMAIN),) for number in range(1000)], NOON / 1e6
        )
        for turn in range(4)
    ]
    barrier = threading.Barrier(3)

    def work(gcra: LedgerGcra) -> int:
        taken = 0
        for batch in batches:
            barrier.wait(60)
            taken += count(gcra.take(batch, urgent=False, horizon=1e6, seed=0.0, now=NOON))
        return taken

    with ExitStack() as stack:
        connections = [
            stack.enter_context(psycopg.connect(database_url, autocommit=True, row_factory=namedtuple_row))
            for _ in range(3)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(3))
        taken = pool.map(work, [LedgerGcra(Unforgiving(connection)) for connection in connections])
        assert sum(taken) == 4 * 1000 * 2


def test_drained_limit_expires_in_redis(redis_url: str) -> None:
    limiter = Limiter(NOBODY, RedisGcra(redis_url))
    limiter.take([(TENANT,)])
    with redis.Redis.from_url(redis_url) as client:
        assert 55_000 < client.pttl("mailglass:limit:tenant:acme") <= 60_010
        limiter.observe("main", 0, 100)
        assert 155_000 < client.pttl("mailglass:limit-feedback:main") <= 160_000


def test_drained_rows_are_pruned_and_others_are_kept(database_url: str) -> None:
    ledger = Database(database_url)
    limiter = Limiter(ledger)
    today = time.time_ns() // 1000
    limiter.take([(TENANT,)], now=today - 3 * DAY)
    limiter.take([(Rule("tenant:slow", 90_000.0, 20, RateLimitType.PER_TENANT),)] * 20, now=today - 3 * DAY)
    limiter.take([(OTHER_TENANT,)])
    assert prune(ledger) == 1
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT key FROM mailglass.rate_limits ORDER BY key").fetchall()
    assert rows == [("tenant:other",), ("tenant:slow",)]


def test_a_count_outlives_the_25_hours_of_a_day_on_which_clocks_are_set_back(database_url: str) -> None:
    ledger = Database(database_url)
    limiter = Limiter(ledger)
    now = time.time_ns() // 1000
    cap = Cap("warmup:main:2026-10-25", 1, now / 1e6 + 1800)
    assert limiter.take([(cap,)], now=now - DAY - 1_800_000_000)[0].granted
    assert prune(ledger) == 0
    assert not limiter.take([(cap,)])[0].granted


def test_an_account_without_a_limit_costs_no_row(database_url: str) -> None:
    Limiter(Database(database_url)).take([(UNLIMITED,)] * 10)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM mailglass.rate_limits").fetchone() == (0,)


def test_while_redis_is_away_the_ledger_limits(
    valkey: EmbeddedValkey, redis_url: str, database_url: str, until: Callable[..., bool]
) -> None:
    limiter = Limiter(Database(database_url), RedisGcra(redis_url))
    assert count(limiter.take([(TENANT,)] * 300, now=NOON)) == 200
    valkey.stop()
    try:
        assert count(limiter.take([(TENANT,)] * 300, now=NOON)) == 200
        assert count(limiter.take([(TENANT,)] * 300, now=NOON)) == 0
    finally:
        valkey.start()
    # it forgot, so it grants a fresh burst: that is how we see that it is asked again
    assert until(lambda: count(limiter.take([(TENANT,)], now=NOON)) == 1)


def test_the_ledger_knows_what_was_learnt_while_redis_was_there(redis_url: str, database_url: str) -> None:
    Limiter(Database(database_url), RedisGcra(redis_url)).set_rate("free", 14, now=NOON)
    redis_gone = Limiter(Database(database_url), RedisGcra("redis://127.0.0.1:1/0"))
    assert count(redis_gone.take([(UNLIMITED,)] * 100, now=NOON)) == 28


def test_learning_never_fails_its_caller_and_reaches_whoever_is_there(redis_url: str) -> None:
    limiter = Limiter(NOBODY, RedisGcra(redis_url))
    limiter.slow_down("main", retry_after=10, now=NOON)
    assert count(limiter.take([(ACCOUNT,)], now=NOON)) == 0
    nobody = Limiter(NOBODY, RedisGcra("redis://127.0.0.1:1/0"))
    nobody.slow_down("main", retry_after=10)


def test_without_any_server_nothing_is_granted() -> None:
    limiter = Limiter(NOBODY, RedisGcra("redis://127.0.0.1:1/0"))
    with pytest.raises(LedgerUnavailableError):
        limiter.take([(TENANT,)])


def test_limits_are_kept_in_redis_where_there_is_one(redis_url: str, database_url: str) -> None:
    in_redis = Settings(broker_url=Secret(redis_url))
    beside_rabbitmq = Settings(broker_url=Secret("amqp://localhost"), redis_url=Secret(redis_url))
    in_the_ledger = Settings(broker_url=Secret("amqp://localhost"))
    ledger = get_database(database_url)
    taken = [count(limiter_for(each, ledger).take([(GMAIL,)], now=NOON)) for each in (in_redis, beside_rabbitmq)]
    assert taken == [1, 1]
    assert count(limiter_for(beside_rabbitmq, ledger).take([(GMAIL,)], now=NOON)) == 0
    assert count(limiter_for(in_the_ledger, ledger).take([(GMAIL,)], now=NOON)) == 1


def test_the_revision_of_the_limits_can_be_taken_back_and_made_again(database_url: str) -> None:
    schema.downgrade(database_url, "0001")
    with psycopg.connect(database_url) as connection:
        left = connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'mailglass'::regnamespace AND proname LIKE '%limit%' "
            "UNION SELECT relname FROM pg_class WHERE relnamespace = 'mailglass'::regnamespace AND relname LIKE 'rate%'"
        ).fetchall()
    assert left == []
    schema.upgrade(database_url)
    assert count(Limiter(Database(database_url)).take([(GMAIL,)] * 3, now=NOON)) == 2
