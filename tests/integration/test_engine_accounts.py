"""Which account sends, what happens when one cannot, and who waits for whom."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass import clock
from mailglass.engine import Engine
from mailglass.engine.bulkhead import Bulkhead
from mailglass.engine.recorder import Recorder, new_lease
from mailglass.errors import LedgerError
from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases
from mailglass.ledger.breakers import breakers, trip, wake
from mailglass.ledger.database import Database
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, suppress, unsuppress
from mailglass.limits import Limiter
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy
from mailglass.providers.base import Provider
from mailglass.routing import Lane, RouteContext, Router, Tenancy
from mailglass.settings import AccountSettings, EngineSettings, LimitRule, LimitScope, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted

LANE = Lane("mailglass", "acme", "transactional")
FAST = StreamPolicy(backoff_base=0.001, backoff_max=0.002, max_attempts=20)


def settings(*routes: Route, **changes: object) -> Settings:
    sender = Address("shop@example.com")
    return replace(
        Settings(
            accounts={name: AccountSettings(name, "scripted", sender) for name in ("first", "second")},
            routes=routes or (Route(("first", "second")),),
            streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: FAST},
        ),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture
def ledger(database_url: str) -> Database:
    return Database(database_url)


class Setup:
    """An engine with two scripted accounts."""

    def __init__(self, ledger: Database, found: Settings, **parts: object) -> None:
        self.ledger = ledger
        self.first = ScriptedProvider(account="first")
        self.second = ScriptedProvider(account="second")
        accounts = FixedAccounts(found, {"first": self.first, "second": self.second})
        self.engine = Engine(found, ledger, accounts, **parts)  # type: ignore[arg-type]

    def queue(self, count: int = 1, lane: Lane = LANE, domain: str = "example.com", **content: object) -> list[UUID]:
        body = json.dumps({"v": 1, "subject": "s", "text": "t", **content})
        items = [
            Item(id=uuid7(), lane=lane, message_id=uuid7(), content=body, recipient=Address(f"u{i}@{domain}"))
            for i in range(count)
        ]
        return [recorded.id for recorded in submit(self.ledger.run, items)]

    def drain(self, lane: Lane = LANE, most: int = 50) -> None:
        for _ in range(most):
            if not self.engine.run(lane).claimed and lane not in lanes_due(self.ledger):
                return

    def counts(self) -> dict[str, int]:
        return deliveries.counts(self.ledger)["acme"]


def answer(kind: OutcomeClass, **fields: object):
    return lambda mail: Outcome(kind, **fields)  # type: ignore[arg-type]


def pass_time(ledger: Database) -> None:
    for statement in (
        "UPDATE mailglass.breakers SET open_until = now()",
        "UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL",
    ):
        ledger.query(sqlalchemy.text(statement))


@pytest.mark.parametrize("kind", [OutcomeClass.QUOTA, OutcomeClass.MISCONFIGURED])
def test_an_account_that_cannot_be_used_hands_over_to_the_next_at_once(ledger: Database, kind: OutcomeClass) -> None:
    setup = Setup(ledger, settings())
    setup.first.script = answer(kind, reason="because")
    ids = setup.queue(3)
    setup.engine.run(LANE)
    setup.engine.run(LANE)
    assert setup.counts() == {"sent": 3}
    delivery = deliveries.get(ledger, ids[0])
    assert (delivery.account, delivery.attempts) == ("second", 1)
    assert [event.account for event in deliveries.timeline(ledger, ids[0]) if event.kind == "attempted"] == [
        "first",
        "second",
    ]
    assert breakers(ledger, ["first", "second"]).keys() == {"first"}


def test_the_second_account_sends_the_same_content(ledger: Database) -> None:
    setup = Setup(ledger, settings())
    setup.first.script = answer(OutcomeClass.QUOTA)
    setup.queue(subject="Receipt 7", html="<p>7</p>", headers=[["X-A", "b"]])
    setup.engine.run(LANE)
    setup.engine.run(LANE)
    (first,), (second,) = setup.first.sent, setup.second.sent
    assert first == second


def test_an_open_breaker_is_not_tried_by_other_workers(ledger: Database) -> None:
    one, other = Setup(ledger, settings()), Setup(ledger, settings())
    one.first.script = answer(OutcomeClass.MISCONFIGURED)
    one.queue(1)
    one.engine.run(LANE)
    other.queue(5)
    other.engine.run(LANE)
    assert other.first.sent == []
    assert len(other.second.sent) == 6


def test_a_lost_quota_without_another_account_waits_for_the_reset_and_counts_no_attempt(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    setup.first.script = answer(OutcomeClass.QUOTA, retry_after=900)
    (tried, waiting) = setup.queue(2)
    setup.first.batch_size = 1  # type: ignore[misc]
    setup.engine.run(LANE)
    setup.engine.run(LANE)
    assert len(setup.first.sent) == 1
    for delivery_id in (tried, waiting):
        delivery = deliveries.get(ledger, delivery_id)
        assert (delivery.status, delivery.attempts) == (Status.QUEUED, 0)
        assert delivery.due_at is not None
        assert (delivery.due_at - delivery.created_at).total_seconds() > 890


def test_of_a_misconfigured_account_the_refused_mail_is_held_and_the_rest_waits(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    setup.first.script = answer(OutcomeClass.MISCONFIGURED, reason="http_401")
    setup.first.batch_size = 1  # type: ignore[misc]
    ids = setup.queue(5)
    setup.drain()
    assert setup.counts() == {"held": 1, "queued": 4}
    assert len(setup.first.sent) == 1
    later = setup.queue(3)
    setup.engine.run(LANE)
    waiting = [row for row in (deliveries.get(ledger, key) for key in [*ids, *later]) if row.attempts == 0]
    assert {(row.status, row.last_error) for row in waiting} == {(Status.QUEUED, "account_unavailable")}
    setup.first.script = accepted
    pass_time(ledger)
    setup.drain()
    pass_time(ledger)
    setup.drain()
    assert setup.counts() == {"held": 1, "sent": 7}


def make_older(ledger: Database, days: int) -> None:
    older = f"UPDATE mailglass.deliveries SET scheduled_at = scheduled_at - interval '{days} days'"
    ledger.query(sqlalchemy.text(older))


@pytest.mark.parametrize("kind", [OutcomeClass.QUOTA, OutcomeClass.MISCONFIGURED, OutcomeClass.TRANSIENT])
@pytest.mark.parametrize("recovered", [False, True])
def test_mail_that_waited_for_an_account_until_it_is_too_old_is_held_and_never_failed(
    ledger: Database, kind: OutcomeClass, recovered: bool
) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    trip(ledger, "first", kind.value)
    setup.queue(3)
    setup.engine.run(LANE)
    make_older(ledger, 2)
    if recovered:
        ledger.query(sqlalchemy.text("DELETE FROM mailglass.breakers"))
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now()"))
    setup.engine.run(LANE)
    assert setup.counts() == {"held": 3}
    errors = ledger.query(sqlalchemy.text("SELECT DISTINCT last_error FROM mailglass.deliveries"))
    assert [row.last_error for row in errors] == ["account_unavailable"]


def test_mail_is_looked_at_when_it_becomes_too_old_and_not_only_at_the_next_probe(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    trip(ledger, "first", "quota", reset=80_000)
    (delivery_id,) = setup.queue()
    ledger.query(
        sqlalchemy.text("UPDATE mailglass.deliveries SET scheduled_at = now() - interval '23 hours 59 minutes'")
    )
    setup.engine.run(LANE)
    delivery = deliveries.get(ledger, delivery_id)
    assert delivery.due_at is not None
    assert (delivery.due_at - delivery.created_at).total_seconds() < 120


def test_a_quota_that_comes_back_after_a_mail_is_too_old_holds_it(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    setup.first.script = answer(OutcomeClass.QUOTA, retry_after=3 * 86400)
    setup.queue()
    setup.engine.run(LANE)
    assert setup.counts() == {"held": 1}


@pytest.mark.parametrize("kind", [OutcomeClass.UNCERTAIN, OutcomeClass.TRANSIENT])
def test_an_account_that_answers_nothing_hands_new_mail_to_the_next_one(ledger: Database, kind: OutcomeClass) -> None:
    setup = Setup(ledger, settings())
    setup.first.script = answer(kind, reason="read_timeout")
    first = setup.queue(20)
    setup.first.batch_size = 5  # type: ignore[misc]
    setup.engine.run(LANE)
    assert breakers(ledger, ["first"])["first"].reason == "transient"
    # a call in doubt risks a whole piece once, then single mails
    assert setup.first.calls == [5, 1, 1]
    later = setup.queue(100)
    setup.drain()
    assert {deliveries.get(ledger, key).account for key in later} == {"second"}
    tried = {mail.delivery_id for mail in setup.first.sent}
    assert {deliveries.get(ledger, key).account for key in first if key not in tried} == {"second"}
    if kind is OutcomeClass.UNCERTAIN:
        assert {deliveries.get(ledger, key).status for key in tried} == {Status.UNCERTAIN}
        assert not tried & {mail.delivery_id for mail in setup.second.sent}


def test_a_call_that_ran_into_its_timeout_opens_the_breaker_at_once(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailglass.engine.health.SLOW", 0.01)
    setup = Setup(ledger, settings())

    def late(mail: Outgoing) -> Outcome:
        threading.Event().wait(0.02)
        return Outcome(OutcomeClass.UNCERTAIN, reason="read_timeout")

    setup.first.script = late
    setup.queue()
    setup.engine.run(LANE)
    assert "first" in breakers(ledger, ["first"])


def test_an_error_about_one_account_leaves_no_slot_taken_for_another(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulkhead = Bulkhead(4)
    setup = Setup(ledger, settings(Route(("first", "second"), weights=(1, 1))), bulkhead=bulkhead)
    setup.queue(20)
    accounts: Any = setup.engine._selector._accounts
    open_account, opened = accounts.open, []

    def failing(name: str) -> Provider:
        opened.append(name)
        if name != opened[0]:
            raise MemoryError
        return open_account(name)

    monkeypatch.setattr(accounts, "open", failing)
    setup.engine.run(LANE)
    assert set(opened) == {"first", "second"}
    assert setup.first.sent or setup.second.sent
    assert bulkhead._entries() == []


def test_calls_that_are_answered_in_between_keep_the_breaker_closed(ledger: Database) -> None:
    # no mail comes back within the test: it would add to the calls in a row
    patient = replace(FAST, backoff_base=86_400.0, backoff_max=86_400.0)
    setup = Setup(ledger, settings(Route(("first",)), streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: patient}))
    setup.first.batch_size = 1  # type: ignore[misc]
    for kind in [OutcomeClass.UNCERTAIN, OutcomeClass.TRANSIENT, OutcomeClass.REJECTED] * 4:
        setup.first.script = answer(kind)
        setup.queue()
        setup.engine.run(LANE)
    assert breakers(ledger, ["first"]) == {}


def test_mail_in_doubt_is_asked_about_at_its_own_account_alone(ledger: Database) -> None:
    setup = Setup(ledger, settings())
    setup.first.idempotent = True  # type: ignore[misc]
    setup.first.script = answer(OutcomeClass.UNCERTAIN)
    (doubtful,) = setup.queue()
    for _ in range(3):
        setup.engine.run(LANE)
        ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL"))
    assert "first" in breakers(ledger, ["first"])
    setup.queue(5)
    setup.drain(most=5)
    assert len(setup.second.sent) == 5
    assert deliveries.get(ledger, doubtful).account == "first"
    assert doubtful not in {mail.delivery_id for mail in setup.second.sent}


def test_a_half_open_breaker_is_tried_by_a_mail_that_has_not_failed_before(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",), failover_after=99)))
    setup.first.script = answer(OutcomeClass.TRANSIENT)
    setup.first.batch_size = 1  # type: ignore[misc]
    failed = set(setup.queue(3))
    setup.engine.run(LANE)
    assert "first" in breakers(ledger, ["first"])
    pass_time(ledger)
    setup.engine.run(LANE)
    assert len(setup.first.sent) == 3
    (fresh,) = setup.queue()
    setup.first.script = lambda mail: Outcome(
        OutcomeClass.TRANSIENT if mail.delivery_id in failed else OutcomeClass.ACCEPTED
    )
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL"))
    setup.engine.run(LANE)
    assert [mail.delivery_id for mail in setup.first.sent[3:]] == [fresh]
    assert breakers(ledger, ["first"]) == {}


def test_mail_that_failed_before_tries_a_breaker_that_no_other_has_tried_for_a_while(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",), failover_after=99)))
    setup.first.script = answer(OutcomeClass.TRANSIENT)
    (only,) = setup.queue()
    trip(ledger, "first", "transient", delivery=only)
    ledger.query(sqlalchemy.text("UPDATE mailglass.breakers SET open_until = now() - interval '40 seconds'"))
    setup.engine.run(LANE)
    assert [mail.delivery_id for mail in setup.first.sent] == [only]


def test_mail_that_waited_for_an_account_goes_as_soon_as_its_breaker_closes(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    trip(ledger, "first", "misconfigured")
    setup.queue(5)
    setup.engine.run(LANE)
    ledger.query(sqlalchemy.text("UPDATE mailglass.breakers SET open_until = now()"))
    setup.queue(1)
    setup.engine.run(LANE)
    assert len(setup.first.sent) == 1
    setup.drain()
    assert setup.counts() == {"sent": 6}


def test_mail_that_was_rescheduled_while_it_waited_for_an_account_leaves_at_its_moment(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    trip(ledger, "first", "misconfigured")
    (key,) = setup.queue()
    setup.engine.run(LANE)
    moment = clock.now() + timedelta(days=1)
    assert deliveries.reschedule(ledger, [key], "acme", moment)
    assert wake(ledger, "first") == set()
    assert deliveries.get(ledger, key).due_at == moment


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_workers_wrong_clock_neither_ends_a_mail_nor_asks_an_account_that_has_forgotten_it(
    ledger: Database, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    setup.first.idempotent = True  # type: ignore[misc]
    setup.first.idempotency_window = 3600.0  # type: ignore[misc]
    (fresh,) = setup.queue()
    (old,) = setup.queue()
    ledger.query(
        sqlalchemy.text(
            "UPDATE mailglass.deliveries SET scheduled_at = now() - interval '2 hours' WHERE id = :id"
        ).bindparams(id=old)
    )
    wrong = clock.now() + timedelta(hours=hours)
    monkeypatch.setattr(clock, "now", lambda: wrong)
    setup.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    setup.engine.run(LANE)
    found = {key: deliveries.get(ledger, key) for key in (fresh, old)}
    assert (found[fresh].status, found[fresh].ask_again) == (Status.QUEUED, True)
    assert (found[old].status, found[old].ask_again) == (Status.UNCERTAIN, False)


def test_a_half_open_breaker_is_tried_by_one_mail_and_closes_on_success(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    trip(ledger, "first", "transient")
    pass_time(ledger)
    setup.queue(5)
    setup.engine.run(LANE)
    assert len(setup.first.sent) == 1
    assert breakers(ledger, ["first"]) == {}
    pass_time(ledger)
    setup.drain()
    assert setup.counts() == {"sent": 5}


def test_a_failed_probe_opens_the_breaker_for_twice_as_long(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    setup.first.script = answer(OutcomeClass.TRANSIENT)
    trip(ledger, "first", "transient")
    pass_time(ledger)
    setup.queue(3)
    setup.engine.run(LANE)
    assert len(setup.first.sent) == 1
    assert 15 < breakers(ledger, ["first"])["first"].seconds <= 20


def test_transient_failures_move_to_the_next_account_after_failover_after(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first", "second"), failover_after=2)))
    setup.first.script = answer(OutcomeClass.TRANSIENT)
    (delivery_id,) = setup.queue()
    while deliveries.get(ledger, delivery_id).status is Status.QUEUED:
        setup.engine.run(LANE)
    assert len(setup.first.sent) == 2
    assert len(setup.second.sent) == 1


def test_calls_that_fail_as_a_whole_open_the_breaker(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",), failover_after=9)))
    setup.first.script = answer(OutcomeClass.TRANSIENT)
    for _ in range(3):
        setup.queue(2)
        setup.engine.run(LANE)
    assert breakers(ledger, ["first"])["first"].reason == "transient"


@pytest.mark.parametrize("kind", [OutcomeClass.REJECTED, OutcomeClass.SUPPRESSED, OutcomeClass.UNCERTAIN])
def test_refusal_of_a_mail_never_moves_it_to_another_account(ledger: Database, kind: OutcomeClass) -> None:
    setup = Setup(ledger, settings())
    setup.first.script = answer(kind)
    setup.queue()
    setup.drain(most=3)
    assert setup.second.sent == []


def test_an_uncertain_delivery_is_asked_about_again_where_the_provider_knows_its_key(ledger: Database) -> None:
    bulk = Lane("mailglass", "acme", "bulk")
    hold = StreamPolicy(uncertain=UncertainPolicy.HOLD)
    setup = Setup(
        ledger, settings(Route(("second", "first"), failover_after=1), streams={**DEFAULT_POLICIES, Stream.BULK: hold})
    )
    setup.second.idempotent = True  # type: ignore[misc]
    answers = iter([Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost"), Outcome(OutcomeClass.ACCEPTED)])
    setup.second.script = lambda mail: next(answers)
    (delivery_id,) = setup.queue(lane=bulk)
    setup.engine.run(bulk)
    assert deliveries.get(ledger, delivery_id).status is Status.QUEUED
    pass_time(ledger)
    setup.engine.run(bulk)
    assert deliveries.get(ledger, delivery_id).status is Status.SENT
    first, again = setup.second.sent
    assert first == again
    assert setup.first.sent == []


@pytest.mark.parametrize("blocked_first", [True, False])
def test_a_question_is_the_same_mail_whatever_became_of_its_copies_meanwhile(
    ledger: Database, blocked_first: bool
) -> None:
    block = Suppression("acme", "gone@example.com", "manual", "manual")
    setup = Setup(ledger, settings(Route(("first",))))
    setup.first.idempotent = True  # type: ignore[misc]
    answers = iter([Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost"), Outcome(OutcomeClass.ACCEPTED)])
    setup.first.script = lambda mail: next(answers)
    if blocked_first:
        suppress(ledger, [block])
    (delivery_id,) = setup.queue(cc=[["", "gone@example.com"], ["", "here@example.com"]])
    setup.engine.run(LANE)
    if blocked_first:
        assert unsuppress(ledger, "acme", "gone@example.com")
    else:
        suppress(ledger, [block])
    pass_time(ledger)
    setup.engine.run(LANE)
    first, again = setup.first.sent
    assert first == again
    assert len(first.cc) == (1 if blocked_first else 2)
    kinds = [event.kind for event in deliveries.timeline(ledger, delivery_id)]
    assert kinds.count("copy_dropped") == blocked_first


def test_routes_by_domain_and_tag_choose_the_account_within_one_lane(ledger: Database) -> None:
    setup = Setup(
        ledger, settings(Route(("second",), domain="gmail.com"), Route(("second",), tag="invoice"), Route(("first",)))
    )
    setup.queue(2, domain="gmail.com")
    setup.queue(3, tags=["invoice"])
    setup.queue(4)
    setup.drain()
    assert (len(setup.first.sent), len(setup.second.sent)) == (4, 5)


def test_weights_share_the_deliveries_of_a_lane(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first", "second"), weights=(3, 1))))
    setup.queue(400)
    setup.drain()
    assert 240 < len(setup.first.sent) < 360
    assert len(setup.first.sent) + len(setup.second.sent) == 400


def test_a_hook_that_fails_gives_the_mail_back_and_sends_nothing(ledger: Database) -> None:
    class Broken(Tenancy):
        def resolve_route(self, context: RouteContext):
            raise RuntimeError

    found = settings()
    setup = Setup(ledger, found, router=Router(found, Broken()))
    setup.queue(2)
    setup.drain()
    assert setup.counts() == {"queued": 2}
    assert setup.first.sent == setup.second.sent == []


def test_no_more_of_a_tenant_is_in_flight_than_its_cap_over_all_workers(ledger: Database) -> None:
    setup = Setup(ledger, settings())
    setup.queue(100)
    taken = Counter[int]()

    def claim(number: int) -> None:
        taken[number] = len(leases.claim(ledger, LANE, uuid4(), 50, 60, cap=30))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken.values()) == 30


def test_the_routes_cap_bounds_a_batch(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",), concurrency=7)))
    setup.queue(20)
    assert setup.engine.run(LANE).claimed == 7


def test_a_batch_under_a_cap_tells_at_its_end_that_there_is_room_for_more(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",), concurrency=7)))
    setup.queue(8)
    assert [setup.engine.run(LANE).more for _ in range(3)] == [True, True, False]
    assert setup.counts() == {"sent": 8}


def test_a_capped_lane_that_waits_for_a_limit_is_left_to_the_pump(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",), concurrency=7), limits=limited(60, 1)), limiter=Limiter(ledger))
    setup.queue(20)
    assert not setup.engine.run(LANE).more


def limited(amount: int, burst: int, scope: LimitScope = LimitScope.ACCOUNT) -> tuple[LimitRule, ...]:
    return (LimitRule(scope, "*", amount, 60, burst),)


def test_a_refused_mail_is_due_at_its_own_slot_without_an_attempt_or_an_event(ledger: Database) -> None:
    setup = Setup(ledger, settings(limits=limited(60, 2)), limiter=Limiter(ledger))
    ids = setup.queue(6)
    setup.engine.run(LANE)
    assert len(setup.first.sent) == 2
    waiting = [deliveries.get(ledger, delivery_id) for delivery_id in ids]
    waiting = [delivery for delivery in waiting if delivery.status is Status.QUEUED]
    slots = sorted((delivery.due_at - delivery.created_at).total_seconds() for delivery in waiting if delivery.due_at)
    assert len(slots) == 4
    assert all(0.7 < later - earlier < 1.5 for earlier, later in pairwise(slots))
    assert {delivery.attempts for delivery in waiting} == {0}
    assert [event.kind for event in deliveries.timeline(ledger, waiting[0].id)] == ["queued"]


def test_a_suppressed_recipient_spends_no_rate_limit_slot(ledger: Database) -> None:
    setup = Setup(ledger, settings(limits=limited(60, 2)), limiter=Limiter(ledger))
    setup.queue(4)
    suppress(ledger, [Suppression("acme", f"u{number}@example.com", "manual", "manual") for number in (0, 1)])
    setup.engine.run(LANE)
    assert setup.counts() == {"sent": 2, "suppressed": 2}


def test_transactional_mail_passes_its_tenants_limit_and_bulk_does_not(ledger: Database) -> None:
    bulk = Lane("mailglass", "acme", "bulk")
    setup = Setup(ledger, settings(limits=limited(60, 1, LimitScope.TENANT)), limiter=Limiter(ledger))
    setup.queue(5)
    setup.queue(5, lane=bulk)
    setup.engine.run(LANE)
    setup.engine.run(bulk)
    assert Counter(mail.stream for mail in setup.first.sent) == {"transactional": 5, "bulk": 1}


def test_throttling_by_the_provider_slows_every_worker_down(ledger: Database) -> None:
    setup = Setup(ledger, settings(), limiter=Limiter(ledger))
    setup.first.script = answer(OutcomeClass.THROTTLED, retry_after=30)
    setup.queue(1)
    setup.engine.run(LANE)
    other = Setup(ledger, settings(), limiter=Limiter(ledger))
    other.queue(3)
    other.engine.run(LANE)
    assert other.first.sent == []


def test_a_slow_provider_gets_small_batches_so_that_lanes_take_turns(ledger: Database) -> None:
    setup = Setup(ledger, settings(engine=EngineSettings(slice=0.2)))
    gate = threading.Event()

    def slow(mail: Outgoing) -> Outcome:
        gate.wait(0.02)
        return accepted(mail)

    setup.first.script = slow
    setup.queue(200)
    sizes = [setup.engine.run(LANE).claimed for _ in range(4)]
    assert sizes[0] == 50
    assert sizes[-1] <= 16


def test_an_id_longer_than_an_index_takes_is_left_out_and_sinks_no_other(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    ids = setup.queue(3)
    # no two alike, so that nothing is packed
    long = "".join(chr(0x20000 + number * 37) for number in range(1000))
    setup.first.script = lambda mail: Outcome(
        OutcomeClass.ACCEPTED, provider_message_id=long if mail.delivery_id == ids[1] else f"p-{mail.delivery_id}"
    )
    setup.engine.run(LANE)
    found = [deliveries.get(ledger, key) for key in ids]
    assert [delivery.status for delivery in found] == [Status.SENT] * 3
    assert [delivery.provider_message_id for delivery in found] == [f"p-{ids[0]}", None, f"p-{ids[2]}"]


@pytest.mark.parametrize("value", ["nul \x00", "lone \ud800", "x" * 3000 + "".join(map(chr, range(0x20000, 0x20C00)))])
def test_a_value_that_the_ledger_cannot_keep_costs_no_other_mail_its_outcome(ledger: Database, value: str) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    ids = setup.queue(5)
    lease = new_lease(setup.engine._settings.engine)
    claimed = leases.claim_these(ledger, ids, lease.token, 30)
    leases.mark(ledger, lease.token, ids, "first", "scripted")
    recorder = Recorder(ledger, lease, claimed)
    recorder.record(
        [
            leases.Verdict(key, Status.SENT, EngineEvent.ATTEMPTED, provider_message_id=value if key == ids[2] else "p")
            for key in ids
        ]
    )
    found = [deliveries.get(ledger, key) for key in ids]
    assert [delivery.status for delivery in found] == [Status.SENT] * 5
    assert [delivery.provider_message_id for delivery in found] == ["p", "p", None, "p", "p"]
    assert recorder.moved == {Status.SENT: 5}


def test_an_outcome_that_cannot_be_kept_at_all_costs_no_other_mail_its_own(ledger: Database) -> None:
    setup = Setup(ledger, settings(Route(("first",))))
    ids = setup.queue(5)
    lease = new_lease(setup.engine._settings.engine)
    claimed = leases.claim_these(ledger, ids, lease.token, 30)
    leases.mark(ledger, lease.token, ids, "first", "scripted")
    verdicts = [
        leases.Verdict(key, Status.SENT, EngineEvent.ATTEMPTED, reason="nul \x00" if key == ids[0] else None)
        for key in ids
    ]
    with pytest.raises(LedgerError):
        Recorder(ledger, lease, claimed).record(verdicts)
    found = [deliveries.get(ledger, key).status for key in ids]
    assert found == [Status.SENDING, *[Status.SENT] * 4]
