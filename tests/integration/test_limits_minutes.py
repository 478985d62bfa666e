"""Five simulated minutes of polling: every place there is gets taken, and not one more, however it is asked for."""

from __future__ import annotations

import math
import multiprocessing
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

import pytest

from mailglass.errors import RateLimitType
from mailglass.ledger.database import Database
from mailglass.limits import Limiter, Rule
from mailglass.limits.gcra_redis import RedisGcra

MILLISECOND = 1000
SECOND = 1000 * MILLISECOND
START = 20_000 * 86_400 * SECOND + 123_457
MINUTES = 5 * 60 * SECOND
# pollers run ahead of each other by less than this
STRIDE = SECOND // 2
# bursts cover the longest time between two polls; an interval of 1/7 or 1/299 s has no end in any number system used
RULES = [
    Rule("tenant:slow", 2.0, 2, RateLimitType.PER_TENANT),
    Rule("tenant:odd", 1 / 7, 14, RateLimitType.PER_TENANT),
    Rule("tenant:round", 0.01, 110, RateLimitType.PER_TENANT),
    Rule("tenant:prime", 1 / 299, 350, RateLimitType.PER_TENANT),
]

Open = Callable[[], Limiter]


@pytest.fixture
def open_limiter(request: pytest.FixtureRequest) -> Open:
    """Opens a limiter; each process opens its own, as a worker does. The one in Redis has no ledger to fall back to."""
    if request.param == "redis":
        redis_url: str = request.getfixturevalue("redis_url")
        return lambda: Limiter(Database("postgresql://nobody@127.0.0.1:1/nothing"), RedisGcra(redis_url))
    database_url: str = request.getfixturevalue("database_url")
    return lambda: Limiter(Database(database_url, pool_size=1))


def poll(open_limiter: Open, every: int, first: int, processes: int, barrier: Barrier | None) -> Counter[str]:
    """Ask at the ticks number `first`, `first + processes`, ... of five minutes for a little more than there can be."""
    limiter, taken = open_limiter(), Counter[str]()
    requests = {rule.key: (rule,) for rule in RULES}
    usual = [
        requests[rule.key] for rule in RULES for _ in range(math.ceil(every * processes / SECOND / rule.interval) + 2)
    ]
    full = [requests[rule.key] for rule in RULES for _ in range(rule.burst + 2)]
    ticks = MINUTES // every + 1
    strides = 0
    if barrier is not None and first != 0:
        barrier.wait(60)
    for tick in (*range(first, ticks, processes), None):
        while barrier is not None and strides < (MINUTES if tick is None else tick * every) // STRIDE:
            barrier.wait(60)
            strides += 1
        if tick is not None:
            asked = usual if processes <= tick < ticks - processes else full
            grants = limiter.take(asked, now=START + tick * every)
            taken.update(rule.key for (rule,), grant in zip(asked, grants, strict=True) if grant.granted)
        if barrier is not None and tick == 0:
            # the first tick comes first: a limit is full until somebody takes from it
            barrier.wait(60)
    return taken


def poll_from(processes: int, open_limiter: Open, every: int) -> Counter[str]:
    """Poll from processes in turn. They share the servers and the simulated clock, and nothing else."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]

    def work(number: int) -> None:
        pipes[number][1].send(poll(open_limiter, every, number, processes, barrier))

    children = [context.Process(target=work, args=(number,), daemon=True) for number in range(processes)]
    try:
        for child in children:
            child.start()
        for child in children:
            child.join(120)
    finally:
        for child in children:
            child.kill()
    assert [child.exitcode for child in children] == [0] * processes
    return sum((receiver.recv() for receiver, _ in pipes), Counter[str]())


CASES = [
    # 30,000 calls take their time; one such round proves as much in the daily run
    pytest.param(
        server,
        every,
        processes,
        marks=[pytest.mark.chaos] if every == 10 and (server, processes) != ("redis", 1) else [],
    )
    for server in ("redis", "ledger")
    for every in (10, 100, 299, 300, 500)
    for processes in (1, 4)
]


@pytest.mark.parametrize(("open_limiter", "every", "processes"), CASES, indirect=["open_limiter"])
def test_over_minutes_the_granted_are_burst_and_rate_to_within_one(
    open_limiter: Open, every: int, processes: int
) -> None:
    step = every * MILLISECOND
    taken = poll(open_limiter, step, 0, 1, None) if processes == 1 else poll_from(processes, open_limiter, step)
    passed = MINUTES // step * step / SECOND
    for rule in RULES:
        exact = rule.burst + passed / rule.interval
        assert exact - 1 <= taken[rule.key] <= exact + 1e-6, rule.key
