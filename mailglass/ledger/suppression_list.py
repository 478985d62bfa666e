"""The suppression list by filter: pages by key, so that a list of any length is read in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from mailglass.ledger.database import Runs
from mailglass.ledger.suppressions import Suppression, entry_of

PAGE = 1000
FIRST = UUID(int=0)
LAST = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter of entries. None matches everything, and times are aware.

    Attributes:
        tenant: whose mail they stop; `*` for the list that binds all tenants.
        scope: address, domain or address_stream.
        reason: hard_bounce, complaint, unsubscribe, manual or provider.
        source: webhook, attempt, sync, manual or import.
        stream: of entries on one stream.
        account: the account it was learnt from.
        domain: of the address, or the domain that is listed, in lower-case A-labels.
        created_after, created_before: since when they stand.
        expires_after, expires_before: when they end; what never ends does not match.
        live: True for those that stop mail, False for those that have ended.
    """

    tenant: str | None = None
    scope: str | None = None
    reason: str | None = None
    source: str | None = None
    stream: str | None = None
    account: str | None = None
    domain: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    expires_after: datetime | None = None
    expires_before: datetime | None = None
    live: bool | None = None

    def params(self) -> dict[str, Any]:
        """Return the filter as parameters of the statements."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def given(self) -> dict[str, object]:
        """Return the filters that are given, by name."""
        return {name: value for name, value in self.params().items() if value is not None}


def walk(ledger: Runs, chosen: Filter, *, after: UUID | None = None, size: int = PAGE) -> Iterator[Suppression]:
    """Yield matching entries in the order in which they were made, page by page.

    Args:
        ledger: runs the statement.
        chosen: which entries.
        after: the id of the entry to go on after; None for the beginning.
        size: entries in a page.
    """
    position = after or FIRST
    while True:
        rows = ledger.run("suppressions_after", {**chosen.params(), "after": str(position), "size": size})
        yield from map(entry_of, rows)
        if len(rows) < size:
            return
        position = rows[-1].id


def newest(ledger: Runs, chosen: Filter, *, before: UUID | None = None, size: int = PAGE) -> list[Suppression]:
    """Return one page of matching entries, newest first.

    Args:
        ledger: runs the statement.
        chosen: which entries.
        before: the id of the entry to go on after; None for the newest.
        size: entries in the page.
    """
    rows = ledger.run("suppressions_before", {**chosen.params(), "before": str(before or LAST), "size": size})
    return [entry_of(row) for row in rows]


def count(ledger: Runs, chosen: Filter) -> int:
    """Return the number of matching entries."""
    (row,) = ledger.run("count_suppressions", chosen.params())
    return int(row.count)


def get(ledger: Runs, key: UUID) -> Suppression | None:
    """Return one entry by its id, or None."""
    rows = ledger.run("suppression", {"id": str(key)})
    return entry_of(rows[0]) if rows else None


def of_value(ledger: Runs, value: str, tenant: str | None) -> list[Suppression]:
    """Return all entries of an address or domain, ended ones too.

    Args:
        ledger: runs the statement.
        value: in its normal form.
        tenant: of this tenant's list and of the one that binds all; None for all lists.
    """
    return [entry_of(row) for row in ledger.run("suppressions_of_value", {"value": value, "tenant": tenant})]
