"""The pump runs whenever nobody has run it for a second, and a beat that is gone is replaced within seconds."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from mailglass import Message, deliver_later, deliver_many, tenant
from mailglass.ledger import turns
from mailglass.ledger.database import Database
from mailglass.testing.lab.weather import Weather
from mailglass_beat.leader import Leader


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def test_a_turn_is_one_holders_until_its_time_is_over(ledger: Database, wait_for: Callable[..., None]) -> None:
    first, second = uuid4(), uuid4()
    assert turns.take(ledger, "work", first, 0.5).taken
    refused = turns.take(ledger, "work", second, 60)
    assert not refused.taken
    assert 0 < refused.seconds <= 0.5
    assert turns.take(ledger, "other", second, 60).taken
    wait_for(lambda: turns.take(ledger, "work", second, 60).taken)
    assert not turns.take(ledger, "work", first, 60).taken


def test_a_turn_that_is_given_up_is_free_after_its_rest_and_at_once_for_the_eager(ledger: Database) -> None:
    first, second = uuid4(), uuid4()
    turns.take(ledger, "work", first, 60)
    assert not turns.take(ledger, "work", second, 60, eager=True).taken
    turns.end(ledger, "work", first, rest=60)
    assert not turns.take(ledger, "work", second, 60).taken
    assert turns.take(ledger, "work", second, 60, eager=True).taken
    turns.end(ledger, "work", second)
    assert turns.take(ledger, "work", first, 60).taken


def test_a_holder_that_has_lost_its_turn_ends_nobody_elses(ledger: Database, wait_for: Callable[..., None]) -> None:
    first, second = uuid4(), uuid4()
    turns.take(ledger, "work", first, 0.05)
    wait_for(lambda: turns.take(ledger, "work", second, 60).taken)
    turns.end(ledger, "work", first)
    assert not turns.take(ledger, "work", first, 60).taken


def test_of_many_that_want_a_turn_at_once_one_has_it(ledger: Database) -> None:
    for name in ("a", "b", "c", "d", "e"):
        together = threading.Barrier(8)

        def take(name: str = name, together: threading.Barrier = together) -> bool:
            together.wait(60)
            return turns.take(ledger, name, uuid4(), 60).taken

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(lambda _, take=take: take(), range(8))) == 1


def test_a_turn_that_is_held_is_only_read(ledger: Database, database_url: str) -> None:
    turns.take(ledger, "work", uuid4(), 60)
    with psycopg.connect(database_url) as somebody, ThreadPoolExecutor(1) as threads:
        somebody.execute("SELECT FROM mailglass.turns FOR UPDATE")
        try:
            assert not threads.submit(turns.take, ledger, "work", uuid4(), 60).result(timeout=10).taken
        finally:
            somebody.rollback()


def test_a_turn_of_a_clock_that_went_ahead_is_free(ledger: Database, database_url: str) -> None:
    first, second = uuid4(), uuid4()
    turns.take(ledger, "work", first, 60)
    with psycopg.connect(database_url) as failover:
        failover.execute("UPDATE mailglass.turns SET until = until + interval '1 hour'")
    assert turns.take(ledger, "work", second, 60).taken
    assert not turns.take(ledger, "work", first, 60).taken


def test_a_leader_leads_until_it_resigns_and_the_next_one_follows_at_once(ledger: Database) -> None:
    first, second = Leader(ledger), Leader(ledger)
    assert [first.leads(), second.leads(), first.leads()] == [True, False, True]
    assert first.in_time
    assert not second.in_time
    first.resign()
    assert not first.in_time
    assert [second.leads(), first.leads()] == [True, False]


def test_a_leader_that_could_not_say_so_in_time_is_replaced_and_knows_it(
    ledger: Database, wait_for: Callable[..., None]
) -> None:
    first, second = Leader(ledger, lease=0.3), Leader(ledger, lease=60)
    assert first.leads()
    wait_for(second.leads)
    # by its own clock, before it has asked anybody
    assert not first.in_time
    assert not first.leads()
    first.resign()
    assert second.leads()


def test_a_leader_that_is_cut_off_from_the_ledger_leads_no_longer_than_its_lease(
    database_url: str, postgres: Any, wait_for: Callable[..., None]
) -> None:
    class Cut:
        def __init__(self, inner: Database) -> None:
            self.inner, self.off = inner, False

        def run(self, name: str, params: Any = None) -> Any:
            from mailglass.errors import LedgerUnavailableError

            if self.off:
                raise LedgerUnavailableError("the database cannot be reached")
            return self.inner.run(name, params)

    inner = Database(database_url)
    link = Cut(inner)
    first, second = Leader(link, lease=0.5), Leader(inner)
    assert first.leads()
    link.off = True
    assert not first.leads()
    wait_for(second.leads)
    assert not first.in_time
    link.off = False
    assert not first.leads()
    inner.dispose()


LEADS = re.compile(r"mailglass\.beat\.leads")
FOLLOWS = re.compile(r"mailglass\.beat\.follows")
RANG = re.compile(r"mailglass\.pump .*rung=[1-9]")


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_beat_that_is_gone_is_replaced_within_fifteen_seconds(
    cluster: Any, wait_for: Callable[..., None], how: str
) -> None:
    first = cluster.beat("first")
    wait_for(lambda: LEADS.search(first.output()))
    second = cluster.beat("second")
    if how == "killed":
        first.kill()
        wait_for(lambda: LEADS.search(second.output()))
        return
    first.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: LEADS.search(second.output()))
    finally:
        first.send_signal(signal.SIGCONT)
    wait_for(lambda: FOLLOWS.search(first.output()))
    assert len(LEADS.findall(first.output())) == 1
    assert not FOLLOWS.search(second.output())


@pytest.mark.parametrize(
    "options",
    [("-c", "1"), ("-P", "threads", "-c", "1"), ("-P", "gevent", "-c", "1"), ("-P", "solo")],
    ids=["prefork", "threads", "gevent", "solo"],
)
def test_a_worker_whose_slots_are_all_busy_rings_for_mail_that_is_due(
    cluster: Any, outside: Any, direct_url: str, wait_for: Callable[..., None], options: tuple[str, ...]
) -> None:
    held = threading.Event()

    def weather(recipient: str) -> Weather:
        # the only slot waits for this answer
        held.wait(20)
        return Weather.DELIVER

    outside.weather = weather
    worker = cluster.worker(*options)
    with tenant("busy"):
        deliver_many([Message(to="slow@example.com", subject="s", text="t")])
    busy = "SELECT count(*) FROM mailglass.deliveries WHERE status = 'sending'"
    with psycopg.connect(direct_url, autocommit=True) as opened:
        wait_for(lambda: opened.execute(busy).fetchone() == (1,))
    with tenant("waiting"):
        result = deliver_later.apply_async((Message(to="b@example.com", subject="s", text="t"),), countdown=0.5)
    # nobody but the busy worker's pump can ring it
    wait_for(lambda: RANG.search(worker.output()))
    before, _, _ = worker.output().partition("mailglass.pump ")
    assert "lane=mailglass/busy/transactional" not in before
    held.set()
    assert result.get(timeout=60)


def test_a_ring_by_beat_runs_the_pump_unless_somebody_is_at_it(cluster: Any, wait_for: Callable[..., None]) -> None:
    from mailglass_workers import pumping

    runtime = cluster.runtime
    assert pumping.take_turn(runtime) > 0
    # a ring by beat finds nobody at it
    assert pumping.take_turn(runtime, eager=True) > 0
    assert turns.take(runtime.database, "mailglass.pump", uuid4(), 60, eager=True).taken
    assert pumping.take_turn(runtime, eager=True) == pumping.INTERVAL
