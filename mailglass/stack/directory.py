"""Directories that one process owns at a time, and what a server left behind in them."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from mailglass.errors import StackError

_LEFT_SERVER_TIMEOUT = 15.0


class DirectoryLock:
    """Holds a directory for this process; the kernel lets go of it when the process ends, however it ends.

    Args:
        directory: made when it is missing.
        purpose: what it is for, named to whoever comes second.
    """

    def __init__(self, directory: Path, purpose: str) -> None:
        self._directory = directory
        self._purpose = purpose
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it; nothing happens when we have it.

        Raises:
            StackError: somebody else has it, or the directory cannot be made.
        """
        if self._descriptor is not None:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StackError(
                f"{self._directory} cannot be used for {self._purpose} ({error.strerror}): choose another directory"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StackError(
                f"{self._directory} is in use by another mailglass (pid {holder}) for {self._purpose}: "
                "stop that one, or use another directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_private(path: Path, content: str) -> None:
    """Write a file anew that nobody but its owner may read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(content)


def remove_stale_pid_file(pid_file: Path, belongs_to: Path, name: str) -> None:
    """Clear the pid file of a server that is gone, after waiting for one that is just being ended.

    To be called by whoever holds the directory's lock: a server that still runs then has lost its parent.

    Args:
        pid_file: its first line is the pid.
        belongs_to: the path that the server's command line names; the number alone may be somebody else's by now.
        name: the server's, for the error.

    Raises:
        StackError: such a server still runs.
    """
    deadline = time.monotonic() + _LEFT_SERVER_TIMEOUT
    while (pid := _server_pid(pid_file, belongs_to)) is not None:
        if time.monotonic() > deadline:
            raise StackError(f"a {name} server (pid {pid}) without a parent still uses {belongs_to}: end it first")
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _server_pid(pid_file: Path, belongs_to: Path) -> int | None:
    import psutil  # type: ignore[import-untyped]

    with suppress(OSError, ValueError, IndexError, psutil.Error):
        pid = int(pid_file.read_text(encoding="utf-8").split()[0])
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and str(belongs_to) in process.cmdline():
            return pid
    return None
