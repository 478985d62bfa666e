"""Whether the drain holds its pace while others press on the ledger: against the clean drain of the same run.

A transaction that holds the vacuum horizon, reports that read the deliveries, a burst of webhook events, and more mail
than is drained. `BENCH_HELD_SECONDS` says for how long the horizon is held: 900 for the long run.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psycopg

from mailglass import deliver_many
from mailglass.doorbell import PUMP
from mailglass.ids import uuid7
from mailglass.ledger import webhooks
from mailglass.runtime import get_runtime
from tests.bench import ingress
from tests.bench.drain import drain_ledger
from tests.bench.figures import Comparison, Side
from tests.bench.machine import Machine, receipt, wait_until

ROUNDS = 2
HELD = float(os.environ.get("BENCH_HELD_SECONDS", "60"))
READERS = 4
EVENTS = 100_000
PER_WEBHOOK = 100
OVERLOAD = 1.2
_OVERLOADED = 20.0
_PIECE = 500
_GOAL = ">= 0.9"
_SENT = "SELECT count(*) FROM mailglass.deliveries WHERE status = 'sent'"
_URL = "MAILGLASS_DATABASE_URL"


def run(machine: Machine) -> list[Comparison]:
    """Each in turn with a clean drain, so that a change of the machine's mood meets both."""
    clean: list[float] = []
    sides: dict[str, list[float]] = {}

    def cell(label: str, measure: Callable[[], list[float]]) -> None:
        sides.setdefault(label, []).extend(measure())

    for number in range(ROUNDS):
        clean.append(_drained(machine))
        cell(f"{READERS} reports read the deliveries", lambda: [_drained(machine, _reports)])
        clean.append(_drained(machine))
        cell(f"a burst of {EVENTS:,} webhook events", lambda: [_through_a_burst(machine)])
        if number == 0:
            cell(f"a transaction held for {HELD:.0f} s", lambda: _held(machine))
    clean.append(_drained(machine))
    median = statistics.median(clean)
    queued, overloaded, straight = _overloaded(machine, median * OVERLOAD)
    undisturbed = Side("the clean drain", clean, "mails/s")
    sides[f"{queued / median:.2g} times as much is queued, {OVERLOAD} wanted"] = [overloaded]
    left = Side("what is queued and not drained", [queued - overloaded], "mails/s more")
    return [
        *(Comparison("pressure", Side(label, rates, "mails/s"), undisturbed, _GOAL) for label, rates in sides.items()),
        Comparison("pressure", Side("its backlog in the last third", [straight], "mails/s more"), left, "<= 1.2"),
    ]


@contextmanager
def _nothing(url: str) -> Iterator[None]:
    yield


@contextmanager
def _reports(url: str) -> Iterator[None]:
    """Read all deliveries in transactions that last, as fast as reports read."""
    over = threading.Event()

    def read() -> None:
        with psycopg.connect(url) as opened:
            opened.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with opened.cursor("report") as cursor:
                cursor.execute("SELECT id, recipient, status FROM mailglass.deliveries")
                while not over.wait(0.1):
                    cursor.fetchmany(1000)

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    with ExitStack() as stack:
        for reader in readers:
            stack.callback(reader.join)
        stack.callback(over.set)
        for reader in readers:
            reader.start()
        yield


def _drained(machine: Machine, beside: Callable[[str], object] = _nothing) -> float:
    with machine.ledger() as environment, beside(environment[_URL]):  # type: ignore[attr-defined]
        return drain_ledger(machine, environment)


def _held(machine: Machine) -> list[float]:
    """The last drains of many in one ledger, under a transaction that has an id and does nothing."""
    rates: list[float] = []
    with machine.ledger() as environment, psycopg.connect(environment[_URL]) as idle:
        idle.execute("SELECT txid_current()")
        until = time.perf_counter() + HELD
        while len(rates) < 2 or time.perf_counter() < until:
            machine.valkey.flush()
            rates.append(drain_ledger(machine, environment))
    return rates[-3:]


def _through_a_burst(machine: Machine) -> float:
    """Mails a second, while as many events as are told at once are brought into the ledger by the same worker."""
    providers = ingress.Providers()
    config = machine.scratch / "pressure.toml"
    config.write_text(
        providers.config.replace('accounts = ["grid"]', 'accounts = ["null"]') + '[accounts.null]\nprovider = "null"\n',
        encoding="utf-8",
    )
    os.environ.update(providers.environment)
    with machine.ledger(config=config) as environment:
        told = {**environment, **providers.environment}
        _store(told, providers)
        return drain_ledger(machine, told)


def _store(environment: Mapping[str, str], providers: ingress.Providers) -> None:
    ids = ingress.sent(environment, EVENTS // 2)
    events = [ingress.grid_event(kind, key, f"{kind}-{key}") for kind in ("delivered", "open") for key in ids]
    arrivals = []
    for start in range(0, EVENTS, PER_WEBHOOK):
        account, headers, body = providers.grid(events[start : start + PER_WEBHOOK])
        arrivals.append(webhooks.Arrival(account, "sendgrid", str(uuid7()), body, headers))
    for start in range(0, len(arrivals), 100):
        webhooks.store_all(get_runtime().database, arrivals[start : start + 100])


def _overloaded(machine: Machine, rate: float) -> tuple[float, float, float]:
    """Mails queued and drained a second, and by how many a second the backlog grows in the last third."""
    with machine.ledger() as environment, psycopg.connect(environment[_URL], autocommit=True) as ledger:
        deliver_many(receipt(number) for number in range(int(rate)))
        with machine.worker("mailglass", environment) as worker:
            get_runtime().doorbell.ring_task(PUMP)
            wait_until(lambda: _count(ledger) > 0, worker)
            queued, began, first = 0, time.perf_counter(), _count(ledger)
            backlog: list[tuple[float, int]] = []
            while (passed := time.perf_counter() - began) < _OVERLOADED:
                if queued < passed * rate:
                    deliver_many(receipt(number) for number in range(_PIECE))
                    queued += _PIECE
                else:
                    time.sleep(0.01)
                if not backlog or passed - backlog[-1][0] >= 1.0:
                    backlog.append((passed, queued - (_count(ledger) - first)))
            taken = time.perf_counter() - began
            drained = (_count(ledger) - first) / taken
    late = backlog[2 * len(backlog) // 3 :]
    growth = statistics.linear_regression([moment for moment, _ in late], [mails for _, mails in late]).slope
    return queued / taken, drained, growth


def _count(ledger: psycopg.Connection) -> int:
    row = ledger.execute(_SENT).fetchone()
    return int(row[0]) if row is not None else 0
