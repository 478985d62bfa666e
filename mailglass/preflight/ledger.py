"""Checks of the database: reachable, migrated, large enough, on time, and with nothing stuck in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mailglass import clock
from mailglass.errors import ConfigError, LedgerUnavailableError, SchemaError
from mailglass.ledger import schema
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.pauses import pauses, unpaused
from mailglass.ledger.pooler import check_session
from mailglass.preflight.findings import Finding, failed, passed, warned
from mailglass.preflight.surroundings import Surroundings

# seconds of difference that a webhook's signature may bear, and beyond which due times look wrong to people
CLOCK_WARNS: Final = 5.0
CLOCK_FAILS: Final = 60.0
# seconds for which due mail, an ended lease or a webhook may wait in a deployment that works
STUCK_AFTER: Final = 300.0
# the share of the server's connections that should stay free
FREE: Final = 0.1


def schema_is_migrated(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the database is reached, and that this code can work on its schema."""
    url = surroundings.settings.require_database()
    try:
        found = schema.check(url)
    except LedgerUnavailableError as error:
        yield failed("database", str(error), "Check MAILGLASS_DATABASE_URL, the network and the database's log")
        return
    except SchemaError as error:
        yield failed("database.schema", str(error), "Run `mailglass db upgrade`")
        return
    yield passed("database.schema", f"at revision {found.revision}, this mailglass needs {schema.HEAD}")
    try:
        check_session(surroundings.database, surroundings.settings.pooled)
    except ConfigError as error:
        yield failed("database.session", error.problem, error.remedy)
    else:
        yield passed("database.session", "its sessions have the planner settings that the statements need")


def triggers_stand(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the triggers that hold the ledger's promises are there and enabled."""
    found = {row.name for row in surroundings.database.run("ledger_triggers")}
    missing = sorted(schema.TRIGGERS - found)
    if missing:
        yield failed(
            "database.triggers",
            f"missing or disabled: {', '.join(missing)}",
            "Enable them (ALTER TABLE ... ENABLE TRIGGER), or restore the schema: without them the ledger is not safe",
        )
    else:
        yield passed("database.triggers", f"all {len(found)} are enabled")


def connections_suffice(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the server has connections for every slot of the workers that answered."""
    (row,) = surroundings.database.run("server_facts")
    # a slot holds one at a time, and each worker one more beside them
    wanted = sum(worker.processes + 1 for worker in surroundings.workers)
    needed = row.used - row.ours + max(row.ours, wanted)
    observed = f"{row.used} of {row.room} in use, {row.ours} by this role; the workers may open {wanted}"
    remedy = "Raise max_connections, lower the workers' -c, or put a pooler in between: docs/guides/pooler.md"
    if needed > row.room:
        yield failed("database.connections", observed, remedy)
    elif needed > row.room * (1 - FREE):
        yield warned("database.connections", observed, remedy)
    else:
        yield passed("database.connections", observed)


def clocks_agree(surroundings: Surroundings) -> Iterator[Finding]:
    """Check this machine's clock against the database's, by which mail is due."""
    before = clock.now()
    (row,) = surroundings.database.run("server_facts")
    middle = before + (clock.now() - before) / 2
    apart = abs((row.now - middle).total_seconds())
    observed = f"this machine and the database are {apart:.1f} s apart"
    remedy = "Synchronise both by NTP: webhook signatures and due times depend on it"
    result = failed if apart > CLOCK_FAILS else warned
    yield passed("clocks", observed) if apart <= CLOCK_WARNS else result("clocks", observed, remedy)


def beat_leads(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that one beat holds the lead."""
    rows = surroundings.database.run("turn_ends", {"name": "mailglass.beat"})
    if rows:
        yield passed("beat", f"a beat leads, for {rows[0].seconds:.0f} s more unless it goes on")
    else:
        yield failed(
            "beat",
            "no beat leads: retries and list syncs are late or do not happen",
            "Start one: `celery -A mailglass beat`. Several are safe, one of them leads",
        )


def nothing_is_stuck(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that due mail, ended leases and webhooks do not wait for longer than five minutes."""
    database = surroundings.database
    lanes = list(unpaused(pauses(database), lanes_due(database)))
    rows = database.run(
        "overdue_lanes",
        {
            "queues": [lane.queue for lane in lanes],
            "tenants": [lane.tenant for lane in lanes],
            "streams": [lane.stream for lane in lanes],
            "age": STUCK_AFTER,
        },
    )
    if rows:
        worst = rows[0]
        yield warned(
            "work.lanes",
            f"{len(rows)} lanes have mail that is due for over {STUCK_AFTER / 60:.0f} minutes, "
            f"{worst.queue}/{worst.tenant_id}/{worst.stream} for {worst.seconds / 60:.0f}",
            "Add workers for that queue, or see limits and breakers: `mailglass accounts list`",
        )
    else:
        yield passed("work.lanes", f"no lane's due mail waits for over {STUCK_AFTER / 60:.0f} minutes")
    (stuck,) = database.run("stuck_work", {"age": STUCK_AFTER})
    if stuck.leases:
        yield failed(
            "work.leases", f"{stuck.leases} leases ended and were not swept", "Start a worker: each sweeps by itself"
        )
    if stuck.oldest_webhook is not None and stuck.oldest_webhook > STUCK_AFTER:
        yield warned(
            "work.webhooks",
            f"the oldest webhook has waited for {stuck.oldest_webhook / 60:.0f} minutes",
            "Add workers, or see `mailglass webhooks list`",
        )
    if not stuck.leases and (stuck.oldest_webhook is None or stuck.oldest_webhook <= STUCK_AFTER):
        yield passed("work.rest", "no ended lease and no webhook is left behind")
