"""Noticing that an application's files have changed, by looking at them every now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_INTERVAL: Final = 0.5
_MOST: Final = 20_000
_SUFFIXES: Final = (".py", ".html", ".htm", ".txt", ".jinja", ".jinja2", ".j2", ".css", ".toml")
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"})


class Changes:
    """Watcher for changes in a directory since the last look: templates, mailables, settings.

    Args:
        directory: the application's.
        also: a file to look at wherever it stands.
    """

    def __init__(self, directory: Path, also: Path | None = None) -> None:
        self._directory = directory
        self._also = also
        self._seen = dict(self._files())
        self._next = 0.0

    def look(self) -> list[Path]:
        """Return the files that are new, gone or written anew; nothing where the last look was just now."""
        if time.monotonic() < self._next:
            return []
        found = dict(self._files())
        changed = [path for path in {**self._seen, **found} if self._seen.get(path) != found.get(path)]
        self._seen = found
        self._next = time.monotonic() + _INTERVAL
        return [Path(path) for path in changed]

    def _files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        left = _MOST
        for top, directories, files in os.walk(self._directory):
            directories[:] = [name for name in directories if name not in _SKIPPED and not name.startswith(".")]
            for name in files:
                if name.endswith(_SUFFIXES) and left > 0:
                    left -= 1
                    yield from _state(os.path.join(top, name))
        if self._also is not None:
            yield from _state(str(self._also))


def _state(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        found = os.stat(path)
    except OSError:
        return
    yield path, (found.st_mtime_ns, found.st_size)
