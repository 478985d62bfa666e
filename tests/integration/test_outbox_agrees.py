"""The outbox answers a call as the ledger does, whatever keys, ids, groups and moments calls have in common."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass import clock
from mailglass.ledger import deliveries
from mailglass.ledger.database import Database
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, blocked_copies, suppress
from mailglass.mail.addresses import Address
from mailglass.routing import Lane
from mailglass.testing.memory_ledger import MemoryLedger

SPACE = UUID("0199c6f2-0000-7000-8000-000000000000")
CONTENT = json.dumps({"v": 1, "subject": "s", "text": "t"})


@pytest.fixture
def ledger(database_url: str) -> Any:
    database = Database(database_url)
    yield database
    database.dispose()


@st.composite
def calls(draw: st.DrawFn) -> list[Item]:
    """The items of one statement: messages to one or several recipients, some of them met before."""
    items: list[Item] = []
    taken: set[int] = set()
    for _ in range(draw(st.integers(1, 3))):
        tenant = draw(st.sampled_from(["acme", "globex"]))
        size = draw(st.integers(1, 3))
        number = draw(st.integers(0, 60))
        moment = draw(st.sampled_from([None, None, -60, 60]))
        delay = float(draw(st.sampled_from([0, 3600])))
        end = None if moment is None else clock.now() + timedelta(seconds=moment)
        if number in taken:
            continue
        taken.add(number)
        for index in range(size):
            name = draw(st.sampled_from(["ada", "bob", "eve"]))
            domain = draw(st.sampled_from(["example.com", "blocked.example"]))
            items.append(
                Item(
                    id=uuid5(SPACE, f"{number}:{index}"),
                    lane=Lane("mailglass", tenant, "transactional"),
                    message_id=uuid5(SPACE, f"m{number}:{tenant}:{size > 1}"),
                    content=CONTENT,
                    recipient=Address(f"{name}@{domain}"),
                    group_id=uuid5(SPACE, f"g{number}") if size > 1 else None,
                    idempotency_key=draw(st.sampled_from([None, "k1", "k2"])) if size == 1 else None,
                    digest=f"{number}",
                    delay=delay,
                    end_moment=end,
                )
            )
    return items


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(calls(), max_size=4))
def test_outbox_and_ledger_answer_alike(ledger: Database, statements: list[list[Item]]) -> None:
    # append-only tables are never emptied: another tenant for each example keeps them apart
    unique = uuid5(SPACE, str(clock.monotonic())).hex[:8]
    memory = MemoryLedger(lambda row: None)
    for owner in ("acme", "globex"):
        name = f"{owner}-{unique}"
        for side in (ledger, memory):
            suppress(side, [Suppression(name, "eve@example.com", "manual", "manual")])
    for items in statements:
        given_items = [_apart(item, unique) for item in items]
        expected, answered = submit(ledger.run, given_items), submit(memory.run, given_items)
        assert [_told(answer) for answer in answered] == [_told(answer) for answer in expected]
        ids = [answer.id for answer in answered]
        real, mine = deliveries.states(ledger, ids), deliveries.states(memory, ids)
        assert real.keys() == mine.keys()
        for key in real:
            assert (real[key].status == "suppressed") is (mine[key].status == "suppressed")
    people = [Address("eve@example.com"), Address("ada@example.com")]
    tenant = f"acme-{unique}"
    assert blocked_copies(ledger, tenant, "bulk", people) == blocked_copies(memory, tenant, "bulk", people)


def _apart(item: Item, unique: str) -> Item:
    lane = Lane(item.lane.queue, f"{item.lane.tenant}-{unique}", item.lane.stream)
    return replace(
        item,
        id=uuid5(item.id, unique),
        lane=lane,
        message_id=uuid5(item.message_id, unique),
        group_id=None if item.group_id is None else uuid5(item.group_id, unique),
    )


def _told(answer: Any) -> tuple[object, ...]:
    status = "suppressed" if answer.status == "suppressed" else "late" if answer.status == "late" else "recorded"
    return answer.id, status, answer.suppressed_by, answer.known, answer.digest, answer.late
