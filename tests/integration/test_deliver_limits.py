"""`deliver()` and the limits: whose limit it was and when to try again, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
import sqlalchemy

from mailglass import Message, clock, deliver, deliver_later
from mailglass.doorbell import RATES
from mailglass.errors import IdempotencyError, RateLimitError, RateLimitType, SuppressedError
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.routing import LimitContext, Tenancy
from mailglass.settings import LimitRule, WarmupPlan, configure, get_settings
from mailglass_beat.schedule import SCHEDULE
from mailglass_workers import tasks

DAY = 86_400


def message(**fields: object) -> Message:
    return Message(to="ada@example.com", subject="Receipt 1001", text="Thank you.", **fields)


class Plans(Tenancy):
    """One mail an hour for each tenant."""

    def resolve_limits(self, context: LimitContext) -> Sequence[LimitRule] | None:
        return [LimitRule.of("tenant", "1/h", context.tenant)]


def warming_up(*accounts: str) -> None:
    settings = get_settings()
    plan = WarmupPlan(clock.now().date(), (1, 1))
    found = {
        name: replace(account, warmup=plan if name in accounts else None) for name, account in settings.accounts.items()
    }
    routes = (replace(settings.routes[-1], accounts=("relay", "nowhere")),)
    configure(replace(settings, accounts=found, routes=routes))


def test_over_a_warm_up_plan_the_caller_is_told_when_the_next_day_begins(cluster) -> None:
    warming_up("relay", "nowhere")
    assert [deliver(message()).account for _ in range(2)] == ["relay", "nowhere"]
    with pytest.raises(RateLimitError) as raised:
        deliver(message())
    assert raised.value.type is RateLimitType.PER_ACCOUNT
    until_tomorrow = DAY - clock.now().timestamp() % DAY
    assert -5 < raised.value.retry_after - until_tomorrow < 35
    assert deliveries.counts(cluster.runtime.database)["default"] == {"sent": 2}


def test_over_a_warm_up_plan_another_account_sends_and_no_error_is_raised(cluster) -> None:
    warming_up("relay")
    assert [deliver(message()).account for _ in range(3)] == ["relay", "nowhere", "nowhere"]


def test_a_limit_of_the_application_is_raised_by_its_type(cluster) -> None:
    configure(replace(get_settings(), tenancy=f"{__name__}:Plans"))
    cluster.runtime.router.__dict__["tenancy"] = Plans()
    assert deliver(message(stream="bulk")).status is Status.SENT
    with pytest.raises(RateLimitError) as raised:
        deliver(message(stream="bulk"))
    assert raised.value.type is RateLimitType.PER_TENANT
    assert 3500 < raised.value.retry_after <= 3600


@pytest.mark.parametrize(
    ("scope", "type"),
    [
        ("tenant", RateLimitType.PER_TENANT),
        ("tenant_domain", RateLimitType.PER_DOMAIN),
        ("domain", RateLimitType.PER_DOMAIN),
        ("sender_domain", RateLimitType.PER_DOMAIN),
        ("stream", RateLimitType.PER_STREAM),
        ("account", RateLimitType.PER_ACCOUNT),
    ],
)
def test_limit_that_was_met_is_told_by_its_type(cluster, outside, scope: str, type: RateLimitType) -> None:
    configure(replace(get_settings(), limits=(LimitRule.of(scope, "1/h", burst=1),)))
    assert deliver(message(stream="bulk")).status is Status.SENT
    with pytest.raises(RateLimitError) as raised:
        deliver(message(stream="bulk"))
    assert raised.value.type is type
    assert 3500 < raised.value.retry_after <= 3600
    assert len(outside.mails) == 1


class Broken(Tenancy):
    """Knows no limits just now."""

    def resolve_limits(self, context: LimitContext) -> Sequence[LimitRule] | None:
        raise ConnectionError


def test_unknown_application_limits_send_nothing(cluster, outside) -> None:
    cluster.runtime.router.__dict__["tenancy"] = Broken()
    delivery = deliver(message())
    assert (delivery.status, delivery.last_error) == (Status.HELD, "no_limits")
    assert outside.mails == []


def test_limits_that_nobody_has_met_for_days_are_forgotten_by_a_task_that_beat_rings(cluster) -> None:
    database = cluster.runtime.database
    for key, age in (("old", "3 days"), ("new", "1 hour")):
        database.query(
            sqlalchemy.text(
                "INSERT INTO mailglass.rate_limits (key, stamp, level, promised, promised_urgent)"
                " VALUES (:key, extract(epoch FROM now() - CAST(:age AS interval)) * 1000000, 0, 0, 0)"
            ).bindparams(key=key, age=age)
        )
    assert SCHEDULE["retention"]["task"] == tasks.retention.name
    tasks.retention()
    rows = database.query(sqlalchemy.text("SELECT key FROM mailglass.rate_limits"))
    assert [row.key for row in rows] == ["new"]


def test_beat_rings_the_task_that_learns_rates() -> None:
    assert [entry["task"] for entry in SCHEDULE.values()].count(RATES) == 1
    assert tasks.learn_rates.name == RATES


def test_the_task_that_learns_rates_runs_where_nobody_tells_one(cluster) -> None:
    tasks.learn_rates()


def test_a_mail_that_another_caller_was_told_of_is_never_taken_back_by_a_limit(cluster) -> None:
    """Two callers race with the same keys, one of them under a limit: what either was told of is sent or waits."""
    configure(replace(get_settings(), limits=(LimitRule.of("stream", "1/h", burst=1),)))
    accepted: list[str] = []
    refused: list[str] = []

    def synchronous() -> None:
        # from the other end, so that whoever is faster both meet mail that nobody knows
        for number in reversed(range(40)):
            try:
                deliver(message(stream="bulk", idempotency_key=f"order-{number}"))
            except RateLimitError:
                refused.append(f"order-{number}")

    thread = threading.Thread(target=synchronous)
    thread.start()
    for number in range(40):
        accepted.append(deliver_later.delay(message(stream="bulk", idempotency_key=f"order-{number}")).id)
    thread.join(60)
    assert refused, "nothing was refused, so nothing was shown"
    stands = deliveries.states(cluster.runtime.database, accepted)
    assert {state.status for state in stands.values()} <= {Status.SENT, Status.QUEUED}
    assert set(deliveries.counts(cluster.runtime.database)["default"]) <= {"sent", "queued"}


def test_a_limit_is_told_before_anything_is_recorded(cluster) -> None:
    configure(replace(get_settings(), limits=(LimitRule.of("stream", "1/h", burst=1),)))
    first = deliver(message(stream="bulk", idempotency_key="order-1"))
    with pytest.raises(RateLimitError):
        deliver(message(stream="bulk", idempotency_key="order-2"))
    assert [delivery.id for delivery in deliveries.find(cluster.runtime.database)] == [first.id]
    assert deliver(message(stream="bulk", idempotency_key="order-1")).id == first.id, "it is known, so no limit matters"
    with pytest.raises(IdempotencyError):
        deliver(Message(to="ada@example.com", subject="Other", text="Words.", stream="bulk", idempotency_key="order-1"))


def test_a_suppressed_recipient_and_a_repeated_mail_take_no_place_of_a_plan(cluster) -> None:
    warming_up("relay", "nowhere")
    suppress(cluster.runtime.database, [Suppression("default", "gone@example.com", "hard_bounce", "webhook")])
    with pytest.raises(SuppressedError):
        deliver(Message(to="gone@example.com", subject="Receipt", text="Thank you."))
    first = deliver(message(idempotency_key="order-1"))
    assert deliver(message(idempotency_key="order-1")).id == first.id
    assert deliver(message()).account == "nowhere"
    with pytest.raises(RateLimitError):
        deliver(message())


def test_a_mail_that_turns_out_to_be_known_gives_its_place_back(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another caller records it after the place was taken, and before the record."""
    warming_up("relay", "nowhere")
    engine, reserve = cluster.runtime.engine, cluster.runtime.engine.reserve
    given = message(idempotency_key="order-1")

    def overtaken(item):
        reservation = reserve(item)
        deliver_later.delay(given)
        return reservation

    with monkeypatch.context() as racing:
        racing.setattr(engine, "reserve", overtaken)
        assert deliver(given).status is Status.QUEUED
    assert [deliver(message()).account for _ in range(2)] == ["relay", "nowhere"]


def test_a_caller_that_dies_after_its_place_was_taken_leaves_nothing_else(
    cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(SystemExit):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr("mailglass.outbound.deliver.record_items", killed)
        with pytest.raises(Killed):
            deliver(message())
    assert deliveries.find(cluster.runtime.database) == []
    assert deliver(message()).status is Status.SENT
