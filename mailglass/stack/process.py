"""Child processes with a log, a ready check and an orderly end; and the guardian that ends them if we cannot."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType

from mailglass.errors import StackError
from mailglass.stack import guardian as program

Ready = Callable[["ChildProcess"], bool]
_POLL = 0.01


class Guardian:
    """A tiny process of its own that outlives us and ends what is registered, however we die.

    It notices our death by the end of a pipe and by being given another parent, SIGKILL of us included, and then
    signals exactly the registered process groups, the latest first. Linux and macOS. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", program.__file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def watch(self, pid: int, signals: Sequence[int] = (signal.SIGTERM,), grace: float = 4.0) -> None:
        """End this process group when we are gone.

        Args:
            pid: the group's leader, started in a session of its own.
            signals: sent one after another until the leader is gone; SIGKILL comes last by itself.
            grace: seconds given to each.

        Raises:
            StackError: the guardian is not there any more.
        """
        started = program.start_time(pid)
        if started is not None:
            self._say(program.Watched(pid, started, tuple(signals), grace).encode())

    def forget(self, pid: int) -> None:
        """Forget this group, which has ended: its number may belong to anybody."""
        self._say(f"forget {pid}\n")

    def sweep(self, directory: Path) -> None:
        """Remove this directory, which must be a scratch directory of ours, when we are gone."""
        self._say(f"sweep {os.fsencode(directory).hex()}\n")

    def close(self) -> None:
        """Let it end what is still registered, then itself; returns when that is done."""
        with self._lock, suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise StackError(
                "the guardian of the local stack's processes is gone, so nothing would end them: start again"
            ) from None


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Put SIGINT and SIGTERM off for a moment: one that strikes within `Popen` leaves a child that nobody knows of."""
    arrived: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():
        for chosen in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(chosen)
            if callable(handler):
                handlers[chosen] = handler
                signal.signal(chosen, lambda number, frame: arrived.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in arrived:
            handlers[number](number, frame)


class ChildProcess:
    """One child in a session of its own, so that a signal to it reaches its whole group and nobody else.

    Args:
        name: for errors and the log.
        argv: program and arguments.
        log: gets its standard output and error, appended.
        env: its whole environment; ours when left out.
        cwd: its working directory.
        ready: called with this object until true; see `until_line` and `until_port`.
        ready_timeout: seconds within which it must be ready.
        signals: how it is asked to end, one after another; SIGKILL comes last by itself.
        user: run as this system user, with none of our groups; needs root.
        guardian: ends it if we cannot.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready: Ready | None = None,
        ready_timeout: float = 30.0,
        signals: Sequence[int] = (signal.SIGTERM,),
        user: str | None = None,
        guardian: Guardian | None = None,
    ) -> None:
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log = log
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._ready = ready
        self._ready_timeout = ready_timeout
        self._signals = tuple(signals)
        self._user = user
        self._guardian = guardian
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __repr__(self) -> str:
        return f"<ChildProcess {self.name} pid={self.pid}>"

    def __enter__(self) -> ChildProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs or before it was started."""
        return None if self._process is None else self._poll()

    def output(self) -> str:
        """Return the output written since the start."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(self._log_start)
                return stream.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def start(self) -> ChildProcess:
        """Start it and wait until it is ready.

        Raises:
            StackError: it cannot be started, ended, or was not ready in time; nothing of it is left then.
        """
        if self.running:
            raise StackError(f"{self.name} is running already (pid {self.pid})")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as stream:
            self._log_start = stream.tell()
            try:
                with _signals_wait():
                    self._process = self._spawn(stream.fileno())
            except OSError as error:
                raise StackError(
                    f"{self.name} cannot be started: {self.argv[0]} ({error.strerror}); check that it is installed"
                ) from None
        try:
            if self._guardian is not None:
                self._guardian.watch(self._process.pid, self._signals)
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout: float = 10.0) -> None:
        """Ask it to end, each signal for up to `timeout` seconds, then SIGKILL its group; returns when it is gone."""
        for number in self._signals:
            if not self.running:
                break
            self._signal_group(number)
            self._wait(timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL its group and wait."""
        if self.running:
            self._signal_group(signal.SIGKILL)
            self._wait(None)

    def send_signal(self, number: int) -> None:
        """Send one signal to its group, if it runs."""
        if self.running:
            self._signal_group(number)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end.

        Returns:
            Its exit code; None when `timeout` seconds passed first.
        """
        return self._wait(timeout)

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        group = extra_groups = None
        if self._user is not None:
            import pwd

            group, extra_groups = pwd.getpwnam(self._user).pw_gid, list[str | int]()
        return subprocess.Popen(
            self.argv,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=self._user,
            group=group,
            extra_groups=extra_groups,
        )

    def _wait_ready(self) -> None:
        if self._ready is None:
            return
        deadline = time.monotonic() + self._ready_timeout
        while not self._ready(self):
            if not self.running:
                raise StackError(f"{self.name} ended while starting (exit code {self.returncode}): see {self.log}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready within {self._ready_timeout:g} s: see {self.log}")
            time.sleep(_POLL)

    def _wait(self, timeout: float | None) -> int | None:
        if self._process is None:
            return None
        if self._process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
                self._after_end()
        return self._process.returncode

    def _poll(self) -> int | None:
        assert self._process is not None
        if self._process.returncode is None and self._process.poll() is not None:
            self._after_end()
        return self._process.returncode

    def _after_end(self) -> None:
        """Sweep up what the leader left of its group: now, because later the number may be somebody else's."""
        self._signal_group(signal.SIGKILL)
        if self._guardian is not None:
            assert self._process is not None
            with suppress(StackError):
                self._guardian.forget(self._process.pid)

    def _signal_group(self, number: int) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def until_line(pattern: str) -> Ready:
    """Ready when its output has something that matches this regular expression."""
    compiled = re.compile(pattern)
    return lambda child: compiled.search(child.output()) is not None


def until_port(port: int, host: str = "127.0.0.1") -> Ready:
    """Ready when something accepts connections on the port."""

    def accepts(_child: ChildProcess) -> bool:
        try:
            socket.create_connection((host, port), timeout=1.0).close()
        except OSError:
            return False
        return True

    return accepts


def free_port(preferred: int | None = None) -> int:
    """Return a TCP port on 127.0.0.1 that was free a moment ago: the preferred one if it still is, else any."""
    for wanted in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            # as servers do: a port whose old connections still linger in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if wanted is not None:
                probe.bind(("127.0.0.1", wanted))
                return int(probe.getsockname()[1])
    raise StackError("no TCP port is free on 127.0.0.1: close something that uses many of them")
