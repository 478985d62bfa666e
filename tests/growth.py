"""How the cost of a work grows with its input: CPU time of this thread over several sizes.

Noise only adds to a measurement, so each size counts by its cheapest call. A growth that looks like more than linear is
measured again, over a wider span, where a square leaves everything else behind, and in ever more rounds, which come
ever closer to the cheapest call there is.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

# an n log n cost fits at about 1.1, a square at 2
LINEAR = 1.5
# the narrow span is quick to measure: what is no steeper there is not looked at again
_PLAIN = 1.3
_NARROW = (1, 2, 4, 8)
_WIDE = (1, 2, 4, 8, 16, 32)
_ROUNDS = 3
# rounds over the wide span, each in addition to those before it
_MORE_ROUNDS = (2, 4, 8)
_ENOUGH = 0.002
# where the last size costs less than this, whatever bounds it was met, and there is nothing to fit
_NOTHING = 0.004
# a call that costs this much is the last of the wide span: a square need not be measured to its end
_DEAR = 0.1

Work = Callable[[Any], object]
Make = Callable[[int], Any]


def exponent(work: Work, make: Make, size: int) -> float:
    """Return the exponent that fits the CPU time of `work(make(n))` as n grows from `size`.

    A cost that does not reach four milliseconds at eight times `size` is bounded, which counts as 0.

    Args:
        work: what is measured; what it raises is part of its work.
        make: makes an input of about `n` bytes or characters; not measured.
        size: the smallest `n`.

    Returns:
        The exponent over `size` to eight times it. Where that is steeper than 1.3, the one over `size` to 32 times it:
        compare with `LINEAR`.
    """
    best = [math.inf] * len(_NARROW)
    _improve(best, work, [make(size * factor) for factor in _NARROW], _ROUNDS)
    if best[-1] < _NOTHING:
        return 0.0
    if (steepness := _slope(_NARROW, best)) <= _PLAIN:
        return steepness
    best += [math.inf] * (len(_WIDE) - len(_NARROW))
    inputs = [make(size * factor) for factor in _WIDE]
    for rounds in _MORE_ROUNDS:
        _improve(best, work, inputs, rounds)
        if (steepness := _slope(_WIDE, best)) <= LINEAR:
            break
    return steepness


def _improve(best: list[float], work: Work, inputs: Sequence[Any], rounds: int) -> None:
    """Lower each input's least seconds of a call, size by size in turn; drop the sizes beyond one that is dear."""
    gc.disable()
    try:
        for _ in range(rounds):
            for index in range(len(best)):
                best[index] = min(best[index], _cost(work, inputs[index]))
                if best[index] > _DEAR and index + 1 >= len(_NARROW):
                    del best[index + 1 :]
                    break
    finally:
        gc.enable()


def _cost(work: Work, given: Any) -> float:
    """Return the seconds of the cheapest call, of as many as make two milliseconds."""
    begun = started = time.thread_time()
    least = math.inf
    while started - begun < _ENOUGH:
        with contextlib.suppress(Exception):  # a refusal costs what it costs
            work(given)
        ended = time.thread_time()
        least, started = min(least, ended - started), ended
    return least


def _slope(factors: Sequence[int], costs: Sequence[float]) -> float:
    """Return the slope of the line that fits the costs, both axes in logarithms."""
    xs = [math.log(factor) for factor, _ in zip(factors, costs, strict=False)]
    ys = [math.log(cost) for cost in costs]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
