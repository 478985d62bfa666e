"""Where things touch: answers that get lost, two workers at once, accounts that are asked again, broken neighbours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy

from mailglass.engine import Engine
from mailglass.errors import DeliveryNotFoundError, LedgerError, LedgerUnavailableError
from mailglass.ids import uuid7
from mailglass.ledger import database as database_module
from mailglass.ledger import deliveries, leases
from mailglass.ledger.breakers import trip
from mailglass.ledger.database import Database, run_on, sqlalchemy_url
from mailglass.ledger.leases import UNPLACED
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.statements import statements
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy
from mailglass.routing import Lane, Router, Tenancy
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted

LANE = Lane("mailglass", "acme", "transactional")
SENDER = Address("shop@example.com")
FAST = StreamPolicy(backoff_base=0.001, backoff_max=0.002, max_attempts=20)
SETTINGS = Settings(
    accounts={name: AccountSettings(name, "scripted", SENDER) for name in ("first", "second")},
    routes=(Route(("first", "second"), failover_after=1),),
    streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: FAST},
)
CONTENT = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


class Desk:
    """An engine with two scripted accounts, of which the first takes the same delivery twice as once."""

    def __init__(self, ledger: Database, settings: Settings = SETTINGS, **parts: object) -> None:
        self.ledger = ledger
        self.first = ScriptedProvider(account="first")
        self.second = ScriptedProvider(account="second")
        self.first.idempotent = True
        self.engine = Engine(
            settings, ledger, FixedAccounts(settings, {"first": self.first, "second": self.second}), **parts
        )  # type: ignore[arg-type]

    def queue(self, count: int = 1, **fields: object) -> list[UUID]:
        items = [item(f"u{number}@example.com", **fields) for number in range(count)]
        return [recorded.id for recorded in submit(self.ledger.run, items)]

    def work(self, times: int = 1) -> None:
        for _ in range(times):
            self.execute("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
            self.engine.run(LANE)

    def execute(self, sql: str) -> None:
        self.ledger.query(sqlalchemy.text(sql))

    def stands(self, delivery_id: UUID) -> tuple[Status, str | None]:
        delivery = deliveries.get(self.ledger, delivery_id)
        return delivery.status, delivery.last_error

    def doubts(self, delivery_id: UUID) -> tuple[Status, bool, bool]:
        delivery = deliveries.get(self.ledger, delivery_id)
        return delivery.status, delivery.in_doubt, delivery.ask_again

    def kinds(self, delivery_id: UUID) -> list[str]:
        return [event.kind for event in deliveries.timeline(self.ledger, delivery_id)]


def item(recipient: str = "ada@example.com", **fields: object) -> Item:
    values = {"id": uuid7(), "lane": LANE, "message_id": uuid7(), "content": CONTENT, **fields}
    return Item(recipient=Address(recipient), **values)  # type: ignore[arg-type]


def answer(kind: OutcomeClass, **fields: object) -> Callable[[Outgoing], Outcome]:
    return lambda mail: Outcome(kind, **fields)  # type: ignore[arg-type]


class LosingOnce:
    """A ledger that runs one statement, once, and loses its answer: what a broken connection looks like."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ledger: Database, statement: str) -> None:
        wanted, run = statements()[statement], ledger._run
        self.lost = 0

        def losing(sql: str, params: object) -> object:
            rows = run(sql, params)  # type: ignore[arg-type]
            if sql == wanted and not self.lost:
                self.lost += 1
                raise database_module._Disconnected
            return rows

        monkeypatch.setattr(ledger, "_run", losing)


# an account that is asked again


