"""Several faults at once, drawn from a seed, while producers race on the same keys and mails expire or are canceled."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import sqlalchemy

from mailglass.errors import MailglassError
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import FINAL, Status
from mailglass.runtime import get_runtime
from mailglass.stack.process import ChildProcess
from mailglass.testing.lab.weather import Weather
from tests.chaos.producer import CANCELED, EXPIRES
from tests.chaos.site import POOLS, Cutter, Site

PRODUCERS = 4
WORKERS = 2
AT_ONCE = 3
FACTS = """
SELECT d.id, d.status, d.last_error, d.idempotency_key,
       count(e.id) FILTER (WHERE e.kind = 'resent') AS resent,
       count(e.id) FILTER (WHERE e.kind = 'uncertain' OR e.status = 'uncertain' OR e.outcome = 'uncertain') AS doubted
FROM mailglass.deliveries d LEFT JOIN mailglass.events e ON e.delivery_id = d.id
GROUP BY d.id
"""


@dataclass
class Combination:
    """One round: what runs, what was told, and what breaks meanwhile.

    Attributes:
        keys: how many different messages the producers race on.
        waves: how often several faults strike at once.
        told: the ids that producers were told, by key.
        taken_back: the ids for which `cancel` answered that nobody had them.
        asked: the ids that `cancel` was asked about.
    """

    site: Site
    outside: Any
    wait_for: Callable[..., None]
    seed: str
    keys: int
    waves: int = 1
    told: dict[int, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    taken_back: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    workers: list[ChildProcess] = field(default_factory=list)
    producers: list[ChildProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.drawn = [self.rng.sample(sorted(FAULTS), AT_ONCE) for _ in range(self.waves)]

    def run(self) -> None:
        """Play the round and check what it came to."""
        print(f"seed {self.seed!r}: {'; then '.join(' + '.join(wave) for wave in self.drawn)}")
        lost = {f"u{number}@example.com" for number in range(self.keys) if number % 10 == 1}
        self.outside.weather = lambda to: Weather.LOST_ANSWER if to in lost else Weather.DELIVER
        with self._relay() as port:
            self.site.configure(port)
            self.site.beat()
            self._recover()
            self.producers = [self._producer(number) for number in range(PRODUCERS)]
            with self._canceling():
                for wave in self.drawn:
                    self._strike(wave)
                    self._recover()
                self.wait_for(lambda: not any(child.running for child in self.producers), timeout=120)
            self._settle()
        self._check()

    @contextmanager
    def _relay(self) -> Iterator[int]:
        self.cutter = Cutter(self.outside.port, cuts=0, rng=self.rng)
        with self.cutter.running() as port:
            yield port

    def _producer(self, number: int) -> ChildProcess:
        child = ChildProcess(
            f"producer{number}",
            [sys.executable, "-m", "tests.chaos.producer", self._log(number), f"{self.seed}/{number}", str(self.keys)],
            log=self.site.directory / f"producer{number}.log",
            env={**os.environ, **self.site.environment},
            guardian=self.site.guardian,
        )
        self.site.children.append(child)
        return child.start()

    def _log(self, number: int) -> str:
        return str(self.site.directory / f"told{number}")

    def _read_told(self) -> None:
        for number in range(PRODUCERS):
            with suppress(FileNotFoundError), open(self._log(number), encoding="ascii") as log:
                for line in log:
                    if line.endswith("\n"):
                        key, *ids = line.split()
                        self.told[int(key)].add(tuple(ids))

    def _strike(self, wave: list[str]) -> None:
        """Let the faults of one wave strike at once, when some mail has arrived or a moment has passed."""
        enough, moment = len(self.outside.mails) + self.rng.randint(1, self.keys // 2), time.monotonic() + 3
        self.wait_for(lambda: len(self.outside.mails) >= enough or time.monotonic() > moment, timeout=10)
        # each has a chance of its own, so that what one draws does not hang on another's pace
        chances = [random.Random(f"{self.seed}/{fault}") for fault in wave]
        with ThreadPoolExecutor(len(wave)) as together:
            list(together.map(lambda fault, chance: FAULTS[fault](self, chance), wave, chances))

    def _recover(self) -> None:
        """Have servers and workers again, whatever the wave has left."""
        alive = [worker for worker in self.workers if worker.running]
        pools = self.rng.sample(POOLS, WORKERS)
        self.workers = alive + [self.site.worker(pool) for pool in pools[: WORKERS - len(alive)]]

    @contextmanager
    def _canceling(self) -> Iterator[None]:
        """Take mails back while it lasts, as soon as somebody was told of them."""
        done = threading.Event()
        canceling = threading.Thread(target=self._cancel_told, args=(done,))
        canceling.start()
        try:
            yield
        finally:
            done.set()
            canceling.join(60)

    def _cancel_told(self, done: threading.Event) -> None:
        asked: set[int] = set()
        while not done.wait(0.05):
            self._read_told()
            for key in [key for key in self.told if key % 10 == CANCELED and key not in asked]:
                asked.add(key)
                self._cancel(next(iter(self.told[key])))

    def _cancel(self, ids: tuple[str, ...]) -> None:
        self.asked.update(ids)
        with suppress(MailglassError):
            taken = deliveries.cancel(get_runtime().database, ids, "default")
            self.taken_back.update(str(key) for key in taken.canceled)

    def _settle(self) -> None:
        database = get_runtime().database

        def ended() -> bool:
            with suppress(MailglassError):
                rows = database.query(sqlalchemy.text("SELECT DISTINCT status FROM mailglass.deliveries"))
                return {Status(row.status) for row in rows} <= FINAL
            return False

        self.wait_for(ended, timeout=120)

    def _check(self) -> None:
        self._read_told()
        rows = {str(row.id): row for row in get_runtime().database.query(sqlalchemy.text(FACTS))}
        received: Counter[str] = self.outside.received
        assert set(self.told) == set(range(self.keys))
        assert [key for key, answers in self.told.items() if len(answers) != 1] == [], "callers were told different ids"
        told = {key for answers in self.told.values() for ids in answers for key in ids}
        assert told == set(rows), "what was told is not what stands"
        assert set(received) <= set(rows)
        for key, row in rows.items():
            assert received[key] <= 1 + row.resent, f"{key}: received {received[key]} times, resent {row.resent}"
            match Status(row.status):
                case Status.SENT:
                    assert received[key], f"{key} is said to be sent"
                case Status.CANCELED:
                    assert key in self.asked
                    assert not received[key], f"{key} was canceled and went out"
                case Status.FAILED:
                    number = int((row.idempotency_key or "key-0").removeprefix("key-"))
                    assert (number % 10, row.last_error) == (EXPIRES, "expired"), key
                    assert row.doubted or not received[key], f"{key} failed and went out"
                case other:
                    raise AssertionError(f"{key} ended as {other}")
        assert self.taken_back <= {key for key, row in rows.items() if row.status == Status.CANCELED}

    @property
    def database_url(self) -> str:
        return self.site.environment["MAILGLASS_DATABASE_URL"]


def _worker_killed(turn: Combination, chance: random.Random) -> None:
    chance.choice(turn.workers).kill()


def _worker_frozen(turn: Combination, chance: random.Random) -> None:
    sleeper = chance.choice(turn.workers)
    sleeper.send_signal(signal.SIGSTOP)
    # past its lease
    time.sleep(chance.uniform(4, 6))
    sleeper.send_signal(signal.SIGCONT)


def _producers_killed(turn: Combination, chance: random.Random) -> None:
    # one is left, so that every key is said
    for doomed in chance.sample(turn.producers, PRODUCERS - 1):
        doomed.kill()


def _broker_killed(turn: Combination, chance: random.Random) -> None:
    turn.site.broker.kill()
    time.sleep(chance.uniform(0, 1))
    turn.site.broker_returns(keep_data=chance.random() < 0.5)


def _database_killed(turn: Combination, chance: random.Random) -> None:
    turn.site.postgres.kill()
    time.sleep(chance.uniform(0, 1))
    turn.site.postgres.start()


def _sessions_ended(turn: Combination, chance: random.Random) -> None:
    for _ in range(10):
        with suppress(psycopg.Error), psycopg.connect(turn.database_url, autocommit=True, connect_timeout=5) as admin:
            pids = [
                pid
                for (pid,) in admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ]
            for pid in chance.sample(pids, len(pids) // 2):
                admin.execute("SELECT pg_terminate_backend(%s)", [pid])
        time.sleep(chance.uniform(0, 0.3))


def _connections_exhausted(turn: Combination, chance: random.Random) -> None:
    with ExitStack() as held:
        ends = time.monotonic() + chance.uniform(1, 3)
        while time.monotonic() < ends:
            try:
                held.enter_context(psycopg.connect(turn.database_url, connect_timeout=5))
            except psycopg.Error:
                # as soon as somebody lets one go it is taken
                time.sleep(0.05)


def _beat_killed(turn: Combination, chance: random.Random) -> None:
    for child in turn.site.children:
        if child.name.startswith("beat"):
            child.kill()
    time.sleep(chance.uniform(0, 1))


def _provider_cut(turn: Combination, chance: random.Random) -> None:
    turn.cutter.cuts = chance.randint(3, 10)


FAULTS: dict[str, Callable[[Combination, random.Random], None]] = {
    "a worker killed": _worker_killed,
    "a worker frozen past its lease": _worker_frozen,
    "three of four producers killed": _producers_killed,
    "broker killed": _broker_killed,
    "database killed": _database_killed,
    "half of the sessions ended, ten times": _sessions_ended,
    "connections exhausted": _connections_exhausted,
    "beat killed": _beat_killed,
    "provider cut off within answers": _provider_cut,
}
