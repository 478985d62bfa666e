"""How long one tenant's single mail waits while another tenant drains a hundred thousand, on one queue."""

from __future__ import annotations

import statistics
import time

import psycopg

from mailglass import Message, deliver_later, deliver_many, tenant
from tests.bench.figures import Figure, Note, Side
from tests.bench.machine import HTML, TEXT, Machine, wait_until

BULK = 100_000
SAMPLES = 200
_PAUSE = 0.02


def run(machine: Machine) -> list[Figure]:
    """From the call to the provider's acceptance, one mail after the other, as long as the backlog lasts."""
    with machine.ledger() as environment, psycopg.connect(environment["MAILGLASS_DATABASE_URL"]) as ledger:
        ledger.autocommit = True
        with tenant("news"):
            deliver_many(
                Message(to=f"reader{number}@example.com", subject="News", text=TEXT, html=HTML, stream="bulk")
                for number in range(BULK)
            )
        open_work = "SELECT EXISTS (SELECT 1 FROM mailglass.deliveries WHERE tenant_id = 'news' AND due_at IS NOT NULL)"
        waits: list[float] = []
        with machine.worker("mailglass", environment) as worker:
            wait_until(lambda: bool(_scalar(ledger, "SELECT EXISTS (SELECT 1 FROM mailglass.events "
                                                    "WHERE kind = 'attempted')")), worker)  # fmt: skip
            while len(waits) < SAMPLES and _scalar(ledger, open_work):
                with tenant("shop"):
                    began = time.perf_counter()
                    result = deliver_later.delay(Message(to="one@example.com", subject="Your code", text="123456"))
                    result.get(timeout=60, interval=0.002)
                    waits.append((time.perf_counter() - began) * 1000)
                time.sleep(_PAUSE)
    return [
        Note("fairness", Side(f"p50 of {len(waits)} single mails", [statistics.median(waits)], "ms")),
        Note("fairness", Side(f"p99 of {len(waits)} single mails", [_p99(waits)], "ms"), "< 1000 ms"),
    ]


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def _scalar(connection: psycopg.Connection, statement: str) -> object:
    row = connection.execute(statement).fetchone()
    return None if row is None else row[0]