def test_while_an_account_is_asked_again_no_other_account_sends_even_when_it_breaks(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    desk.work()
    trip(ledger, "first", "transient")
    desk.engine._selector.forget()
    desk.work(3)
    assert desk.second.sent == []
    assert desk.doubts(delivery_id) == (Status.QUEUED, True, True)


@pytest.mark.parametrize("kind", [OutcomeClass.TRANSIENT, OutcomeClass.THROTTLED, OutcomeClass.QUOTA])
def test_an_answer_that_settles_nothing_leaves_the_question_with_its_account(
    ledger: Database, kind: OutcomeClass
) -> None:
    desk = Desk(ledger)
    desk.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    desk.work()
    desk.first.script = answer(kind, reason="because")
    desk.work()
    # nothing else has come to try the account for a while
    desk.execute("UPDATE mailglass.breakers SET open_until = now() - interval '1 hour'")
    desk.engine._selector.forget()
    desk.first.script = accepted
    desk.work()
    assert desk.second.sent == []
    assert desk.stands(delivery_id)[0] is Status.SENT


def test_a_lease_that_expires_leaves_the_question_with_its_account(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    desk.work()
    desk.execute("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
    leases.claim(ledger, LANE, uuid4(), 10, -1)
    leases.sweep(ledger, SETTINGS.streams)
    assert desk.doubts(delivery_id) == (Status.QUEUED, True, True)
    assert desk.stands(delivery_id)[1] == "lease_expired"


def test_a_question_without_an_answer_ends_as_uncertain_and_not_as_failed(ledger: Database) -> None:
    policy = replace(FAST, max_attempts=2, max_deferrals=1)
    desk = Desk(ledger, replace(SETTINGS, streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy}))
    desk.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    desk.work()
    desk.first.script = answer(OutcomeClass.TRANSIENT, reason="http_503")
    desk.work()
    assert desk.stands(delivery_id) == (Status.UNCERTAIN, "http_503")


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        ("UPDATE mailglass.deliveries SET expires_at = now()", "expired"),
        ("UPDATE mailglass.deliveries SET scheduled_at = now() - interval '1 year'", "too_old"),
        ("DELETE FROM mailglass.messages", "content_scrubbed"),
    ],
)
def test_a_question_that_cannot_be_asked_leaves_the_doubt(ledger: Database, obstacle: str, reason: str) -> None:
    desk = Desk(ledger)
    desk.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    desk.work()
    desk.execute(obstacle)
    desk.engine._selector.forget()
    desk.work()
    assert desk.stands(delivery_id) == (Status.UNCERTAIN, reason)
    assert desk.kinds(delivery_id)[-1] == "uncertain"
    (row,) = ledger.query(
        sqlalchemy.text("SELECT lease_expires_at > now() AND search_at <= now() AS waits FROM mailglass.deliveries")
    )
    assert row.waits


def test_a_question_for_an_account_that_cannot_be_used_waits_for_it(ledger: Database) -> None:
    desk = Desk(ledger)
    desk.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    desk.work()
    trip(ledger, "first", "misconfigured")
    desk.engine._selector.forget()
    desk.work(2)
    assert desk.doubts(delivery_id) == (Status.QUEUED, True, True)
    assert (len(desk.first.sent), desk.second.sent) == (1, [])


@pytest.mark.parametrize(
    ("policy", "kind", "status"),
    [(UncertainPolicy.RESEND, "resent", Status.QUEUED), (UncertainPolicy.HOLD, "held", Status.HELD)],
)
def test_once_the_account_has_forgotten_the_key_the_streams_policy_decides(
    ledger: Database, policy: UncertainPolicy, kind: str, status: Status
) -> None:
    streams = {**DEFAULT_POLICIES, Stream.TRANSACTIONAL: replace(FAST, uncertain=policy)}
    desk = Desk(ledger, replace(SETTINGS, streams=streams))
    desk.first.idempotency_window = 900.0
    desk.first.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    desk.work()
    desk.execute("UPDATE mailglass.deliveries SET scheduled_at = now() - interval '15 minutes'")
    desk.work()
    assert len(desk.first.sent) == 1
    assert desk.second.sent == []
    assert desk.stands(delivery_id) == (status, "no_evidence")
    assert desk.kinds(delivery_id)[-1] == kind


def test_an_account_that_loses_every_answer_does_not_mail_for_ever(ledger: Database) -> None:
    policy = replace(FAST, max_attempts=3, uncertain_hold=0.0)
    desk = Desk(ledger, replace(SETTINGS, streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy}))
    for provider in (desk.first, desk.second):
        provider.idempotent = False
        provider.script = answer(OutcomeClass.UNCERTAIN, reason="answer_lost")
    (delivery_id,) = desk.queue()
    for _ in range(6):
        desk.work()
        leases.sweep(ledger, {**SETTINGS.streams, Stream.TRANSACTIONAL: policy})
    assert len(desk.first.sent) + len(desk.second.sent) == 3
    assert desk.stands(delivery_id) == (Status.HELD, "no_evidence")


# what a provider answered is written down, whatever else fails


def test_an_answer_is_recorded_even_where_the_breaker_cannot_be_written(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(ledger)
    desk.first.script = answer(OutcomeClass.MISCONFIGURED, reason="http_401")
    (delivery_id,) = desk.queue()
    run = ledger.run

    def without_breakers(name: str, params: object = None) -> object:
        if name in ("trip", "breakers") and desk.first.sent:
            raise LedgerUnavailableError("the database cannot be reached")
        return run(name, params)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "run", without_breakers)
    desk.engine._selector._cache.clear()
    with pytest.raises(LedgerUnavailableError):
        desk.work()
    assert desk.stands(delivery_id) == (Status.QUEUED, "http_401")


