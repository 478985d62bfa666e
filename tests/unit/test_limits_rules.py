"""Which limits a mail must pass, and the form in which they travel."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError, RateLimitType
from mailglass.limit_settings import LimitRule, LimitScope
from mailglass.limits import Cap, Limit, Rule, RuleBook, warmup_cap
from mailglass.limits.batch import compile_batch, exact_microseconds

EVERY_SCOPE = [LimitRule(scope, "*", 10, 1, 20) for scope in LimitScope]


def keys(book: RuleBook, stream: str = "bulk", extra: tuple[Limit, ...] = ()) -> list[str]:
    rules = book.rules_for(
        tenant="acme",
        stream=stream,
        account="main",
        recipient_domain="gmail.com",
        sender_domain="shop.example",
        extra=extra,
    )
    return [rule.key for rule in rules]


def rule(book: RuleBook, key: str, stream: str = "bulk") -> Rule:
    rules = book.rules_for(
        tenant="acme", stream=stream, account="main", recipient_domain="gmail.com", sender_domain="shop.example"
    )
    (found,) = [each for each in rules if each.key == key]
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


def test_limits_from_code_follow_the_same_rule() -> None:
    extra = (
        Rule("plan:acme", 1.0, 1, RateLimitType.PER_TENANT),
        Rule("plan:bulk", 1.0, 1, RateLimitType.PER_STREAM),
        Rule("plan:gmail.com", 1.0, 1, RateLimitType.PER_DOMAIN),
        Cap("warmup:main", 50),
    )
    assert keys(RuleBook([]), "bulk", extra) == ["account:main", *(limit.key for limit in extra)]
    assert keys(RuleBook([]), "transactional", extra) == ["account:main", "plan:gmail.com", "warmup:main"]


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
    assert rule(book, key, "bulk").burst == left
    assert rule(book, key, "operational").burst == left


def test_the_same_mail_gets_the_same_tuple_so_that_batches_group_it() -> None:
    book = RuleBook(EVERY_SCOPE)
    names = {"tenant": "acme", "stream": "bulk", "account": "main", "sender_domain": "shop.example"}
    assert book.rules_for(recipient_domain="a.example", **names) is book.rules_for(
        recipient_domain="a.example", **names
    )


@pytest.mark.parametrize(("interval", "burst"), [(-1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, 0)])
def test_a_rule_of_impossible_figures_is_refused(interval: float, burst: int) -> None:
    with pytest.raises(ConfigError):
        Rule("x", interval, burst, RateLimitType.PER_TENANT)


def test_a_cap_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError):
        Cap("x", -1)


@pytest.mark.parametrize(
    ("today", "maximum"),
    [(date(2026, 10, 31), 0), (date(2026, 11, 1), 50), (date(2026, 11, 3), 500), (date(2026, 11, 4), None)],
)
def test_a_warmup_plan_has_a_maximum_for_each_of_its_days(today: date, maximum: int | None) -> None:
    cap = warmup_cap("main", date(2026, 11, 1), [50, 100, 500], today)
    assert (cap.maximum if cap else None) == maximum


def test_a_batch_names_each_limit_once_and_keeps_the_order_of_mails() -> None:
    tenant = Rule("tenant:acme", 0.01, 5, RateLimitType.PER_TENANT)
    gmail = (tenant, Rule("domain:gmail.com", 0.5, 2, RateLimitType.PER_DOMAIN))
    other = (tenant, Cap("warmup:main", 3))
    batch = compile_batch([gmail, gmail, other, gmail])
    assert [limit.key for limit in batch.limits] == ["domain:gmail.com", "tenant:acme", "warmup:main"]
    assert (batch.intervals, batch.tolerances) == ([500_000.0, 10_000.0, 1.0], [1_000_000.0, 50_000.0, 3.0])
    assert (batch.daily, batch.groups, batch.runs) == ([0, 0, 1], [[1, 2], [2, 3]], [1, 2, 2, 1, 1, 1])


def test_where_a_key_comes_with_two_figures_the_first_counts() -> None:
    batch = compile_batch([(Cap("x", 3),), (Cap("x", 9),)])
    assert (batch.tolerances, batch.groups) == ([3.0], [[1], [1]])


@given(st.floats(1e-9, 1e8), st.integers(1, 1_000_000), st.integers(1, 1_000_000))
def test_intervals_are_never_shorter_than_asked_and_add_up_exactly(seconds: float, first: int, second: int) -> None:
    interval = exact_microseconds(seconds)
    assert Fraction(seconds * 1e6) <= Fraction(interval) <= Fraction(seconds * 1e6) * (1 + Fraction(2, 10**9))
    assert Fraction(interval * first + interval * second) == Fraction(interval) * (first + second)
