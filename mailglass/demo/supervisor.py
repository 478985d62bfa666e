"""Keeping processes alive: what ends by itself, or is killed, is started again."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from mailglass.errors import StackError
from mailglass.stack.process import ChildProcess, Ready

_POLL = 0.02
_TAIL = 12


class Supervisor:
    """Looks after some processes.

    Attributes:
        restarted: how often one was started again.

    Args:
        say: told when that happens.
        most: restarts within `window` seconds, after which a further end is an error.
        window: seconds.
    """

    def __init__(self, say: Callable[[str], None], most: int = 5, window: float = 60.0) -> None:
        self.restarted = 0
        self._say = say
        self._window = window
        self._replaceable: list[ChildProcess] = []
        self._irreplaceable: list[ChildProcess] = []
        self._restarts: deque[float] = deque(maxlen=most)

    def add(self, child: ChildProcess, *, replaceable: bool = True) -> None:
        """Look after a process, too.

        Args:
            child: the process.
            replaceable: False where its end is an error, because what it knows would be lost.
        """
        (self._replaceable if replaceable else self._irreplaceable).append(child)

    def look(self) -> None:
        """Start again what has ended; to be called every now and then.

        Raises:
            StackError: an irreplaceable one has ended, or one ends again and again.
        """
        for child in self._irreplaceable:
            if not child.running:
                raise StackError(f"{child.name} has ended ({_end(child)}){_tail(child)}")
        for child in self._replaceable:
            if not child.running:
                self._restart(child)

    def renew(self, names: Collection[str], timeout: float) -> None:
        """End processes in their own time and start them again: their files have changed.

        Args:
            names: whose.
            timeout: seconds they are given to end; then they are killed.
        """
        children = [child for child in self._replaceable if child.name in names]
        for child in children:
            _terminate(child)
        deadline = time.monotonic() + timeout
        for child in children:
            child.wait(max(0.0, deadline - time.monotonic()))
            child.stop(1.0)
            child.start()

    def ask_to_end(self, timeout: float) -> None:
        """Ask the replaceable ones to end and wait, `timeout` seconds at most for all of them together."""
        asked = [child for child in self._replaceable if _terminate(child)]
        deadline = time.monotonic() + timeout
        for child in asked:
            child.wait(max(0.0, deadline - time.monotonic()))

    def _restart(self, child: ChildProcess) -> None:
        now, end = time.monotonic(), _end(child)
        if len(self._restarts) == self._restarts.maxlen and now - self._restarts[0] < self._window:
            raise StackError(f"{child.name} ends again and again ({end}){_tail(child)}")
        self._restarts.append(now)
        child.start()
        self.restarted += 1
        self._say(f"{child.name} has ended ({end}); started again, pid {child.pid}")


def await_ready(children: Mapping[ChildProcess, Ready], timeout: float) -> None:
    """Wait until all are ready; they start side by side.

    Args:
        children: the processes, each with the check of its readiness.
        timeout: seconds for all of them.

    Raises:
        StackError: one ended, or was not ready in time; quotes the end of its log.
    """
    waiting = dict(children)
    deadline = time.monotonic() + timeout
    while waiting:
        for child, ready in children.items():
            if not child.running:
                raise StackError(f"{child.name} ended while starting ({_end(child)}){_tail(child)}")
            if child in waiting and ready(child):
                del waiting[child]
        if waiting and time.monotonic() > deadline:
            raise StackError(f"{next(iter(waiting)).name} was not ready within {timeout:g} s{_tail(*waiting)}")
        time.sleep(_POLL)


def _terminate(child: ChildProcess) -> bool:
    """SIGTERM to the process alone, not to its group: a worker's pool must be able to finish what it is sending."""
    if (pid := child.pid) is None:
        return False
    os.kill(pid, signal.SIGTERM)
    return True


def _end(child: ChildProcess) -> str:
    code = child.returncode
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _tail(*children: ChildProcess) -> str:
    child, *_ = children
    quoted: Sequence[str] = child.output().splitlines()[-_TAIL:] or ["(nothing)"]
    return f". The end of its log {child.log}:" + "".join(f"\n    {line}" for line in quoted)
