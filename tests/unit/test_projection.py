"""The projection is a join: order and duplication of events cannot matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from mailglass.ids import uuid7_for
from mailglass.ledger.events import (
    BOUNCE_RANK,
    COPY,
    EMPTY,
    EVIDENCE,
    MARKS,
    OUTCOMES,
    EngineEvent,
    Event,
    Projection,
    Source,
    join,
    project,
    single,
)
from mailglass.ledger.lifecycle import Status
from mailglass.mail.events import EventKind

DELIVERY = UUID(int=7)
START = datetime(2026, 11, 20, 12, tzinfo=UTC)
# few moments, so that events often share one
moments = st.integers(0, 5).map(lambda seconds: START + timedelta(microseconds=seconds))


@st.composite
def provider_events(draw: st.DrawFn) -> Event:
    at = draw(moments)
    kind = draw(st.sampled_from(list(EventKind))).value
    return Event(
        id=uuid7_for(at, str(draw(st.integers(0, 10**9))), kind),
        delivery_id=DELIVERY,
        kind=kind,
        source=Source.PROVIDER,
        occurred_at=at,
        reason=draw(st.sampled_from([None, None, COPY])),
        bounce_class=draw(st.sampled_from(list(BOUNCE_RANK))),
        machine=draw(st.booleans()),
    )


@st.composite
def engine_events(draw: st.DrawFn) -> Event:
    at = draw(moments)
    kind = draw(st.sampled_from(list(EngineEvent))).value
    return Event(
        id=uuid7_for(at, str(draw(st.integers(0, 10**9))), kind),
        delivery_id=DELIVERY,
        kind=kind,
        source=draw(st.sampled_from([Source.ENGINE, Source.OPERATOR])),
        occurred_at=at,
        status=draw(st.sampled_from([None, *Status])),
        outcome=draw(st.sampled_from([None, "accepted", "transient"])),
    )


event_sets = st.lists(st.one_of(provider_events(), engine_events()), max_size=12, unique_by=lambda event: event.id)


@st.composite
def reorderings(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """A set of events, and the same with any order and any of them repeated."""
    events = draw(event_sets)
    again = draw(st.lists(st.sampled_from(events), max_size=8)) if events else []
    return events, draw(st.permutations([*events, *again]))


@given(reorderings())
def test_any_order_and_duplication_gives_the_same_projection(case: tuple[list[Event], list[Event]]) -> None:
    events, reordered = case
    assert project(reordered) == project(events)


@st.composite
def projections_of_one_delivery(draw: st.DrawFn) -> tuple[Projection, Projection, Projection]:
    """What three subsets of one delivery's events say."""
    events = draw(event_sets)
    subset = st.lists(st.sampled_from(events), max_size=6) if events else st.just([])
    return project(draw(subset)), project(draw(subset)), project(draw(subset))


@given(projections_of_one_delivery())
def test_the_join_is_commutative_associative_and_idempotent(case: tuple[Projection, Projection, Projection]) -> None:
    a, b, c = case
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, a) == a
    assert join(a, EMPTY) == a


@given(reorderings(), st.integers(0, 20))
def test_joining_parts_of_the_timeline_gives_what_the_whole_says(
    case: tuple[list[Event], list[Event]], cut: int
) -> None:
    events, reordered = case
    assert join(project(reordered[:cut]), project(reordered[cut:])) == project(events)


@given(event_sets)
def test_the_projection_says_the_earliest_of_first_times_and_the_latest_of_last(events: list[Event]) -> None:
    told = [event for event in events if event.source is Source.PROVIDER and event.reason != COPY]
    facts = project(events)
    for kind in (*OUTCOMES, *MARKS):
        times = [event.occurred_at for event in told if event.kind == kind and not (kind in MARKS and event.machine)]
        assert getattr(facts, f"{kind}_at") == min(times, default=None)
    assert facts.last_event_at == max((event.occurred_at for event in told), default=None)
    assert facts.bounce_class == max((event.bounce_class for event in told), key=BOUNCE_RANK.__getitem__, default=None)


@given(event_sets)
def test_event_of_a_copy_is_not_projected(events: list[Event]) -> None:
    assert project(events) == project(event for event in events if event.reason != COPY)


def test_the_outcome_is_the_most_telling_fact() -> None:
    told = [Event(UUID(int=n), DELIVERY, kind, Source.PROVIDER, START) for n, kind in enumerate(OUTCOMES)]
    for count in range(1, len(OUTCOMES) + 1):
        assert project(told[:count]).outcome == OUTCOMES[count - 1]
    assert EMPTY.outcome is None


def test_evidence_and_outcomes_are_kinds_of_the_one_taxonomy() -> None:
    kinds = {kind.value for kind in EventKind}
    assert set(OUTCOMES) | set(MARKS) | EVIDENCE <= kinds
    assert not EVIDENCE & {"rejected", "failed", "unknown"}


def test_projecting_is_joining_single_events() -> None:
    told = [Event(UUID(int=n), DELIVERY, kind, Source.PROVIDER, START) for n, kind in enumerate(OUTCOMES)]
    assert project(told) == reduce(join, map(single, told), EMPTY)
