"""The delivery's row says what its timeline says, however the events came: in any order, any batches, repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass.ids import uuid7, uuid7_for
from mailglass.ledger import deliveries, leases
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Delivery
from mailglass.ledger.events import COPY, EngineEvent, Event, project
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.webhooks import IncomingEvent
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind
from mailglass.routing import Lane
from mailglass.webhooks.applying import apply

LANE = Lane("mailglass", "acme", "transactional")
START = datetime(2026, 11, 20, 12, tzinfo=UTC)
WEBHOOK = UUID(int=1)
# kind, time, bounce class, by a machine, whom it names
Told = tuple[EventKind, datetime, BounceClass | None, bool, str | None]


@pytest.fixture(scope="module")
def ledger(postgres, migrated_template: str) -> Iterator[Database]:
    """One database for all examples: each of them makes deliveries of its own."""
    name = f"projection_{uuid4().hex}"
    database = Database(postgres.create_database(name, template=migrated_template))
    yield database
    database.dispose()
    postgres.drop_database(name)


def deliver(ledger: Database, status: Status) -> UUID:
    """A delivery that stands there after one attempt."""
    token, body = uuid4(), json.dumps({"v": 1, "subject": "s", "text": "t"})
    lane = replace(LANE, tenant=f"t{uuid4().hex[:12]}")
    (recorded,) = submit(ledger.run, [Item(uuid7(), lane, uuid7(), body, Address("ada@example.com"))])
    leases.claim(ledger, lane, token, 1, 60)
    leases.mark(ledger, token, [recorded.id], "main", "notes")
    outcome = "accepted" if status is Status.SENT else "uncertain"
    leases.record(ledger, token, [Verdict(recorded.id, status, EngineEvent.ATTEMPTED, outcome=outcome, delay=600.0)])
    return recorded.id


@st.composite
def told(draw: st.DrawFn) -> list[Told]:
    """What a provider tells of one delivery; few moments, so that some coincide."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(list(EventKind)),
                st.integers(0, 4).map(lambda microseconds: START + timedelta(microseconds=microseconds)),
                st.sampled_from([None, *BounceClass]),
                st.booleans(),
                st.sampled_from([None, "ada@example.com", "ADA@Example.COM", "copy@example.com"]),
            ),
            min_size=1,
            max_size=8,
        )
    )


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Told], list[list[int]]]:
    """Events, and the batches in which they arrive: each at least once, in any order."""
    events = draw(told())
    numbers = range(len(events))
    queue = draw(st.permutations([*numbers, *draw(st.lists(st.sampled_from(numbers), max_size=6))]))
    cuts = sorted(draw(st.lists(st.integers(0, len(queue)), max_size=4)))
    bounds = [0, *cuts, len(queue)]
    return events, [list(queue[a:b]) for a, b in pairwise(bounds)]


def fact(delivery_id: UUID, number: int, item: Told) -> IncomingEvent:
    kind, at, bounce_class, machine, recipient = item
    return IncomingEvent(
        id=uuid7_for(at, str(delivery_id), str(number)),
        account="main",
        kind=kind.value,
        occurred_at=at,
        webhook_id=WEBHOOK,
        delivery_id=delivery_id,
        recipient=recipient,
        bounce_class=bounce_class and bounce_class.value,
        machine=machine,
    )


def provider_facts(delivery: Delivery) -> dict[str, object]:
    """What does not depend on when the engine wrote its own events."""
    facts = delivery.facts
    names = [name for name in facts.__slots__ if not name.startswith(("status", "sent", "last_event_id"))]
    return {name: getattr(facts, name) for name in names}


@pytest.mark.parametrize("status", [Status.SENT, Status.UNCERTAIN])
@settings(
    deadline=None,
    max_examples=60,
    # the database serves all examples on purpose
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=arrivals())
def test_the_row_says_what_the_timeline_says_whatever_the_order_the_batches_and_the_duplicates(
    ledger: Database,
    status: Status,
    case: tuple[list[Told], Sequence[Sequence[int]]],
) -> None:
    events, batches = case
    shuffled, straight = deliver(ledger, status), deliver(ledger, status)
    for batch in batches:
        apply(ledger, [fact(shuffled, number, events[number]) for number in batch])
    apply(ledger, [fact(straight, number, item) for number, item in enumerate(events)])
    found = deliveries.get(ledger, shuffled)
    timeline: list[Event] = deliveries.timeline(ledger, shuffled)
    assert found.facts == replace(project(timeline), status_id=None)
    copies = {number for number, item in enumerate(events) if item[4] == "copy@example.com"}
    assert sum(event.reason == COPY for event in timeline) == len(copies)
    assert found.status is (project(timeline).status)
    other = deliveries.get(ledger, straight)
    assert found.status is other.status
    # among events of one moment the ids decide which is the last, and they differ between deliveries
    ties = {"last_event"}
    assert {k: v for k, v in provider_facts(found).items() if k not in ties} == {
        k: v for k, v in provider_facts(other).items() if k not in ties
    }
    settled = [event.kind for event in timeline].count("settled")
    assert settled == int(status is Status.UNCERTAIN and found.status is Status.SENT)
