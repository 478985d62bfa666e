"""`mailglass probe` on real workers and a real beat."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailglass import Message, deliver_later, heartbeat
from mailglass.cli import run
from mailglass.testing.lab.weather import Weather
from tests.cluster import Cluster, Outside

_POOLS = {
    "prefork": ("-c", "2"),
    "threads": ("-P", "threads", "-c", "2"),
    "gevent": ("-P", "gevent", "-c", "2"),
}

# seconds between two beats at the most, on a loaded machine
_USUAL = 2.5


def node(cluster: Cluster) -> str:
    (file,) = (cluster.directory / "heartbeats").glob("*/worker-*.json")
    return file.name.removeprefix("worker-").removesuffix(".json")


@pytest.mark.parametrize("pool", _POOLS)
def test_a_worker_is_ready_a_frozen_one_falls_silent_and_an_ended_one_is_gone(
    cluster: Cluster, pool: str, wait_for: Callable[..., None]
) -> None:
    worker = cluster.worker(*_POOLS[pool])
    wait_for(lambda: any((cluster.directory / "heartbeats").glob("*/worker-*.json")))
    name = node(cluster)
    wait_for(lambda: run(["probe", "worker", "--ready", "--name", name]) == 0)
    assert run(["probe", "worker", "--live", "--name", name]) == 0
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: _age(name, "loop") > 4 * _USUAL)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    wait_for(lambda: _age(name, "loop") < _USUAL)
    worker.stop()
    assert run(["probe", "worker", "--name", name]) == 1


def _age(name: str, part: str) -> float:
    reading = heartbeat.read("worker", name)
    assert reading is not None
    return reading.ages[part]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_whose_slots_are_all_busy_goes_on_beating(
    cluster: Cluster, outside: Outside, pool: str, wait_for: Callable[..., None]
) -> None:
    outside.weather = lambda recipient: Weather.LOST_ANSWER
    cluster.worker(*_POOLS[pool])
    for number in range(8):
        deliver_later.delay(Message(to=f"u{number}@example.com", subject="Receipt", text="Thank you."))
    wait_for(lambda: len(outside.mails) >= 2)
    name = node(cluster)
    begun = time.monotonic()
    # heard of at a later moment than this, while both slots wait for an answer
    wait_for(lambda: time.monotonic() - _age(name, "pool") > begun + 2 * _USUAL)
    assert run(["probe", "worker", "--name", name]) == 0


def test_beat_beats(cluster: Cluster, wait_for: Callable[..., None]) -> None:
    beat = cluster.beat()
    wait_for(lambda: run(["probe", "beat", "--ready"]) == 0)
    beat.stop()
    assert run(["probe", "beat"]) == 1


def test_a_web_process_that_is_not_there_is_not_alive(unused_port: int) -> None:
    assert run(["probe", "web", "--port", str(unused_port)]) == 1


def test_a_probe_imports_neither_celery_nor_the_ledger(tmp_path: Path) -> None:
    program = (
        "import sys; from mailglass.cli import run; run(['probe', 'worker']);"
        "print(sorted({'celery', 'sqlalchemy', 'psycopg', 'redis', 'rich', 'mailglass.settings'} & set(sys.modules)))"
    )
    environment = {**os.environ, "MAILGLASS_HEARTBEATS": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.endswith("[]\n")
