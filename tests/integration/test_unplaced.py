"""Mail whose route or account a worker does not know: another worker may, and only then a person is asked."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from uuid import UUID

import pytest
import sqlalchemy

from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.database import Database
from mailglass.ledger.leases import UNPLACED
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.streams import DEFAULT_POLICIES, Stream
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider

LANE = Lane("mailglass", "acme", "transactional")
SENDER = Address("shop@example.com")
NEW = Settings(
    accounts={name: AccountSettings(name, "scripted", SENDER) for name in ("main", "spare")},
    routes=(Route(("main", "spare")),),
)
OLDER = {
    "no accounts": Settings(),
    "another tenant's route": replace(NEW, routes=(Route(("main",), tenant="somebody-else"),)),
    "no route": replace(NEW, routes=()),
}


class Site:
    """Workers with newer and older settings on one ledger."""

    def __init__(self, ledger: Database) -> None:
        self.ledger = ledger
        self.main, self.spare = ScriptedProvider(account="main"), ScriptedProvider(account="spare")

    def worker(self, settings: Settings) -> None:
        """Let a worker with these settings have its turn at what is due, now or later."""
        self.execute("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
        accounts = FixedAccounts(settings, {"main": self.main, "spare": self.spare})
        Engine(settings, self.ledger, accounts).run(LANE)

    def queue(self, count: int = 1) -> list[UUID]:
        body = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})
        items = [
            Item(id=uuid7(), lane=LANE, message_id=uuid7(), content=body, recipient=Address(f"u{number}@example.com"))
            for number in range(count)
        ]
        return [recorded.id for recorded in submit(self.ledger.run, items)]

    def stands(self, delivery_id: UUID) -> tuple[Status, str | None]:
        delivery = deliveries.get(self.ledger, delivery_id)
        return delivery.status, delivery.last_error

    def pass_minutes(self, minutes: int) -> None:
        """Let time pass for what is not placed."""
        self.execute(f"UPDATE mailglass.deliveries SET unplaced_since = unplaced_since - interval '{minutes} minutes'")

    def execute(self, sql: str) -> None:
        self.ledger.query(sqlalchemy.text(sql))


@pytest.fixture
def site(database_url: str) -> Site:
    return Site(Database(database_url))


@pytest.mark.parametrize("older", OLDER)
def test_mail_unknown_to_an_older_worker_is_sent_by_a_newer_one(site: Site, older: str) -> None:
    ids = site.queue(60)
    for _ in range(3):
        site.worker(OLDER[older])
        site.pass_minutes(3)
    assert {site.stands(key)[0] for key in ids} == {Status.QUEUED}
    assert UNPLACED in {site.stands(key)[1] for key in ids}
    assert {deliveries.get(site.ledger, key).attempts for key in ids} == {0}
    assert {event.kind for key in ids for event in deliveries.timeline(site.ledger, key)} == {"queued"}
    while len(site.main.sent) < 60:
        # a batch is as large as was seen to be done in time
        before = len(site.main.sent)
        site.worker(NEW)
        assert len(site.main.sent) > before
    assert {site.stands(key)[0] for key in ids} == {Status.SENT}
    assert len(site.main.sent) == 60


@pytest.mark.parametrize("older", OLDER)
def test_mail_that_no_worker_knows_for_ten_minutes_is_held(site: Site, older: str) -> None:
    (delivery_id,) = site.queue()
    site.worker(OLDER[older])
    site.pass_minutes(9)
    site.worker(OLDER[older])
    assert site.stands(delivery_id) == (Status.QUEUED, UNPLACED)
    site.pass_minutes(1)
    site.worker(OLDER[older])
    assert site.stands(delivery_id) == (Status.HELD, "no_route")


@pytest.mark.parametrize("outcome", [OutcomeClass.THROTTLED, OutcomeClass.TRANSIENT])
def test_mail_waiting_for_another_reason_is_not_held_however_often_it_is_claimed(
    site: Site, outcome: OutcomeClass
) -> None:
    site.main.script = site.spare.script = lambda mail: Outcome(outcome, reason="because")
    (delivery_id,) = site.queue()
    for _ in range(3):
        site.worker(OLDER["no route"])
        site.pass_minutes(9)
        site.worker(NEW)
        assert site.stands(delivery_id) == (Status.QUEUED, "because")


@pytest.mark.parametrize("count", [1, 15])
def test_mail_that_may_have_been_sent_is_a_warning(site: Site, count: int, caplog: pytest.LogCaptureFixture) -> None:
    site.main.script = site.spare.script = lambda mail: Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
    ids = site.queue(count)
    with caplog.at_level(logging.WARNING, "mailglass"):
        site.worker(NEW)
    assert {site.stands(key)[0] for key in ids} == {Status.UNCERTAIN}
    lines = [line for line in caplog.messages if "mailglass.delivery.uncertain" in line]
    assert 1 <= len(lines) <= 11
    assert any(str(ids[0]) in line for line in lines)
    assert not any("@" in line for line in lines)


def test_released_mail_is_given_ten_minutes_anew(site: Site) -> None:
    (delivery_id,) = site.queue()
    for _ in range(2):
        site.worker(OLDER["no route"])
        site.pass_minutes(10)
    assert site.stands(delivery_id)[0] is Status.HELD
    site.execute("UPDATE mailglass.deliveries SET status = 'queued', due_at = now()")
    site.worker(OLDER["no route"])
    assert site.stands(delivery_id) == (Status.QUEUED, UNPLACED)


def test_a_question_waits_for_a_worker_that_knows_the_account_it_is_to_be_asked_at(site: Site) -> None:
    site.main.idempotent = True
    site.main.script = lambda mail: Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = site.queue()
    site.worker(NEW)
    assert deliveries.get(site.ledger, delivery_id).ask_again
    older = replace(NEW, accounts={"spare": NEW.accounts["spare"]}, routes=(Route(("spare",)),))
    for _ in range(3):
        site.worker(older)
        site.pass_minutes(3)
    assert site.spare.sent == []
    assert site.stands(delivery_id) == (Status.QUEUED, UNPLACED)
    site.pass_minutes(10)
    site.worker(older)
    delivery = deliveries.get(site.ledger, delivery_id)
    # the policy decides, once no worker can ask
    assert (delivery.status, delivery.in_doubt, site.spare.sent) == (Status.UNCERTAIN, True, [])
    assert DEFAULT_POLICIES[Stream.TRANSACTIONAL].uncertain_hold > 0
