"""Which limits a mail must pass, and the form in which they travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError, RateLimitType
from mailglass.limits import Cap, Mail, Rule, RuleBook, warmup_cap
from mailglass.limits.batch import compile_batch, exact_microseconds
from mailglass.mail.streams import Stream
from mailglass.settings import LimitRule, LimitScope, WarmupPlan

EVERY_SCOPE = [LimitRule(scope, "*", 10, 1, 20) for scope in LimitScope]


GMAIL = Mail("acme", "bulk", "main", "gmail.com", "shop.example")


def keys(book: RuleBook, stream: str = "bulk", extra: Sequence[LimitRule] = (), cap: Cap | None = None) -> list[str]:
    return [rule.key for rule in book.rules_for(replace(GMAIL, stream=stream), extra, cap)]


def rule(book: RuleBook, key: str, stream: str = "bulk") -> Rule:
    (found,) = [each for each in book.rules_for(replace(GMAIL, stream=stream)) if each.key == key]
    assert isinstance(found, Rule)
    return found


def test_bulk_mail_passes_every_limit_there_is() -> None:
    assert keys(RuleBook(EVERY_SCOPE)) == [
        "tenant:acme",
        "tenant_domain:acme/gmail.com",
        "domain:gmail.com",
        "sender_domain:shop.example",
        "account:main",
        "stream:bulk",
    ]


def test_transactional_mail_is_bound_only_by_what_the_other_side_refuses() -> None:
    assert keys(RuleBook(EVERY_SCOPE), "transactional") == ["domain:gmail.com", "account:main"]


@pytest.mark.parametrize(
    ("stream", "bound_by"),
    [
        ("transactional", ["hook:domain:gmail.com/10/1/20", "hook:account:main/10/1/20"]),
        (
            "bulk",
            [
                "hook:tenant:acme/10/1/20",
                "hook:tenant_domain:acme/gmail.com/10/1/20",
                "hook:domain:gmail.com/10/1/20",
                "hook:sender_domain:shop.example/10/1/20",
                "hook:account:main/10/1/20",
                "hook:stream:bulk/10/1/20",
            ],
        ),
    ],
)
def test_limits_of_the_application_bind_as_the_configured_ones_do(stream: str, bound_by: list[str]) -> None:
    assert keys(RuleBook([]), stream, EVERY_SCOPE) == ["account:main", *bound_by]


def test_limits_of_the_application_that_are_about_other_mail_are_passed_over() -> None:
    extra = [LimitRule.of("tenant", "1/s", "other"), LimitRule.of("domain", "1/s", "yahoo.com")]
    assert keys(RuleBook([]), "bulk", extra) == ["account:main"]


def test_a_plan_may_limit_the_second_and_the_day_beside_what_is_configured() -> None:
    extra = [LimitRule.of("tenant", "10/s", "acme"), LimitRule.of("tenant", "5000/d", "acme", burst=100)]
    book = RuleBook([LimitRule.of("tenant", "100/s")])
    assert keys(book, "bulk", extra) == [
        "tenant:acme",
        "account:main",
        "hook:tenant:acme/10/1/20",
        "hook:tenant:acme/5000/86400/100",
    ]


def test_two_tenants_with_different_rates_to_one_domain_do_not_fill_up_each_others() -> None:
    slow, fast = (keys(RuleBook([]), "bulk", [LimitRule.of("domain", rate)])[-1] for rate in ("2/s", "100/s"))
    assert slow != fast


@pytest.mark.parametrize("stream", list(Stream))
def test_no_stream_passes_the_plan_of_an_account(stream: Stream) -> None:
    assert keys(RuleBook([]), stream, cap=Cap("warmup:main:1", 50, 100.0)) == ["account:main", "warmup:main:1"]


def test_an_exact_key_overrides_the_general_one() -> None:
    book = RuleBook([LimitRule(LimitScope.TENANT, "*", 10, 1, 20), LimitRule(LimitScope.TENANT, "acme", 5, 1, 3)])
    assert rule(book, "tenant:acme") == Rule("tenant:acme", 0.2, 3, RateLimitType.PER_TENANT)


def test_a_limit_of_somebody_else_does_not_bind() -> None:
    assert keys(RuleBook([LimitRule(LimitScope.TENANT, "other", 5, 1, 3)])) == ["account:main"]


def test_an_account_without_a_limit_still_heeds_its_lessons() -> None:
    found = rule(RuleBook([]), "account:main")
    assert (found.interval, found.account) == (0.0, "main")


@pytest.mark.parametrize("scope", [LimitScope.ACCOUNT, LimitScope.DOMAIN])
@pytest.mark.parametrize(("burst", "left"), [(20, 18), (100, 90), (9, 9), (1, 1)])
def test_other_mail_leaves_transactional_mail_a_tenth_of_a_burst_they_share(
    scope: LimitScope, burst: int, left: int
) -> None:
    book = RuleBook([LimitRule(scope, "*", 10, 1, burst)])
    key = {LimitScope.ACCOUNT: "account:main", LimitScope.DOMAIN: "domain:gmail.com"}[scope]
    assert rule(book, key, "transactional").burst == burst
    for stream in ("bulk", "operational"):
        found = rule(book, key, stream)
        assert (found.burst, found.burst - found.reserve) == (burst, left)


def test_the_same_mail_gets_the_same_tuple_so_that_batches_group_it() -> None:
    book = RuleBook(EVERY_SCOPE)
    assert book.rules_for(replace(GMAIL)) is book.rules_for(replace(GMAIL))


@pytest.mark.parametrize(("interval", "burst"), [(-1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, 0)])
def test_a_rule_of_impossible_figures_is_refused(interval: float, burst: int) -> None:
    with pytest.raises(ConfigError):
        Rule("x", interval, burst, RateLimitType.PER_TENANT)


def test_a_cap_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError):
        Cap("x", -1, 0.0)


@pytest.mark.parametrize(
    ("today", "maximum"),
    [((2026, 10, 31), 0), ((2026, 11, 1), 50), ((2026, 11, 3), 500), ((2026, 11, 4), None)],
)
def test_a_warmup_plan_has_a_maximum_for_each_of_its_days(today: tuple[int, int, int], maximum: int | None) -> None:
    plan = WarmupPlan(date(2026, 11, 1), (50, 100, 500))
    cap = warmup_cap("main", plan, datetime(*today, 23, 59, 59, tzinfo=UTC))
    assert (cap.maximum if cap else None) == maximum


def test_each_day_of_a_plan_is_a_count_of_its_own_that_ends_with_the_day() -> None:
    plan = WarmupPlan(date(2026, 11, 1), (50, 100))
    days = [warmup_cap("main", plan, datetime(2026, 11, day, 12, tzinfo=UTC)) for day in (1, 2)]
    assert days == [
        Cap("warmup:main:2026-11-01", 50, datetime(2026, 11, 2, tzinfo=UTC).timestamp()),
        Cap("warmup:main:2026-11-02", 100, datetime(2026, 11, 3, tzinfo=UTC).timestamp()),
    ]


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 10, 24), 24), (date(2026, 10, 25), 25), (date(2027, 3, 28), 23)]
)
def test_a_day_is_as_long_as_it_is_in_the_plans_time_zone(day: date, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    plan = WarmupPlan(day, (50, 60), "Europe/Berlin")
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    first, last, after = (
        warmup_cap("main", plan, midnight + timedelta(hours=after)) for after in (0, hours - 0.001, hours)
    )
    assert first == last == Cap(f"warmup:main:{day}", 50, (midnight + timedelta(hours=hours)).timestamp())
    assert after is not None
    assert after.maximum == 60


def test_a_batch_names_each_limit_once_and_keeps_the_order_of_mails() -> None:
    tenant = Rule("tenant:acme", 0.01, 5, RateLimitType.PER_TENANT)
    gmail = (tenant, Rule("domain:gmail.com", 0.5, 2, RateLimitType.PER_DOMAIN))
    other = (tenant, Cap("warmup:main", 3, 100.25))
    batch = compile_batch([gmail, gmail, other, gmail], 90.0)
    assert [limit.key for limit in batch.limits] == ["domain:gmail.com", "tenant:acme", "warmup:main"]
    assert (batch.intervals, batch.tolerances) == ([500_000.0, 10_000.0, 1.0], [1_000_000.0, 50_000.0, 3.0])
    assert (batch.counted, batch.groups, batch.runs) == ([0, 0, 11], [[1, 2], [2, 3]], [1, 2, 2, 1, 1, 1])


def test_first_of_two_figures_for_a_key_counts() -> None:
    batch = compile_batch([(Cap("x", 3, 1.0),), (Cap("x", 9, 1.0),)], 0.0)
    assert (batch.tolerances, batch.groups) == ([3.0], [[1], [1]])


@given(st.floats(1e-9, 1e8), st.integers(1, 1_000_000), st.integers(1, 1_000_000))
def test_intervals_are_never_shorter_than_asked_and_add_up_exactly(seconds: float, first: int, second: int) -> None:
    interval = exact_microseconds(seconds)
    assert Fraction(seconds * 1e6) <= Fraction(interval) <= Fraction(seconds * 1e6) * (1 + Fraction(2, 10**9))
    assert Fraction(interval * first + interval * second) == Fraction(interval) * (first + second)
