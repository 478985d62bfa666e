"""Child processes end as a whole, and the guardian ends them when their parent cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailglass.errors import StackError
from mailglass.stack import guardian as program
from mailglass.stack.process import ChildProcess, Guardian, free_port, until_line, until_port

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
WITH_GRANDCHILD = f"""
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
grandchild.stdout.readline()
print(grandchild.pid, "up", flush=True)
time.sleep(600)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


Until = Callable[..., bool]


class Identity:
    """A process for good: its number alone may be given to another one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.started = program.start_time(pid)
        assert self.started is not None

    def gone(self) -> bool:
        return program.start_time(self.pid) != self.started


@pytest.fixture
def bystander() -> Iterator[Identity]:
    """A process that nobody registered."""
    process = subprocess.Popen(python(SLEEPER), stdout=subprocess.DEVNULL, start_new_session=True)
    yield Identity(process.pid)
    process.kill()
    process.wait()


def child(tmp_path: Path, code: str, pattern: str = "up", **options: object) -> ChildProcess:
    return ChildProcess("child", python(code), log=tmp_path / "child.log", ready=until_line(pattern), **options)


def test_a_stopped_child_takes_its_whole_group_with_it(tmp_path: Path, until: Until) -> None:
    with child(tmp_path, WITH_GRANDCHILD) as parent:
        grandchild = Identity(int(parent.output().split()[0]))
    assert parent.returncode == -signal.SIGTERM
    assert until(grandchild.gone)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = child(tmp_path, STUBBORN).start()
    stubborn.stop(timeout=0.2)
    assert stubborn.returncode == -signal.SIGKILL


def test_stopping_a_child_that_ended_by_itself_signals_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = ChildProcess("short", python("pass"), log=tmp_path / "short.log").start()
    assert short.wait(60) == 0
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: signalled.append(pid))
    short.stop()
    short.kill()
    short.send_signal(signal.SIGTERM)
    assert signalled == []


def test_processes_left_behind_by_an_ended_child_are_swept_up(tmp_path: Path, until: Until) -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]).pid, flush=True)"
    leaver = ChildProcess("leaver", python(code), log=tmp_path / "leaver.log").start()
    assert until(lambda: leaver.output().endswith("up\n"))
    orphan = Identity(int(leaver.output().split()[0]))
    assert leaver.wait(60) == 0
    assert until(orphan.gone)


def test_a_child_that_ends_while_starting_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=rf"child ended while starting \(exit code 3\): see {tmp_path}/child.log"):
        child(tmp_path, "raise SystemExit(3)").start()


def test_a_child_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    late = child(tmp_path, SLEEPER, "never said", ready_timeout=0.2)
    with pytest.raises(StackError, match=r"not ready within 0.2 s"):
        late.start()
    assert late.returncode == -signal.SIGKILL


def test_a_program_that_is_not_there_is_a_stack_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="check that it is installed"):
        ChildProcess("ghost", [tmp_path / "ghost"], log=tmp_path / "ghost.log").start()


def test_readiness_by_line_looks_only_at_what_this_start_has_written(tmp_path: Path) -> None:
    (tmp_path / "child.log").write_text("up\n", encoding="utf-8")
    with pytest.raises(StackError, match="ended while starting"):
        child(tmp_path, "pass").start()


def test_readiness_by_port_waits_until_it_accepts(tmp_path: Path) -> None:
    port = free_port()
    code = f"import http.server; http.server.HTTPServer(('127.0.0.1', {port}), None).serve_forever()"
    with ChildProcess("web", python(code), log=tmp_path / "web.log", ready=until_port(port)) as server:
        assert until_port(port)(server)
    assert not until_port(port)(server)


def test_a_child_can_be_started_again(tmp_path: Path) -> None:
    again = child(tmp_path, SLEEPER).start()
    first = again.pid
    with pytest.raises(StackError, match="running already"):
        again.start()
    again.stop()
    again.start()
    assert again.pid not in (None, first)
    again.stop()
    assert again.pid is None


PARENT = """
import json, os, subprocess, sys, time
from pathlib import Path
from mailglass.stack.process import ChildProcess, Guardian, until_line
directory, codes, forks = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
(directory / "scratch").mkdir()
guardian = Guardian()
guardian.sweep(directory / "scratch")
children = [
    ChildProcess(str(number), [sys.executable, "-c", code], log=directory / f"{number}.log", ready=until_line("up"),
                 guardian=guardian).start()
    for number, code in enumerate(codes)
]
fork = os.fork() if forks else os.getpid()
if fork == 0:
    time.sleep(600)
loose = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(json.dumps({"guardian": guardian.pid, "children": [child.pid for child in children], "loose": loose.pid,
                  "fork": fork}), flush=True)
