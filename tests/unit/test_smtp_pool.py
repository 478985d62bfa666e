"""Slots of an SMTP account: fewer for a while where its server has too many connections."""

from __future__ import annotations

import pytest

from mailglass.providers.smtp import pool
from mailglass.providers.smtp.pool import MORE_AFTER, SessionPool
from mailglass.providers.smtp.session import Session


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moving = Clock()
    monkeypatch.setattr(pool, "monotonic", moving)
    return moving


def no_session() -> Session:
    raise AssertionError


def free(slots: SessionPool) -> int:
    """How many slots are given out at once."""
    taken = 0
    while slots.acquire_slot(deadline=0):
        taken += 1
    for _ in range(taken):
        slots.release_slot()
    return taken


def test_a_server_with_too_many_connections_gets_half_as_many_and_one_more_a_minute(time: Clock) -> None:
    slots = SessionPool(no_session, 5)
    slots.hold_back()
    assert free(slots) == 2
    time.now += MORE_AFTER
    assert free(slots) == 3
    time.now += MORE_AFTER
    assert free(slots) == 4
    for _ in range(5):
        time.now += MORE_AFTER
        free(slots)
    assert free(slots) == 5


def test_slots_in_use_are_held_back_when_they_come_back(time: Clock) -> None:
    slots = SessionPool(no_session, 4)
    for _ in range(4):
        assert slots.acquire_slot(deadline=0)
    slots.hold_back()
    for _ in range(4):
        slots.release_slot()
    assert free(slots) == 2


def test_the_last_connection_is_never_held_back(time: Clock) -> None:
    slots = SessionPool(no_session, 4)
    for _ in range(6):
        slots.hold_back()
        time.now += MORE_AFTER * 0.9
    assert free(slots) == 1


def test_several_connections_of_one_moment_that_say_so_count_once(time: Clock) -> None:
    slots = SessionPool(no_session, 8)
    for _ in range(4):
        slots.hold_back()
    assert free(slots) == 4
