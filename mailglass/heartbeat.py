"""Heartbeats of workers and beat: one small file of each process, which a probe reads without a broker or a database.

Moments are seconds of the system's monotonic clock, which all processes of a machine or container share, so a clock
that is set does not end a process. A file is replaced as a whole: a reader sees one state or the next.

Only the standard library is imported: `mailglass probe` reads a heartbeat every few seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "MAILGLASS_HEARTBEATS"
# seconds after which a part that says nothing counts as hung, or as cut off
LIMIT: Final = 20.0
# seconds between two writes at the least
_EVERY: Final = 1.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,199}\Z")
_MAX_BYTES: Final = 64 * 1024

LIVE: Final[Mapping[str, tuple[str, ...]]] = {"worker": ("loop", "pool"), "beat": ("loop",)}
"""Parts that a live process of a kind hears from within `LIMIT`."""
READY: Final[Mapping[str, tuple[str, ...]]] = {
    "worker": ("loop", "pool", "broker", "database"),
    "beat": ("loop", "database"),
}
"""Parts that a ready process of a kind hears from within `LIMIT`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A heartbeat as a probe reads it.

    Attributes:
        pid: of the process.
        ages: seconds since each part was heard of.
    """

    pid: int
    ages: Mapping[str, float]

    def silent(self, parts: tuple[str, ...]) -> dict[str, float | None]:
        """Return the parts that were not heard of within `LIMIT`: seconds, or None for never."""
        return {name: self.ages.get(name) for name in parts if not -1.0 <= self.ages.get(name, LIMIT + 1) <= LIMIT}


class Heartbeat:
    """Heartbeat of this process. Safe to beat from several threads; never raises.

    Args:
        kind: `worker` or `beat`.
        name: tells processes of one kind on one machine apart; "" for the only one.
    """

    def __init__(self, kind: str, name: str = "") -> None:
        self._path = path_of(kind, name)
        self._beats: dict[str, float] = {}
        self._written = float("-inf")
        self._lock = threading.Lock()

    def beat(self, *parts: str) -> None:
        """Note that parts are alive, and write it down, at most once a second."""
        now = time.monotonic()
        for part in parts:
            self._beats[part] = now
        if now - self._written < _EVERY or not self._lock.acquire(blocking=False):
            return
        try:
            self._written = now
            with contextlib.suppress(OSError):
                self._write()
        finally:
            self._lock.release()

    def end(self) -> None:
        """Remove the file: a process that has ended is not alive."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _write(self) -> None:
        directory = self._path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(directory)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps({"pid": os.getpid(), "beats": self._beats}), encoding="utf-8")
        os.replace(temporary, self._path)


def path_of(kind: str, name: str = "") -> Path:
    """Return the path of a process's heartbeat.

    Args:
        kind: `worker` or `beat`.
        name: of the process; a worker's node name.

    Raises:
        ValueError: the name has characters that no node's name has.
    """
    if name and not _NAME.match(name):
        raise ValueError("a name is 1 to 200 of letters, digits, `.`, `_`, `@` and `-`")
    uid = os.getuid() if hasattr(os, "getuid") else 0
    # its own in either place: everybody may write to a mounted volume, as to the temporary one
    directory = Path(os.environ.get(VARIABLE) or tempfile.gettempdir()) / f"mailglass-{uid}"
    return directory / (f"{kind}-{name}.json" if name else f"{kind}.json")


def read(kind: str, name: str = "") -> Reading | None:
    """Return the heartbeat of a process, or None if there is none that can be read."""
    path = path_of(kind, name)
    try:
        _check_owner(path.parent)
        with path.open("rb") as file:
            data = json.loads(file.read(_MAX_BYTES))
        now = time.monotonic()
        return Reading(int(data["pid"]), {str(part): now - float(at) for part, at in data["beats"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _check_owner(directory: Path) -> None:
    """Refuse a directory of somebody else, who could say that a dead process lives.

    Raises:
        PermissionError: others may write to it, or it belongs to another user.
    """
    found = directory.stat()
    if hasattr(os, "getuid") and found.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{directory} belongs to another user")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise PermissionError(f"everybody may write to {directory}")
