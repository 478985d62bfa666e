"""Array literals of PostgreSQL, read back into their elements."""

from __future__ import annotations

import re

_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def elements(text: str) -> list[str | None]:
    """Return the elements of an array literal as `mailglass.ledger.arrays` writes it; None for NULL."""
    found: list[str | None] = []
    for match in _ELEMENT.finditer(text):
        quoted, bare = match.groups()
        if quoted is not None:
            found.append(_ESCAPE.sub(r"\1", quoted))
        else:
            found.append(None if bare == "NULL" else bare)
    return found
