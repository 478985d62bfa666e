"""Records of a CSV file from outside, one at a time: whatever a line holds, the lines after it are read."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TextIO

# characters of one record, and lines that a quoted cell may span
MAX_RECORD: Final = 64 * 1024
MAX_LINES: Final = 50
_DELIMITERS: Final = (",", ";", "\t")


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        line: the number of its first line, from 1.
        cells: what stands in it; empty if it could not be read.
        refusal: why it could not be read; None for a good one.
    """

    line: int
    cells: tuple[str, ...]
    refusal: str | None = None


def records(source: TextIO) -> Iterator[Record]:
    """Yield the records of a file, blank lines left out.

    The delimiter is the one of `,`, `;` and tab that the first line has most of. A record ends where its quotes are
    closed. A line whose quote is not closed within 50 lines or 64 KiB is refused, and reading goes on after it.

    Args:
        source: opened with newline="".
    """
    delimiter: str | None = None
    waiting: list[str] = []
    number = 0
    while True:
        line = waiting.pop(0) if waiting else _line(source)
        if not line:
            return
        number += 1
        if delimiter is None:
            line = line.removeprefix("\ufeff")
            delimiter = max(_DELIMITERS, key=line.count)
        if len(line) > MAX_RECORD:
            yield Record(number, (), "line_too_long")
        elif line.count('"') % 2 == 0:
            if line.strip():
                yield _record(number, line, delimiter)
        elif (whole := _closed(source, line, waiting)) is not None:
            yield _record(number, whole, delimiter)
            number += whole.count("\n") - line.count("\n")
        else:
            yield Record(number, (), "quote_not_closed")


def _line(source: TextIO) -> str:
    """Return the next line; of an endless one its beginning, and the rest is passed over."""
    line = source.readline(MAX_RECORD + 1)
    rest = line
    while len(rest) > MAX_RECORD and not rest.endswith("\n"):
        rest = source.readline(MAX_RECORD + 1)
    return line


def _closed(source: TextIO, first: str, waiting: list[str]) -> str | None:
    """Return a record of several lines, or None if its quote is not closed; what was read ahead waits then."""
    ahead = waiting[:MAX_LINES]
    size = len(first) + sum(map(len, ahead))
    quotes = first.count('"')
    parts = [first]
    for position in range(MAX_LINES):
        if position == len(ahead):
            line = _line(source)
            if not line:
                break
            ahead.append(line)
            waiting.append(line)
            size += len(line)
        parts.append(ahead[position])
        quotes += ahead[position].count('"')
        if quotes % 2 == 0:
            del waiting[: position + 1]
            return "".join(parts)
        if size > MAX_RECORD:
            break
    return None


def _record(number: int, text: str, delimiter: str) -> Record:
    try:
        (cells,) = csv.reader([text.rstrip("\r\n")], delimiter=delimiter)
    except (csv.Error, ValueError):
        return Record(number, (), "not_csv")
    return Record(number, tuple(cells))
