"""Text of a source file: every byte that is not changed on purpose comes out as it went in."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mailglass.errors import ConfigError
from mailglass.wiring.project import MAX_BYTES

_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_ENDING: Final = re.compile(r"(?:\r\n|\r|\n)\Z")
_BOM: Final = b"\xef\xbb\xbf"
# bytes of the first two lines, where a coding cookie stands
_HEAD: Final = 4096


def read(root: Path, path: str) -> bytes:
    """Return the bytes of a file.

    Args:
        root: the project.
        path: of the file, relative to it.

    Raises:
        ConfigError: it cannot be read, or is larger than source files are.
    """
    try:
        with (root / path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, f"it cannot be read ({error.strerror})", "Make it readable (chmod u+r)") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(path, f"it is larger than {MAX_BYTES} bytes", "Move it away, or wire mailglass by hand")
    return raw


@dataclass(frozen=True, slots=True)
class Source:
    """Lines of one file, with what it takes to write them back byte for byte.

    Attributes:
        lines: each with its own line ending; the last one may have none.
        encoding: by its coding cookie (PEP 263), `utf-8` without one.
        bom: the bytes before the text: a UTF-8 byte order mark, or none.
    """

    lines: tuple[str, ...]
    encoding: str = "utf-8"
    bom: bytes = b""

    @classmethod
    def read(cls, path: str, raw: bytes) -> Source:
        """Decode a file.

        Args:
            path: for the error.
            raw: its bytes.

        Raises:
            ConfigError: the bytes are no text in the file's own encoding, or not the only ones that spell it.
        """
        try:
            # by lines as Python sees them: tokenize knows one of the three line endings only
            head = io.BytesIO(b"\n".join(raw[:_HEAD].splitlines()[:2]) + b"\n")
            encoding = tokenize.detect_encoding(head.readline)[0].removesuffix("-sig")
            bom = _BOM if raw.startswith(_BOM) else b""
            text = raw[len(bom) :].decode(encoding)
            faithful = text.encode(encoding) == raw[len(bom) :]
        except (SyntaxError, ValueError, LookupError):
            faithful = False
        if not faithful:
            raise ConfigError(path, "it is no text in its own encoding", "Save it as UTF-8, and run the command again")
        return cls(tuple(_LINE.findall(text)), encoding, bom)

    @property
    def text(self) -> str:
        """The text, line endings as they are."""
        return "".join(self.lines)

    @property
    def plain(self) -> str:
        r"""The text with `\n` line endings and no form feeds, line by line the same: for parsers."""
        return "".join(f"{bare(line)}\n" if _ENDING.search(line) else line for line in self.lines).replace("\f", "")

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        return self.bom + self.text.encode(self.encoding)

    def insert(self, additions: Mapping[int, Sequence[str]]) -> Source:
        """Return the source with more lines.

        A file without a final line ending gets none.

        Args:
            additions: lines without endings, by the number of lines that stand before them.
        """
        lines = list(self.lines)
        for index in sorted(additions, reverse=True):
            before = lines[index - 1] if index else ""
            ending = _ending(before) or next((_ending(line) for line in lines if _ending(line)), "\n")
            added = [f"{line}{ending}" for line in additions[index]]
            if before and not _ending(before):
                lines[index - 1] = before + ending
                added[-1] = added[-1].removesuffix(ending)
            lines[index:index] = added
        return replace(self, lines=tuple(lines))

    def remove(self, spans: Sequence[tuple[int, int]]) -> Source:
        """Return the source without some lines: the inverse of `insert`.

        Args:
            spans: the first line of each, from 0, and the one after the last. They do not overlap.
        """
        lines = list(self.lines)
        for start, end in sorted(spans, reverse=True):
            if start and end == len(lines) and not _ending(lines[-1]):
                lines[start - 1] = bare(lines[start - 1])
            del lines[start:end]
        return replace(self, lines=tuple(lines))


def bare(line: str) -> str:
    """Return a line without its ending."""
    return _ENDING.sub("", line)


def _ending(line: str) -> str:
    found = _ENDING.search(line)
    return found[0] if found else ""
