"""A whole mailglass for a test: settings on the test's own database and broker, an SMTP server, worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu import Connection, Queue
from kombu.message import Message

from mailglass.celery import forget_broker, transport_options, use_settings
from mailglass.runtime import Runtime, close_runtime, get_runtime
from mailglass.settings import DEFAULT_QUEUE, configure, get_settings, load_settings
from mailglass.stack.process import ChildProcess, Guardian, until_line, until_port
from mailglass.testing.lab.smtp import SMTPLab
from mailglass.testing.lab.weather import LabMail, Weather

FAST_ENGINE = """
[engine]
lease = 12
task_budget = 4
send_margin = 6
ring_timeout = 1

[streams.transactional]
backoff_base = 0.1
backoff_max = 0.5
uncertain_hold = 2
"""


@dataclass
class Outside:
    """The world a worker process sends into: an SMTP server in a thread of the test."""

    port: int
    server: SMTPLab
    mails: list[LabMail] = field(default_factory=list)
    weather: Callable[[str], Weather] = lambda recipient: Weather.DELIVER

    @property
    def received(self) -> Counter[str]:
        """How often each delivery was accepted."""
        return Counter(mail.delivery_id for mail in list(self.mails))


@pytest.fixture
def outside() -> Iterator[Outside]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    world = Outside(0, SMTPLab(lambda mail: world.mails.append(mail), lambda recipient: world.weather(recipient)))
    world.port = asyncio.run_coroutine_threadsafe(world.server.start(), loop).result(60)
    yield world
    asyncio.run_coroutine_threadsafe(world.server.stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)


@dataclass(frozen=True)
class Rings:
    """What waits in the broker, whichever it is.

    Attributes:
        url: the broker's.
    """

    url: str

    def count(self, queue: str = DEFAULT_QUEUE) -> int:
        """How many messages wait."""
        with self._channel() as channel:
            return self._size(channel, queue)

    def take(self, queue: str = DEFAULT_QUEUE) -> list[Message]:
        """Take all that wait, in the order in which a worker would get them: for the ledger they are lost."""
        with self._channel() as channel:
            place = Queue(queue, channel=channel)
            return [place.get(no_ack=True) for _ in range(self._size(channel, queue))]

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with Connection(self.url, transport_options=transport_options(self.url, get_settings())) as connection:
            yield connection.default_channel

    @staticmethod
    def _size(channel: Any, queue: str) -> int:
        if hasattr(channel, "_size"):
            # on Redis, kombu asks for a queue without its global_keyprefix whether it is there
            return int(channel._size(queue))
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except channel.connection.client.channel_errors:
            # nobody has declared it yet
            return 0


@contextmanager
def frozen(broker: Any) -> Iterator[None]:
    """A broker that takes connections and answers nothing."""
    if broker.pid is None:
        pytest.skip("needs a broker that may be frozen: unset MAILGLASS_TEST_BROKER_URL")
    group = [process for process in psutil.process_iter() if _group_of(process.pid) == broker.pid]
    os.killpg(broker.pid, signal.SIGSTOP)
    try:
        # a process that runs on another processor stops a moment later
        deadline = time.monotonic() + 30
        while any(process.is_running() and process.status() in _RUNS for process in group):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield
    finally:
        os.killpg(broker.pid, signal.SIGCONT)


_RUNS = frozenset({psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING, psutil.STATUS_DISK_SLEEP})


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@dataclass
class Cluster:
    """A configured mailglass.

    Attributes:
        environment: what child processes need to be part of it.
        directory: where its configuration and logs are.
    """

    environment: dict[str, str]
    directory: Path
    guardian: Guardian
    stack: ExitStack

    @property
    def runtime(self) -> Runtime:
        return get_runtime()

    @property
    def rings(self) -> Rings:
        return Rings(self.environment["MAILGLASS_BROKER_URL"])

    def celery(self, name: str, arguments: Sequence[str], line: str) -> ChildProcess:
        """A `celery -A mailglass ...` process, once it has written `line`."""
        child = ChildProcess(
            name,
            [sys.executable, "-m", "celery", "-A", "mailglass", *arguments],
            log=self.directory / f"{name}.log",
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            cwd=self.directory,
            ready=until_line(line),
            ready_timeout=60,
            guardian=self.guardian,
        )
        self.stack.callback(child.stop)
        return child.start()

    def worker(self, *options: str, name: str = "worker") -> ChildProcess:
        """A worker process that is ready to consume."""
        arguments = ["worker", "-Q", "mailglass", "-n", f"{name}@%h", "--without-gossip", "--without-mingle"]
        return self.celery(name, [*arguments, "-l", "info", *(options or ("-c", "2"))], "ready\\.")

    def web(self, port: int) -> ChildProcess:
        """A `mailglass web` process that listens."""
        child = ChildProcess(
            "web",
            [sys.executable, "-m", "mailglass", "web", "--port", str(port)],
            log=self.directory / "web.log",
            env={**os.environ, **self.environment},
            cwd=self.directory,
            ready=until_port(port),
            ready_timeout=60,
            guardian=self.guardian,
        )
        self.stack.callback(child.stop)
        return child.start()

    def beat(self, name: str = "beat") -> ChildProcess:
        """A beat process that has started."""
        return self.celery(name, ["beat", "-l", "info"], "beat: Starting")


@pytest.fixture
def cluster(
    tmp_path: Path,
    database_environment: dict[str, str],
    broker_url: str,
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """mailglass on this test's database, broker and SMTP server; tenant `null` goes to the null provider."""
    config = tmp_path / "mailglass.toml"
    config.write_text(
        f"""
default_from = "Shop <shop@example.com>"
log_format = "console"

[accounts.relay]
provider = "smtp"
host = "127.0.0.1"
port = {outside.port}
security = "none"

[accounts.nowhere]
provider = "null"

[[routes]]
tenant = "null"
accounts = ["nowhere"]

[[routes]]
accounts = ["relay"]
{FAST_ENGINE}
""",
        encoding="utf-8",
    )
    environment = {
        "MAILGLASS_CONFIG": str(config),
        **database_environment,
        "MAILGLASS_BROKER_URL": broker_url,
        "MAILGLASS_HEARTBEATS": str(tmp_path / "heartbeats"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configure(load_settings())
    # an earlier test of this process may have left its broker
    use_settings(get_settings())
    with ExitStack() as stack:
        guardian = Guardian()
        stack.callback(guardian.close)
        yield Cluster(environment, tmp_path, guardian, stack)
    close_runtime()
    # another test of this process has another broker, or an emptied one
    forget_broker()


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
