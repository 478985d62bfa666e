"""The servers of one run, as durable as those of `mailglass demo`, with a fresh ledger whenever one is asked for."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from psycopg import sql

from mailglass.celery import app, configuration
from mailglass.ledger.schema import upgrade
from mailglass.mail.message import Message
from mailglass.runtime import close_runtime
from mailglass.settings import configure, load_settings
from mailglass.stack.postgres import EmbeddedPostgres
from mailglass.stack.process import ChildProcess, Guardian
from mailglass.stack.valkey import EmbeddedValkey
from tests.bench import contenders

ROOT = Path(__file__).resolve().parents[2]
SETTING = "PostgreSQL with fsync and synchronous commits, Valkey with an append-only file written every second"
CONFIG = """
default_from = "shop@example.com"

[accounts.null]
provider = "null"
"""
TEXT = "Thank you for your order. We have packed it with care, and it is on its way to you.\n" * 5
HTML = f"<html><body>{'<p>Thank you for your order. It is on its way to you.</p>' * 10}</body></html>"
_TEMPLATE = "ledger_template"
_TIMEOUT = 300.0
_POLL = 0.01


class Machine:
    """Our own PostgreSQL and Valkey for one run, in a scratch directory; nothing is left of them afterwards."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.scratch = Path(tempfile.mkdtemp(prefix="mailglass-bench-")).resolve()
            stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            self._guardian = Guardian()
            stack.callback(self._guardian.close)
            self._guardian.sweep(self.scratch)
            self.postgres = stack.enter_context(EmbeddedPostgres(self.scratch / "postgres", guardian=self._guardian))
            self.valkey = stack.enter_context(
                EmbeddedValkey(self.scratch / "valkey", append_only=True, guardian=self._guardian)
            )
            (self.scratch / "mailglass.toml").write_text(CONFIG, encoding="utf-8")
            upgrade(self.postgres.create_database(_TEMPLATE))
            self._numbers = count(1)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        configure(None)
        self._stack.close()

    @contextmanager
    def ledger(self, waits_for_disk: bool = True, config: Path | None = None) -> Iterator[dict[str, str]]:
        """An empty ledger and an empty broker, which this process uses meanwhile; answers their environment."""
        with self._database(_TEMPLATE, waits_for_disk) as url:
            environment = {
                "MAILGLASS_DATABASE_URL": url,
                "MAILGLASS_BROKER_URL": self.valkey.url(),
                "MAILGLASS_CONFIG": str(config or self.scratch / "mailglass.toml"),
                "MAILGLASS_LOG_LEVEL": "warning",
            }
            settings = load_settings(environment)
            configure(settings)
            app.conf.update(configuration(settings))
            try:
                yield environment
            finally:
                close_runtime()

    @contextmanager
    def contenders(self, waits_for_disk: bool = True) -> Iterator[dict[str, str]]:
        """An empty database with the contenders' table and an empty broker, set up for this process too."""
        with self._database("template1", waits_for_disk) as url:
            environment = {contenders.DATABASE: url, contenders.BROKER: self.valkey.url()}
            os.environ.update(environment)
            contenders.app.conf.broker_url = self.valkey.url()
            contenders.Base.metadata.create_all(contenders.engine())
            try:
                yield environment
            finally:
                contenders.engine().dispose()
                contenders.engine.cache_clear()

    @contextmanager
    def worker(self, app: str, environment: Mapping[str, str], pool: str = "prefork") -> Iterator[ChildProcess]:
        """`celery -A app worker -P pool -c 2` with this environment."""
        child = ChildProcess(
            "worker",
            [sys.executable, "-m", "celery", "-A", app, "worker", "-P", pool, "-c", "2"],
            log=self.scratch / "worker.log",
            env={**plain_environment(), **environment},
            cwd=ROOT,
            guardian=self._guardian,
        )
        with child:
            yield child

    def queued(self, key: str) -> Callable[[], int]:
        """How many messages wait in a Celery queue."""
        client = redis.Redis.from_url(self.valkey.url())
        return lambda: int(client.llen(key))

    def unacknowledged(self) -> int:
        """How many messages a worker holds."""
        with redis.Redis.from_url(self.valkey.url()) as client:
            return int(client.hlen("unacked"))

    @contextmanager
    def _database(self, template: str, waits_for_disk: bool) -> Iterator[str]:
        name = f"bench_{next(self._numbers)}"
        url = self.postgres.create_database(name, template=template)
        if not waits_for_disk:
            self.postgres.execute(
                sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name))
            )
        self.valkey.flush()
        # what was written to make the ground ready is not written during the measurement
        self.postgres.execute(sql.SQL("CHECKPOINT").format())
        try:
            yield url
        finally:
            self.postgres.drop_database(name)


def plain_environment() -> dict[str, str]:
    """Ours without what would steer mailglass."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAILGLASS_")}


def receipt(number: int) -> Message:
    """A mail of the usual size: some 400 characters of text and 600 of HTML."""
    return Message(to=f"customer{number}@example.com", subject=f"Receipt {number}", text=TEXT, html=HTML)


def wait_until(fact: Callable[[], bool], child: ChildProcess | None = None) -> float:
    """The moment at which a fact came true, on the performance counter; looks every 10 ms.

    Raises:
        RuntimeError: it did not within minutes, or the child ended first.
    """
    deadline = time.perf_counter() + _TIMEOUT
    while not fact():
        if child is not None and not child.running:
            raise RuntimeError(f"the worker ended (exit code {child.returncode}):\n{child.output()[-2000:]}")
        if time.perf_counter() > deadline:
            raise RuntimeError(f"waited {_TIMEOUT:.0f} s in vain")
        time.sleep(_POLL)
    return time.perf_counter()
