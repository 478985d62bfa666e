"""Measure the prose of the documentation: sentence lengths, semicolons, and how often it addresses the reader.

Code blocks and headings are left out. Tables count for semicolons alone. Run it as `python tests/prose.py`; it prints
one line a page and exits with 1 when a page breaks a bound.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LONGEST: Final = 28
"""Words that nine of ten sentences of a page stay within."""

_FENCE = re.compile(r"^\s*```")
_ITEM = re.compile(r"^\s*(?:[*+-]|\d+\.)\s+")
_END = re.compile(r"(?<=[.!?])[*_)\"”]*\s+(?=[*_(\"“]*(?:[A-Z0-9]|mailglass\b))")
_WORD = re.compile(r"\S*\w\S*")
_YOU = re.compile(r"\b(?:you|your|yours|yourself)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Prose:
    """The measures of one page.

    Attributes:
        words: of its sentences, a span of code or a link's text counting as its words.
        median: of the words a sentence has.
        p90: words that nine of ten sentences stay within.
        semicolons: of its sentences and tables, outside code.
        you: how often it addresses the reader, per thousand words.
    """

    words: int
    median: float
    p90: int
    semicolons: int
    you: float


def pages() -> list[Path]:
    """Return the pages that are measured, README first."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def measure(text: str) -> Prose:
    """Measure one page of Markdown.

    Args:
        text: the page.

    Returns:
        Its measures; zeros for a page without sentences.
    """
    prose, tables = _split(text)
    sentences = [sentence for block in prose for sentence in _END.split(_plain(block))]
    lengths = sorted(len(_WORD.findall(sentence)) for sentence in sentences)
    lengths = [length for length in lengths if length]
    words = sum(lengths)
    return Prose(
        words=words,
        median=statistics.median(lengths) if lengths else 0,
        p90=lengths[-(-len(lengths) * 9 // 10) - 1] if lengths else 0,
        semicolons=sum(_plain(block).count(";") for block in (*prose, *tables)),
        you=1000 * sum(len(_YOU.findall(_plain(block))) for block in prose) / words if words else 0,
    )


def problems(prose: Prose) -> Iterator[str]:
    """Yield the bounds that a page breaks, as words for its author."""
    if prose.semicolons:
        yield f"{prose.semicolons} semicolons: make two sentences of each"
    if prose.p90 > LONGEST:
        yield f"one sentence in ten has {prose.p90} words or more: at most {LONGEST}, one idea a sentence"


def _plain(block: str) -> str:
    """Leave out what is not read as a sentence: a span of code becomes one word, a link its text."""
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]+`", "Code", block.replace("\n", " ")))


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return the paragraphs and list items of a page, and the rows of its tables."""
    prose: list[str] = []
    tables: list[str] = []
    fenced = False
    open_block = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced, open_block = not fenced, False
        elif fenced or not line.strip() or line.startswith("#"):
            open_block = False
        elif line.lstrip().startswith("|"):
            tables.append(line)
            open_block = False
        elif _ITEM.match(line):
            prose.append(_ITEM.sub("", line))
            open_block = True
        elif open_block:
            prose[-1] += "\n" + line
        elif not line.startswith("    "):  # indented: a block of code
            prose.append(line)
            open_block = True
    return prose, tables


def main() -> int:
    """Print the measures of all pages; return 1 when one breaks a bound."""
    print(f"{'page':34} {'words':>6} {'median':>6} {'p90':>4} {';':>4} {'you':>5}")
    found = []
    for path in pages():
        name = str(path.relative_to(ROOT))
        prose = measure(path.read_text(encoding="utf-8"))
        print(f"{name:34} {prose.words:6} {prose.median:6.1f} {prose.p90:4} {prose.semicolons:4} {prose.you:5.1f}")
        found += [f"{name}: {problem}" for problem in problems(prose)]
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
