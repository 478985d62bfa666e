"""The local stack: PostgreSQL, a broker and whatever runs on them, for one directory and one process's life."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from mailglass.errors import StackError
from mailglass.stack.directory import DirectoryLock
from mailglass.stack.process import ChildProcess, Guardian, Ready

DATABASE = "mailglass"


class LocalStack:
    """Starts what is not given, runs children on it, and stops what it started, in reverse order, and only that.

    If this process dies without `stop`, a guardian does the same within some seconds.

    Args:
        root: keeps the data, the logs and the lock; made when it is missing.
        database_url: use this PostgreSQL; `MAILGLASS_DATABASE_URL` when left out; embedded when neither is there.
        broker_url: use this broker; `MAILGLASS_BROKER_URL` when left out; embedded when neither is there.
        durable: False lets the embedded servers lose data when the machine or they themselves crash, for speed.

    Example:
        with LocalStack() as stack:
            worker = stack.spawn("worker", ["celery", "-A", "mailglass", "worker"], ready=until_line("ready"))
            worker.wait()
    """

    def __init__(
        self,
        root: Path = Path(".mailglass"),
        database_url: str | None = None,
        broker_url: str | None = None,
        *,
        durable: bool = True,
    ) -> None:
        self.root = root.absolute()
        self._given = (
            database_url or os.environ.get("MAILGLASS_DATABASE_URL") or None,
            broker_url or os.environ.get("MAILGLASS_BROKER_URL") or None,
        )
        self._durable = durable
        self._urls: tuple[str, str] | None = None
        self._guardian: Guardian | None = None
        self._started: ExitStack | None = None
        self._children: list[ChildProcess] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def database_url(self) -> str:
        """The database, with its password."""
        return self._running_urls()[0]

    @property
    def broker_url(self) -> str:
        """The broker, with its password."""
        return self._running_urls()[1]

    @property
    def children(self) -> tuple[ChildProcess, ...]:
        """Processes started by `spawn`, in that order."""
        return tuple(self._children)

    @property
    def logs(self) -> Path:
        """Directory of the children's logs, one `<name>.log` each."""
        return self.root / "logs"

    def environment(self) -> dict[str, str]:
        """Return the environment for children: ours, with the URLs of this stack and unbuffered Python output."""
        database, broker = self._running_urls()
        return {
            "PYTHONUNBUFFERED": "1",
            **os.environ,
            "MAILGLASS_DATABASE_URL": database,
            "MAILGLASS_BROKER_URL": broker,
        }

    def start(self) -> None:
        """Start what is not given and wait until it accepts connections.

        Raises:
            StackError: the directory is in use, the extra `embedded` is needed and missing, or a server does not start.
        """
        if self._started is not None:
            raise StackError("this local stack is running already")
        with ExitStack() as started:
            lock = DirectoryLock(self.root, "a local stack")
            lock.acquire()
            started.callback(lock.release)
            _keep_out_of_git(self.root)
            self._guardian = Guardian()
            started.callback(self._guardian.close)
            database, broker = self._given
            self._urls = (database or self._start_postgres(started), broker or self._start_valkey(started))
            self._started = started.pop_all()

    def stop(self) -> None:
        """Stop what was started, the latest first; does nothing when nothing runs."""
        started, self._started, self._urls = self._started, None, None
        self._children.clear()
        if started is not None:
            started.close()

    def spawn(
        self,
        name: str,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        ready: Ready | None = None,
        *,
        cwd: Path | None = None,
        ready_timeout: float = 30.0,
        stop_timeout: float = 10.0,
    ) -> ChildProcess:
        """Start a child and wait until it is ready; it is stopped with the stack.

        Args:
            name: for errors and its log file.
            argv: program and arguments.
            env: added to `environment()`.
            ready: see `mailglass.stack.process.until_line` and `until_port`; None: as soon as it is started.
            cwd: its working directory.
            ready_timeout: seconds within which it must be ready.
            stop_timeout: seconds it is given after SIGTERM, before SIGKILL.

        Raises:
            StackError: the stack is not running, or the child did not start.
        """
        child = ChildProcess(
            name,
            argv,
            log=self.logs / f"{name}.log",
            env={**self.environment(), **(env or {})},
            cwd=cwd,
            ready=ready,
            ready_timeout=ready_timeout,
            guardian=self._guardian,
        )
        assert self._started is not None
        # before it starts: a Ctrl-C may come at any moment from then on
        self._started.callback(child.stop, stop_timeout)
        child.start()
        self._children.append(child)
        return child

    def _running_urls(self) -> tuple[str, str]:
        if self._urls is None:
            raise StackError("this local stack is not running: start it first")
        return self._urls

    def _start_postgres(self, started: ExitStack) -> str:
        from mailglass.stack.postgres import EmbeddedPostgres

        server = EmbeddedPostgres(self.root / "postgres", durable=self._durable, guardian=self._guardian)
        started.enter_context(server)
        return server.create_database(DATABASE)

    def _start_valkey(self, started: ExitStack) -> str:
        from mailglass.stack.valkey import EmbeddedValkey

        server = EmbeddedValkey(self.root / "valkey", append_only=self._durable, guardian=self._guardian)
        started.enter_context(server)
        return server.url()


def _keep_out_of_git(root: Path) -> None:
    ignore = root / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="ascii")
