"""Claims: how much of a lane is taken at once, what a lost answer costs, and whom the second look spares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import sqlalchemy
from psycopg import sql

from mailglass.engine import Engine
from mailglass.errors import LedgerUnavailableError
from mailglass.ids import uuid7
from mailglass.ledger import database as database_module
from mailglass.ledger import deliveries, leases, schema
from mailglass.ledger.database import Database
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.statements import statements
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, suppress, suppressions_of
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, EngineSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider

LANE = Lane("mailglass", "acme", "transactional")
SETTINGS = Settings(
    accounts={"main": AccountSettings("main", "scripted", Address("shop@example.com"))},
    routes=(Route(("main",)),),
)
MEGABYTE = 1024 * 1024


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def engine(ledger: Database, provider: ScriptedProvider, settings: Settings = SETTINGS) -> Engine:
    return Engine(settings, ledger, FixedAccounts(settings, {"main": provider}))


def queue(ledger: Database, *recipients: str, size: int = 10, **fields: object) -> list[UUID]:
    """Deliveries whose content takes so many bytes, in a form that no table packs."""
    body = json.dumps({"v": 1, "subject": "s", "text": uuid4().hex * (size // 32 + 1)})
    items = [
        Item(id=uuid7(), lane=LANE, message_id=uuid7(), content=body, recipient=Address(recipient), **fields)  # type: ignore[arg-type]
        for recipient in recipients
    ]
    return [recorded.id for recorded in submit(ledger.run, items)]


def store_unpacked(ledger: Database) -> None:
    """Content like attachments, which do not get smaller in a table."""
    ledger.query(sqlalchemy.text("ALTER TABLE mailglass.messages ALTER COLUMN content SET STORAGE EXTERNAL"))


@contextmanager
def losing(ledger: Database, statement: str, times: int = 1) -> Iterator[list[int]]:
    """Run a statement and lose its answer, so many times; yield how many are left."""
    wanted, run, left = statements()[statement], ledger._run, [times]

    def lossy(text: str, params: object) -> object:
        rows = run(text, params)  # type: ignore[arg-type]
        if text == wanted and left[0]:
            left[0] -= 1
            raise database_module._Disconnected
        return rows

    ledger._run = lossy  # type: ignore[method-assign, assignment]
    try:
        yield left
    finally:
        ledger._run = run  # type: ignore[method-assign]


def test_a_claim_takes_as_much_content_as_a_worker_may_hold_and_tells_of_the_rest(ledger: Database) -> None:
    store_unpacked(ledger)
    queue(ledger, *(f"u{number}@example.com" for number in range(10)), size=MEGABYTE)
    settings = replace(SETTINGS, engine=EngineSettings(claim_bytes=7 * MEGABYTE))
    full: list[bool] = []
    provider = ScriptedProvider()
    worker = engine(ledger, provider, settings)
    report = worker.run(LANE, after_claim=full.append)
    assert (report.claimed, full) == (3, [True])
    while worker.run(LANE, after_claim=full.append).claimed:
        pass
    assert len(provider.sent) == 10
    assert full == [True, True, True, False, False]


def test_the_most_urgent_are_the_ones_that_fit(ledger: Database) -> None:
    store_unpacked(ledger)
    queue(ledger, "later@example.com", size=MEGABYTE, priority=0)
    urgent = queue(ledger, "a@example.com", "b@example.com", size=MEGABYTE, priority=9)
    claimed = leases.claim(ledger, LANE, uuid4(), 10, 60, max_bytes=5 * MEGABYTE)
    assert [delivery.id for delivery in claimed] == urgent
    assert all(delivery.left_behind for delivery in claimed)


def test_single_mail_is_claimed_however_large_it_is(ledger: Database) -> None:
    store_unpacked(ledger)
    queue(ledger, "a@example.com", "b@example.com", size=MEGABYTE)
    assert len(leases.claim(ledger, LANE, uuid4(), 10, 60, max_bytes=1)) == 1


def test_a_claim_within_its_bytes_leaves_nothing_behind(ledger: Database) -> None:
    queue(ledger, "a@example.com", "b@example.com")
    claimed = leases.claim(ledger, LANE, uuid4(), 10, 60)
    assert [delivery.left_behind for delivery in claimed] == [False, False]


def test_a_claim_whose_answer_got_lost_answers_what_it_had_leased(ledger: Database) -> None:
    ids = queue(ledger, *(f"u{number}@example.com" for number in range(6)))
    with losing(ledger, "claim"):
        claimed = leases.claim(ledger, LANE, uuid4(), 4, 60)
    assert [delivery.id for delivery in claimed] == ids[:4]
    states = deliveries.states(ledger, ids)
    assert [states[key][0] for key in ids] == [Status.CLAIMED] * 4 + [Status.QUEUED] * 2


def test_a_claim_that_was_never_run_is_run_by_its_repetition(ledger: Database) -> None:
    ids = queue(ledger, "a@example.com")
    run, failed = ledger._run, []

    def failing(text: str, params: object) -> object:
        if not failed:
            failed.append(text)
            raise database_module._Disconnected
        return run(text, params)  # type: ignore[arg-type]

    ledger._run = failing  # type: ignore[method-assign, assignment]
    assert [delivery.id for delivery in leases.claim(ledger, LANE, uuid4(), 4, 60)] == ids


def test_unattempted_mail_is_given_back_when_the_database_returns(ledger: Database) -> None:
    ids = queue(ledger, *(f"u{number}@example.com" for number in range(6)))
    provider = ScriptedProvider(batch_size=2)
    worker = engine(ledger, provider)
    # the first mark stands, but nobody hears of it: neither its answer nor its repetition's arrives
    with losing(ledger, "mark", times=2), pytest.raises(LedgerUnavailableError):
        worker.run(LANE)
    assert provider.sent == []
    found = [deliveries.get(ledger, key) for key in ids]
    assert {(delivery.status, delivery.attempts) for delivery in found} == {(Status.QUEUED, 0)}


def test_attempted_mail_is_never_given_back(ledger: Database) -> None:
    ids = queue(ledger, "a@example.com", "b@example.com")
    provider = ScriptedProvider(batch_size=1)
    with losing(ledger, "mark", times=0) as left:

        def accepting(mail: Outgoing) -> Outcome:
            # the mark of the second mail and its repetition
            left[0] = 2
            return Outcome(OutcomeClass.ACCEPTED)

        provider.script = accepting
        with pytest.raises(LedgerUnavailableError):
            engine(ledger, provider).run(LANE)
    states = deliveries.states(ledger, ids)
    assert [states[key][0] for key in ids] == [Status.SENT, Status.QUEUED]


def test_a_failed_lookup_of_early_webhooks_costs_a_batch_nothing(ledger: Database) -> None:
    ids = queue(ledger, "a@example.com", "b@example.com")
    with losing(ledger, "orphans_waiting", times=2):
        report = engine(ledger, ScriptedProvider(batch_size=1)).run(LANE)
    assert report.moved == {Status.SENT: 2}
    assert not report.orphans_waiting
    states = deliveries.states(ledger, ids)
    assert [states[key][0] for key in ids] == [Status.SENT] * 2


def test_a_refused_recipient_is_suppressed_in_the_transaction_that_records_the_refusal(ledger: Database) -> None:
    (delivery_id,) = queue(ledger, "ada@example.com")
    token = uuid4()
    leases.claim(ledger, LANE, token, 10, 60)
    leases.mark(ledger, token, [delivery_id], "main", "scripted")
    verdict = leases.Verdict(delivery_id, Status.FAILED, None, "smtp_550")
    entry = Suppression("acme", "ada@example.com", "hard_bounce", "attempt", account="main")
    executed: list[str] = []
    run = ledger._run

    def listening(text: str, params: object) -> object:
        executed.append(text)
        return run(text, params)  # type: ignore[arg-type]

    ledger._run = listening  # type: ignore[method-assign, assignment]
    assert leases.record(ledger, token, [verdict], [entry, entry]) == {delivery_id}
    assert executed == [statements()["record"]]
    (found,) = suppressions_of(ledger, "acme", Address("ada@example.com"))
    assert (found.reason, found.source, found.account) == ("hard_bounce", "attempt", "main")


def test_a_recipient_refused_for_a_complaint_is_suppressed_for_it_whatever_stood(ledger: Database) -> None:
    (delivery_id,) = queue(ledger, "ada@example.com")
    token = uuid4()
    leases.claim(ledger, LANE, token, 10, 60)
    entry = Suppression("acme", "ada@example.com", "hard_bounce", "attempt")
    suppress(ledger, [entry])
    verdict = leases.Verdict(delivery_id, Status.FAILED, None, "smtp_550")
    assert leases.record(ledger, token, [verdict], [replace(entry, reason="complaint")]) == {delivery_id}
    (found,) = suppressions_of(ledger, "acme", Address("ada@example.com"))
    assert found.reason == "complaint"


def test_a_refused_recipient_is_suppressed_although_the_lease_is_lost(ledger: Database) -> None:
    (delivery_id,) = queue(ledger, "ada@example.com")
    entry = Suppression("acme", "ada@example.com", "hard_bounce", "attempt")
    verdict = leases.Verdict(delivery_id, Status.FAILED, None, "smtp_550")
    assert leases.record(ledger, uuid4(), [verdict], [entry]) == set()
    assert suppressions_of(ledger, "acme", Address("ada@example.com"))


def test_a_process_that_dies_right_after_the_record_has_suppressed_the_refused_recipient(ledger: Database) -> None:
    queue(ledger, "ada@example.com")
    outcome = Outcome(OutcomeClass.REJECTED, reason="smtp_550", hard_bounce=True)

    class Died(SystemExit):
        pass

    record = leases.record

    def dying(*args: object) -> set[UUID]:
        record(*args)  # type: ignore[arg-type]
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "record", dying)
        with pytest.raises(Died):
            engine(ledger, ScriptedProvider(lambda mail: outcome)).run(LANE)
    assert suppressions_of(ledger, "acme", Address("ada@example.com"))


def test_suppressed_recipient_is_spared_whatever_the_databases_locale(postgres) -> None:
    name = f"plain_{uuid4().hex}"
    postgres.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'").format(sql.Identifier(name))
    )
    ledger = Database(postgres.url(name))
    try:
        schema.upgrade(postgres.url(name))
        queue(ledger, "ÄRGER@example.com", "ISTANBUL@example.com", "Öl@example.com")
        for key in ("ärger@example.com", "istanbul@example.com"):
            suppress(ledger, [Suppression("acme", key, "manual", "manual")])
        claimed = leases.claim(ledger, LANE, uuid4(), 10, 60)
        assert [delivery.suppressed_by for delivery in claimed] == ["address", "address", None]
    finally:
        ledger.dispose()
        postgres.drop_database(name)


def test_a_synchronous_call_does_not_wait_for_a_database_that_stays_away(ledger: Database) -> None:
    ids = queue(ledger, "ada@example.com")
    worker = engine(ledger, ScriptedProvider())
    with (
        losing(ledger, "mark", times=2),
        losing(ledger, "record", times=99) as left,
        pytest.raises(LedgerUnavailableError),
    ):
        worker.run_these(LANE, ids)
    assert 99 - left[0] <= 4
