"""Lanes with due work are found by what is due alone, and rung in bounded pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import psycopg
import pytest

from mailglass.doorbell import Doorbell, LedgerMarks, Marks, RedisMarks
from mailglass.ids import uuid7
from mailglass.ledger import lanes
from mailglass.ledger.database import Database
from mailglass.ledger.lanes import lanes_due, lanes_ready, lanes_woken
from mailglass.ledger.statements import statements
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.routing import Lane

CONTENT = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def tenants(prefix: str, count: int) -> list[Lane]:
    return [Lane("mailglass", f"{prefix}{number:05}", "bulk") for number in range(count)]


def queue(ledger: Database, lanes: Sequence[Lane], delay: float = 0.0, each: int = 1) -> None:
    to = Address("ada@example.com")
    items = [Item(uuid7(), lane, uuid7(), CONTENT, to, delay=delay) for lane in lanes for _ in range(each)]
    for start in range(0, len(items), 1000):
        submit(ledger.run, items[start : start + 1000])


def bring_forward(direct_url: str) -> None:
    """Let an hour pass for what was put off, without any statement of mailglass."""
    with psycopg.connect(direct_url, autocommit=True) as opened:
        opened.execute("SET session_replication_role = replica")
        opened.execute("UPDATE mailglass.deliveries SET due_at = due_at - interval '1 hour' WHERE waiting")


def pages_read(direct_url: str, name: str, **params: object) -> int:
    """The pages that a statement looks at, as its generic plan is executed."""
    with psycopg.connect(direct_url, options="-c enable_seqscan=off -c plan_cache_mode=force_generic_plan") as opened:
        plan = opened.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statements()[name]}", params).fetchone()[0]
    return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]


FIRST_PAGE = {"tenant": "", "queue": "", "stream": "", "size": 2000}


def test_lanes_whose_mail_is_due_later_cost_the_pump_nothing(ledger: Database, direct_url: str) -> None:
    queue(ledger, tenants("m", 3), each=50)
    costs = []
    for _ in range(2):
        ready = pages_read(direct_url, "lanes_ready", **FIRST_PAGE)
        costs.append(ready + pages_read(direct_url, "lanes_woken", size=2000, after="-infinity"))
        queue(ledger, [*tenants("a", 1000), *tenants("z", 1000)], delay=3600)
    assert costs[1] <= costs[0] * 1.5
    assert lanes_due(ledger) == tenants("m", 3)


def test_a_long_backlog_of_a_lane_costs_the_pump_no_more_than_a_short_one(ledger: Database, direct_url: str) -> None:
    queue(ledger, tenants("m", 3))
    short = pages_read(direct_url, "lanes_ready", **FIRST_PAGE)
    queue(ledger, tenants("m", 3), each=1000)
    assert pages_read(direct_url, "lanes_ready", **FIRST_PAGE) <= short * 3


def test_lanes_are_read_page_by_page_each_once(ledger: Database) -> None:
    queue(ledger, tenants("t", 25), each=2)
    assert list(lanes_ready(ledger, size=4)) == tenants("t", 25)
    assert list(lanes_ready(ledger, size=25)) == tenants("t", 25)


def test_mail_that_was_put_off_is_found_when_it_is_due(ledger: Database, direct_url: str) -> None:
    queue(ledger, tenants("t", 5), delay=600)
    assert lanes_due(ledger) == []
    bring_forward(direct_url)
    assert lanes_due(ledger) == tenants("t", 5)


def test_more_moments_than_one_look_walks_over_hide_no_lane(ledger: Database, direct_url: str) -> None:
    for number, lane in enumerate(tenants("t", 12)):
        queue(ledger, [lane], delay=600 + number)
    bring_forward(direct_url)
    assert sorted(lanes_woken(ledger, size=5)) == tenants("t", 12)
    assert sorted({*lanes_woken(ledger, size=5), *lanes_ready(ledger)}) == tenants("t", 12)


def test_lanes_that_one_look_made_ready_are_answered_by_it_or_a_later_look(
    ledger: Database, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_READY", 8)
    for number, lane in enumerate(tenants("t", 12)):
        queue(ledger, [lane], delay=600 + number)
    bring_forward(direct_url)
    first = lanes_woken(ledger, size=5)
    assert sorted(first) == tenants("t", 8)
    assert sorted({*first, *lanes_woken(ledger, size=5)}) == tenants("t", 12)


def test_a_row_says_at_every_write_of_its_due_moment_whether_it_waits(ledger: Database, database_url: str) -> None:
    queue(ledger, tenants("now", 1))
    queue(ledger, tenants("later", 1), delay=60)
    with psycopg.connect(database_url, autocommit=True) as opened:
        at = "SELECT tenant_id, waiting FROM mailglass.deliveries ORDER BY tenant_id"
        assert opened.execute(at).fetchall() == [("later00000", True), ("now00000", False)]
        for seconds, waits in ((60, True), (0, False), (3600, True), (-5, False)):
            moment = "UPDATE mailglass.deliveries SET due_at = now() + make_interval(secs => %s)"
            opened.execute(moment, [seconds])
            assert {row[1] for row in opened.execute(at)} == {waits}
            # a claim in between changes nothing of it
            opened.execute("UPDATE mailglass.deliveries SET due_at = NULL")


class Slices:
    """Marks that remember how many were asked for at a time."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.sizes: list[int] = []

    def set(self, names: Sequence[str], ring_timeout: float | None) -> list[str]:
        self.sizes.append(len(names))
        return self.marks.set(names, ring_timeout)

    def ages(self, names: Sequence[str]) -> dict[str, float]:
        self.sizes.append(len(names))
        return self.marks.ages(names)

    def clear(self, names: Sequence[str]) -> None:
        self.marks.clear(names)


