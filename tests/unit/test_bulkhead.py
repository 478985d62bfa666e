"""Bulkheads: how many of a worker's slots may wait for slow providers, over all processes of its pool."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import clock
from mailglass.engine.bulkhead import HANGING, RECOVERY, SLOW, Bulkhead, Call, Job


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moving = Clock()
    monkeypatch.setattr(clock, "monotonic", moving)
    return moving


def call(walls: Bulkhead, account: str, time: Clock, seconds: float) -> None:
    """One call of one batch."""
    with walls.watched(Job()):
        leave = walls.admit(account)
        assert leave is not None
        with leave:
            time.now += seconds
        leave.release()


def admitted(walls: Bulkhead, *accounts: str) -> int:
    """How many batches of these accounts get leave, none of which is given back."""
    with walls.watched(Job()):
        return sum(walls.admit(account) is not None for account in accounts)


@pytest.mark.parametrize(("slots", "half"), [(1, 1), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_unknown_accounts_together_get_half_of_the_slots_and_one_at_the_least(slots: int, half: int) -> None:
    walls = Bulkhead(slots)
    assert admitted(walls, *(f"new{number}" for number in range(20))) == half


def test_a_quick_account_may_have_all_slots(time: Clock) -> None:
    walls = Bulkhead(4)
    call(walls, "a", time, 0.1)
    assert admitted(walls, *["a"] * 50) == 50


def test_a_slow_account_gets_half_of_the_slots_beside_the_pool_and_keeps_no_other_out(time: Clock) -> None:
    walls = Bulkhead(4)
    for account in ("a", "b"):
        call(walls, account, time, SLOW)
    assert admitted(walls, *["a"] * 9) == 2
    assert admitted(walls, *["b"] * 9) == 2
    assert not walls.has_room("a")
    assert admitted(walls, "new", "other", "third") == 2


def test_slow_calls_hold_slots_where_the_pool_cannot_let_them_go(time: Clock) -> None:
    walls = Bulkhead(4, leaves=False)
    for account in ("a", "b", "c"):
        call(walls, account, time, SLOW)
    assert admitted(walls, *"abcabc") == 2
    assert admitted(walls, "new") == 0


def test_all_calls_beside_the_pool_are_bounded(time: Clock) -> None:
    walls = Bulkhead(2)
    accounts = [f"slow{number}" for number in range(40)]
    for account in accounts:
        call(walls, account, time, SLOW)
    assert 2 <= admitted(walls, *accounts) <= 8


def test_an_account_that_is_quick_again_gets_its_slots_back(time: Clock) -> None:
    walls = Bulkhead(2)
    call(walls, "a", time, SLOW)
    call(walls, "a", time, 0.1)
    assert admitted(walls, "a", "a") == 1
    walls = Bulkhead(2)
    call(walls, "a", time, SLOW)
    time.now += RECOVERY
    call(walls, "a", time, 0.1)
    assert admitted(walls, "a", "a") == 2


def test_a_call_that_turns_out_slow_lets_its_slot_go_and_is_counted(time: Clock) -> None:
    walls, job = Bulkhead(2), Job()
    call(walls, "a", time, 0.1)
    with walls.watched(job):
        leave = walls.admit("a")
    assert leave is not None
    with leave:
        time.now += SLOW - 0.1
        assert not job.overdue
        time.now += 0.1
        assert job.overdue
        assert leave.step_aside()
        assert admitted(walls, "a") == 0
    leave.release()
    assert admitted(walls, "a") == 1


def test_the_slot_of_a_call_at_a_slow_account_need_not_wait_at_all(time: Clock) -> None:
    walls, job = Bulkhead(2), Job()
    call(walls, "a", time, SLOW)
    with walls.watched(job):
        leave = walls.admit("a")
    assert leave is not None
    assert not job.changed.is_set()
    with leave:
        assert job.changed.is_set()
        assert job.overdue


def test_a_provider_hangs_once_a_call_of_a_slow_account_has_lasted_ten_seconds(time: Clock) -> None:
    walls = Bulkhead(2)
    call(walls, "a", time, SLOW)
    assert admitted(walls, "a", "b") == 2
    time.now += HANGING - 1
    assert not walls.hangs("a")
    time.now += 1
    assert (walls.hangs("a"), walls.hangs("b")) == (True, False)


@pytest.fixture
def child() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Forks a process that does something and then lives on until it is killed."""
    children = []

    def fork(work: Callable[[], object]) -> int:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            work()
            os.write(writing, b".")
            signal.pause()
        children.append(pid)
        assert os.read(reading, 1) == b"."
        os.close(reading)
        os.close(writing)
        return pid

    yield fork
    for pid in children:
        kill(pid)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_the_count_is_shared_by_forked_processes_and_freed_by_death(child) -> None:
    walls = Bulkhead(2)
    pid = child(lambda: walls.admit("a"))
    assert walls.admit("b") is None
    kill(pid)
    assert walls.admit("b") is not None


def test_slowness_of_an_account_is_known_to_all_processes(child) -> None:
    walls = Bulkhead(2)
    child(lambda: learn(walls, "a", 0.0))
    assert admitted(walls, "a", "a", "a") == 3


def learn(walls: Bulkhead, account: str, seconds: float) -> None:
    leave = walls.admit(account)
    assert leave is not None
    with leave:
        pass
    leave.release()


def test_a_place_ends_with_its_lease_and_a_late_release_frees_nobody_elses(time: Clock) -> None:
    walls = Bulkhead(2, lease=100)
    late = walls.admit("a")
    assert late is not None
    time.now += 101
    assert walls.admit("b") is not None
    late.release()
    assert walls.admit("c") is None


@given(st.integers(1, 8), st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["begin", "end", "slow"]))))
def test_unknown_and_slow_calls_never_hold_more_than_half_of_the_slots(
    slots: int, steps: list[tuple[str, str]]
) -> None:
    walls = Bulkhead(slots)
    running: list[Call] = []
    for account, step in steps:
        if step == "begin":
            with walls.watched(Job()):
                leave = walls.admit(account)
            if leave is not None:
                running.append(leave)
        elif running:
            leave = running.pop(len(account) % len(running))
            walls.learn(leave._key, SLOW if step == "slow" else 0.0)
            leave.release()
        holding = [leave for leave in running if not leave.quick and not leave.beside]
        assert len(holding) <= max(1, slots // 2)
        beside = Counter(leave.account for leave in running if leave.beside)
        assert all(count <= max(1, slots // 2) for count in beside.values())


def test_a_batch_that_ends_as_its_slot_lets_it_go_leaves_no_place_taken(time: Clock) -> None:
    walls, job = Bulkhead(1), Job()
    with walls.watched(job):
        leave = walls.admit("smtp")
        assert leave is not None
        with leave:
            time.now += SLOW
            assert job.overdue
        leave.release()
    # the slot had seen that the call was overdue just before it ended
    assert not leave.step_aside()
    assert walls.has_room("smtp")
