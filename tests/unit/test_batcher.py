"""What waits is worked on in groups, in its order, and nobody waits for what is not theirs; and rings are few."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from mailglass.web import batcher
from mailglass.web.batcher import Batcher
from mailglass.web.debounce import DebouncedRing


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(12) as pool:
        yield pool


class Desk:
    """Doubles numbers; a group with a number in `held` waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.beginners: set[threading.Thread] = set()
        self.held: set[int] = set()
        self.go = threading.Event()
        self.begun = threading.Event()

    def begin(self, items: Sequence[int]) -> Callable[[], list[int]]:
        self.beginners.add(threading.current_thread())
        if 666 in items:
            raise ValueError("a group that cannot begin")
        return partial(self.work, items)

    def work(self, items: Sequence[int]) -> list[int]:
        self.groups.append(list(items))
        if self.held & set(items):
            self.begun.set()
            assert self.go.wait(10)
        if any(item < 0 for item in items):
            raise ValueError("a group that fails")
        return [item * 2 for item in items]


def within(task: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(10):
            return await task()

    return asyncio.run(limited())


def test_simultaneous_items_are_one_group_and_each_gets_its_own_result(threads: ThreadPoolExecutor) -> None:
    desk = Desk()

    async def main() -> list[int]:
        gather = Batcher(desk.begin, threads)
        return await asyncio.gather(*(gather.submit("a", number, 1) for number in range(20)))

    assert within(main) == [number * 2 for number in range(20)]
    assert desk.groups == [list(range(20))]


def test_a_first_item_goes_at_once_and_alone(threads: ThreadPoolExecutor) -> None:
    desk = Desk()

    async def main() -> int:
        return await Batcher(desk.begin, threads).submit("a", 7, 1)

    assert within(main) == 14
    assert desk.groups == [[7]]


def test_while_groups_are_worked_on_the_next_one_grows(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher, "SLOW_AFTER", 60.0)
    desk = Desk()
    desk.held = {1, 2}

    async def main() -> None:
        gather = Batcher(desk.begin, threads)
        waiting = [gather.submit("a", 1, 1)]
        await asyncio.to_thread(desk.begun.wait)
        waiting.append(gather.submit("a", 2, 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting += [gather.submit("a", number, 1) for number in (3, 4, 5)]
        await asyncio.sleep(0)
        desk.go.set()
        await asyncio.gather(*waiting)

    within(main)
    assert desk.groups == [[1], [2], [3, 4, 5]]


def test_a_group_is_bounded_by_number_and_by_weight(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher, "MAX_ITEMS", 3)
    monkeypatch.setattr(batcher, "MAX_BYTES", 10)
    desk = Desk()

    async def main() -> None:
        gather = Batcher(desk.begin, threads)
        weights = [1, 1, 1, 1, 9, 50, 1]
        await asyncio.gather(*(gather.submit("a", place, weight) for place, weight in enumerate(weights)))

    within(main)
    assert sorted(desk.groups) == [[0, 1, 2], [3, 4], [5], [6]]


def test_groups_begun_in_the_loop_may_be_bounded_more_tightly(threads: ThreadPoolExecutor) -> None:
    desk = Desk()

    async def main() -> None:
        gather = Batcher(desk.begin, threads, 5)
        await asyncio.gather(*(gather.submit("a", number, 2) for number in range(5)))

    within(main)
    assert sorted(map(len, desk.groups)) == [1, 2, 2]


def test_a_lane_that_hangs_keeps_no_other_waiting(threads: ThreadPoolExecutor) -> None:
    desk = Desk()
    desk.held = {1, 2}

    async def main() -> int:
        gather = Batcher(desk.begin, threads)
        slow = [gather.submit("slow", 1, 1)]
        await asyncio.to_thread(desk.begun.wait)
        slow.append(gather.submit("slow", 2, 1))
        found = await gather.submit("quick", 3, 1)
        desk.go.set()
        await asyncio.gather(*slow)
        return found

    assert within(main) == 6


def test_a_group_that_takes_long_keeps_its_own_lane_waiting_for_a_moment_only(threads: ThreadPoolExecutor) -> None:
    desk = Desk()
    desk.held = {1, 2, 3}

    async def main() -> int:
        gather = Batcher(desk.begin, threads)
        slow = []
        for number in (1, 2, 3):
            slow.append(gather.submit("a", number, 1))
            await asyncio.to_thread(desk.begun.wait)
            desk.begun.clear()
        found = await gather.submit("a", 4, 1)
        desk.go.set()
        await asyncio.gather(*slow)
        return found

    assert within(main) == 8


def test_a_group_that_fails_fails_for_its_own_and_no_other(threads: ThreadPoolExecutor) -> None:
    desk = Desk()

    async def main() -> list[Any]:
        gather = Batcher(desk.begin, threads)
        failed = await asyncio.gather(*(gather.submit("a", item, 1) for item in (-1, 2)), return_exceptions=True)
        return [*failed, await gather.submit("a", 3, 1)]

    first, second, third = within(main)
    assert isinstance(first, ValueError) and isinstance(second, ValueError) and third == 6


def test_a_group_is_begun_in_the_loop_and_one_that_cannot_begin_fails_alone(threads: ThreadPoolExecutor) -> None:
    desk = Desk()

    async def main() -> list[Any]:
        gather = Batcher(desk.begin, threads)
        (failed,) = await asyncio.gather(gather.submit("a", 666, 1), return_exceptions=True)
        return [failed, *[await gather.submit("a", number, 1) for number in range(10)]]

    failed, *others = within(main)
    assert isinstance(failed, ValueError) and others == [number * 2 for number in range(10)]
    assert desk.beginners == {threading.main_thread()}


def test_a_lane_all_of_whose_groups_hang_says_so_and_lets_go_of_what_nobody_waits_for(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher, "MAX_CONCURRENT_BATCHES", 1)
    monkeypatch.setattr(batcher, "STUCK_AFTER", 0.0)
    desk = Desk()
    desk.held = {1}

    async def main() -> None:
        gather = Batcher(desk.begin, threads)
        first = gather.submit("a", 1, 1)
        assert not gather.is_stuck("a") and not gather.is_stuck("b")
        await asyncio.to_thread(desk.begun.wait)
        assert gather.is_stuck("a") and not gather.is_stuck("b")
        second, third = gather.submit("a", 2, 1), gather.submit("a", 3, 1)
        second.cancel()
        gather.discard_abandoned("a")
        desk.go.set()
        assert [await first, await third] == [2, 6]
        assert not gather.is_stuck("a")

    within(main)
    assert desk.groups == [[1], [3]]


def test_abandoned_item_disturbs_no_other(threads: ThreadPoolExecutor) -> None:
    desk = Desk()
    desk.held = {1}

    async def main() -> int:
        gather = Batcher(desk.begin, threads)
        left, stays = gather.submit("a", 1, 1), gather.submit("a", 2, 1)
        await asyncio.to_thread(desk.begun.wait)
        left.cancel()
        desk.go.set()
        return await stays

    assert within(main) == 4


def test_the_first_ring_is_rung_at_once_and_those_of_a_moment_are_one_more(threads: ThreadPoolExecutor) -> None:
    rung: list[str] = []
    heard = threading.Semaphore(0)

    def note(task: str) -> None:
        rung.append(task)
        heard.release()

    async def main() -> None:
        ring = DebouncedRing(note, asyncio.get_running_loop(), threads)
        await asyncio.to_thread(ring, "task")
        assert rung == ["task"]
        await asyncio.gather(*(asyncio.to_thread(ring, "task") for _ in range(10)))
        for _ in range(2):
            await asyncio.to_thread(heard.acquire)

    within(main)
    assert rung == ["task"] * 2


def test_a_ring_that_fails_is_rung_again_when_it_is_next_asked_for(threads: ThreadPoolExecutor) -> None:
    asked: list[str] = []
    heard = threading.Semaphore(0)

    def broken(task: str) -> None:
        asked.append(task)
        heard.release()
        raise ConnectionError("no broker")

    async def main() -> None:
        ring = DebouncedRing(broken, asyncio.get_running_loop(), threads)
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(ring, "task")
        await asyncio.to_thread(heard.acquire)
        for _ in range(2):
            await asyncio.to_thread(ring, "task")
            await asyncio.to_thread(heard.acquire)

    within(main)
    assert asked == ["task"] * 3
