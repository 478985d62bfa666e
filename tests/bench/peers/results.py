"""What a contestant's run comes to, and the table that shows all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

GOAL = 10.0


@dataclass(frozen=True)
class Drain:
    """A backlog worked off.

    Attributes:
        mails: how many were queued.
        accepted: how many different ones the receiver took.
        rate: mails a second, from the moment the workers are let go to the last acceptance.
        worker_cpu: processor milliseconds a mail, user and system, of all worker processes.
        server_cpu: the same of PostgreSQL and Valkey together.
    """

    mails: int
    accepted: int
    rate: float
    worker_cpu: float
    server_cpu: float


@dataclass(frozen=True)
class Latency:
    """From the call to the receiver's acceptance while the workers have little else to do, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        ordered = sorted(milliseconds)
        if not ordered:
            return cls(math.nan, math.nan)
        return cls(*(ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99)))


@dataclass(frozen=True)
class Kill:
    """What a SIGKILL of all workers in the middle of a drain, and a restart, leaves.

    Attributes:
        mails: how many were queued.
        struck_at: how many had arrived when the signal was sent.
        twice: mails that were accepted more than once.
        missing: mails that were not accepted within the timeout.
        held: of the missing and the accepted, those that the sender's own record shows as uncertain, for a person.
        lost: mails that are missing and that no record shows as uncertain.
    """

    mails: int
    struck_at: int
    twice: int
    missing: int
    held: int

    @property
    def lost(self) -> int:
        return max(0, self.missing - self.held)


@dataclass(frozen=True)
class Result:
    """One contestant over one transport; what was not measured is None."""

    transport: str
    name: str
    how: str
    drain: Drain | None = None
    latency: Latency | None = None
    kill: Kill | None = None

    @property
    def ours(self) -> bool:
        return self.name.startswith("mailglass")

    def cells(self, best: float) -> tuple[str, ...]:
        drain, latency, kill = self.drain, self.latency, self.kill
        return (
            self.transport,
            self.name,
            _number(drain.rate if drain else None) + ("" if drain is None or drain.accepted >= drain.mails else " (!)"),
            _ratio(drain, best) if self.ours else "",
            _number(drain.worker_cpu if drain else None),
            _number(drain.server_cpu if drain else None),
            _number(latency.p50 if latency else None),
            _number(latency.p99 if latency else None),
            "" if kill is None else f"{kill.struck_at} of {kill.mails}",
            "" if kill is None else str(kill.twice),
            "" if kill is None else str(kill.lost),
            "" if kill is None else str(kill.held),
        )


HEADINGS = (
    "by",
    "who",
    "mails/s",
    f"goal {GOAL:.0f} x",
    "worker CPU ms",
    "servers CPU ms",
    "p50 ms",
    "p99 ms",
    "killed at",
    "twice",
    "lost",
    "held",
)


def best_peer(results: Sequence[Result], transport: str) -> float:
    """The rate of the fastest of the others; NaN where none was measured."""
    rates = [item.drain.rate for item in results if item.drain and not item.ours and item.transport == transport]
    return max(rates, default=math.nan)


def table(results: Sequence[Result]) -> str:
    """All results as one table of plain text."""
    rows = [HEADINGS, *(item.cells(best_peer(results, item.transport)) for item in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def as_json(results: Sequence[Result], queues: Mapping[str, object] | None = None) -> str:
    """Write all results with their figures as they are, those of the job queues beside them."""
    plain = [asdict(item) | ({"lost": item.kill.lost} if item.kill else {}) for item in results]
    ratios = {
        item.transport: item.drain.rate / best_peer(results, item.transport)
        for item in results
        if item.ours and item.drain and not math.isnan(best_peer(results, item.transport))
    }
    return json.dumps({"goal": GOAL, "ratios": ratios, "results": plain, "queues": queues or {}}, indent=2)


def _ratio(drain: Drain | None, best: float) -> str:
    if drain is None or math.isnan(best):
        return ""
    ratio = drain.rate / best
    return f"{ratio:.1f} x: {'met' if ratio >= GOAL else 'missed'}"


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
