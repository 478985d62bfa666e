"""Claims that end without a verdict: what was in them is claimed apart, then alone, then held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases
from mailglass.ledger.database import Database
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.mail.streams import DEFAULT_POLICIES
from mailglass.routing import Lane

LANE = Lane("mailglass", "acme", "transactional")
CONTENT = json.dumps({"v": 1, "subject": "s", "text": "t"})
LEASE = 60.0
EXPIRE = sqlalchemy.text(
    "UPDATE mailglass.deliveries SET lease_expires_at = now() - interval '1 second' "
    "WHERE status IN ('claimed', 'sending')"
)

AHEAD = sqlalchemy.text(
    "INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at) "
    "SELECT CAST('7fffffff' || substr(CAST(gen_random_uuid() AS text), 9) AS uuid), gen_random_uuid(), 'acme', "
    "'opened', 'provider', now() FROM generate_series(1, 2500)"
)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def queue(ledger: Database, count: int = 1, lane: Lane = LANE) -> list[UUID]:
    items = [
        Item(id=uuid7(), lane=lane, message_id=uuid7(), content=CONTENT, recipient=Address(f"u{number}@example.com"))
        for number in range(count)
    ]
    return [recorded.id for recorded in submit(ledger.run, items)]


def claim(ledger: Database, size: int = 50, *, suspects_first: bool | None = None, lane: Lane = LANE) -> list[Claimed]:
    return leases.claim(ledger, lane, uuid4(), size, LEASE, suspects_first=suspects_first)


def crash(ledger: Database) -> None:
    """Every lease that lives expires, and is taken back."""
    ledger.query(EXPIRE)
    leases.sweep(ledger, DEFAULT_POLICIES)


def work(ledger: Database, poison: set[UUID], size: int = 50) -> tuple[list[int], set[UUID]]:
    """Claim until nothing is due; a claim with poison in it never ends. Returns the claims' sizes and what was sent."""
    sizes: list[int] = []
    sent: set[UUID] = set()
    while True:
        token = uuid4()
        claimed = leases.claim(ledger, LANE, token, size, LEASE)
        if not claimed:
            return sizes, sent
        sizes.append(len(claimed))
        ids = [delivery.id for delivery in claimed]
        if poison.isdisjoint(ids):
            assert len(leases.mark(ledger, token, ids, "main", "scripted")) == len(ids)
            verdicts = [Verdict(key, Status.SENT, EngineEvent.ATTEMPTED, outcome="accepted") for key in ids]
            sent |= leases.record(ledger, token, verdicts)


def states(ledger: Database, ids: list[UUID]) -> list[tuple[str, str | None]]:
    found = deliveries.states(ledger, ids)
    return [(found[key].status.value, found[key].last_error) for key in ids]


def test_deliveries_of_a_claim_without_a_verdict_are_claimed_by_eight_then_alone(ledger: Database) -> None:
    ids = queue(ledger, 20)
    assert len(claim(ledger)) == 20
    crash(ledger)
    assert [len(claim(ledger)) for _ in range(3)] == [8, 8, 4]
    crash(ledger)
    assert [len(claim(ledger)) for _ in range(21)] == [1] * 20 + [0]
    assert {status for status, _ in states(ledger, ids)} == {"claimed"}


def test_a_delivery_that_crashed_alone_three_times_is_held_with_an_event(ledger: Database) -> None:
    poison, *others = queue(ledger, 12)
    rounds = []
    for _ in range(5):
        rounds.append(work(ledger, {poison})[1])
        crash(ledger)
    assert [len(sent) for sent in rounds] == [0, 4, 7, 0, 0]
    assert states(ledger, [poison]) == [("held", "crashed_worker")]
    timeline = deliveries.timeline(ledger, poison)
    # the first two crashes were not alone
    assert [event.reason for event in timeline].count("lease_expired") == 4
    last = timeline[-1]
    assert (last.kind, last.status, last.reason) == ("held", Status.HELD, "crashed_worker")
    assert states(ledger, others) == [("sent", None)] * 11


def test_a_released_delivery_begins_anew(ledger: Database) -> None:
    (poison,) = queue(ledger)
    for _ in range(3):
        assert len(claim(ledger)) == 1
        crash(ledger)
    assert states(ledger, [poison]) == [("held", "crashed_worker")]
    deliveries.release(ledger, [poison])
    queue(ledger, 4)
    assert len(claim(ledger)) == 5


def test_a_verdict_ends_the_suspicion(ledger: Database) -> None:
    ids = queue(ledger, 10)
    claim(ledger)
    crash(ledger)
    while claimed := leases.claim(ledger, LANE, token := uuid4(), 50, LEASE):
        keys = [delivery.id for delivery in claimed]
        leases.mark(ledger, token, keys, "main", "scripted")
        again = [Verdict(key, Status.QUEUED, EngineEvent.ATTEMPTED, "busy", "transient", delay=3600) for key in keys]
        leases.record(ledger, token, again)
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET due_at = now()"))
    assert {delivery.id for delivery in claim(ledger)} == set(ids)


def test_mail_given_back_unsent_stays_suspect(ledger: Database) -> None:
    queue(ledger, 20)
    claim(ledger)
    crash(ledger)
    claimed = leases.claim(ledger, LANE, token := uuid4(), 50, LEASE)
    back = [
        Verdict(delivery.id, Status.QUEUED, EngineEvent.RELEASED, "given_back", counted=False) for delivery in claimed
    ]
    leases.record(ledger, token, back)
    assert len(claim(ledger)) == 8


