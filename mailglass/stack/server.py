"""Base of the embedded servers: a data directory, a free port, a child process, and its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from mailglass.errors import StackError
from mailglass.stack.directory import DirectoryLock
from mailglass.stack.process import ChildProcess, Guardian, free_port

_PORT_ATTEMPTS = 5


class EmbeddedServer(ABC):
    """A server on 127.0.0.1, at a free port, with a password, and nothing left of it after `stop`.

    Class attributes:
        name: for errors.
        port_taken: what it writes when somebody else was faster to take the port.

    Args:
        data_dir: keeps all that is its own; made when it is missing, used again when it is there.
        guardian: ends the server if this process cannot; one of its own when left out.
    """

    name: ClassVar[str]
    port_taken: ClassVar[str]

    def __init__(self, data_dir: Path, guardian: Guardian | None) -> None:
        self._directory = data_dir.absolute()
        self._given_guardian = guardian
        self._guardian: Guardian | None = None
        self._lock = DirectoryLock(self._directory, self.name)
        self._port: int | None = None
        self._child: ChildProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._child is None else self._child.pid

    @property
    def log(self) -> Path:
        """Path of its log."""
        return self._directory / f"{self.name.lower()}.log"

    def start(self) -> None:
        """Start it, at the port it had before if that is still free, and wait until it accepts connections.

        The port is remembered in the data directory, so that another process starts it there too.

        Raises:
            StackError: the `embedded` extra is missing, the directory is in use, or the server does not start.
        """
        if self.pid is not None:
            return
        self.stop()
        self._lock.acquire()
        try:
            self._guardian = self._given_guardian or Guardian()
            self._prepare()
            self._child = self._start_at_free_port()
        except BaseException:
            self._let_go()
            raise

    def stop(self) -> None:
        """Orderly shutdown, then a harder one; does nothing when it is stopped."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        self._let_go()

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings it back."""
        if self._child is not None:
            self._child.kill()
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Find the programs and make the data directory ready."""

    @abstractmethod
    def _process(self, port: int) -> ChildProcess:
        """Return the server's process, not started yet, with `self.log` and `self._guardian`."""

    def _explain(self, output: str) -> str:
        """Return the server's own words, to be added to the error that it did not start."""
        return ""

    def _start_at_free_port(self) -> ChildProcess:
        remembered = self._directory / "port"
        if self._port is None:
            self._port = _port_in(remembered)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._port = free_port(self._port)
            child = self._process(self._port)
            try:
                started = child.start()
                remembered.write_text(f"{self._port}\n", encoding="ascii")
                return started
            except StackError as error:
                output = child.output()
                if self.port_taken not in output or attempt == _PORT_ATTEMPTS:
                    raise StackError(f"{error}{self._explain(output)}") from None
                self._port = None
        raise AssertionError("unreachable")

    def _let_go(self) -> None:
        if self._guardian is not None and self._guardian is not self._given_guardian:
            self._guardian.close()
        self._guardian = None
        self._lock.release()


def _port_in(file: Path) -> int | None:
    """Return the port that a file remembers, or None."""
    with suppress(OSError, ValueError):
        port = int(file.read_text(encoding="ascii"))
        return port if 0 < port < 65536 else None
    return None
