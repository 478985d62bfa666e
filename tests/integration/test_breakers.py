"""Breakers: shared by all workers, half-open one mail at a time."""

from __future__ import annotations

import pytest
import sqlalchemy

from mailglass.ledger.breakers import breakers, probe, reset, trip
from mailglass.ledger.database import Database


@pytest.fixture
def ledger(database_url: str) -> Database:
    return Database(database_url)


def pass_time(ledger: Database) -> None:
    ledger.query(sqlalchemy.text("UPDATE mailglass.breakers SET open_until = now()"))


def test_a_closed_breaker_has_no_row(ledger: Database) -> None:
    assert breakers(ledger, ["a", "b"]) == {}


def test_a_tripped_breaker_is_open_for_everybody_until_its_time(ledger: Database) -> None:
    trip(ledger, "a", "misconfigured")
    found = breakers(ledger, ["a", "b"])
    assert set(found) == {"a"}
    assert found["a"].reason == "misconfigured"
    assert 55 < found["a"].seconds <= 60
    assert not found["a"].half_open


def test_a_reset_told_by_the_provider_counts_as_it_is(ledger: Database) -> None:
    assert 995 < trip(ledger, "a", "quota", reset=1000) <= 1000


def test_each_failure_of_a_probe_doubles_the_wait_and_failures_while_open_do_not(ledger: Database) -> None:
    trip(ledger, "a", "transient")
    assert trip(ledger, "a", "transient") <= 10
    waits = []
    for _ in range(3):
        pass_time(ledger)
        waits.append(round(trip(ledger, "a", "transient")))
    assert waits == [20, 40, 80]


def test_half_open_one_worker_at_a_time_may_probe(ledger: Database) -> None:
    trip(ledger, "a", "transient")
    assert not probe(ledger, "a")
    pass_time(ledger)
    assert breakers(ledger, ["a"])["a"].half_open
    assert probe(ledger, "a")
    assert not probe(ledger, "a")


def test_a_success_closes_it_and_the_next_failure_begins_anew(ledger: Database) -> None:
    trip(ledger, "a", "transient")
    reset(ledger, "a")
    assert "a" in breakers(ledger, ["a"])
    pass_time(ledger)
    reset(ledger, "a")
    assert breakers(ledger, ["a"]) == {}
    assert round(trip(ledger, "a", "transient")) == 10
