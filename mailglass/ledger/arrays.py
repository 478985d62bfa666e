"""Columns of values as PostgreSQL array literals.

One string a column: drivers take some twenty times as long to write a list, prepare a statement anew for each mixture
of types and NULLs, and do not agree on how a list is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from mailglass.ids import uuid7_numbers

T = TypeVar("T")


def uuids(values: Iterable[UUID | None]) -> str:
    """Write a column for CAST(... AS uuid[])."""
    return f"{{{','.join(['NULL' if value is None else value.hex for value in values])}}}"


def new_uuids(count: int) -> str:
    """Write a column of new ids, in ascending order, for CAST(... AS uuid[])."""
    return f"{{{','.join([f'{number:032x}' for number in uuid7_numbers(count)])}}}"


def texts(values: Iterable[str | None]) -> str:
    """Write a column for CAST(... AS text[])."""
    return f"{{{','.join(['NULL' if value is None else _quoted(value) for value in values])}}}"


def binaries(values: Iterable[bytes]) -> str:
    """Write a column for CAST(... AS bytea[])."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def numbers(values: Iterable[float | None]) -> str:
    """Write a column for CAST(... AS integer[]), double precision[] and their like."""
    return f"{{{','.join(['NULL' if value is None else repr(value) for value in values])}}}"


def booleans(values: Iterable[bool]) -> str:
    """Write a column for CAST(... AS boolean[])."""
    return f"{{{','.join(['t' if value else 'f' for value in values])}}}"


def moments(values: Iterable[datetime | None]) -> str:
    """Write a column of aware moments for CAST(... AS timestamptz[])."""
    return texts(None if value is None else value.astimezone(UTC).isoformat() for value in values)


def sparse(kind: Callable[[Iterable[T | None]], str], values: Sequence[T | None]) -> str:
    """Write a column that mostly holds nothing: empty if it is all None, which `unnest` fills with NULL."""
    return "{}" if all(value is None for value in values) else kind(values)


def _quoted(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if '"' in value:
        value = value.replace('"', '\\"')
    return f'"{value}"'
