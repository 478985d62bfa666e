"""How long one tenant's single mail waits while another tenant drains a hundred thousand, on one queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psycopg

from mailglass import Message, deliver_later, deliver_many, tenant
from tests.bench.figures import Comparison, Side
from tests.bench.machine import HTML, TEXT, Machine, wait_until

BULK = 100_000
SAMPLES = 200
_PAUSE = 0.02
_BEGUN = "SELECT EXISTS (SELECT 1 FROM mailglass.events WHERE kind = 'attempted')"
_BACKLOG = "SELECT EXISTS (SELECT 1 FROM mailglass.deliveries WHERE tenant_id = 'news' AND due_at IS NOT NULL)"


def run(machine: Machine) -> list[Comparison]:
    """From the call to the provider's acceptance, one mail after the other: while the backlog lasts, then without."""
    with machine.ledger() as environment, psycopg.connect(environment["MAILGLASS_DATABASE_URL"]) as ledger:
        ledger.autocommit = True
        with tenant("news"):
            deliver_many(
                Message(to=f"reader{number}@example.com", subject="News", text=TEXT, html=HTML, stream="bulk")
                for number in range(BULK)
            )
        with machine.worker("mailglass", environment) as worker:
            wait_until(lambda: _true(ledger, _BEGUN), worker)
            busy = _waits(lambda: _true(ledger, _BACKLOG))
            wait_until(lambda: not _true(ledger, _BACKLOG), worker)
            idle = _waits(lambda: True)
    return [
        Comparison(
            "fairness",
            Side(f"single mail beside a backlog, p{percent} of {len(busy)}", [_percentile(busy, percent)], "ms"),
            Side(f"without it, p{percent} of {len(idle)}", [_percentile(idle, percent)], "ms"),
            goal,
        )
        for percent, goal in ((50, ""), (99, "< 1000 ms"))
    ]


def _waits(go_on: Callable[[], bool]) -> list[float]:
    waits: list[float] = []
    while len(waits) < SAMPLES and go_on():
        with tenant("shop"):
            began = time.perf_counter()
            result = deliver_later.delay(Message(to="one@example.com", subject="Your code", text="123456"))
            result.get(timeout=60, interval=0.002)
            waits.append((time.perf_counter() - began) * 1000)
        time.sleep(_PAUSE)
    return waits


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _true(connection: psycopg.Connection, statement: str) -> bool:
    row = connection.execute(statement).fetchone()
    return row is not None and bool(row[0])
