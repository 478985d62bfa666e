"""Work costs the same however much was worked off while something holds the vacuum horizon, and nothing is missed."""

from __future__ import annotations

import json
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
from mailglass.ledger import leases, low_water
from mailglass.ledger.database import Database, run_on_psycopg
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.low_water import ClaimMarks
from mailglass.ledger.pooler import STARTUP_OPTIONS
from mailglass.ledger.statements import statements
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
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


def pages(url: str, name: str, params: Mapping[str, Any], index: str) -> int:
    """The pages that a statement's scans of an index look at; what it changes is rolled back."""
    with psycopg.connect(url, options=STARTUP_OPTIONS) as opened:
        text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statements()[name]}"
        plan = opened.execute(text, {"again": False, **params}).fetchone()[0][0]["Plan"]
        opened.rollback()
    return _of_scans(plan, index)


def _of_scans(plan: dict[str, Any], index: str) -> int:
    own = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] if plan.get("Index Name") == index else 0
    return int(own + sum(_of_scans(part, index) for part in plan.get("Plans", ())))


def pages_of_a_claim(ledger: Remembering, url: str, marks: ClaimMarks) -> int:
    given = {**ledger.given["claim"], **marks.start(LANE).params, "token": str(uuid4())}
    return pages(url, "claim", given, "deliveries_due")


def test_a_claim_of_a_backlog_costs_the_same_however_much_was_drained(
    ledger: Remembering, direct_url: str, pin: psycopg.Connection, no_margin: None
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
    queue(ledger, 30 * BATCH, start_moment=clock.now() + timedelta(seconds=1))
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


def wait_until_due(ledger: Database) -> None:
    import time

    due = sqlalchemy.text("SELECT count(*) FROM mailglass.deliveries WHERE due_at > now()")
    while ledger.query(due)[0][0]:
        time.sleep(0.02)
