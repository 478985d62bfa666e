"""mailglass on servers of its own, which a test may kill, and a relay that hangs up in the middle of an answer."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from mailglass.stack.postgres import EmbeddedPostgres
from mailglass.stack.process import ChildProcess, Guardian, until_line
from mailglass.stack.valkey import EmbeddedValkey

# short leases and holds, so that a round waits little; the attempts of a mail outlast every fault of a round
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
lease = {lease}
task_budget = 1
send_margin = 2
ring_timeout = 1

[streams.transactional]
max_attempts = 30
backoff_base = 0.05
backoff_max = 0.2
uncertain_hold = 1
"""
STANDING = """
SELECT status, last_error, min(due_at), min(lease_expires_at), now(), count(*) FROM mailglass.deliveries
GROUP BY status, last_error
"""


@dataclass(frozen=True)
class Pool:
    """One way to run a worker, and what of it is killed.

    Attributes:
        victim: the whole `worker`, or one `child` of a prefork pool, after which the worker goes on.
    """

    options: tuple[str, ...]
    victim: str = "worker"


POOLS = (
    Pool(("-P", "prefork", "-c", "2")),
    Pool(("-P", "threads", "-c", "3")),
    Pool(("-P", "gevent", "-c", "4")),
    Pool(("-P", "prefork", "-c", "2"), "child"),
    Pool(
        (
            "-P",
            "solo",
        )
    ),
)


@dataclass
class Site:
    """A configured mailglass whose parts a test may kill.

    Attributes:
        broker: a Valkey that keeps its data, or a RabbitMQ.
    """

    directory: Path
    postgres: EmbeddedPostgres
    broker: Any
    guardian: Guardian
    environment: dict[str, str]
    started: int = 0
    children: list[ChildProcess] = field(default_factory=list)

    def configure(self, port: int, lease: float = 4) -> None:
        """Send through this port under leases of so many seconds, from the next worker on."""
        (self.directory / "mailglass.toml").write_text(CONFIG.format(port=port, lease=lease), encoding="utf-8")

    def worker(self, pool: Pool, seam: str = "", at: int = 1) -> ChildProcess:
        """A worker, with a fault built in where a seam is named."""
        self.started += 1
        return self._celery(
            f"worker{self.started}",
            [
                "worker",
                "-Q",
                "mailglass",
                *pool.options,
                "-n",
                f"w{self.started}@%h",
                "--without-gossip",
                "--without-mingle",
                "-l",
                "info",
                "-I",
                "tests.chaos.faults",
            ],
            "ready\\.",
            {
                "CHAOS_SEAM": seam,
                "CHAOS_AT": str(at),
                "CHAOS_VICTIM": pool.victim,
                "CHAOS_MARK": str(self.directory / f"mark{self.started}"),
            },
        )

    def died(self) -> bool:
        """Whether the worker that was started last has met its seam."""
        return (self.directory / f"mark{self.started}").exists()

    def beat(self) -> ChildProcess:
        """A beat."""
        self.started += 1
        return self._celery(f"beat{self.started}", ["beat", "-l", "info"], "beat: Starting", {})

    def broker_returns(self, *, keep_data: bool) -> None:
        """Start the killed broker again, with what it had on disk or with nothing."""
        if not keep_data and isinstance(self.broker, EmbeddedValkey):
            shutil.rmtree(self.directory / "valkey" / "appendonlydir")
        self.broker.start()
        if not keep_data and not isinstance(self.broker, EmbeddedValkey):
            self.broker.flush()

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
        self.children.append(child)
        return child.start()

    def describe(self) -> None:
        """Print where everything stands, for a round that failed."""
        url = self.environment["MAILGLASS_DATABASE_URL"]
        with suppress(psycopg.Error), psycopg.connect(url, connect_timeout=5) as connection:
            print(*connection.execute(STANDING).fetchall(), sep="\n")
        for child in self.children:
            print(f"--- {child.name}, exit code {child.returncode}", *child.output().splitlines()[-40:], sep="\n")

    def end_round(self) -> None:
        """Kill whatever still runs of workers and beats."""
        for child in self.children:
            child.kill()
        self.children.clear()


class Cutter:
    """A relay that hangs up in the middle of the server's answers, a number of times.

    Args:
        port: of the server behind it.
        cuts: how often it hangs up before it behaves.
        rng: after how many bytes.
    """

    def __init__(self, port: int, cuts: int, rng: random.Random) -> None:
        self._port = port
        self._rng = rng
        self.cuts = cuts

    @contextmanager
    def running(self) -> Iterator[int]:
        """Listens; gives the port."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._relay, "127.0.0.1"), loop).result(10)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    @staticmethod
    async def _end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection("127.0.0.1", self._port)
        limit = self._rng.randint(1, 1500) if self.cuts > 0 else None
        ways = [
            asyncio.ensure_future(_pass_on(reader, questions, None)),
            asyncio.ensure_future(_pass_on(answers, writer, limit)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if limit is not None and ways[1].done() and not ways[1].cancelled() and ways[1].result():
                self.cuts -= 1
            for way in ways:
                way.cancel()
            for end in (writer, questions):
                end.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, limit: int | None) -> bool:
    """Until its end, or until so many bytes have passed; whether that was the limit."""
    with suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data if limit is None else data[:limit])
            await target.drain()
            if limit is not None and (limit := limit - len(data)) <= 0:
                return True
    return False
