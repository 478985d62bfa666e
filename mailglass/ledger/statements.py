"""The ledger's statements by name, read from the files in `sql/`, where a DBA can read them too.

Each file is one heading: `submit.sql`, `claim.sql`, `settle.sql` and so on. In it a statement begins with its name and
a sentence that says what it does:

    -- name: unlock
    -- Release a lock that this session holds.
    SELECT pg_advisory_unlock(hashtextextended(%(name)s, 0))

Each statement is a transaction by itself and may be run twice without harm. Parameters are psycopg's. Arrays are
aligned by position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
PARAMETER: Final = re.compile(r"%\((\w+)\)s")
"""A parameter in psycopg's style."""


@cache
def statements() -> Mapping[str, str]:
    """Return every statement by its name, in psycopg's parameter style.

    Raises:
        ValueError: two statements have one name.
    """
    found: dict[str, str] = {}
    for file in sorted(files("mailglass.ledger").joinpath("sql").iterdir(), key=lambda file: file.name):
        parts = _NAME.split(file.read_text(encoding="utf-8"))[1:]
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"two statements of the ledger are named {name}")
            found[name] = text.strip()
    return found


@cache
def numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement with PostgreSQL's own parameters `$1`, `$2` and so on, and their names in this order.

    Each statement is translated once. The driver would translate one of more than 4 kB at each run.

    Args:
        sql: in psycopg's parameter style; a name that stands in it several times is one parameter.
    """
    numbers: dict[str, int] = {}

    def number(parameter: re.Match[str]) -> str:
        return f"${numbers.setdefault(parameter[1], len(numbers) + 1)}"

    return PARAMETER.sub(number, sql).encode(), tuple(numbers)