def test_suspects_and_others_both_make_progress_and_tell_of_each_other(ledger: Database) -> None:
    queue(ledger, 10)
    claim(ledger)
    crash(ledger)
    queue(ledger, 10)
    first = claim(ledger, 4, suspects_first=False)
    assert len(first) == 4
    second = claim(ledger, 4, suspects_first=True)
    assert len(second) == 4
    rest = claim(ledger, suspects_first=False)
    assert len(rest) == 6
    assert all(delivery.left_behind for delivery in (*first, *second, *rest))
    assert len(claim(ledger, suspects_first=False)) == 6
    assert claim(ledger) == []


def test_a_lane_without_suspects_leaves_nothing_behind(ledger: Database) -> None:
    queue(ledger, 3)
    assert [delivery.left_behind for delivery in claim(ledger)] == [False] * 3


def test_a_cap_counts_suspects_too(ledger: Database) -> None:
    queue(ledger, 10)
    claim(ledger)
    crash(ledger)
    assert len(leases.claim(ledger, LANE, uuid4(), 50, LEASE, cap=3)) == 3
    assert leases.claim(ledger, LANE, uuid4(), 50, LEASE, cap=3) == []


def test_a_crash_in_the_middle_of_a_call_makes_what_is_resent_suspect(ledger: Database) -> None:
    ids = queue(ledger, 12)
    claimed = leases.claim(ledger, LANE, token := uuid4(), 50, LEASE)
    leases.mark(ledger, token, [delivery.id for delivery in claimed], "main", "scripted")
    crash(ledger)
    assert {status for status, _ in states(ledger, ids)} == {"uncertain"}
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET lease_expires_at = now() - interval '1 second'"))
    leases.sweep(ledger, DEFAULT_POLICIES)
    assert len(claim(ledger)) == 8


def test_mail_in_doubt_that_crashes_alone_is_held_in_doubt(ledger: Database) -> None:
    (key,) = queue(ledger)
    leases.claim(ledger, LANE, token := uuid4(), 50, LEASE)
    leases.mark(ledger, token, [key], "main", "scripted")
    ledger.query(EXPIRE)
    leases.sweep(ledger, DEFAULT_POLICIES, {"main": None})
    for _ in range(3):
        assert len(claim(ledger)) == 1
        crash(ledger)
    state = deliveries.states(ledger, [key])[key]
    assert (state.status, state.last_error, state.in_doubt) == (Status.HELD, "crashed_worker", True)


@pytest.mark.parametrize("tenants", [1, 12])
def test_a_deploy_whose_every_claim_crashes_holds_no_innocents(ledger: Database, tenants: int) -> None:
    lanes = [Lane("mailglass", f"t{number}", "transactional") for number in range(tenants)]
    ids = [key for lane in lanes for key in queue(ledger, 12 // tenants, lane)]
    for _ in range(8):
        for lane in lanes:
            while claim(ledger, lane=lane):
                pass
        crash(ledger)
    assert states(ledger, ids) == [("queued", "lease_expired")] * 12


def test_many_that_crash_alone_are_held_where_others_are_sent(ledger: Database) -> None:
    poison = set(queue(ledger, 8))
    queue(ledger, 4)
    for _ in range(5):
        work(ledger, poison)
        crash(ledger)
    assert states(ledger, list(poison)) == [("held", "crashed_worker")] * 8


def test_events_of_a_clock_that_is_ahead_hide_no_attempt(ledger: Database) -> None:
    poison = set(queue(ledger, 8))
    queue(ledger, 4)
    for number in range(5):
        work(ledger, poison)
        if number == 3:
            ledger.query(AHEAD)
        crash(ledger)
    assert states(ledger, list(poison)) == [("held", "crashed_worker")] * 8


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    size=st.integers(1, 30),
    claims=st.integers(1, 40),
    draw=st.data(),
)
def test_all_but_poison_is_sent_within_three_leases(
    ledger: Database, size: int, claims: int, draw: st.DataObject
) -> None:
    ids = queue(ledger, size)
    poison = draw.draw(st.sets(st.sampled_from(ids), max_size=3))
    sent: set[UUID] = set()
    for _ in range(3):
        sent |= work(ledger, poison, claims)[1]
        crash(ledger)
    assert sent == set(ids) - poison
    for _ in range(2):
        assert work(ledger, poison, claims)[1] == set()
        crash(ledger)
    assert states(ledger, sorted(poison)) == [("held", "crashed_worker")] * len(poison)


def test_the_suspects_of_a_large_backlog_are_found_by_their_own_index(ledger: Database) -> None:
    queue(ledger, 2000)
    ledger.query(sqlalchemy.text("ANALYZE mailglass.deliveries"))
    plan = ledger.query(
        sqlalchemy.text(
            "EXPLAIN SELECT id FROM mailglass.deliveries WHERE queue = 'mailglass' AND tenant_id = 'acme' "
            "AND stream = 'transactional' AND crashes > 0 AND due_at <= now() "
            "ORDER BY (crashes > 1), priority DESC, due_at LIMIT 8 FOR UPDATE SKIP LOCKED"
        )
    )
    text = "\n".join(row[0] for row in plan)
    assert "deliveries_suspect" in text
    assert "Sort" not in text
