"""Following the children's logs: what matters to somebody who develops an application."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_OURS = "mailglass."
_ROUTINE = frozenset({"mailglass.pump"})
_LOUD = frozenset({"warning", "error", "critical"})
_FRAME = frozenset({"event", "level", "logger", "timestamp"})
_CHUNK = 1 << 20


class Tail:
    """Passes on what is appended to some logs from now on.

    Args:
        logs: the files; one that is not there yet is followed from its beginning.
        say: gets each line that matters.
    """

    def __init__(self, logs: Iterable[Path], say: Callable[[str], None]) -> None:
        self._seen = {log: log.stat().st_size if log.exists() else 0 for log in logs}
        self._rest = dict.fromkeys(self._seen, b"")
        self._say = say

    def look(self) -> None:
        """Pass on what is new."""
        for log, position in self._seen.items():
            for line in self._new(log, position):
                if (told := worth_telling(line)) is not None:
                    self._say(f"{log.stem:<6}  {told}")

    def _new(self, log: Path, position: int) -> list[str]:
        try:
            with log.open("rb") as stream:
                stream.seek(position)
                chunk = stream.read(_CHUNK)
        except FileNotFoundError:
            return []
        self._seen[log] = position + len(chunk)
        *lines, self._rest[log] = (self._rest[log] + chunk).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


def worth_telling(line: str) -> str | None:
    """Return what to print of a log line: own events but for routine, warnings, and lines of any other form."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line or None
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    event, level = str(entry["event"]), str(entry.get("level", "info"))
    if level not in _LOUD and (not event.startswith(_OURS) or event in _ROUTINE):
        return None
    return " ".join([*([level] if level in _LOUD else []), event, *_fields(entry)])


def _fields(entry: dict[str, Any]) -> Iterable[str]:
    return (f"{name}={value}" for name, value in entry.items() if name not in _FRAME)
