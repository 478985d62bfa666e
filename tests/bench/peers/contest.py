"""The three rounds each contestant goes through: a backlog, single mails, and a kill in the middle of a backlog.

In all of them the workers are up and warm. For a backlog they are frozen by SIGSTOP, the mails are queued, and the
clock starts when SIGCONT lets them go: neither their start nor the queueing is in the figures.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count

import psutil  # type: ignore[import-untyped]
import psycopg

from mailglass.ledger.schema import upgrade
from mailglass.stack.process import ChildProcess, Guardian
from tests.bench.machine import ROOT, Machine, plain_environment
from tests.bench.peers.contestants import HTTP, Contestant
from tests.bench.peers.receivers import Moments, PostmarkStandIn, Receiver, SmtpSink
from tests.bench.peers.results import Drain, Kill, Latency

WARM = 40
SINGLE, EVERY = 200, 0.04
PATIENCE = 60.0
# longer than visibility time-out, lease and hold time together: what is sent again has been by then
QUIET = 20.0
_WARM_FROM, _SINGLE_FROM = 2_000_000, 1_000_000
_SETTLING = 0.5
_UNCERTAIN = "SELECT count(*) FROM mailglass.deliveries WHERE status IN ('uncertain', 'held')"


@dataclass
class Bout:
    """One contestant, its database, the receiver and its workers."""

    contestant: Contestant
    machine: Machine
    receiver: Receiver
    environment: dict[str, str]
    database: str
    workers: ChildProcess

    def queue(self, first: int, mails: int, every: float | None = None) -> dict[int, float]:
        """Queue mails in a process of their own; when each was handed over, by number."""
        arguments = [str(first), str(mails), *([] if every is None else ["--every", str(every)])]
        answer: dict[str, float] = json.loads(self._run(*arguments))
        return {int(number): moment for number, moment in answer.items()}

    def prepare(self) -> None:
        """Make the tables."""
        if self.contestant.ours:
            upgrade(self.database)
        else:
            self._run("set-up")

    def start(self) -> None:
        """Start the workers, and let them send some mails, so that all of them have what they keep."""
        self.workers.start()
        self.queue(_WARM_FROM, WARM)
        self.wait_arrived(WARM, 0.05)

    def nudge(self) -> None:
        """What a schedule does after a crash."""
        if self.contestant.nudged:
            self._run("nudge")

    def wait_arrived(self, wanted: int, poll: float) -> None:
        """Until so many mails have arrived.

        Raises:
            RuntimeError: the workers ended first, or nothing arrived for a minute.
        """
        arrived, last = -1, time.monotonic()
        while arrived < wanted:
            now = self.receiver.arrived()
            if now != arrived:
                arrived, last = now, time.monotonic()
            elif time.monotonic() - last > PATIENCE:
                raise RuntimeError(f"{arrived} of {wanted} mails arrived:\n{self.workers.output()[-2000:]}")
            if not self.workers.running:
                raise RuntimeError(f"the workers ended:\n{self.workers.output()[-2000:]}")
            time.sleep(poll)

    def server_cpu(self) -> float:
        return sum(cpu_seconds(server.pid) for server in (self.machine.postgres, self.machine.valkey) if server.pid)

    def worker_cpu(self) -> float:
        return cpu_seconds(self.workers.pid) if self.workers.pid else 0.0

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.contestant.queue_argv(*arguments),
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"queueing failed:\n{done.stderr[-2000:]}")
        return done.stdout


_numbers = count(1)


@contextmanager
def bout(machine: Machine, contestant: Contestant, transport: str, *, haste: bool) -> Iterator[Bout]:
    """A fresh database, an empty broker, an empty receiver, workers that are not started yet."""
    name = f"peers_{next(_numbers)}"
    with ExitStack() as stack:
        database = machine.postgres.create_database(name)
        stack.callback(machine.postgres.drop_database, name)
        machine.valkey.flush()
        guardian = Guardian()
        stack.callback(guardian.close)
        kind = PostmarkStandIn if transport == HTTP else SmtpSink
        receiver: Receiver = stack.enter_context(kind(machine.scratch, guardian))
        servers = {
            "PEERS_DATABASE_URL": database,
            "PEERS_BROKER_URL": machine.valkey.url(),
            **receiver.environment,
        }
        environment = {
            **plain_environment(),
            "PYTHONPATH": str(ROOT),
            **contestant.environment(transport, servers, machine.scratch, haste=haste),
        }
        log = machine.scratch / f"{name}.log"
        workers = ChildProcess(
            "workers", contestant.worker_argv(), log=log, env=environment, cwd=ROOT, guardian=guardian
        )
        stack.callback(workers.kill)
        made = Bout(contestant, machine, receiver, environment, database, workers)
        made.prepare()
        yield made


def run_rates(machine: Machine, contestant: Contestant, transport: str, mails: int) -> tuple[Drain, Latency]:
    """The backlog, then single mails, of workers that nothing happens to."""
    with bout(machine, contestant, transport, haste=False) as current:
        current.start()
        return _drain(current, mails), _latency(current)


def run_kill(machine: Machine, contestant: Contestant, transport: str, mails: int) -> Kill:
    """All workers are killed when two fifths have arrived, and started again."""
    with bout(machine, contestant, transport, haste=True) as current:
        current.start()
        before = current.receiver.arrived()
        with frozen(current.workers):
            current.queue(0, mails)
        current.wait_arrived(before + max(1, mails * 2 // 5), 0.01)
        current.workers.kill()
        struck_at = current.receiver.arrived() - before
        current.workers.start()
        current.nudge()
        _wait_until_quiet(current, mails)
        moments = _of_backlog(current.receiver.report(), mails)
        return Kill(
            mails=mails,
            struck_at=struck_at,
            twice=sum(len(found) > 1 for found in moments.values()),
            missing=mails - len(moments),
            held=_uncertain(current),
        )


def _drain(current: Bout, mails: int) -> Drain:
    before = current.receiver.arrived()
    with frozen(current.workers):
        current.queue(0, mails)
        workers, servers = current.worker_cpu(), current.server_cpu()
        began = time.time()
    with suppress(RuntimeError):
        current.wait_arrived(before + mails, 0.2)
    # what the last mails leave to be written down belongs to them
    time.sleep(_SETTLING)
    workers, servers = current.worker_cpu() - workers, current.server_cpu() - servers
    moments = _of_backlog(current.receiver.report(), mails)
    ended = max((found[0] for found in moments.values()), default=began + 1)
    return Drain(
        mails=mails,
        accepted=len(moments),
        rate=len(moments) / (ended - began),
        worker_cpu=1000 * workers / max(1, len(moments)),
        server_cpu=1000 * servers / max(1, len(moments)),
    )


def _latency(current: Bout) -> Latency:
    before = current.receiver.arrived()
    calls = current.queue(_SINGLE_FROM, SINGLE, EVERY)
    with suppress(RuntimeError):
        current.wait_arrived(before + SINGLE, 0.1)
    moments = current.receiver.report()
    return Latency.of([1000 * (moments[number][0] - called) for number, called in calls.items() if number in moments])


@contextmanager
def frozen(workers: ChildProcess) -> Iterator[None]:
    """Processes that do nothing meanwhile."""
    workers.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        workers.send_signal(signal.SIGCONT)


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, of a process, its descendants, and those of them that have ended."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
    return total


def _wait_until_quiet(current: Bout, mails: int) -> None:
    """Until nothing has arrived for a while: 20 s if all are there, a minute if some are missing."""
    arrived, last, complete = -1, time.monotonic(), False
    while time.monotonic() - last < (QUIET if complete else PATIENCE):
        now = current.receiver.arrived()
        if now != arrived:
            arrived, last = now, time.monotonic()
            complete = False
        elif not complete:
            complete = len(_of_backlog(current.receiver.report(), mails)) == mails
        time.sleep(0.2)


def _of_backlog(moments: Moments, mails: int) -> Moments:
    return {number: found for number, found in moments.items() if number < mails}


def _uncertain(current: Bout) -> int:
    """What mailglass's own record calls uncertain or held; the others have no such state."""
    if not current.contestant.ours:
        return 0
    with psycopg.connect(current.database) as ledger:
        row = ledger.execute(_UNCERTAIN).fetchone()
    return 0 if row is None else int(row[0])
