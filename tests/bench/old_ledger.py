"""Whether a ledger gets slower with age: a backlog drained beside millions of old deliveries, and beside a few."""

from __future__ import annotations

import os

import psycopg

from mailglass.celery import app, configuration
from mailglass.runtime import close_runtime
from mailglass.settings import configure, load_settings
from tests.bench.drain import drain_ledger
from tests.bench.figures import Comparison, Side
from tests.bench.machine import Machine

ROUNDS = 4
YOUNG = 1_000
OLD = int(os.environ.get("BENCH_OLD_DELIVERIES", "5000000"))
"""As many as this; fewer for a quick look."""

# keys as UUIDv7 gives them, one a second and counting back from an hour ago; content scrubbed
_OLD = """
WITH old AS (
    SELECT n, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
                   || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid AS id
    FROM generate_series(1, %(old)s) AS n,
         LATERAL (SELECT now() - interval '1 hour' - (%(old)s - n) * interval '1 second' AS at) AS moment
), message AS (
    INSERT INTO mailglass.messages (id, content, frozen, created_at, scrubbed_at)
    SELECT id, NULL, true, at, at FROM old
), event AS (
    INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, recorded_at, status, account,
                                  attempt)
    SELECT id, id, 'default', 'sent', 'attempt', at, at, 'sent', 'null', 1 FROM old
)
INSERT INTO mailglass.deliveries (id, tenant_id, message_id, stream, queue, status, recipient, recipient_domain,
                                  account, provider, provider_message_id, attempts, scheduled_at, created_at, sent_at,
                                  delivered_at, last_event, last_event_at)
SELECT id, 'default', id, 'transactional', 'mailglass', 'sent', 'customer' || n || '@example.com', 'example.com',
       'null', 'null', 'null-' || n, 1, at, at, at, at, 'delivered', at
FROM old
"""


def run(machine: Machine) -> list[Comparison]:
    """In turns, each of them first in turn; both filled and vacuumed: a brand-new ledger is slower for a while."""
    aged: list[float] = []
    fresh: list[float] = []
    with machine.ledger() as old, machine.ledger() as young:
        fill(old["MAILGLASS_DATABASE_URL"], OLD)
        fill(young["MAILGLASS_DATABASE_URL"], YOUNG)
        sides = [(old, aged), (young, fresh)]
        for _ in range(ROUNDS):
            for environment, rates in sides:
                rates.append(_drain(machine, environment))
            sides.reverse()
    return [
        Comparison(
            "old_ledger",
            Side(f"{OLD:,} old deliveries", aged, "mails/s"),
            Side(f"{YOUNG:,} old deliveries", fresh, "mails/s"),
            ">= 0.9",
        )
    ]


def fill(url: str, deliveries: int) -> None:
    """Make a ledger old: deliveries that are done, each with its message and an event."""
    with psycopg.connect(url, autocommit=True) as ledger:
        # nobody would miss it after a crash, and the measurement finds it settled
        ledger.execute("SET synchronous_commit = off")
        ledger.execute(_OLD, {"old": deliveries})
        for table in ("deliveries", "messages", "events"):
            ledger.execute(f"VACUUM (ANALYZE) mailglass.{table}")
        ledger.execute("CHECKPOINT")


def _drain(machine: Machine, environment: dict[str, str]) -> float:
    """Mails a second in one of the ledgers, with an empty broker."""
    settings = load_settings(environment)
    configure(settings)
    app.conf.update(configuration(settings))
    machine.valkey.flush()
    try:
        return drain_ledger(machine, environment)
    finally:
        close_runtime()
