"""Rules of this repository that no linter knows: `python tests/lint.py`, as `make lint` runs it.

A test's name begins with its subject. Code is formatted by ruff alone, but for a few tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = ("mailglass", "workers", "beat", "tests", "docs")
# tables whose columns are worth more than the format
MOST_SKIPS = 10
_TEST = re.compile(r"^\s*(?:async )?def (test_(?:what|who|whose|it|its|one|nobody|where|whoever|whatever)_\w*)\(", re.M)
_SKIP = re.compile(r"# fmt: (?:skip|off)$", re.M)


def names(path: str, text: str) -> Iterator[str]:
    """Yield the tests whose names do not begin with their subject."""
    for match in _TEST.finditer(text):
        line = _line(text, match.start(1))
        yield f"{path}:{line}: {match[1]}: begin with the subject, as in test_expired_mail_is_not_sent"


def skips(path: str, text: str) -> Iterator[str]:
    """Yield the places that ruff does not format."""
    for match in _SKIP.finditer(text):
        yield f"{path}:{_line(text, match.start())}: not formatted"


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _read(*patterns: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def main() -> int:
    complaints: list[str] = []
    for path, text in _read("tests/**/*.py"):
        complaints += names(path, text)
    found = [place for path, text in _read(*(f"{room}/**/*.py" for room in CODE)) for place in skips(path, text)]
    if len(found) > MOST_SKIPS:
        complaints += [*found, f"{len(found)} places are not formatted: at most {MOST_SKIPS} may be"]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