time.sleep(600)
"""


def orphaned(
    tmp_path: Path, clean_up: list[Identity], *codes: str, fork: bool = False
) -> tuple[dict[str, Identity], list[Identity]]:
    """Start a parent with these children and SIGKILL it."""
    argv = [*python(PARENT), str(tmp_path), json.dumps(codes), str(int(fork))]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    assert parent.stdout is not None
    said = json.loads(parent.stdout.readline())
    children = [Identity(pid) for pid in said["children"]]
    others = {name: Identity(said[name]) for name in ("guardian", "loose", "fork")}
    clean_up += [others["loose"], *children, *([others["fork"]] if fork else [])]
    parent.kill()
    parent.wait()
    return others, children


@pytest.fixture
def clean_up() -> Iterator[list[Identity]]:
    identities: list[Identity] = []
    yield identities
    for identity in identities:
        if not identity.gone():
            os.kill(identity.pid, signal.SIGKILL)


def test_the_guardian_ends_the_registered_children_of_a_killed_parent_and_nobody_else(
    tmp_path: Path, clean_up: list[Identity], bystander: Identity, until: Until
) -> None:
    others, children = orphaned(tmp_path, clean_up, SLEEPER, WITH_GRANDCHILD)
    assert until(lambda: all(item.gone() for item in [*children, others["guardian"]]))
    assert not others["loose"].gone()
    assert not bystander.gone()


def test_the_guardian_kills_what_ignores_sigterm(tmp_path: Path, clean_up: list[Identity], until: Until) -> None:
    _, children = orphaned(tmp_path, clean_up, STUBBORN)
    assert until(children[0].gone)


def test_the_guardian_removes_scratch_directories_last(tmp_path: Path, clean_up: list[Identity], until: Until) -> None:
    others, _ = orphaned(tmp_path, clean_up, SLEEPER)
    assert until(others["guardian"].gone)
    assert not (tmp_path / "scratch").exists()


def test_a_fork_of_the_parent_that_holds_the_pipe_does_not_keep_the_guardian_waiting(
    tmp_path: Path, clean_up: list[Identity], until: Until
) -> None:
    others, children = orphaned(tmp_path, clean_up, SLEEPER, fork=True)
    assert until(children[0].gone)
    assert not others["fork"].gone()


def test_a_guardian_that_starts_when_its_parent_is_dead_already_still_does_its_work(tmp_path: Path) -> None:
    left = child(tmp_path, SLEEPER).start()
    assert left.pid is not None
    read, write = os.pipe()
    os.write(
        write, program.Watched(left.pid, program.start_time(left.pid) or "", (signal.SIGTERM,), 4.0).encode().encode()
    )
    nobody = subprocess.Popen(python("pass"))
    nobody.wait()
    # the pipe stays open, as a fork of the dead parent would hold it
    late = subprocess.Popen([sys.executable, "-I", "-S", program.__file__, str(nobody.pid)], stdin=read)
    assert late.wait(60) == 0
    assert left.wait(0) == -signal.SIGTERM
    os.close(read)
    os.close(write)


def test_a_number_that_was_given_to_another_process_is_not_signalled(bystander: Identity, until: Until) -> None:
    program.end(program.Watched(bystander.pid, "1", (signal.SIGTERM,), 0.1))
    assert not until(bystander.gone, 0.3)


@pytest.mark.parametrize("has_proc", [True, False])
def test_a_start_time_is_a_word_that_ends_with_the_process(
    monkeypatch: pytest.MonkeyPatch, until: Until, has_proc: bool
) -> None:
    if not Path("/proc/self/stat" if has_proc else "/bin/ps").exists():
        pytest.skip("this machine tells start times the other way only")
    monkeypatch.setattr(program, "_HAS_PROC", has_proc)
    process = subprocess.Popen(["sleep", "600"])
    started = program.start_time(process.pid)
    assert started is not None and len(started.split()) == 1
    assert program.start_time(process.pid) == started
    process.kill()
    # a zombie until it is reaped
    assert until(lambda: program.start_time(process.pid) is None)
    process.wait()
    assert program.start_time(process.pid) is None


def test_the_guardian_forgets_what_has_ended(tmp_path: Path) -> None:
    watched: dict[int, program.Watched] = {}
    for line in (program.Watched(7, "1", (15, 3), 2.0).encode(), program.Watched(8, "1", (15,), 2.0).encode()):
        program.obey(line.split(), watched, [])
    program.obey(["forget", "8"], watched, [])
    assert list(watched) == [7]
    assert (watched[7].signals, watched[7].grace) == ((15, 3), 2.0)


def test_closing_the_guardian_ends_what_is_still_registered(tmp_path: Path) -> None:
    guardian = Guardian()
    left = child(tmp_path, SLEEPER, guardian=guardian).start()
    guardian.close()
    assert left.wait(0) == -signal.SIGTERM


def test_a_child_is_not_started_without_the_guardian_it_was_promised(tmp_path: Path) -> None:
    guardian = Guardian()
    os.kill(guardian.pid, signal.SIGKILL)
    unguarded = child(tmp_path, SLEEPER, guardian=guardian)
    with pytest.raises(StackError, match="guardian"):
        _start_until_noticed(unguarded)
    assert not unguarded.running


def _start_until_noticed(unguarded: ChildProcess) -> None:
    # the pipe breaks when the kernel has taken the guardian down, a moment after the signal
    for _ in range(50):
        unguarded.start()
        unguarded.stop()
