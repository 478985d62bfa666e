"""What has expired is not sent: looked at when it is claimed, before each mark, and before each mail of a call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass import clock
from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import EXPIRED, Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import DEFAULT_POLICIES
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted

LANE = Lane("mailglass", "acme", "transactional")
SETTINGS = Settings(
    accounts={"main": AccountSettings("main", "scripted", Address("shop@example.com"))},
    routes=(Route(("main",)),),
)
CONTENT = json.dumps({"v": 1, "subject": "s", "text": "t"})
EXPIRE = sqlalchemy.text("UPDATE mailglass.deliveries SET expires_at = now() WHERE status = 'claimed'")


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def queue(ledger: Database, count: int, lifetime: float | None = 3600) -> list[UUID]:
    items = [
        Item(
            id=uuid7(),
            lane=LANE,
            message_id=uuid7(),
            content=CONTENT,
            recipient=Address(f"u{number}@example.com"),
            lifetime=lifetime,
        )
        for number in range(count)
    ]
    return [recorded.id for recorded in submit(ledger.run, items)]


def engine(ledger: Database, provider: ScriptedProvider) -> Engine:
    return Engine(SETTINGS, ledger, FixedAccounts(SETTINGS, {"main": provider}))


def states(ledger: Database, ids: list[UUID]) -> list[tuple[str, str | None]]:
    found = deliveries.states(ledger, ids)
    return [(found[key].status.value, found[key].last_error) for key in ids]


def test_a_delivery_that_expired_since_its_claim_fails_at_its_mark_with_an_event(ledger: Database) -> None:
    expiring, lasting = queue(ledger, 1) + queue(ledger, 1, None)
    leases.claim(ledger, LANE, token := uuid4(), 10, 60)
    ledger.query(EXPIRE)
    ledger.query(
        sqlalchemy.text("UPDATE mailglass.deliveries SET expires_at = NULL WHERE id = :id").bindparams(id=lasting)
    )
    expired: set[UUID] = set()
    assert leases.mark(ledger, token, [expiring, lasting], "main", "scripted", expired) == {lasting: 1}
    assert expired == {expiring}
    assert states(ledger, [expiring, lasting]) == [("failed", "expired"), ("sending", None)]
    last = deliveries.timeline(ledger, expiring)[-1]
    assert (last.kind, last.status, last.reason, last.attempt) == ("failed", Status.FAILED, "expired", 0)
    # the mark again, after a lost answer
    assert leases.mark(ledger, token, [expiring, lasting], "main", "scripted") == {lasting: 1}
    assert [event.kind for event in deliveries.timeline(ledger, expiring)].count("failed") == 1


def test_another_holders_mark_fails_nothing(ledger: Database) -> None:
    (key,) = queue(ledger, 1)
    leases.claim(ledger, LANE, uuid4(), 10, 60)
    ledger.query(EXPIRE)
    assert leases.mark(ledger, uuid4(), [key], "main", "scripted") == {}
    assert states(ledger, [key]) == [("claimed", None)]


def test_a_question_that_expired_before_its_mark_stays_in_doubt(ledger: Database) -> None:
    (key,) = queue(ledger, 1)
    leases.claim(ledger, LANE, token := uuid4(), 10, 60)
    leases.mark(ledger, token, [key], "main", "scripted")
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET lease_expires_at = now() - interval '1 second'"))
    leases.sweep(ledger, DEFAULT_POLICIES, {"main": None})
    leases.claim(ledger, LANE, token := uuid4(), 10, 60)
    ledger.query(EXPIRE)
    assert leases.mark(ledger, token, [key], "main", "scripted") == {}
    engine(ledger, provider := ScriptedProvider()).run(LANE)
    assert states(ledger, [key]) == [("uncertain", "expired")]
    assert provider.sent == []


def test_a_slow_provider_gets_no_mail_after_its_expiry(ledger: Database) -> None:
    ids = queue(ledger, 40)

    def slow(mail: Outgoing) -> Outcome:
        if mail.delivery_id == ids[7]:
            ledger.query(EXPIRE)
        return accepted(mail)

    provider = ScriptedProvider(slow, batch_size=8)
    report = engine(ledger, provider).run(LANE)
    assert len(provider.sent) == 8
    assert states(ledger, ids) == [("sent", None)] * 8 + [("failed", "expired")] * 32
    assert report.moved == {Status.SENT: 8, Status.FAILED: 32}


def test_a_mail_that_expires_within_a_call_fails_unsent(ledger: Database) -> None:
    ids = queue(ledger, 3)
    provider = ScriptedProvider(lambda mail: EXPIRED if mail.delivery_id == ids[1] else accepted(mail))
    engine(ledger, provider).run(LANE)
    assert states(ledger, ids) == [("sent", None), ("failed", "expired"), ("sent", None)]
    last = deliveries.timeline(ledger, ids[1])[-1]
    assert (last.kind, last.status, last.reason) == ("failed", Status.FAILED, "expired")
    assert deliveries.get(ledger, ids[1]).attempts == 0


def test_a_provider_is_told_until_when_a_mail_may_be_begun(ledger: Database) -> None:
    queue(ledger, 1, None)
    queue(ledger, 1, 600)
    provider = ScriptedProvider()
    before = clock.monotonic()
    engine(ledger, provider).run(LANE)
    never, later = (mail.start_by for mail in sorted(provider.sent, key=lambda mail: mail.delivery_id))
    assert never is None
    assert later is not None
    assert before + 500 < later <= clock.monotonic() + 600