@pytest.mark.parametrize(
    "strange",
    [
        Outcome(OutcomeClass.ACCEPTED, provider_message_id="id\x00"),
        Outcome(OutcomeClass.ACCEPTED, provider_message_id="\ud800"),
        Outcome(OutcomeClass.ACCEPTED, status=10**12),
        Outcome(OutcomeClass.ACCEPTED, provider_message_id=5),  # type: ignore[arg-type]
        Outcome(OutcomeClass.THROTTLED, retry_after="7", reason=b"slow"),  # type: ignore[arg-type]
        Outcome("perhaps"),  # type: ignore[arg-type]
        Outcome(OutcomeClass.THROTTLED, retry_after=float("inf")),
        Outcome(OutcomeClass.TRANSIENT, retry_after=float("nan"), reason="x" * 100_000),
        None,
    ],
)
def test_strange_answer_does_not_lose_those_beside_it(ledger: Database, strange: Outcome) -> None:
    desk = Desk(ledger)
    good, bad = desk.queue(2)
    desk.first.script = lambda mail: strange if mail.delivery_id == bad else accepted(mail)
    desk.work()
    assert desk.stands(good)[0] is Status.SENT
    assert desk.stands(bad)[0] is not Status.SENDING


# answers of the ledger that get lost


@pytest.mark.parametrize(("statement", "others"), [("submit_one", 0), ("submit", 2)])
def test_recording_again_after_a_lost_answer_is_no_duplicate(
    ledger: Database, monkeypatch: pytest.MonkeyPatch, statement: str, others: int
) -> None:
    losing = LosingOnce(monkeypatch, ledger, statement)
    recorded, *_ = submit(ledger.run, [item(idempotency_key="order-1", digest="d"), *(item() for _ in range(others))])
    assert losing.lost == 1
    assert (recorded.known, recorded.status) == (False, "queued")
    (again,) = submit(ledger.run, [item(idempotency_key="order-1", digest="d")])
    assert (again.known, again.id) == (True, recorded.id)


