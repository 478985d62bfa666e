"""Job queues on PostgreSQL against mailglass: a mail a job, to a provider that takes everything and sends nothing.

Each has two worker processes, and is drained once at each of several concurrencies: its best counts. The workers are
warm and frozen while the mails are queued, as in the other rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg

from mailglass.ledger.schema import upgrade
from mailglass.stack.process import ChildProcess, Guardian
from tests.bench.machine import ROOT, Machine, plain_environment
from tests.bench.peers.contest import frozen
from tests.bench.peers.environment import QUEUES, make_environment, newer_python, python_of

ROUNDS = 3
MAILS = 5_000
SINGLE = 500
WARM = 40
PROCESSES = 2
CONCURRENCIES = (10, 50, 200)
# how many times as fast mailglass is to work off a backlog
GOALS = {"awa": 2.0, "oban": 2.0, "procrastinate": 15.0}
OURS = "mailglass"
_SENT = "SELECT count(*) FROM mailglass.deliveries WHERE status = 'sent'"
_TIMEOUT = 120.0
_TOML = """
default_from = "shop@example.com"
log_level = "error"

[accounts.null]
provider = "null"
"""


@dataclass
class Figures:
    """What one queue came to.

    Attributes:
        single: seconds for each mail queued by itself, by round.
        bulk: seconds for each mail of a backlog, by round.
        drain: mails a second, by concurrency and round.
    """

    single: list[float] = field(default_factory=list)
    bulk: list[float] = field(default_factory=list)
    drain: dict[int, list[float]] = field(default_factory=dict)

    @property
    def best(self) -> tuple[int, float]:
        """The concurrency at which it drains fastest, and how fast."""
        return max(((level, statistics.median(rates)) for level, rates in self.drain.items()), key=lambda pair: pair[1])


def run(machine: Machine) -> dict[str, Figures]:
    """Measure all queues in turns."""
    python = newer_python()
    make_environment(QUEUES, python or sys.executable)
    names = [OURS, *(name for name in GOALS if name != "oban" or python is not None)]
    if python is None:
        print("oban is left out: it needs Python 3.12 or newer, and none was found", file=sys.stderr)
    figures = {name: Figures() for name in names}
    for number in range(ROUNDS):
        for name in names:
            for level in (2,) if name == OURS else CONCURRENCIES:
                print(f"{name}: round {number + 1} of {ROUNDS}, concurrency {level}", file=sys.stderr, flush=True)
                _play(machine, name, f"queue_{name}_{number}_{level}", level, figures[name])
    return figures


def _play(machine: Machine, name: str, database: str, level: int, figures: Figures) -> None:
    """Play one round of one queue: on a fresh database, everything once."""
    with ExitStack() as stack:
        url = machine.postgres.create_database(database)
        stack.callback(machine.postgres.drop_database, database)
        machine.valkey.flush()
        guardian = Guardian()
        stack.callback(guardian.close)
        count = machine.scratch / f"{database}.count"
        count.touch()
        environment = _environment(machine, name, url, count)

        def call(command: str, number: int = 0) -> str:
            done = subprocess.run(
                _argv(name, command, number), env=environment, cwd=ROOT, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{name} {command}: {done.stderr[-1000:]}")
            return done.stdout

        upgrade(url) if name == OURS else call("set-up")
        done = _done(name, url, count)
        workers = [
            ChildProcess(
                f"worker{number}",
                _argv(name, "work", level),
                log=machine.scratch / f"{database}{number}.log",
                env=environment,
                cwd=ROOT,
                guardian=guardian,
            ).start()
            for number in range(1 if name == OURS else PROCESSES)
        ]
        for worker in workers:
            stack.callback(worker.kill)
        # each command queues one more, to open what it keeps
        call("bulk", WARM)
        _wait(done, WARM + 1)
        with ExitStack() as still:
            for worker in workers:
                still.enter_context(frozen(worker))
            figures.single.append(float(call("single", SINGLE)) / SINGLE)
            figures.bulk.append(float(call("bulk", MAILS)) / MAILS)
            began = time.monotonic()
        _wait(done, WARM + SINGLE + MAILS + 3)
        figures.drain.setdefault(level, []).append((SINGLE + MAILS) / (time.monotonic() - began))


def _done(name: str, url: str, count: Path) -> Callable[[], int]:
    if name != OURS:
        return lambda: count.stat().st_size
    ledger = psycopg.connect(url, autocommit=True)

    def sent() -> int:
        row = ledger.execute(_SENT).fetchone()
        return 0 if row is None else int(row[0])

    return sent


def _wait(done: Callable[[], int], wanted: int) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while (so_far := done()) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{so_far} of {wanted} mails were worked on")
        time.sleep(0.02)


def _argv(name: str, command: str, number: int) -> list[str | Path]:
    if name != OURS:
        return [python_of(False, QUEUES), "-m", "tests.bench.peers.theirs.jobs", name, command, str(number)]
    if command == "work":
        return [python_of(True), "-m", "celery", "-A", "mailglass", "worker", "-c", str(number), "-l", "error"]
    return [python_of(True), "-m", "tests.bench.peers.our_jobs", command, str(number)]


def _environment(machine: Machine, name: str, url: str, count: Path) -> Mapping[str, str]:
    common = {**plain_environment(), "PYTHONPATH": str(ROOT)}
    if name != OURS:
        return common | {"PEERS_DATABASE_URL": url, "PEERS_COUNT": str(count)}
    config = machine.scratch / "queues.toml"
    config.write_text(_TOML, encoding="utf-8")
    return common | {
        "MAILGLASS_DATABASE_URL": url,
        "MAILGLASS_BROKER_URL": machine.valkey.url(),
        "MAILGLASS_CONFIG": str(config),
    }


def table(figures: Mapping[str, Figures]) -> str:
    """Write the figures as text: medians, and what mailglass is to each of the others."""
    if not figures:
        return ""
    ours = figures[OURS]
    lines = [f"{'queue':<16}{'single us':>11}{'bulk us':>10}{'drain/s':>10}{'at':>6}{'ours is':>10}{'goal':>7}"]
    for name, theirs in figures.items():
        level, rate = theirs.best
        ratio = ours.best[1] / rate
        goal = GOALS.get(name)
        met = "" if goal is None else f"{goal:g} x"
        lines.append(
            f"{name:<16}{statistics.median(theirs.single) * 1e6:>11.0f}{statistics.median(theirs.bulk) * 1e6:>10.0f}"
            f"{rate:>10,.0f}{level:>6}{ratio:>8.1f} x{met:>7}"
        )
    return "\n".join(lines)


def as_data(figures: Mapping[str, Figures]) -> dict[str, object]:
    """Return every round's figures as plain data."""
    return {name: asdict(item) for name, item in figures.items()}
