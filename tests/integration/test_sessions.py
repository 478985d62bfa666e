"""Deliveries within the caller's own transaction: any driver, any connection, the right database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from mailglass import (
    DeliveryGroup,
    IdempotencyError,
    ItemOutcome,
    Message,
    SuppressedError,
    deliver_later,
    deliver_many,
)
from mailglass.errors import LedgerError, SessionError
from mailglass.ledger import deliveries, schema
from mailglass.ledger.database import sqlalchemy_url
from mailglass.ledger.suppressions import Suppression, suppress


def message(to: object = "ada@example.com", **fields: Any) -> Message:
    return Message(to=to, subject="Receipt 1001", text='Thank "you" \\ very %s :much', **fields)


def url_of(cluster, driver: str) -> sqlalchemy.URL:
    return make_url(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"])).set(
        drivername=f"postgresql+{driver}"
    )


def synchronous(driver: str) -> Callable[[Any, Callable[[Any], Any]], Any]:
    def run(cluster, work: Callable[[Any], Any]) -> Any:
        engine = sqlalchemy.create_engine(url_of(cluster, driver))
        try:
            with Session(engine) as session, session.begin():
                return work(session)
        finally:
            engine.dispose()

    return run


def asynchronous(driver: str) -> Callable[[Any, Callable[[Any], Any]], Any]:
    async def within(cluster, work: Callable[[Any], Any]) -> Any:
        engine = create_async_engine(url_of(cluster, driver))
        try:
            async with AsyncSession(engine) as session, session.begin():
                return await session.run_sync(work)
        finally:
            await engine.dispose()

    return lambda cluster, work: asyncio.run(within(cluster, work))


def plain_psycopg(cluster, work: Callable[[Any], Any]) -> Any:
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"]) as connection:
        return work(connection)


def in_a_connection(cluster, work: Callable[[Any], Any]) -> Any:
    engine = sqlalchemy.create_engine(url_of(cluster, "psycopg"))
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


TRANSACTIONS = {
    "psycopg": synchronous("psycopg"),
    "psycopg2": synchronous("psycopg2"),
    "pg8000": synchronous("pg8000"),
    "asyncpg": asynchronous("asyncpg"),
    "psycopg async": asynchronous("psycopg"),
    "a SQLAlchemy connection": in_a_connection,
    "a psycopg connection": plain_psycopg,
}
every_transaction = pytest.mark.parametrize("within", TRANSACTIONS.values(), ids=list(TRANSACTIONS))


@every_transaction
def test_every_call_records_within_the_transaction_of_any_driver(cluster, within: Callable[..., Any]) -> None:
    database = cluster.runtime.database
    suppress(database, [Suppression("default", "gone@example.com", "hard_bounce", "webhook")])
    task_id = str(uuid4())

    def work(session: Any) -> list[Any]:
        single = deliver_later.apply_async(
            (message(idempotency_key="one"),), session=session, countdown=60, expires=600
        )
        again = deliver_later.delay(message(idempotency_key="one"), session=session)
        group = deliver_later.apply_async(
            (message(["a@example.com", "b@example.com"]),), {"session": session}, task_id=task_id
        )
        with pytest.raises(IdempotencyError):
            deliver_later.apply_async((message(["a@example.com"]),), session=session, task_id=task_id)
        many = deliver_many(
            [message(f"u{n}@example.com", idempotency_key=f"u{n % 3}") for n in range(4)]
            + [message("gone@example.com")],
            session=session,
        )
        with pytest.raises(SuppressedError):
            deliver_later.delay(message("gone@example.com"), session=session)
        assert deliveries.find(database) == [], "nothing is visible before the commit"
        return [single, again, group, many]

    single, again, group, many = within(cluster, work)
    assert single.id == again.id
    assert [result.outcome for result in many] == [ItemOutcome.QUEUED] * 3 + [
        ItemOutcome.INVALID,
        ItemOutcome.SUPPRESSED,
    ]
    assert isinstance(group, DeliveryGroup)
    assert deliveries.counts(database) == {"default": {"queued": 6, "suppressed": 2}}
    delivery = single.delivery
    assert round((delivery.due_at - delivery.created_at).total_seconds()) == 60
    content = database.query(sqlalchemy.text("SELECT content->>'text' AS text FROM mailglass.messages LIMIT 1"))
    assert content[0].text == message().text


@every_transaction
def test_a_rollback_leaves_nothing_with_any_driver(cluster, within: Callable[..., Any]) -> None:
    class Undone(Exception):
        pass

    def work(session: Any) -> None:
        deliver_many([message(), message(["a@example.com", "b@example.com"])], session=session)
        raise Undone

    with pytest.raises(Undone):
        within(cluster, work)
    assert deliveries.find(cluster.runtime.database) == []


@every_transaction
def test_a_refused_statement_is_the_same_error_with_any_driver(cluster, within: Callable[..., Any]) -> None:
    cluster.runtime.database.query(sqlalchemy.text("ALTER TABLE mailglass.deliveries ADD CHECK (priority <> 3)"))

    def work(session: Any) -> None:
        deliver_later.apply_async((message("very.private@example.com"),), session=session, priority=3)

    with pytest.raises(LedgerError) as caught:
        within(cluster, work)
    assert caught.value.sqlstate == "23514"
    assert caught.value.__context__ is None
    assert "private" not in str(caught.value)


def test_a_session_that_is_none_is_an_error_and_records_nothing(cluster) -> None:
    for call in (
        lambda: deliver_later.delay(message(), session=None),
        lambda: deliver_later.delay(message(), None),
        lambda: deliver_later.apply_async((message(),), {"session": None}),
        lambda: deliver_later.apply_async((message(),), session=None),
        lambda: deliver_later(message(), session=None),
        lambda: deliver_many([message()], session=None),
        lambda: deliver_many([], session=None),
    ):
        with pytest.raises(TypeError, match="session is None: leave it out"):
            call()
    assert deliveries.find(cluster.runtime.database) == []


@pytest.mark.parametrize("ledger_there", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_a_session_of_another_database_is_refused_by_name_and_its_transaction_goes_on(
    cluster, empty_database_url: str, ledger_there: bool, plain: bool
) -> None:
    if ledger_there:
        schema.upgrade(empty_database_url)
    name = make_url(empty_database_url).database
    with _opened(empty_database_url, plain) as connection:
        for _ in range(2):
            with pytest.raises(SessionError, match=f"{name}.*MAILGLASS_DATABASE_URL") as caught:
                deliver_later.delay(message(), session=connection)
            assert "db upgrade" not in str(caught.value)
            with pytest.raises(SessionError):
                deliver_many([message()], session=connection)
        connection.execute("SELECT 1" if plain else sqlalchemy.text("SELECT 1"))


def test_a_copy_of_the_ledger_under_another_name_is_another_ledger(cluster, postgres) -> None:
    source = make_url(cluster.environment["MAILGLASS_DATABASE_URL"]).database
    cluster.runtime.database.dispose()
    url = postgres.create_database(f"{source}_copy", template=source)
    try:
        with _opened(url, plain=True) as connection, pytest.raises(SessionError, match="has another ledger"):
            deliver_later.delay(message(), session=connection)
    finally:
        postgres.drop_database(f"{source}_copy")


def test_a_connection_is_looked_at_once_for_each_engine(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    engine = sqlalchemy.create_engine(url_of(cluster, "psycopg"))
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda c, cur, sql, *_: seen.append(sql))
    for _ in range(3):
        with Session(engine) as session, session.begin():
            deliver_later.delay(message(), session=session)
    assert sum("ledger_identity" in sql for sql in seen) == 2
    engine.dispose()


def test_a_pump_rings_what_a_psycopg_connection_committed(cluster, outside, wait_for) -> None:
    cluster.worker()
    cluster.beat()
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"]) as connection:
        result = deliver_later.delay(message(), session=connection)
        assert cluster.rings.count() == 0
    wait_for(lambda: result.state == "sent")


def test_an_asynchronous_connection_names_the_remedy(cluster) -> None:
    async def wrong() -> None:
        async with await psycopg.AsyncConnection.connect(cluster.environment["MAILGLASS_DATABASE_URL"]) as connection:
            with pytest.raises(TypeError, match="psycopg Connection, not AsyncConnection"):
                deliver_later.delay(message(), session=connection)

    asyncio.run(wrong())


@pytest.fixture
def eight_idle(cluster) -> Iterator[None]:
    """Eight idle connections in the ledger's pool."""
    database, together = cluster.runtime.database, threading.Barrier(8)

    def use() -> None:
        together.wait(60)
        database.query(sqlalchemy.text("SELECT pg_sleep(0.5)"))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return


def end_sessions(direct_url: str) -> int:
    with psycopg.connect(direct_url, autocommit=True) as connection:
        return len(
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'mailglass'"
            ).fetchall()
        )


def test_no_caller_meets_the_connections_that_a_restart_ended(cluster, direct_url: str, eight_idle) -> None:
    assert end_sessions(direct_url) >= 5
    for _ in range(10):
        deliver_later.delay(message())
    assert deliveries.counts(cluster.runtime.database) == {"default": {"queued": 10}}


def test_callers_at_once_do_not_meet_them_either(cluster, direct_url: str, eight_idle) -> None:
    assert end_sessions(direct_url) >= 5
    errors: list[BaseException] = []
    together = threading.Barrier(6)

    def call() -> None:
        together.wait(60)
        try:
            for _ in range(5):
                deliver_later.delay(message())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert deliveries.counts(cluster.runtime.database) == {"default": {"queued": 30}}


def _opened(url: str, plain: bool) -> Any:
    if plain:
        return psycopg.connect(url)
    return sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool).connect()
