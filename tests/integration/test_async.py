"""Calls from coroutines: nothing blocks the event loop, and the caller's transaction decides."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from celery.exceptions import TimeoutError as CeleryTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session

from mailglass import (
    CancelCounts,
    CancelOutcome,
    DeliveryGroup,
    DeliveryNotFoundError,
    DeliveryResult,
    IdempotencyError,
    ItemOutcome,
    Message,
    SuppressedError,
    acancel_many,
    adeliver,
    adeliver_many,
    adeliver_many_or_raise,
    deliver_later,
    tenant,
)
from mailglass.doorbell import Doorbell
from mailglass.errors import BatchFailedError, SessionError
from mailglass.ledger import schema
from mailglass.ledger.database import Database, sqlalchemy_url
from mailglass.ledger.suppressions import Suppression
from mailglass.ledger.suppressions import suppress as suppress_recipients
from mailglass.outbound import deliver_many as deliver_many_module
from mailglass.outbound.event_loop import THREADS, in_thread
from mailglass.routing import Router
from tests.cluster import frozen
from tests.coroutines import engine_of, every_driver, message, statuses

# the calls


def test_a_message_is_recorded_and_its_result_awaited_until_a_worker_has_sent_it(cluster, outside) -> None:
    cluster.worker("-P", "threads", "-c", "2")

    async def main() -> None:
        result = await deliver_later.adelay(message())
        assert isinstance(result, DeliveryResult)
        assert (await result.aget(timeout=60)).status == "sent"
        assert await result.astate() == "sent"
        assert await result.aready() and await result.asuccessful() and not await result.afailed()
        assert await result.acancel() is CancelOutcome.LEFT
        group = await deliver_later.adelay(message(["a@example.com", "b@example.com"]))
        assert isinstance(group, DeliveryGroup)
        assert [delivery.status for delivery in await group.aget(timeout=60)] == ["sent", "sent"]
        assert set((await group.astates()).values()) == {"sent"} and await group.astate() == "sent"
        assert await group.aready() and await group.asuccessful() and not await group.afailed()

    asyncio.run(main())


def test_options_and_errors_are_those_of_the_calls_without_await(cluster) -> None:
    suppress_recipients(
        cluster.runtime.database, [Suppression("default", "gone@example.com", "hard_bounce", "webhook")]
    )

    async def main() -> None:
        later = await deliver_later.aapply_async((message(),), countdown=60, priority=9, expires=600)
        delivery = await later.adelivery()
        assert (delivery.priority, round((delivery.due_at - delivery.created_at).total_seconds())) == (9, 60)
        with pytest.raises(CeleryTimeoutError, match="still queued"):
            await later.aget(timeout=0)
        with pytest.raises(CeleryTimeoutError, match="still queued"):
            await later.aget(timeout=0.1)
        assert await later.acancel() is CancelOutcome.CANCELED
        with pytest.raises(SuppressedError):
            await deliver_later.adelay(message("gone@example.com"))
        await deliver_later.adelay(message(idempotency_key="one"))
        with pytest.raises(IdempotencyError):
            await deliver_later.adelay(message("other@example.com", idempotency_key="one"))
        for wrong in ({"link": "x"}, {"queue": "mailglass"}):
            with pytest.raises(TypeError):
                await deliver_later.aapply_async((message(),), **wrong)
        assert await acancel_many(status="queued") == CancelCounts(1, 0)

    asyncio.run(main())


def test_a_message_is_delivered_now_while_the_event_loop_goes_on(cluster, outside) -> None:
    async def main() -> None:
        sent = await asyncio.gather(*(adeliver(message(f"u{number}@example.com")) for number in range(3)))
        assert [delivery.status for delivery in sent] == ["sent"] * 3

    asyncio.run(main())
    assert len(outside.mails) == 3


def test_the_tenant_in_scope_is_that_of_the_awaiting_task(cluster) -> None:
    async def of(name: str) -> None:
        with tenant(name):
            result = await deliver_later.adelay(message())
            await asyncio.sleep(0)
            await adeliver_many([message(), message()])
            assert (await DeliveryResult(result.id).adelivery()).tenant == name

    async def main() -> None:
        await asyncio.gather(*(of(f"t{number}") for number in range(8)))
        with tenant("t0"):
            ours = await deliver_later.adelay(message())
        with tenant("t1"), pytest.raises(DeliveryNotFoundError):
            await DeliveryResult(ours.id).astate()

    asyncio.run(main())
    expected = {f"t{number}": {"queued": 3} for number in range(1, 8)}
    assert statuses(cluster) == {"t0": {"queued": 4}, **expected}


def test_many_messages_come_from_any_iterable_in_chunks(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_many_module, "CHUNK", 7)
    suppress_recipients(cluster.runtime.database, [Suppression("acme", "u3@example.com", "hard_bounce", "webhook")])

    def made() -> Iterator[Message]:
        for number in range(50):
            with tenant("acme" if number % 2 else "other"):
                yield message(f"u{number}@example.com")

    async def fetched() -> AsyncIterator[Message]:
        for each in made():
            await asyncio.sleep(0)
            yield each

    async def main() -> None:
        for messages in (made(), fetched()):
            results = await adeliver_many(messages)
            assert [result.outcome for result in results][:5] == ["queued"] * 3 + ["suppressed", "queued"]
            assert len(results) == 50
        with pytest.raises(BatchFailedError, match="1"), tenant("acme"):
            await adeliver_many_or_raise([message("u3@example.com"), message()])
        assert len(await adeliver_many([])) == 0

    asyncio.run(main())
    # every seventh u3 is suppressed in either round
    assert statuses(cluster) == {
        "acme": {"queued": 49, "suppressed": 3},
        "other": {"queued": 50},
    }


# the event loop


@contextmanager
def locked(cluster: Any) -> Iterator[Callable[[], None]]:
    """A ledger whose deliveries nobody can read or write, until the function is called."""
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"]) as connection:
        connection.execute("LOCK TABLE mailglass.deliveries IN ACCESS EXCLUSIVE MODE")
        yield connection.rollback


class LoopProbe:
    """Ticks of an event loop, with the longest pause between two of them."""

    def __init__(self) -> None:
        self.ticks, self.longest, self.total = 0, 0.0, 0.0

    async def tick(self, times: int) -> None:
        began = last = time.perf_counter()
        for _ in range(times):
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            self.ticks, self.total, last = self.ticks + 1, now - began, now


async def call_all_ways(cluster: Any, engine: AsyncEngine, result: DeliveryResult) -> list[Any]:
    """Await every kind of call at the same time, some more of them than there are threads."""

    async def within() -> Any:
        async with AsyncSession(engine) as session, session.begin():
            await deliver_later.adelay(message(), session=session)
            return await adeliver_many([message(), message()], session=session)

    return await asyncio.gather(
        *(deliver_later.adelay(message()) for _ in range(2 * THREADS)),
        adeliver_many(message() for _ in range(100)),
        adeliver(message()),
        within(),
        result.astate(),
        result.aget(timeout=60, propagate=False, wait_if_held=True),
        result.acancel(),
    )


@every_driver
def test_the_event_loop_goes_on_while_the_database_is_locked(cluster, outside, driver: str) -> None:
    async def main() -> None:
        async with engine_of(cluster, driver) as engine:
            await deliver_later.adelay(message())
            waiting = await deliver_later.aapply_async((message(),), countdown=600)
            probe = LoopProbe()
            with locked(cluster) as unlock:
                calls = asyncio.ensure_future(call_all_ways(cluster, engine, waiting))
                await probe.tick(300)
                assert not calls.done()
                unlock()
                await calls
            assert probe.ticks == 300
            # a busy machine holds it up too, but not for half of the time that the database is locked
            assert probe.longest < probe.total / 2, f"{probe.longest:.3f} s of {probe.total:.3f} s"

    asyncio.run(main())
    assert threading.active_count() < 4 * THREADS


@every_driver
def test_no_statement_and_no_ring_runs_in_the_thread_of_the_event_loop(
    cluster, outside, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {}

    def noted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return original(*args, **options)

        monkeypatch.setattr(owner, name, call)

    noted(Database, "run")
    noted(Doorbell, "ring")
    noted(Router, "resolve")

    async def main() -> None:
        async with engine_of(cluster, driver) as engine:
            result = await deliver_later.aapply_async((message(),), countdown=600)
            await call_all_ways(cluster, engine, result)
            async with engine.begin() as connection:
                await deliver_later.adelay(message(["a@example.com", "b@example.com"]), session=connection)
            await asyncio.sleep(0.2)

    asyncio.run(main())
    assert threads.keys() == {"run", "ring", "resolve"}
    assert threading.get_ident() not in set().union(*threads.values())


@every_driver
def test_the_event_loop_goes_on_while_the_broker_answers_nothing(
    cluster, servers, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, ring, during = LoopProbe(), Doorbell.ring, []

    def observed(doorbell: Doorbell, lanes: Any) -> None:
        before = probe.ticks
        ring(doorbell, lanes)
        during.append(probe.ticks - before)

    monkeypatch.setattr(Doorbell, "ring", observed)

    async def main() -> None:
        async with engine_of(cluster, driver) as engine:
            ticking = asyncio.ensure_future(probe.tick(100_000))
            with frozen(servers.rabbit() if servers.on_rabbit else servers.valkey()):
                async with AsyncSession(engine) as session, session.begin():
                    await deliver_later.adelay(message(), session=session)
                async with engine.begin() as connection:
                    await deliver_later.adelay(message(), session=connection)
                await asyncio.gather(deliver_later.adelay(message()), adeliver_many([message()]))
            while len(during) < 4:  # noqa: ASYNC110 - of threads
                await asyncio.sleep(0.01)
            ticking.cancel()

    asyncio.run(main())
    # the first ring waits for the broker; later ones find that it is away
    assert max(during) > 2
    assert statuses(cluster) == {"default": {"queued": 4}}


def test_a_wait_ends_after_its_timeout_although_the_database_is_locked(cluster) -> None:
    async def main() -> None:
        result = await deliver_later.adelay(message())
        with locked(cluster):
            with pytest.raises(CeleryTimeoutError, match="unknown status"):
                await result.aget(timeout=0.2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await result.astate()

    asyncio.run(main())


def test_waits_at_the_same_time_share_their_reads(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: Counter[str] = Counter()
    run = Database.run

    def counted(database: Database, name: str, params: Any = None) -> Any:
        statements[name] += 1
        return run(database, name, params)

    monkeypatch.setattr(Database, "run", counted)

    async def main() -> None:
        results = [await deliver_later.aapply_async((message(),), countdown=600) for _ in range(50)]
        statements.clear()
        waits = [asyncio.ensure_future(result.aget(timeout=60, propagate=False)) for result in results]
        while statements["delivery_states"] < 5:  # noqa: ASYNC110 - of threads
            await asyncio.sleep(0.01)
        for wait in waits[:10]:
            wait.cancel()
        await acancel_many(status="queued")
        assert [(await wait).status for wait in waits[10:]] == ["canceled"] * 40
        assert all(wait.cancelled() for wait in waits[:10])

    asyncio.run(main())
    # each looks at its delivery at first and at last
    assert statements["delivery"] == 50 + 40
    assert statements["delivery_states"] < 40


def test_a_wait_for_a_delivery_that_is_gone_says_so(cluster) -> None:
    async def main() -> None:
        result = await deliver_later.aapply_async((message(),), countdown=600)
        wait = asyncio.ensure_future(result.aget(timeout=60))
        await asyncio.sleep(0.1)
        with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"], autocommit=True) as connection:
            connection.execute("DELETE FROM mailglass.deliveries")
        with pytest.raises(DeliveryNotFoundError):
            await wait

    asyncio.run(main())


def test_calls_share_a_bounded_number_of_threads(cluster) -> None:
    seen: set[str] = set()
    gate = threading.Event()

    def work() -> None:
        seen.add(threading.current_thread().name)
        gate.wait(60)

    async def main() -> None:
        calls = [asyncio.ensure_future(in_thread(work)) for _ in range(5 * THREADS)]
        while len(seen) < THREADS:  # noqa: ASYNC110 - of threads
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert len(seen) == THREADS


def test_a_forked_process_has_threads_of_its_own(cluster) -> None:
    asyncio.run(in_thread(lambda: None))
    child = os.fork()
    if not child:
        done = False
        try:
            done = asyncio.run(asyncio.wait_for(in_thread(lambda: True), 30))
        finally:
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0


# the caller's transaction


@every_driver
@pytest.mark.parametrize("kind", ["session", "scoped session", "connection"])
def test_a_delivery_commits_with_the_callers_transaction_and_rings_after_it(
    cluster, driver: str, kind: str, wait_for: Callable[..., None]
) -> None:
    async def main() -> None:
        async with engine_of(cluster, driver) as engine, opened(engine, kind) as session:
            group = await deliver_later.adelay(message(["a@example.com", "b@example.com"]), session=session)
            many = await adeliver_many([message(), message(stream="bulk")], session=session)
            assert [result.outcome for result in many] == [ItemOutcome.QUEUED] * 2
            await asyncio.sleep(0.1)
            assert statuses(cluster) == {} and cluster.rings.count() == 0
            assert isinstance(group, DeliveryGroup)
            await session.commit()
            assert await group.astate() == "queued"
            await asyncio.sleep(0.2)

    asyncio.run(main())
    wait_for(lambda: cluster.rings.count() == 2)
    assert statuses(cluster) == {"default": {"queued": 4}}


@asynccontextmanager
async def opened(engine: AsyncEngine, kind: str) -> AsyncIterator[Any]:
    if kind == "connection":
        async with engine.connect() as connection:
            yield connection
    elif kind == "scoped session":
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        yield scoped
        await scoped.remove()
    else:
        async with AsyncSession(engine) as session:
            yield session


@every_driver
def test_a_rollback_of_the_caller_leaves_nothing(cluster, driver: str) -> None:
    async def main() -> None:
        async with engine_of(cluster, driver) as engine:
            async with AsyncSession(engine) as session:
                result = await deliver_later.adelay(message(), session=session)
                await adeliver_many([message()] * 3, session=session)
                await session.rollback()
            with pytest.raises(DeliveryNotFoundError):
                await result.astate()

    asyncio.run(main())
    assert statuses(cluster) == {}


def test_a_session_that_a_coroutine_cannot_use_names_the_remedy(cluster) -> None:
    async def main() -> None:
        sync_engine = sqlalchemy.create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))
        with Session(sync_engine) as session:
            for call in (
                lambda: deliver_later.adelay(message(), session=session),  # type: ignore[arg-type]
                lambda: adeliver_many([message()], session=session),  # type: ignore[arg-type]
            ):
                with pytest.raises(TypeError, match="AsyncSession or AsyncConnection, not Session"):
                    await call()
        for call in (
            lambda: deliver_later.adelay(message(), session=None),  # type: ignore[arg-type]
            lambda: deliver_later.adelay(message(), None),  # type: ignore[arg-type]
            lambda: adeliver_many([message()], session=None),  # type: ignore[arg-type]
        ):
            with pytest.raises(TypeError, match="session is None: leave it out"):
                await call()
        async with engine_of(cluster) as engine, AsyncSession(engine) as session:
            with pytest.raises(TypeError, match=r"await deliver_later\.adelay"):
                deliver_later.delay(message(), session=session)  # type: ignore[arg-type]
        sync_engine.dispose()

    asyncio.run(main())
    assert statuses(cluster) == {}


@every_driver
def test_an_asynchronous_session_of_another_database_is_refused(cluster, empty_database_url: str, driver: str) -> None:
    schema.upgrade(empty_database_url)

    async def main() -> None:
        async with engine_of(cluster, driver, empty_database_url) as engine, AsyncSession(engine) as session:
            for _ in range(2):
                with pytest.raises(SessionError):
                    await deliver_later.adelay(message(), session=session)
            await session.execute(sqlalchemy.text("SELECT 1"))

    asyncio.run(main())
