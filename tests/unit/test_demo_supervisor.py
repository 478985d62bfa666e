"""Processes that end are started again, within reason; what does not start says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailglass.demo.supervisor import Supervisor, await_ready
from mailglass.errors import StackError
from mailglass.stack.process import ChildProcess, until_line

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
Until = Callable[..., bool]


@pytest.fixture
def child(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], ChildProcess]:
    def start(code: str) -> ChildProcess:
        process = ChildProcess("worker", [sys.executable, "-c", code], log=tmp_path / "worker.log").start()
        request.addfinalizer(process.kill)
        return process

    return start


def test_a_killed_process_is_started_again_and_that_is_told(child: Callable[[str], ChildProcess]) -> None:
    said: list[str] = []
    supervisor = Supervisor(said.append)
    worker = child(SLEEPER)
    supervisor.add(worker)
    supervisor.look()
    assert (said, supervisor.restarted) == ([], 0)
    first = worker.pid
    worker.kill()
    supervisor.look()
    assert worker.pid not in (None, first)
    assert said == [f"worker has ended (SIGKILL); started again, pid {worker.pid}"]
    assert supervisor.restarted == 1


def test_a_process_that_ends_again_and_again_is_an_error_that_quotes_its_log(
    child: Callable[[str], ChildProcess], until: Until, tmp_path: Path
) -> None:
    supervisor = Supervisor(lambda text: None, most=3)
    worker = child("raise SystemExit('no database')")
    supervisor.add(worker)

    def look_after_its_end() -> None:
        assert until(lambda: not worker.running)
        supervisor.look()

    for _ in range(3):
        look_after_its_end()
    with pytest.raises(StackError, match=rf"again and again \(exit code 1\).*{tmp_path}/worker.log:\n    no database"):
        look_after_its_end()
    assert supervisor.restarted == 3


def test_ends_that_lie_far_apart_are_no_error(child: Callable[[str], ChildProcess], until: Until) -> None:
    supervisor = Supervisor(lambda text: None, most=1, window=0.0)
    worker = child("pass")
    supervisor.add(worker)
    for _ in range(3):
        assert until(lambda: not worker.running)
        supervisor.look()
    assert supervisor.restarted == 3


def test_irreplaceable_process_is_not_started_again(child: Callable[[str], ChildProcess]) -> None:
    supervisor = Supervisor(lambda text: None)
    lab = child(SLEEPER)
    supervisor.add(lab, replaceable=False)
    supervisor.look()
    lab.kill()
    with pytest.raises(StackError, match="has ended"):
        supervisor.look()
    assert not lab.running


FAMILY = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])
def finish(*_):
    print("child", child.wait(), flush=True)
    raise SystemExit(0)
signal.signal(signal.SIGTERM, finish)
print("up", flush=True)
time.sleep(600)
"""


def test_a_process_that_is_asked_to_end_may_finish_with_its_children(
    child: Callable[[str], ChildProcess], until: Until
) -> None:
    supervisor = Supervisor(lambda text: None)
    worker = child(FAMILY)
    supervisor.add(worker)
    assert until(lambda: "up" in worker.output())
    supervisor.ask_to_end(20)
    assert (worker.returncode, worker.output()) == (0, "up\nchild 0\n")


def test_a_process_that_does_not_end_is_waited_for_no_longer_than_asked(child: Callable[[str], ChildProcess]) -> None:
    supervisor = Supervisor(lambda text: None)
    worker = child(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPER}")
    await_ready({worker: until_line("up")}, 20)
    supervisor.add(worker)
    supervisor.ask_to_end(0.1)
    assert worker.running


def test_a_process_that_ends_while_starting_is_named_with_the_end_of_its_log(
    child: Callable[[str], ChildProcess], tmp_path: Path
) -> None:
    code = "for number in range(30): print('line', number)\nraise SystemExit('bad settings')"
    with pytest.raises(StackError) as caught:
        await_ready({child(code): until_line("never")}, 20)
    assert "ended while starting (exit code 1)" in str(caught.value)
    assert str(tmp_path / "worker.log") in str(caught.value)
    assert str(caught.value).endswith("\n    bad settings")
    assert "line 29" in str(caught.value)
    assert "line 3\n" not in str(caught.value)


def test_a_process_that_is_not_ready_in_time_is_an_error(child: Callable[[str], ChildProcess]) -> None:
    with pytest.raises(StackError, match=r"worker was not ready within 0\.1 s"):
        await_ready({child(SLEEPER): until_line("never")}, 0.1)
