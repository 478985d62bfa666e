"""The guardian's program: waits for its parent's death, then ends what the parent had registered.

Run by path under `python -I -S`, so it stands on the standard library alone. It reads commands, one a line, from
standard input; end of file, or another parent than the one it was started by, means that the parent is dead.
Start times tell a registered process from a later one that was given the same number.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

_POLL = 0.5
_HAS_PROC = os.path.exists("/proc/self/stat")


class Watched:
    """One registered process group.

    Attributes:
        pid: the leader, which is the group's number too.
        started: the leader's `start_time` when it was registered.
        signals: sent one after another until the leader is gone; SIGKILL follows.
        grace: seconds given to each signal.
    """

    def __init__(self, pid: int, started: str, signals: tuple[int, ...], grace: float) -> None:
        self.pid = pid
        self.started = started
        self.signals = signals
        self.grace = grace

    def encode(self) -> str:
        """As a `watch` command."""
        return f"watch {self.pid} {self.started} {','.join(str(int(item)) for item in self.signals)} {self.grace}\n"

    @classmethod
    def decode(cls, words: list[str]) -> Watched:
        """Decode what `encode` wrote, without the command's name."""
        pid, started, signals, grace = words
        return cls(int(pid), started, tuple(int(item) for item in signals.split(",")), float(grace))

    def running(self) -> bool:
        """Return whether the process runs still, under the same start time."""
        return start_time(self.pid) == self.started

    def reused(self) -> bool:
        """Return whether the number now belongs to somebody else."""
        return start_time(self.pid) not in (None, self.started) and not is_zombie(self.pid)


def start_time(pid: int) -> str | None:
    """Return a word that, with the pid, identifies a process for good; None when it is gone or a zombie."""
    if _HAS_PROC:
        fields = _stat(pid)
        return None if not fields or fields[0] in "ZX" else fields[19]
    command = ["/bin/ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    words = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return None if not words or words[0].startswith("Z") else "_".join(words[1:])


def is_zombie(pid: int) -> bool:
    """Return whether the process has ended and only waits to be reaped. Told apart on Linux only."""
    fields = _stat(pid) if _HAS_PROC else []
    return bool(fields) and fields[0] in "ZX"


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the command's name (proc_pid_stat(5)): state 1st, start time 20th."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def end(watched: Watched) -> None:
    """End one group: its own signals first, then SIGKILL for whatever is left of it."""
    for number in watched.signals:
        if not watched.running():
            break
        _signal_group(watched.pid, number)
        deadline = time.monotonic() + watched.grace
        while watched.running() and time.monotonic() < deadline:
            time.sleep(0.02)
    if not watched.reused():
        _signal_group(watched.pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def main(parent: int) -> None:
    """Watch the parent and end its children once it is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, Watched] = {}
    scratch: list[str] = []
    buffer = b""
    while True:
        alive = os.getppid() == parent
        # what a dead parent had still said is heard, too: we may have been slower to start than it was to die
        if not select.select([0], [], [], _POLL if alive else 0)[0]:
            if alive:
                continue
            break
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            obey(line.decode().split(), watched, scratch)
    for item in reversed(list(watched.values())):
        end(item)
    for path in scratch:
        import shutil

        shutil.rmtree(path, ignore_errors=True)


def obey(words: list[str], watched: dict[int, Watched], scratch: list[str]) -> None:
    """Carry out one command: `watch`, `forget` or `sweep`."""
    command, *rest = words
    if command == "watch":
        item = Watched.decode(rest)
        watched[item.pid] = item
    elif command == "forget":
        watched.pop(int(rest[0]), None)
    elif command == "sweep":
        scratch.append(os.fsdecode(bytes.fromhex(rest[0])))


if __name__ == "__main__":
    main(int(sys.argv[1]))
