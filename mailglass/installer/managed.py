"""Managed pieces of a file: blocks between two comment lines, single lines, and whole files.

Each carries the digest of its own text. A piece whose digest is right has not been edited since it was written, so it
may be replaced or taken out. One whose digest is wrong is the user's.

    # mailglass: begin mount 3f9a01c2
    Mailglass(app)
    # mailglass: end mount
"""

from __future__ import annotations

import hashlib
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailglass.installer.source import Source, bare

MARK: Final = b"mailglass: "
_BEGIN: Final = re.compile(r"# mailglass: begin ([a-z]+) ([0-9a-f]{8})\s*\Z")
_END: Final = re.compile(r"# mailglass: end ([a-z]+)\s*\Z")
_LINE: Final = re.compile(r"# mailglass: line ([0-9a-f]{8})\s*\Z")
_FILE: Final = re.compile(rb"(?:#|\{#) mailglass: file ([0-9a-f]{8})(?: directories ([0-9]))?(?: -#\})?\r?\n")
_DIGITS: Final = 8


class Kind(StrEnum):
    """Form of a managed piece."""

    BLOCK = "block"
    LINE = "line"


@dataclass(frozen=True, slots=True)
class Piece:
    """One managed piece of a file.

    Attributes:
        kind: a block or a line.
        name: of a block, such as `mount`; "" for a line.
        start: its first line, from 0.
        end: the line after its last.
        body: its own text without marks and indentation.
        intact: True if it is as it was written.
    """

    kind: Kind
    name: str
    start: int
    end: int
    body: tuple[str, ...]
    intact: bool


def block(name: str, body: Sequence[str], indent: str = "") -> list[str]:
    """Return the lines of a managed block."""
    marked = [f"# mailglass: begin {name} {_digest(body)}", *body, f"# mailglass: end {name}"]
    return [f"{indent}{line}" for line in marked]


def line(code: str) -> str:
    """Return a managed line."""
    return f"{code}  # mailglass: line {_digest([code])}"


def file(text: str, *, jinja: bool = False, directories: int = 0) -> bytes:
    """Return the bytes of a managed file.

    Args:
        text: of the file, without the mark.
        jinja: True for a template, whose comments stand in `{# #}`.
        directories: how many directories were made for it.
    """
    made = f" directories {directories}" if directories else ""
    mark = f" mailglass: file {_digest([text])}{made}"
    return f"{'{#' + mark + ' -#}' if jinja else '#' + mark}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class FileMark:
    """Mark of a file that was written as a whole.

    Attributes:
        intact: True if the file is as it was written.
        directories: how many directories were made for it.
    """

    intact: bool
    directories: int


def file_mark(raw: bytes) -> FileMark | None:
    """Return the mark of a file, or None if it was not written by us."""
    found = _FILE.match(raw)
    if found is None:
        return None
    text = raw[found.end() :].decode("utf-8", "replace")
    return FileMark(_digest([text]) == found[1].decode(), int(found[2] or 0))


def pieces(source: Source, *, python: bool = True) -> list[Piece]:
    """Return the managed pieces of a file in their order.

    Args:
        source: the file.
        python: True to look at comments of Python only; else every line that begins with `#` is a comment.

    Raises:
        SyntaxError: it is no Python.
    """
    found: list[Piece] = []
    opened: tuple[int, str, str] | None = None
    for number, column, comment in _comments(source, python=python):
        alone = not source.lines[number][:column].strip()
        if (begin := _BEGIN.match(comment)) and alone:
            if opened is not None:
                found.append(_broken(*opened[:2]))
            opened = (number, begin[1], begin[2])
        elif (end := _END.match(comment)) and alone:
            if opened is None or opened[1] != end[1]:
                found.append(_broken(number, end[1]))
            else:
                found.append(_closed(source, opened, number))
                opened = None
        elif mark := _LINE.match(comment):
            code = source.lines[number][:column].rstrip()
            intact = _digest([code]) == mark[1] and bare(source.lines[number]) == line(code)
            found.append(Piece(Kind.LINE, "", number, number + 1, (code,), intact))
    if opened is not None:
        found.append(_broken(*opened[:2]))
    return found


def without(source: Source, found: Sequence[Piece]) -> Source:
    """Return a source without these of its pieces."""
    return source.remove([(piece.start, piece.end) for piece in found])


def _closed(source: Source, opened: tuple[int, str, str], end: int) -> Piece:
    start, name, digest = opened
    first = bare(source.lines[start])
    indent = first[: len(first) - len(first.lstrip())]
    inner = [bare(line) for line in source.lines[start + 1 : end]]
    body = tuple(line.removeprefix(indent) for line in inner)
    # by the text that would be written: an edit of the indentation or of a mark is an edit
    written = [bare(line) for line in source.lines[start : end + 1]]
    intact = _digest(body) == digest and written == block(name, body, indent)
    return Piece(Kind.BLOCK, name, start, end + 1, body, intact)


def _broken(number: int, name: str) -> Piece:
    """Return a mark that has lost its partner."""
    return Piece(Kind.BLOCK, name, number, number + 1, (), intact=False)


def _comments(source: Source, *, python: bool) -> Iterator[tuple[int, int, str]]:
    """Yield line (from 0), column and text of every comment that may be a mark."""
    if not python:
        for number, text in enumerate(source.lines):
            if text.startswith("# mailglass: "):
                yield number, 0, bare(text)
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(source.plain).readline):
            if token.type == tokenize.COMMENT and token.string.startswith("# mailglass: "):
                line = source.lines[token.start[0] - 1]
                # a form feed is part of the line and not of what the tokenizer saw
                yield token.start[0] - 1, line.rindex(token.string), token.string
    except tokenize.TokenError as error:
        raise SyntaxError(str(error)) from None


def _digest(body: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(body).encode()).hexdigest()[:_DIGITS]
