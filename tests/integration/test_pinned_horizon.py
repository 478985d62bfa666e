"""Work costs the same however much was worked off while something holds the vacuum horizon, and nothing is missed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy

from mailglass import clock
from mailglass.ids import uuid7
from mailglass.ledger import lanes, leases, low_water, webhooks
from mailglass.ledger.database import Database, run_on_psycopg
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.low_water import ClaimMarks, LowWater, LowWaters, Pace, by_moment
from mailglass.ledger.pooler import STARTUP_OPTIONS
from mailglass.ledger.statements import statements
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.mail.streams import DEFAULT_POLICIES
from mailglass.routing.lane import Lane

LANE = Lane("mailglass", "acme", "bulk")
CONTENT = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})
BATCH = 100


class Remembering(Database):
    """A ledger that remembers what its statements were given."""

    given: dict[str, Mapping[str, Any]]

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        self.__dict__.setdefault("given", {})[name] = params or {}
        return super().run(name, params)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Remembering]:
    database = Remembering(database_url)
    yield database
    database.dispose()


@pytest.fixture
def pin(direct_url: str, ledger: Database) -> Iterator[psycopg.Connection]:
    """A transaction that holds the vacuum horizon, with an id of its own."""
    with psycopg.connect(direct_url) as opened:
        opened.execute("SELECT txid_current()")
        yield opened


@pytest.fixture
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seconds old counts as long past."""
    monkeypatch.setattr(low_water, "MARGIN", timedelta(0))


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the test takes, no scan starts at the beginning again."""
    monkeypatch.setattr(low_water, "LEAST", float("inf"))


def queue(ledger: Database, count: int, **fields: Any) -> list[UUID]:
    items = [
        Item(uuid7(), LANE, uuid7(), CONTENT, Address("ada@example.com"), **fields)  # type: ignore[arg-type]
        for _ in range(count)
    ]
    for start in range(0, count, 1000):
        submit(ledger.run, items[start : start + 1000])
    return [item.id for item in items]


def claim(ledger: Database, marks: ClaimMarks, size: int = BATCH) -> tuple[UUID, list[Claimed]]:
    token = uuid4()
    return token, leases.claim(ledger, LANE, token, size, 60, suspects_first=False, marks=marks)


def send(ledger: Database, token: UUID, claimed: Sequence[Claimed]) -> None:
    ids = [delivery.id for delivery in claimed]
    leases.mark(ledger, token, ids, "main", "null")
    verdicts = [Verdict(key, Status.SENT, EngineEvent.ATTEMPTED, outcome="accepted") for key in ids]
    leases.record(ledger, token, verdicts)


def drain(ledger: Database, marks: ClaimMarks, batches: int) -> None:
    for _ in range(batches):
        token, claimed = claim(ledger, marks)
        assert len(claimed) == BATCH
        send(ledger, token, claimed)


def pages(url: str, name: str, params: Mapping[str, Any], index: str | None = None) -> int:
    """The pages that a statement, or its scans of an index, look at; what it changes is rolled back."""
    with psycopg.connect(url, options=STARTUP_OPTIONS) as opened:
        text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statements()[name]}"
        plan = opened.execute(text, {"again": False, **params}).fetchone()[0][0]["Plan"]
        opened.rollback()
    return _of_scans(plan, index) if index else int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _of_scans(plan: dict[str, Any], index: str) -> int:
    own = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] if plan.get("Index Name") == index else 0
    return int(own + sum(_of_scans(part, index) for part in plan.get("Plans", ())))


def pages_of_a_claim(ledger: Remembering, url: str, marks: ClaimMarks) -> int:
    given = {**ledger.given["claim"], **marks.start(LANE).params, "token": str(uuid4())}
    return pages(url, "claim", given, "deliveries_due")


def test_a_claim_of_a_backlog_costs_the_same_however_much_was_drained(
    ledger: Remembering, direct_url: str, pin: psycopg.Connection, no_margin: None, no_second_look: None
) -> None:
    marks = ClaimMarks()
    queue(ledger, 30 * BATCH)
    costs, from_the_beginning = [], []
    for batches in (5, 20):
        drain(ledger, marks, batches)
        costs.append(pages_of_a_claim(ledger, direct_url, marks))
        from_the_beginning.append(pages_of_a_claim(ledger, direct_url, ClaimMarks()))
    # the two differ by where they begin on a page
    assert costs[1] <= costs[0] + 4
    assert from_the_beginning[1] >= from_the_beginning[0] + 50
    assert costs[1] < from_the_beginning[0]


def test_mail_of_one_moment_is_not_walked_over_again(
    ledger: Remembering, direct_url: str, pin: psycopg.Connection, no_margin: None
) -> None:
    marks = ClaimMarks()
    queue(ledger, 30 * BATCH, start_moment=clock.now() + timedelta(seconds=4))
    assert claim(ledger, marks)[1] == []
    wait_until_due(ledger)
    drain(ledger, marks, 5)
    few = pages_of_a_claim(ledger, direct_url, marks)
    drain(ledger, marks, 20)
    assert pages_of_a_claim(ledger, direct_url, marks) <= few + 4


def claim_ids(ledger: Database, marks: ClaimMarks) -> list[UUID]:
    return [delivery.id for delivery in claim(ledger, marks)[1]]


def test_mail_of_a_transaction_that_commits_late_is_claimed_at_once(
    ledger: Database, direct_url: str, pin: psycopg.Connection, no_margin: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_water, "LEAST", 3600.0)
    monkeypatch.setattr(low_water, "YOUNG", timedelta(0))
    marks = ClaimMarks()
    with psycopg.connect(direct_url) as late:
        key = uuid7()
        submit(partial(run_on_psycopg, late), [Item(key, LANE, uuid7(), CONTENT, Address("ada@example.com"))])
        queue(ledger, 5 * BATCH)
        drain(ledger, marks, 3)
        assert not marks.start(LANE).whole
        late.commit()
    assert claim_ids(ledger, marks)[0] == key


def test_urgent_mail_is_claimed_first_whatever_was_passed(
    ledger: Database, pin: psycopg.Connection, no_margin: None
) -> None:
    marks = ClaimMarks()
    queue(ledger, 3 * BATCH, priority=5)
    drain(ledger, marks, 2)
    for priority in (4, 6, 9):
        queue(ledger, 1, priority=priority)
    assert [delivery.priority for delivery in claim(ledger, marks)[1]][:2] == [9, 6]
    assert len(claim(ledger, marks)[1]) == 3


def claim_params(start: low_water.Start) -> dict[str, Any]:
    """The parameters of a claim of a batch that starts so."""
    return {
        "queue": LANE.queue,
        "tenant": LANE.tenant,
        "stream": LANE.stream,
        "size": BATCH,
        "token": str(uuid4()),
        "lease": 60,
        "cap": None,
        "max_bytes": 1 << 26,
        "suspects_first": False,
        "again": False,
        **start.params,
    }


def below(ledger: Database, direct_url: str, key: UUID) -> None:
    """Make a held delivery due long ago, as a clock that was set back does."""
    with psycopg.connect(direct_url, autocommit=True) as opened:
        moved = "UPDATE mailglass.deliveries SET due_at = now() - interval '1 hour' WHERE id = %s"
        assert opened.execute(moved, [key]).rowcount == 1


def test_mail_that_comes_up_below_is_claimed_by_the_next_scan_from_the_beginning(
    ledger: Database, direct_url: str, pin: psycopg.Connection, no_margin: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = ClaimMarks()
    (key,) = queue(ledger, 1, delay=3600)
    queue(ledger, 5 * BATCH)
    drain(ledger, marks, 2)
    below(ledger, direct_url, key)
    assert key not in claim_ids(ledger, marks)
    moment = clock.monotonic() + 60
    monkeypatch.setattr(clock, "monotonic", lambda: moment)
    assert claim_ids(ledger, marks)[0] == key


def test_mail_that_a_broken_off_claim_had_locked_is_claimed_once_that_has_ended(
    ledger: Database, direct_url: str, pin: psycopg.Connection, no_margin: None
) -> None:
    marks = ClaimMarks()
    ids = queue(ledger, 5 * BATCH)
    with psycopg.connect(direct_url) as broken_off:
        broken_off.execute("SELECT FROM mailglass.deliveries WHERE id = %s FOR UPDATE", [ids[0]])
        drain(ledger, marks, 2)
        assert not marks.start(LANE).whole
        broken_off.rollback()
    assert claim_ids(ledger, marks)[0] == ids[0]


@pytest.mark.parametrize("name", ["sweep", "lanes_woken", "claim_webhooks", "webhooks_waiting"])
def test_a_scan_that_had_grown_dear_costs_the_same_however_much_was_drained(
    ledger: Remembering,
    direct_url: str,
    pin: psycopg.Connection,
    no_margin: None,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(low_water, "CHEAP", 0.0)
    monkeypatch.setattr(low_water, "LEAST", 3600.0)
    monkeypatch.setattr(webhooks, "_CLOCKS_DIFFER", 0)
    marks = LowWaters()
    swept = by_moment()
    marked, from_the_beginning = [], []
    for batches in (4, 8):
        for _ in range(batches):
            work_off_one_batch(ledger)
            leases.sweep(ledger, DEFAULT_POLICIES, mark=swept)
            lanes.lanes_woken(ledger, mark=marks.woken)
            webhooks.waiting(ledger, marks.webhooks_waiting)
            store_and_process_webhooks(ledger, marks.webhooks)
        mark = {
            "sweep": swept,
            "lanes_woken": marks.woken,
            "claim_webhooks": marks.webhooks,
            "webhooks_waiting": marks.webhooks_waiting,
        }[name]
        scan = mark.start()
        assert not scan.whole
        marked.append(pages(direct_url, name, {**ledger.given[name], "after": str(scan.after)}))
        lowest = str(UUID(int=0)) if "webhooks" in name else "-infinity"
        from_the_beginning.append(pages(direct_url, name, {**ledger.given[name], "after": lowest}))
    # what was worked off since the last look may still be walked over: less than the first four batches
    assert max(marked) < from_the_beginning[0]
    assert marked[1] < from_the_beginning[1] / 2


def test_mail_below_a_dear_scan_is_seen_by_the_next_one_from_the_beginning(
    ledger: Database, direct_url: str, monkeypatch: pytest.MonkeyPatch, no_margin: None
) -> None:
    monkeypatch.setattr(low_water, "CHEAP", 0.0)
    swept = by_moment()
    (key,) = queue(ledger, 1)
    assert [delivery.id for delivery in claim(ledger, ClaimMarks())[1]] == [key]
    for _ in range(3):
        assert leases.sweep(ledger, DEFAULT_POLICIES, mark=swept) == []
    with psycopg.connect(direct_url, autocommit=True) as opened:
        opened.execute("UPDATE mailglass.deliveries SET lease_expires_at = now() - interval '1 hour'")
    assert leases.sweep(ledger, DEFAULT_POLICIES, mark=swept) == []
    moment = clock.monotonic() + 60
    monkeypatch.setattr(clock, "monotonic", lambda: moment)
    assert leases.sweep(ledger, DEFAULT_POLICIES, mark=swept) == [(LANE, "released")]


def test_mail_below_waits_half_a_minute_at_most_whatever_a_scan_cost(
    ledger: Database, direct_url: str, no_margin: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, marks = [1000.0], ClaimMarks()
    monkeypatch.setattr(clock, "monotonic", lambda: moment[0])
    (key,) = queue(ledger, 1, delay=3600)
    queue(ledger, 5 * BATCH)
    start = marks.start(LANE)
    rows = ledger.run("claim", claim_params(start))
    # a database that answered nobody for minutes, or a process that stood still
    marks.learn(LANE, start, rows, 300.0, BATCH)
    below(ledger, direct_url, key)
    assert key not in claim_ids(ledger, marks)
    moment[0] += 30
    assert claim_ids(ledger, marks)[0] == key


def test_the_scan_of_lanes_takes_a_fortieth_of_the_time(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: moment[0])
    queue(ledger, 1)
    pace = Pace()
    assert list(lanes.lanes_ready(ledger, pace=pace)) == [LANE]
    for _ in range(2):
        pace.learn(0.5)
    assert list(lanes.lanes_ready(ledger, pace=pace)) == []
    moment[0] += 19.9
    assert list(lanes.lanes_ready(ledger, pace=pace)) == []
    moment[0] += 0.2
    assert list(lanes.lanes_ready(ledger, pace=pace)) == [LANE]


def test_a_ring_costs_the_same_however_often_it_was_answered(
    ledger: Remembering, direct_url: str, pin: psycopg.Connection
) -> None:
    params = {"names": ["mailglass.dispatch:mailglass/acme/bulk"], "ring_timeout": 5.0}
    costs = []
    for rings in (10, 300):
        for _ in range(rings):
            assert len(ledger.run("ring", params)) == 1
            ledger.run("clear_bells", {"names": params["names"]})
        costs.append(pages(direct_url, "ring", params))
    assert costs[1] <= costs[0] + 30


def work_off_one_batch(ledger: Database) -> None:
    """Mail that was put off, claimed for a moment and sent."""
    queue(ledger, BATCH, delay=0.1)
    wait_until_due(ledger)
    token = uuid4()
    claimed = leases.claim(ledger, LANE, token, BATCH, 0.2, suspects_first=False)
    assert len(claimed) == BATCH
    verdicts = [Verdict(delivery.id, Status.SENT, EngineEvent.ATTEMPTED) for delivery in claimed]
    assert len(leases.record(ledger, token, verdicts)) == BATCH


def store_and_process_webhooks(ledger: Database, mark: LowWater[UUID]) -> None:
    arrivals = [webhooks.Arrival("main", "null", str(uuid4()), b"{}", {}) for _ in range(BATCH)]
    webhooks.store_all(ledger, arrivals)
    taken = webhooks.claim(ledger, BATCH, 1 << 20, 60, mark)
    assert len(taken.webhooks) == BATCH
    endings = [webhooks.WebhookResult(webhook.id, webhooks.WebhookStatus.PROCESSED) for webhook in taken.webhooks]
    webhooks.finish(ledger, endings, 60)


def wait_until_due(ledger: Database) -> None:
    due = sqlalchemy.text("SELECT count(*) FROM mailglass.deliveries WHERE due_at > now()")
    while ledger.query(due)[0][0]:
        time.sleep(0.02)
