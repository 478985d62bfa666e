"""Faults at every seam, on real servers and processes: every mail ends, and none goes twice unaccounted for.

The short form runs with the suite; `make chaos` runs the long one and prints a table.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from mailglass import Message, deliver_many
from mailglass.celery import forget_broker
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import deliveries, schema
from mailglass.ledger.lifecycle import FINAL
from mailglass.runtime import close_runtime, get_runtime
from mailglass.settings import configure, load_settings
from mailglass.stack.postgres import EmbeddedPostgres
from mailglass.stack.process import ChildProcess, Guardian, until_line
from mailglass.testing.lab.weather import Weather

SEAMS = ("before_claim", "after_claim", "after_mark", "after_answer", "after_record")
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "20"))
MAILS = int(os.environ.get("CHAOS_MAILS", "500"))
CONFIG = """
default_from = "shop@example.com"
log_format = "console"

[accounts.relay]
provider = "smtp"
host = "127.0.0.1"
port = {port}
security = "none"
connect_timeout = 1.0
timeout = 2.0

[[routes]]
accounts = ["relay"]

[engine]
claim_size = 40
lease = 4
task_budget = 1
send_margin = 2
ring_patience = 1

[streams.transactional]
backoff_base = 0.05
backoff_max = 0.2
uncertain_hold = 1
"""


@dataclass
class Site:
    """mailglass on servers of its own, which a test may kill."""

    directory: Path
    postgres: EmbeddedPostgres
    broker: Any
    guardian: Guardian
    environment: dict[str, str]
    stack: ExitStack
    workers: list[ChildProcess] = field(default_factory=list)
    started: int = 0

    def worker(self, seam: str = "", at: int = 1) -> ChildProcess:
        """A worker, with a fault built in where a seam is named."""
        self.started += 1
        return self._celery(
            f"worker{self.started}",
            ["worker", "-Q", "mailglass", "-P", "solo", "-n", f"w{self.started}@%h", "--without-gossip",
             "--without-mingle", "-l", "info", "-I", "tests.chaos.faults"],
            "ready\\.",
            {"CHAOS_SEAM": seam, "CHAOS_AT": str(at)},
        )  # fmt: skip

    def beat(self, name: str) -> ChildProcess:
        return self._celery(name, ["beat", "-l", "info"], "beat: Starting", {})

    def _celery(self, name: str, arguments: list[str], line: str, more: dict[str, str]) -> ChildProcess:
        child = ChildProcess(
            name,
            [sys.executable, "-m", "celery", "-A", "mailglass", *arguments],
            log=self.directory / f"{name}.log",
            env={**os.environ, **self.environment, **more, "PYTHONUNBUFFERED": "1"},
            ready=until_line(line),
            ready_timeout=60,
            guardian=self.guardian,
        )
        self.stack.callback(child.stop)
        return child.start()


@pytest.fixture
def site(stack_root: Path, outside, broker, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with ExitStack() as stack:
        guardian = Guardian()
        stack.callback(guardian.close)
        postgres = stack.enter_context(EmbeddedPostgres(stack_root / "postgres", durable=True, guardian=guardian))
        url = postgres.create_database("mailglass")
        schema.upgrade(url)
        config = stack_root / "mailglass.toml"
        config.write_text(CONFIG.format(port=outside.port))
        environment = {
            "MAILGLASS_CONFIG": str(config),
            "MAILGLASS_DATABASE_URL": url,
            "MAILGLASS_BROKER_URL": broker_url,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        configure(load_settings())
        yield Site(stack_root, postgres, broker, guardian, environment, stack)
        close_runtime()
        forget_broker()


@dataclass
class Tally:
    """What a number of rounds came to."""

    rounds: int = 0
    mails: int = 0
    lost: int = 0
    resent: int = 0
    twice: int = 0

    def line(self, fault: str) -> str:
        return f"{fault:<24}{self.rounds:>7}{self.mails:>8}{self.lost:>6}{self.resent:>8}{self.twice:>7}"


def send(count: int) -> list[str]:
    """Record mails; their delivery ids."""
    messages = (Message(to=f"u{n}@example.com", subject="Receipt", text="Thanks.") for n in range(count))
    return [str(result.ids[0]) for result in deliver_many(messages)]


def settle(site: Site, outside, ids: list[str], wait_for: Callable[..., None], tally: Tally) -> None:
    """Wait until every mail of a round has ended, and compare the world's count with the ledger's."""
    database = get_runtime().database

    def ended() -> bool:
        try:
            states = deliveries.states(database, ids)
        except LedgerUnavailableError:
            return False
        return all(status in FINAL for status, _ in states.values())

    wait_for(ended, timeout=120)
    states = deliveries.states(database, ids)
    received = outside.received
    resent = {
        str(row.delivery_id)
        for row in database.query(sqlalchemy.text("SELECT delivery_id FROM mailglass.events WHERE kind = 'resent'"))
    }
    lost = [key for key in ids if states[deliveries.UUID(key)][0].value != "sent" or not received[key]]
    twice = [key for key in ids if received[key] > 1]
    assert not lost
    assert set(twice) <= resent
    tally.rounds += 1
    tally.mails += len(ids)
    tally.resent += len(resent & set(ids))
    tally.twice += len(twice)


def kill_at_seam(seam: str) -> Callable[..., None]:
    def run(site: Site, outside, count: int, wait_for: Callable[..., None], tally: Tally, rng: random.Random) -> None:
        ids = send(count)
        doomed = site.worker(seam, at=rng.randint(1, 3))
        wait_for(lambda: not doomed.running, timeout=60)
        assert doomed.returncode == -signal.SIGKILL
        successor = site.worker()
        settle(site, outside, ids, wait_for, tally)
        successor.stop()

    return run


def broker_dies(keep_data: bool) -> Callable[..., None]:
    def run(site: Site, outside, count: int, wait_for: Callable[..., None], tally: Tally, rng: random.Random) -> None:
        worker = site.worker()
        ids = send(count // 2)
        wait_for(lambda: len(outside.mails) > tally.mails)
        site.broker.kill()
        ids += send(count - len(ids))
        site.broker.start()
        if not keep_data:
            site.broker.flush()
        settle(site, outside, ids, wait_for, tally)
        worker.stop()

    return run


def database_restarts(
    site: Site, outside, count: int, wait_for: Callable[..., None], tally: Tally, rng: random.Random
) -> None:
    worker = site.worker()
    ids = send(count)
    before = len(outside.mails)
    wait_for(lambda: len(outside.mails) > before + 5)
    site.postgres.kill()
    site.postgres.start()
    settle(site, outside, ids, wait_for, tally)
    worker.stop()


def provider_hangs_up(
    site: Site, outside, count: int, wait_for: Callable[..., None], tally: Tally, rng: random.Random
) -> None:
    outside.weather = lambda recipient: Weather.LOST_ANSWER if recipient.startswith(("u3", "u7")) else Weather.DELIVER
    worker = site.worker()
    ids = send(count)
    settle(site, outside, ids, wait_for, tally)
    worker.stop()


def worker_sleeps_past_its_lease(
    site: Site, outside, count: int, wait_for: Callable[..., None], tally: Tally, rng: random.Random
) -> None:
    before = len(outside.mails)
    sleeper = site.worker()
    ids = send(count)
    wait_for(lambda: len(outside.mails) > before)
    sleeper.send_signal(signal.SIGSTOP)
    other = site.worker()
    database = get_runtime().database
    leased = sqlalchemy.text("SELECT count(*) FROM mailglass.deliveries WHERE status IN ('claimed', 'sending')")
    wait_for(lambda: database.query(leased)[0][0] == 0 and not deliveries.find(database, status="queued"), timeout=60)
    sleeper.send_signal(signal.SIGCONT)
    settle(site, outside, ids, wait_for, tally)
    sleeper.stop()
    other.stop()


def two_beats(site: Site, outside, count: int, wait_for: Callable[..., None], tally: Tally, rng: random.Random) -> None:
    first, second, worker = site.beat("first"), site.beat("second"), site.worker()
    ids = send(count)
    wait_for(lambda: len(outside.mails) > tally.mails)
    first.kill()
    settle(site, outside, ids, wait_for, tally)
    for child in (second, worker):
        child.stop()


FAULTS: dict[str, Callable[..., None]] = {
    **{f"kill {seam}": kill_at_seam(seam) for seam in SEAMS},
    "broker dies": broker_dies(keep_data=True),
    "broker dies, data lost": broker_dies(keep_data=False),
    "database killed": database_restarts,
    "provider hangs up": provider_hangs_up,
    "worker past its lease": worker_sleeps_past_its_lease,
    "two beats, one killed": two_beats,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_mail_ends_and_none_goes_twice_unaccounted_for(site: Site, outside, wait_for, fault: str) -> None:
    FAULTS[fault](site, outside, 120, wait_for, Tally(), random.Random(fault))


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", FAULTS)
def test_many_rounds(site: Site, outside, wait_for, report: list[str], fault: str) -> None:
    tally, rng = Tally(), random.Random(fault)
    started = time.monotonic()
    for _ in range(ROUNDS):
        FAULTS[fault](site, outside, MAILS, wait_for, tally, rng)
    report.append(f"{tally.line(fault)}   {time.monotonic() - started:.0f} s")
