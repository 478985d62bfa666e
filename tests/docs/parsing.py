"""The examples of a page: Python and shell blocks of Markdown, parsed by Sybil. See README.md beside this module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sybil import Document, Example, Region
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.typing import Evaluator

ROOT: Final = Path(__file__).resolve().parents[2]
ASSUMED: Final = Path(__file__).parent / "assumed"
SHELLS: Final = ("bash", "sh", "console")
MARK: Final = re.compile(r'^ *<!--+ skip: next "([^"\n]+)" --+>\n', re.MULTILINE)

_PYTHON: Final = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FENCE: Final = re.compile(r"^\s*```")
_INDENTED: Final = re.compile(r" {4,}\S")


class Indented:
    """Parser of indented blocks, as shell: after an empty line, outside fences and lists."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def __call__(self, document: Document) -> Iterator[Region]:
        """Yield the blocks of a page."""
        fenced, before, at = False, "", 0
        begun: int | None = None
        for line in [*document.text.splitlines(keepends=True), "\n"]:
            if begun is not None and not _INDENTED.match(line):
                yield Region(begun, at, _unindented(document.text[begun:at]), self._evaluator)
                begun = None
            if _FENCE.match(line):
                fenced = not fenced
            elif not fenced and begun is None and _INDENTED.match(line) and _may_begin(before):
                begun = at
            before, at = line, at + len(line)


def _may_begin(before: str) -> bool:
    return not before.strip() or MARK.match(before) is not None


def _unindented(block: str) -> str:
    return re.sub(r"^ {4}", "", block, flags=re.MULTILINE)


def parse(page: str, python: Evaluator, shell: Evaluator) -> Document:
    """Return a page with its examples.

    Args:
        page: its path from the root of the project.
        python: runs a Python block.
        shell: runs a shell block.
    """
    return Document.parse(
        str(ROOT / page),
        SkipParser(),
        CodeBlockParser("python", python),
        *(CodeBlockParser(language, shell) for language in SHELLS),
        Indented(shell),
    )


def count(page: str) -> int:
    """Return how many examples a page has, with those that are not run."""

    def nothing(example: Example) -> None:
        """Run nothing."""

    document = parse(page, nothing, nothing)
    return sum(1 for _, region in document.regions if region.evaluator is nothing)


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page, with those that are not run."""
    return _PYTHON.findall((ROOT / page).read_text(encoding="utf-8"))


def reasons(page: str) -> list[str]:
    """Return why blocks of a page are not run, one for each."""
    return MARK.findall((ROOT / page).read_text(encoding="utf-8"))


def assumed(page: str) -> str:
    """Return what a page takes for granted, as Python, or an empty text."""
    file = ASSUMED / f"{slug(page)}.py"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def slug(page: str) -> str:
    """Return a page's name as that of a module: `docs_guides_flask`."""
    return re.sub(r"\W", "_", page.removesuffix(".md")).lower()
