"""How late mail with a countdown leaves beside a bulk drain, with no beat at all."""

from __future__ import annotations

import time

import psycopg

from mailglass import Message, deliver_later, deliver_many, tenant
from tests.bench.figures import Comparison, Side
from tests.bench.machine import HTML, TEXT, Machine, wait_until

BULK = 40_000
SAMPLES = 200
_PAUSE = 0.05
_BEGUN = "SELECT EXISTS (SELECT 1 FROM mailglass.events WHERE kind = 'attempted')"
_LEFT = "SELECT count(*) FROM mailglass.deliveries WHERE tenant_id = 'shop' AND status <> 'sent'"
_BACKLOG = "SELECT count(*) FROM mailglass.deliveries WHERE tenant_id = 'news' AND due_at IS NOT NULL"
_LATE = """
SELECT extract(epoch FROM percentile_disc(%s) WITHIN GROUP (ORDER BY sent_at - scheduled_at)) * 1000
FROM mailglass.deliveries WHERE tenant_id = 'shop'
"""


def run(machine: Machine) -> list[Comparison]:
    """From the moment a mail is due to the record that it was sent: while a backlog lasts, then without."""
    busy, idle = (_lateness(machine, bulk) for bulk in (BULK, 1))
    return [
        Comparison(
            "countdown",
            Side(f"countdown=2 beside a backlog, no beat, late p{percent} of {SAMPLES}", [late], "ms"),
            Side("without it", [without], "ms"),
            goal,
        )
        for percent, late, without, goal in zip((50, 99), busy, idle, ("", "< 2000 ms"), strict=True)
    ]


def _lateness(machine: Machine, bulk: int) -> list[float]:
    with machine.ledger() as environment:
        with tenant("news"):
            deliver_many(
                Message(to=f"reader{number}@example.com", subject="News", text=TEXT, html=HTML, stream="bulk")
                for number in range(bulk)
            )
        with (
            psycopg.connect(environment["MAILGLASS_DATABASE_URL"], autocommit=True) as ledger,
            machine.worker("mailglass", environment) as worker,
        ):
            wait_until(lambda: bool(_one(ledger, _BEGUN)), worker)
            for _ in range(SAMPLES):
                if bulk > 1 and not _one(ledger, _BACKLOG):
                    break
                with tenant("shop"):
                    message = Message(to="one@example.com", subject="Your code", text="123456")
                    deliver_later.apply_async((message,), countdown=2)
                time.sleep(_PAUSE)
            wait_until(lambda: not _one(ledger, _LEFT), worker)
            return [float(_one(ledger, _LATE, share)) for share in (0.5, 0.99)]


def _one(connection: psycopg.Connection, statement: str, *params: float) -> float:
    row = connection.execute(statement, params).fetchone()
    return 0.0 if row is None else float(row[0])
