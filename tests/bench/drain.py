"""How fast two worker processes work off a backlog: mailglass, mail sent by hand, and Celery tasks that do nothing.

The same for all three: the backlog is queued, then `celery worker -c 2` starts; the clock runs from the first message
that leaves the broker's queue until the last piece of work is written down or acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg
from sqlalchemy.orm import Session

from mailglass import deliver_many
from mailglass.ids import uuid7
from tests.bench import contenders
from tests.bench.figures import Comparison, Side
from tests.bench.machine import HTML, TEXT, Machine, receipt, wait_until

ROUNDS = 3
MAILS = 20_000
TASKS = 20_000
BY_HAND = 3_000
_QUEUE = "mailglass:mailglass"
# asked every 10 ms, so it looks at one row; an index of what is open would be walked over all that was
_LAST = """SELECT due_at IS NOT NULL OR lease_expires_at IS NOT NULL FROM mailglass.deliveries
           WHERE id > %s ORDER BY id DESC LIMIT 1"""
_OPEN = """SELECT EXISTS (SELECT 1 FROM mailglass.deliveries
                          WHERE id > %s AND (due_at IS NOT NULL OR lease_expires_at IS NOT NULL))"""
_SENT = "SELECT count(*) FROM mailglass.deliveries WHERE id > %s AND status = 'sent'"


def run(machine: Machine) -> list[Comparison]:
    """Each in turns, so that a change of the machine's mood meets all three."""
    ours: list[float] = []
    by_hand: list[float] = []
    noop: list[float] = []
    for _ in range(ROUNDS):
        noop.append(drain_noop(machine))
        by_hand.append(drain_by_hand(machine))
        ours.append(drain_mailglass(machine))
    mailglass = Side("mailglass", ours, "mails/s")
    return [
        Comparison("drain", mailglass, Side("one task per mail", by_hand, "mails/s"), ">= 30"),
        Comparison("drain", mailglass, Side("no-op tasks", noop, "tasks/s")),
    ]


def drain_mailglass(machine: Machine) -> float:
    """Mails a second."""
    with machine.ledger() as environment:
        return drain_ledger(machine, environment)


def drain_ledger(machine: Machine, environment: Mapping[str, str]) -> float:
    """Mails a second in the ledger that this process uses now."""
    with psycopg.connect(environment["MAILGLASS_DATABASE_URL"]) as ledger:
        ledger.autocommit = True
        before = uuid7()
        deliver_many(receipt(number) for number in range(MAILS))
        queued = machine.queued(_QUEUE)
        if queued() != 1:
            raise RuntimeError(f"{queued()} rings are pending")
        with machine.worker("mailglass", environment) as worker:
            began = wait_until(lambda: queued() == 0, worker)
            wait_until(lambda: not _scalar(ledger, _LAST, before), worker)
            ended = wait_until(lambda: not _scalar(ledger, _OPEN, before), worker)
        sent = ledger.execute(_SENT, (before,)).fetchone()
        if sent != (MAILS,):
            raise RuntimeError(f"{sent} of {MAILS} mails were sent")
        return MAILS / (ended - began)


def drain_by_hand(machine: Machine) -> float:
    """Mails a second, with a task for each."""
    with machine.contenders() as environment:
        for number in range(BY_HAND):
            contenders.queue_mail(number, TEXT, HTML)
        rate = _drain_tasks(machine, environment, BY_HAND)
        with Session(contenders.engine()) as session:
            sent = session.query(contenders.Mail).filter_by(status="sent").count()
        if sent != BY_HAND:
            raise RuntimeError(f"{sent} of {BY_HAND} mails were sent by hand")
        return rate


def drain_noop(machine: Machine) -> float:
    """Tasks a second."""
    with machine.contenders() as environment:
        with contenders.app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=1000):
            for number in range(TASKS):
                contenders.noop.apply_async((number,), producer=producer)
        return _drain_tasks(machine, environment, TASKS)


def _drain_tasks(machine: Machine, environment: dict[str, str], tasks: int) -> float:
    queued: Callable[[], int] = machine.queued(contenders.QUEUE)
    if queued() != tasks:
        raise RuntimeError(f"{queued()} of {tasks} tasks are queued")
    with machine.worker("tests.bench.contenders", environment) as worker:
        began = wait_until(lambda: queued() < tasks, worker)
        ended = wait_until(lambda: queued() == 0 and machine.unacknowledged() == 0, worker)
    return tasks / (ended - began)


def _scalar(connection: psycopg.Connection, statement: str, *params: object) -> object:
    row = connection.execute(statement, params).fetchone()
    return None if row is None else row[0]
