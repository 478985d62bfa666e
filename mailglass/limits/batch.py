"""A batch of requests in the form that both servers compute on, and their results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from mailglass.errors import RateLimitType
from mailglass.limits.rules import Cap, Limit

_BITS = 30


@dataclass(frozen=True, slots=True)
class Grant:
    """Result of one request.

    Attributes:
        granted: whether all its limits had a place.
        delay: seconds until a place is expected; 0 if granted.
        type: the limit that takes longest; None if granted.
        used_up: whether that limit is a day's count, which stays full.
    """

    granted: bool
    delay: float = 0.0
    type: RateLimitType | None = None
    used_up: bool = False


GRANTED = Grant(True)


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests in columns. Durations are microseconds.

    Attributes:
        limits: each limit once, in the order of their keys: the order in which they are locked.
        intervals: the increase of a limit's level by one mail.
        tolerances: the highest level that these mails may reach.
        fulls: the highest level that any mails under the same key may reach.
        counted: seconds until a count is over, which never drains; 0 for rates.
        groups: the distinct combinations of limits, as positions (from 1) in `limits`.
        runs: group (from 1) and number of consecutive mails in it, flat, in the order of the requests.
    """

    limits: tuple[Limit, ...]
    intervals: list[float]
    tolerances: list[float]
    fulls: list[float]
    counted: list[int]
    groups: list[list[int]]
    runs: list[int]

    def grants(self, granted: Sequence[int], delays: Sequence[int], blockers: Sequence[int]) -> list[Grant]:
        """Return a grant for each mail.

        Args:
            granted: number of granted mails in each run.
            delays: microseconds for each refused mail.
            blockers: position (from 1) of the limit that each refused mail waits for.
        """
        causes = [(limit.type, isinstance(limit, Cap)) for limit in self.limits]
        refused = (
            Grant(False, delay / 1e6, *causes[blocker - 1]) for delay, blocker in zip(delays, blockers, strict=True)
        )
        grants: list[Grant] = []
        for wanted, places in zip(self.runs[1::2], granted, strict=True):
            grants += [GRANTED] * places
            grants += islice(refused, wanted - places)
        return grants


def compile_batch(requests: Sequence[tuple[Limit, ...]], moment: float) -> Batch:
    """Convert requests into columns. If a key has several figures in one batch, the first counts.

    Args:
        requests: the limits of each mail.
        moment: now, as Unix time.
    """
    # by identity, because `RuleBook` answers with the same tuple for the same mail; equal ones are merely not merged
    distinct = {id(request): request for request in requests}
    by_key: dict[str, Limit] = {}
    for request in distinct.values():
        for limit in request:
            by_key.setdefault(limit.key, limit)
    limits = tuple(by_key[key] for key in sorted(by_key))
    positions = {limit.key: position for position, limit in enumerate(limits, 1)}
    numbers = {identity: number for number, identity in enumerate(distinct, 1)}
    figures = [_figures(limit, moment) for limit in limits]
    return Batch(
        limits=limits,
        intervals=[interval for interval, _, _, _ in figures],
        tolerances=[tolerance for _, tolerance, _, _ in figures],
        fulls=[full for _, _, full, _ in figures],
        counted=[counted for _, _, _, counted in figures],
        groups=[sorted({positions[limit.key] for limit in request}) for request in distinct.values()],
        runs=[
            figure
            for number, run in groupby(numbers[id(request)] for request in requests)
            for figure in (number, sum(1 for _ in run))
        ],
    )


def _figures(limit: Limit, moment: float) -> tuple[float, float, float, int]:
    if isinstance(limit, Cap):
        maximum = float(limit.maximum)
        return 1.0, maximum, maximum, max(1, math.ceil(limit.until - moment))
    interval = exact_microseconds(limit.interval)
    return interval, interval * (limit.burst - limit.reserve), interval * limit.burst, 0


def exact_microseconds(seconds: float) -> float:
    """Convert seconds into microseconds of 30 significant bits, rounded up.

    Sums and multiples of such figures stay exact in a double of 53 bits for some 8 million mails. So levels never
    drift, a burst is not one mail short, and all servers agree to the last bit. Rounding up, by at most 2e-9, keeps
    every rate.
    """
    mantissa, exponent = math.frexp(seconds * 1e6)
    return math.ldexp(math.ceil(math.ldexp(mantissa, _BITS)), exponent - _BITS)
