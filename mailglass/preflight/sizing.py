"""Sizing of workers: from a rate and a provider's latency to slots, account concurrency and connections."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

PREFORK: Final = "prefork"
# milliseconds of one core a mail, measured with 8 KB mails: docs/performance.md
CPU_MS: Final = {"http": 0.17, "smtp": 0.36}
# requests that one account of an HTTP provider may have in flight in one process
MAX_CONCURRENCY: Final = 64
# connections of a worker beside those of its slots: the pump and the heartbeat
_EXTRA_CONNECTIONS: Final = 1
_SECONDS: Final = {
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)/(s|min|h|day)\Z")
_LATENCY = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s)\Z")


@dataclass(frozen=True, slots=True)
class Sizing:
    """The size of a deployment for one account.

    Attributes:
        in_flight: requests in flight at the wanted rate (Little's law), without headroom.
        slots: the worker's `-c`.
        concurrency: the account's `concurrency`, requests in flight in one process.
        connections: database connections of that worker.
        cores: processor cores that the workers keep busy.
    """

    in_flight: float
    slots: int
    concurrency: int
    connections: int
    cores: float


def parse_rate(text: str) -> float:
    """Return mails a second.

    Args:
        text: such as `200/s`, `12000/min`, `1000000/day`.

    Raises:
        ValueError: it is no rate above zero.
    """
    found = _RATE.match(text)
    rate = float(found[1]) / _SECONDS[found[2]] if found else 0.0
    if rate <= 0:
        raise ValueError("write mails and a period, such as 200/s, 12000/min or 1000000/day")
    return rate


def parse_latency(text: str) -> float:
    """Return seconds.

    Args:
        text: such as `80ms` or `1.5s`.

    Raises:
        ValueError: it is no duration above zero.
    """
    found = _LATENCY.match(text)
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
    if seconds <= 0:
        raise ValueError("write a number and its unit, such as 80ms or 1.5s")
    return seconds


def size(
    rate: float,
    latency: float,
    *,
    mails_per_request: int = 1,
    concurrency: int = 1,
    headroom: float = 0.3,
    pool: str = PREFORK,
    transport: str = "http",
) -> Sizing:
    """Return the size of one worker that keeps up with a rate.

    Requests in flight are rate x latency / mails a request. In a prefork pool each slot is a process, so each has the
    account's concurrency to itself. In a pool of threads or greenlets all slots share one process and one concurrency.

    Args:
        rate: mails a second, above zero.
        latency: seconds of one request to the provider, above zero.
        mails_per_request: mails that one request carries.
        concurrency: requests that the account has in flight in one process.
        headroom: share to add for peaks.
        pool: `prefork`, `threads` or `gevent`.
        transport: `http` or `smtp`, for the processor time.
    """
    in_flight = rate * latency / mails_per_request
    wanted = in_flight * (1 + headroom)
    if pool == PREFORK:
        slots = max(2, math.ceil(wanted / concurrency - 1e-9))
        shared = concurrency
    else:
        slots = max(2, math.ceil(wanted - 1e-9))
        shared = min(MAX_CONCURRENCY, max(concurrency, slots))
    return Sizing(in_flight, slots, shared, slots + _EXTRA_CONNECTIONS, rate * CPU_MS[transport] / 1000)