@pytest.fixture(params=["redis", "ledger"])
def marks(request: pytest.FixtureRequest) -> Slices:
    if request.param == "redis":
        return Slices(RedisMarks(request.getfixturevalue("redis_url")))
    return Slices(LedgerMarks(request.getfixturevalue("database_url")))


class Killed(BaseException):
    """A process ends here."""


def published(doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch, ends_after: int | None = None) -> list[str]:
    """The lanes of the rings that reach the broker, until the process ends."""
    rung: list[str] = []

    def publish(bell) -> None:
        if ends_after is not None and len(rung) >= ends_after:
            raise Killed
        rung.extend(bell.args)

    def publish_together(bells) -> bool:
        for bell in bells:
            publish(bell)
        return True

    monkeypatch.setattr(doorbell, "_publish", publish)
    monkeypatch.setattr(doorbell, "_publish_together", publish_together)
    return rung


def test_rings_are_marked_in_bounded_pieces_as_they_are_published(cluster, marks: Slices, monkeypatch) -> None:
    doorbell = Doorbell(cluster.runtime.settings, None, marks)
    rung = published(doorbell, monkeypatch)
    lanes = tenants("t", 1000)
    assert doorbell.ring(lanes) == 1000
    assert sorted(rung) == sorted(map(str, lanes))
    assert max(marks.sizes) <= 200


def test_a_crash_between_mark_and_ring_leaves_one_piece_marked_which_is_rung_once_it_is_old(
    cluster, marks: Slices, monkeypatch
) -> None:
    doorbell = Doorbell(cluster.runtime.settings, None, marks)
    rung = published(doorbell, monkeypatch, ends_after=650)
    lanes = tenants("t", 1000)
    with pytest.raises(Killed):
        doorbell.ring(lanes)
    assert len(rung) == 650
    rest = published(doorbell, monkeypatch)
    assert doorbell.ring(lanes) == len(rest) >= 1000 - 650 - 200
    assert not {*rest} & {*rung}
    repaired = published(doorbell, monkeypatch)
    doorbell.ring(lanes, ring_timeout=0)
    assert {*rung, *rest, *repaired} == {*map(str, lanes)}


def test_a_run_that_is_out_of_time_leaves_the_rest_unmarked_for_the_next(cluster, marks: Slices, monkeypatch) -> None:
    doorbell = Doorbell(cluster.runtime.settings, None, marks)
    rung = published(doorbell, monkeypatch)
    lanes = tenants("t", 1000)
    before = doorbell.ring(lanes, go_on=lambda: len(rung) < 300)
    assert 0 < before == len(rung) < 1000
    assert doorbell.ring(lanes) == 1000 - before
    assert sorted(rung) == sorted(map(str, lanes))


def test_urgent_lanes_are_rung_before_any_other(cluster, marks: Slices, monkeypatch) -> None:
    doorbell = Doorbell(cluster.runtime.settings, None, marks)
    rung = published(doorbell, monkeypatch)
    streams = ("bulk", "transactional", "operational")
    doorbell.ring(Lane("mailglass", f"t{number}", streams[number % 3]) for number in range(600))
    order = {"transactional": 0, "operational": 1, "bulk": 2}
    ranks = [order[lane.rpartition("/")[2]] for lane in rung]
    assert all(before <= after for before, after in pairwise(ranks))


def test_a_run_that_reads_and_rings_for_long_rings_mail_that_is_due_meanwhile(
    cluster, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailglass_workers import pumping

    ledger, doorbell = cluster.runtime.database, cluster.runtime.doorbell
    rung = published(doorbell, monkeypatch)
    monkeypatch.setattr(pumping, "INTERVAL", 0.0)
    queue(ledger, tenants("t", 450))
    queue(ledger, tenants("later", 1), delay=600)

    def due_in_the_middle() -> None:
        if len(rung) >= 200:
            bring_forward(direct_url)

    # what takes longer than its time is left to the next run, but not what is due to the moment
    assert pumping.run(cluster.runtime, due_in_the_middle)
    assert rung.index(str(tenants("later", 1)[0])) < 450
