"""Half-open breakers: one mail tries the account, and where it tells nothing another one soon does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy

from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.breakers import breakers, probe, trip
from mailglass.ledger.database import Database
from mailglass.ledger.submit import Item, submit
from mailglass.limits import Limiter
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, EngineSettings, LimitRule, LimitScope, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted

LANE = Lane("mailglass", "acme", "transactional")
SETTINGS = Settings(
    accounts={"main": AccountSettings("main", "scripted", Address("shop@example.com"))},
    routes=(Route(("main",)),),
    streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: StreamPolicy(backoff_base=0.001, backoff_max=0.002)},
)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


class Desk:
    """An engine with one scripted account whose breaker is half-open."""

    def __init__(self, ledger: Database, settings: Settings = SETTINGS, limiter: Limiter | None = None) -> None:
        self.ledger = ledger
        self.provider = ScriptedProvider(account="main")
        self.engine = Engine(settings, ledger, FixedAccounts(settings, {"main": self.provider}), limiter)
        trip(ledger, "main", "transient")
        self.pass_time()

    def queue(self, count: int = 1) -> None:
        body = json.dumps({"v": 1, "subject": "s", "text": "t"})
        submit(
            self.ledger.run,
            [
                Item(
                    id=uuid7(), lane=LANE, message_id=uuid7(), content=body, recipient=Address(f"u{number}@example.com")
                )
                for number in range(count)
            ],
        )

    def pass_time(self) -> None:
        for statement in (
            "UPDATE mailglass.breakers SET open_until = now()",
            "UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL",
        ):
            self.ledger.query(sqlalchemy.text(statement))
        self.engine._selector.forget()

    def counts(self) -> dict[str, int]:
        return deliveries.counts(self.ledger)["acme"]


def answers(kind: OutcomeClass, **fields: object):
    return lambda mail: Outcome(kind, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [OutcomeClass.REJECTED, OutcomeClass.SUPPRESSED, OutcomeClass.THROTTLED])
def test_an_answer_about_the_mail_alone_lets_the_next_mail_try_the_account(
    ledger: Database, kind: OutcomeClass
) -> None:
    desk = Desk(ledger)
    desk.queue(2)
    desk.provider.script = answers(kind, reason="because")
    desk.engine.run(LANE)
    assert len(desk.provider.sent) == 1
    assert "main" in breakers(ledger, ["main"])
    desk.provider.script = accepted
    desk.pass_time()
    desk.engine.run(LANE)
    assert len(desk.provider.sent) == 2
    assert breakers(ledger, ["main"]) == {}


def test_an_account_that_gave_the_probe_no_answer_stays_closed_for_longer(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.queue(2)
    desk.provider.script = answers(OutcomeClass.UNCERTAIN, reason="read_timeout")
    desk.engine.run(LANE)
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL"))
    desk.engine.run(LANE)
    assert len(desk.provider.sent) == 1
    (breaker,) = breakers(ledger, ["main"]).values()
    assert not breaker.half_open
    assert breaker.seconds > 10


def test_a_mail_that_the_limits_refuse_leaves_the_account_to_be_tried_by_another(ledger: Database) -> None:
    rule = LimitRule(LimitScope.ACCOUNT, "main", amount=1, period=86400, burst=1)
    settings = replace(SETTINGS, limits=(rule,))
    desk = Desk(ledger, settings, Limiter(ledger))
    desk.queue(1)
    desk.engine.run(LANE)
    assert desk.counts() == {"sent": 1}
    trip(ledger, "main", "transient")
    desk.queue(1)
    desk.pass_time()
    assert desk.engine.run(LANE).limited is not None
    assert probe(ledger, "main")


def test_a_mail_given_back_unsent_leaves_the_account_to_be_tried_by_another(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.queue(1)
    desk.engine.run(LANE, should_stop=lambda: True)
    assert desk.provider.sent == []
    assert probe(ledger, "main")


def test_a_mail_that_was_not_begun_in_time_leaves_the_account_to_be_tried_by_another(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.queue(1)
    desk.provider.script = answers(OutcomeClass.TRANSIENT, reason="deadline")
    desk.engine.run(LANE)
    (delivery,) = deliveries.find(ledger)
    assert (delivery.status.value, delivery.attempts) == ("queued", 0)
    assert probe(ledger, "main")


def test_mails_not_begun_in_time_open_no_breaker(ledger: Database) -> None:
    desk = Desk(ledger)
    ledger.query(sqlalchemy.text("DELETE FROM mailglass.breakers"))
    desk.queue(1)
    desk.provider.script = answers(OutcomeClass.TRANSIENT, reason="deadline")
    for _ in range(5):
        desk.pass_time()
        desk.engine.run(LANE)
    assert breakers(ledger, ["main"]) == {}


def test_a_lane_that_waits_behind_a_breaker_is_not_rung_at_once(ledger: Database) -> None:
    desk = Desk(ledger, replace(SETTINGS, engine=EngineSettings(claim_size=4)))
    desk.queue(8)
    full: list[bool] = []
    desk.engine.run(LANE, after_claim=full.append)
    assert desk.counts() == {"queued": 7, "sent": 1}
    # the account works again: the rest is worth a ring at once
    desk.pass_time()
    desk.engine.run(LANE, after_claim=full.append)
    assert full == [False, True]


def test_the_rest_of_a_batch_waits_for_the_mail_that_tries_the_account_and_no_longer(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.queue(2)
    desk.engine.run(LANE)
    waiting = [delivery for delivery in deliveries.find(ledger) if delivery.status.value == "queued"]
    assert [delivery.last_error for delivery in waiting] == ["account_unavailable"]
    assert waiting[0].due_at.timestamp() <= time.time()
