"""Telling what goes on, on standard error: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_INTERVAL = 2.0


class Narrator(Protocol):
    """Output of the demo while it works."""

    def say(self, text: str) -> None:
        """One line."""

    def show(self, done: int, total: int, by_status: Mapping[str, int]) -> None:
        """Show the progress."""

    def close(self) -> None:
        """No more to show."""


def narrator(color: bool | None = None, stream: TextIO | None = None) -> Narrator:
    """Return the one that fits where standard error goes.

    Args:
        color: False for none.
        stream: instead of standard error.
    """
    stream = stream or sys.stderr
    return LiveNarrator(stream, color) if stream.isatty() else PlainNarrator(stream)


def in_words(by_status: Mapping[str, int]) -> str:
    """Return the counts in one line, the most frequent first."""
    ordered = sorted(by_status.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number} {status}" for status, number in ordered if number)


class PlainNarrator:
    """Lines with the seconds since the start, counts every two seconds at most."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._shown = 0.0
        self._last = ""

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", file=self._stream, flush=True)

    def show(self, done: int, total: int, by_status: Mapping[str, int]) -> None:
        """Show how many of the total are done, and how many have each status."""
        text = f"{done} of {total} final: {in_words(by_status)}"
        now = time.monotonic()
        if text != self._last and (done == total or now - self._shown >= _INTERVAL):
            self._shown, self._last = now, text
            self.say(text)

    def close(self) -> None:
        """Nothing to put away."""


class LiveNarrator:
    """A bar with live counts under the lines that were said."""

    def __init__(self, stream: TextIO, color: bool | None) -> None:
        from rich.console import Console

        self._console = Console(file=stream, no_color=True if color is False else None, highlight=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        # what is said is text, not markup
        """Print a line."""
        self._console.print(text, markup=False, style="dim")

    def show(self, done: int, total: int, by_status: Mapping[str, int]) -> None:
        """Show how many of the total are done, and how many have each status."""
        if self._progress is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[counts]}"))
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task("", total=total, counts="")
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total, counts=in_words(by_status))

    def close(self) -> None:
        """End the progress display."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
