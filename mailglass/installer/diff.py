"""Unified diff of a plan, as `patch -p1` and `git apply` take it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from mailglass.installer.plan import Step

_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+\Z")
_NOWHERE: Final = b"/dev/null"
_NO_ENDING: Final = b"\n\\ No newline at end of file\n"


def unified(steps: Sequence[Step]) -> bytes:
    """Return the changes of a plan.

    Args:
        steps: that change a file.

    Returns:
        The diff, in the encodings of the files.
    """
    return b"".join(_file(step) for step in steps)


def _file(step: Step) -> bytes:
    name = step.path.encode("utf-8", "surrogateescape")
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _LINE.findall(step.before or b""),
        _LINE.findall(step.after or b""),
        _NOWHERE if step.before is None else b"a/" + name,
        _NOWHERE if step.after is None else b"b/" + name,
    )
    return b"".join(_ended(lines))


def _ended(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield line if line.endswith(b"\n") else line + _NO_ENDING