def test_a_sweep_whose_answer_was_lost_goes_on_with_the_others(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(ledger)
    ids = desk.queue(4)
    leases.claim(ledger, LANE, uuid4(), 10, -1)
    losing = LosingOnce(monkeypatch, ledger, "sweep")
    assert leases.sweep(ledger, SETTINGS.streams, size=2) == [(LANE, "released")] * 2
    assert losing.lost == 1
    assert [desk.stands(key) for key in ids] == [(Status.QUEUED, "lease_expired")] * 4
    assert [desk.kinds(key)[-1] for key in ids] == ["released"] * 4


def test_claiming_named_deliveries_again_after_a_lost_answer_finds_them(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(ledger)
    (delivery_id,) = desk.queue()
    losing = LosingOnce(monkeypatch, ledger, "claim_these")
    assert desk.engine.run_these(LANE, [delivery_id]).moved == {Status.SENT: 1}
    assert losing.lost == 1


def test_a_cancellation_whose_answer_was_lost_says_that_it_was_done(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (delivery_id,) = Desk(ledger).queue()
    LosingOnce(monkeypatch, ledger, "cancel")
    assert deliveries.cancel(ledger, [delivery_id], "acme").canceled == {delivery_id}
    assert [event.kind for event in deliveries.timeline(ledger, delivery_id)] == ["queued", "canceled"]
    assert deliveries.cancel(ledger, [delivery_id], "acme").canceled == set()


def test_a_mail_that_was_accepted_stays_accepted_under_its_key_when_the_recipient_is_suppressed(
    ledger: Database,
) -> None:
    desk = Desk(ledger)
    (first,) = submit(ledger.run, [item(idempotency_key="order-1", digest="d")])
    desk.work()
    suppress(ledger, [Suppression("acme", "ada@example.com", "complaint", "webhook")])
    (again,) = submit(ledger.run, [item(idempotency_key="order-1", digest="d")])
    assert (again.id, again.status, again.suppressed_by) == (first.id, "sent", None)


# two workers at once


def test_of_two_that_render_the_same_message_the_second_sends_what_the_first_kept(
    ledger: Database, database_url: str, until: Callable[..., bool]
) -> None:
    message_id = uuid7()
    submit(ledger.run, [item(message_id=message_id, frozen=False, content='{"mailable": {}}')])
    found: dict[UUID, str] = {}
    with psycopg.connect(database_url) as other:
        other.execute('UPDATE mailglass.messages SET content = \'{"subject": "one"}\', frozen = true')
        second = threading.Thread(
            target=lambda: found.update(leases.freeze(ledger, {message_id: '{"subject": "two"}'}))
        )
        second.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with psycopg.connect(database_url, autocommit=True) as watcher:
            assert until(lambda: watcher.execute(waiting).fetchone() is not None)
        other.commit()
        second.join(60)
    assert json.loads(found[message_id]) == {"subject": "one"}


def test_a_mailable_that_this_worker_does_not_have_waits_for_one_that_does(ledger: Database) -> None:
    desk = Desk(ledger)
    content = json.dumps({"v": 1, "mailable": {"class": "not_installed_here:Receipt", "context": {}}})
    (delivery_id,) = desk.queue(frozen=False, content=content)
    desk.work()
    assert desk.stands(delivery_id) == (Status.QUEUED, "mailable_not_installed")
    assert deliveries.get(ledger, delivery_id).attempts == 0


# hooks that answer nonsense


@pytest.mark.parametrize(
    "nonsense", [5, Route(("first",), failover_after=0), Route(("first", "second"), weights=(1,)), [7]]
)
def test_a_hook_that_answers_nonsense_breaks_no_batch_and_holds_the_mail_later(
    ledger: Database, nonsense: object
) -> None:
    class Hooks(Tenancy):
        def resolve_route(self, context: object) -> object:  # type: ignore[override]
            return nonsense

    desk = Desk(ledger, router=Router(SETTINGS, Hooks()))
    (delivery_id,) = desk.queue()
    desk.work()
    assert desk.stands(delivery_id) == (Status.QUEUED, UNPLACED)
    desk.execute("UPDATE mailglass.deliveries SET unplaced_since = now() - interval '10 minutes'")
    desk.work()
    assert desk.stands(delivery_id) == (Status.HELD, "no_route")


# what the database refuses


def test_a_refused_statement_names_no_value_and_its_remedy(ledger: Database) -> None:
    with pytest.raises(LedgerError) as caught:
        submit(ledger.run, [item("very.private@example.com", priority=99)])
    assert (caught.value.sqlstate, caught.value.of_a_value) == ("23514", True)
    assert "private" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_refused_statement_in_the_callers_transaction_names_no_value(database_url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection, pytest.raises(LedgerError) as caught:
        submit(lambda name, params: run_on(connection, name, params), [item("very.private@example.com", priority=99)])
    assert "private" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    engine.dispose()


def test_error_of_the_callers_transaction_reaches_it_without_parameters(database_url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection, psycopg.connect(database_url) as other:
        connection.execute(sqlalchemy.text("SET statement_timeout = 100"))
        other.execute("LOCK TABLE mailglass.deliveries IN ACCESS EXCLUSIVE MODE")
        private = [item("very.private@example.com")]
        with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
            submit(lambda name, params: run_on(connection, name, params), private)
    assert "private" not in str(caught.value)
    engine.dispose()


def test_a_time_limit_of_the_database_is_no_refusal_but_tried_again(ledger: Database, database_url: str) -> None:
    limited = Database(database_url + ("&" if "?" in database_url else "?") + "connect_timeout=5")
    name = database_url.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(f'ALTER DATABASE "{name}" SET statement_timeout = 100')
    with psycopg.connect(database_url) as other:
        other.execute("SET statement_timeout = 0")
        other.execute("LOCK TABLE mailglass.deliveries IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailableError, match="57014"):
            submit(limited.run, [item()])
    limited.dispose()


def test_a_server_that_became_read_only_is_left_for_the_one_that_is_not(
    ledger: Database, direct_url: str, servers: Any
) -> None:
    name = direct_url.rpartition("/")[2].partition("?")[0]

    def become(read_only: str) -> None:
        with psycopg.connect(direct_url, autocommit=True) as other:
            other.execute("SET default_transaction_read_only = off")
            other.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {read_only}')
            if servers.pooled:
                # a pooler keeps its sessions with a server until they end there
                other.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    become("on")
    with pytest.raises(LedgerUnavailableError):
        submit(ledger.run, [item()])
    become("off")
    assert submit(ledger.run, [item()])[0].status == "queued"


def test_invalid_delivery_id_is_not_repeated(ledger: Database) -> None:
    with pytest.raises(DeliveryNotFoundError) as caught:
        deliveries.get(ledger, "very.private@example.com")
    assert "private" not in str(caught.value)
