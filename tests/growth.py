"""How the cost of a work grows with its input, in one run: CPU time of this thread over four sizes."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable
from typing import Any

# an n log n cost fits at about 1.1 over these sizes, a square at 2
LINEAR = 1.3
_FACTORS = (1, 2, 4, 8)
_ROUNDS = 3
_ENOUGH = 0.002
# where the last size costs less than this, whatever bounds it was met, and there is nothing to fit
_NOTHING = 0.004


def exponent(work: Callable[[Any], object], make: Callable[[int], Any], size: int) -> float:
    """Return the exponent that fits the CPU time of `work(make(n))` for n of `size`, twice, four and eight times it.

    Time is this thread's own, the best of several rounds in turn, so that other work on the machine hardly shows.
    A cost that never reaches four milliseconds is bounded, which counts as 0.

    Args:
        work: what is measured; what it raises is part of its work.
        make: makes an input of about `n` bytes or characters; not measured.
        size: the smallest `n`.
    """
    inputs = [make(size * factor) for factor in _FACTORS]
    best = [math.inf] * len(inputs)
    gc.collect()
    gc.disable()
    try:
        for _ in range(_ROUNDS):
            for index, given in enumerate(inputs):
                best[index] = min(best[index], _cost(work, given))
    finally:
        gc.enable()
    if best[-1] < _NOTHING:
        return 0.0
    xs = [math.log(factor) for factor in _FACTORS]
    ys = [math.log(cost) for cost in best]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def _cost(work: Callable[[Any], object], given: Any) -> float:
    """Return the seconds one call takes, over as many calls as make two milliseconds."""
    calls, begun = 0, time.thread_time()
    while True:
        with contextlib.suppress(Exception):  # a refusal costs what it costs
            work(given)
        calls += 1
        if (spent := time.thread_time() - begun) >= _ENOUGH:
            return spent / calls
