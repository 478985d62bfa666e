"""Cancellation of calls from coroutines: it leaves all of a message or nothing."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession

from mailglass import adeliver_many, deliver_later
from mailglass.ledger import deliveries
from mailglass.outbound.event_loop import THREADS, in_thread
from tests.coroutines import engine_of, every_driver, message, statuses

T = TypeVar("T")


class CanceledAt(Awaitable[T]):
    """A coroutine whose task is canceled where it waits for the n-th time, before or after what it waits for."""

    def __init__(self, work: Coroutine[Any, Any, T], at: int, *, late: bool) -> None:
        self._work, self._at, self._late = work, at, late
        self.canceled = False

    def __await__(self) -> Generator[Any, None, T]:
        task, error = asyncio.current_task(), None
        assert task is not None
        for count in itertools.count(1):
            try:
                waits_for = self._work.send(None) if error is None else self._work.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            if count == self._at:
                self.canceled = True
                if not self._late:
                    task.cancel()
            try:
                yield waits_for
            except BaseException as raised:
                error = raised
            if count == self._at and self._late:
                # what it waited for is done, and it was not resumed yet
                error = asyncio.CancelledError()
        raise AssertionError("unreachable")


async def cancel_everywhere(call: Callable[[], Coroutine[Any, Any, Any]], after: Callable[[], Awaitable[None]]) -> int:
    """Cancel a call at each of its awaits, early and late, and look at what is left; returns how many there are."""
    for late in (False, True):
        at = 0
        while True:
            at += 1
            canceled = CanceledAt(call(), at, late=late)

            async def run(canceled: CanceledAt[Any] = canceled) -> None:
                await canceled

            task = asyncio.ensure_future(run())
            try:
                await task
            except asyncio.CancelledError:
                assert canceled.canceled
            await after()
            if not canceled.canceled:
                break
    return at - 1


def test_a_canceled_call_is_recorded_as_a_whole_or_not_at_all(cluster) -> None:
    database = cluster.runtime.database
    seen: set[int] = set()

    async def settled() -> None:
        # what a thread has begun goes on to its end: wait until all threads are free
        all_free = threading.Barrier(THREADS)
        await asyncio.gather(*(in_thread(lambda: all_free.wait(60)) for _ in range(THREADS)))
        recorded = len(deliveries.find(database))
        assert recorded in (0, 3)
        seen.add(recorded)
        with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"], autocommit=True) as connection:
            connection.execute("DELETE FROM mailglass.deliveries")

    async def main() -> None:
        group = [f"{name}@example.com" for name in "abc"]
        assert await cancel_everywhere(lambda: deliver_later.adelay(message(group)), settled) >= 1
        assert await cancel_everywhere(lambda: adeliver_many([message(each) for each in group]), settled) >= 2

    asyncio.run(main())
    assert seen == {0, 3}


def test_a_call_that_is_canceled_before_a_thread_begins_records_nothing(cluster) -> None:
    gate = threading.Event()

    async def main() -> None:
        others = [asyncio.ensure_future(in_thread(lambda: gate.wait(60))) for _ in range(THREADS)]
        call = asyncio.ensure_future(deliver_later.adelay(message()))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        gate.set()
        await asyncio.gather(*others)

    asyncio.run(main())
    assert statuses(cluster) == {}


@every_driver
def test_a_canceled_call_in_the_callers_transaction_leaves_nothing_before_its_commit(cluster, driver: str) -> None:
    async def main() -> None:
        async with engine_of(cluster, driver) as engine:

            async def order() -> None:
                async with AsyncSession(engine) as session, session.begin():
                    await deliver_later.adelay(message(["a@example.com", "b@example.com"]), session=session)
                    await adeliver_many([message(), message()], session=session)
                    committing.append(True)

            committing: list[bool] = []

            async def nothing_or_all() -> None:
                for _ in range(3):
                    await asyncio.sleep(0)
                recorded = len(deliveries.find(cluster.runtime.database))
                if committing:
                    # canceled in the commit itself: the database has decided
                    assert recorded in (0, 4)
                else:
                    assert recorded == 0
                committing.clear()
                async with engine.begin() as connection:
                    await connection.execute(sqlalchemy.text("DELETE FROM mailglass.deliveries"))

            assert await cancel_everywhere(order, nothing_or_all) > 5

    asyncio.run(main())


@every_driver
def test_a_caller_that_ignores_a_cancellation_cannot_commit_half_a_message(cluster, driver: str) -> None:
    async def main() -> None:
        async with engine_of(cluster, driver) as engine:

            async def order() -> None:
                async with AsyncSession(engine) as session:
                    try:
                        await deliver_later.adelay(message([f"{name}@example.com" for name in "abc"]), session=session)
                    finally:
                        # SQLAlchemy refuses where the cancellation has cost the connection
                        with suppress(sqlalchemy.exc.SQLAlchemyError):
                            await session.commit()

            async def none_or_all() -> None:
                async with AsyncSession(engine) as session:
                    found = await session.scalar(sqlalchemy.text("SELECT count(*) FROM mailglass.deliveries"))
                    assert found in (0, 3)
                    await session.execute(sqlalchemy.text("DELETE FROM mailglass.deliveries"))
                    await session.commit()

            assert await cancel_everywhere(order, none_or_all) > 3

    asyncio.run(main())
