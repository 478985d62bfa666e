"""Readiness of this process."""

from __future__ import annotations

from mailglass.errors import LedgerError, LedgerUnavailableError
from mailglass.ledger import schema
from mailglass.ledger.database import Database


def problem(database: Database) -> str | None:
    """Return what keeps the process from working: `database`, `schema` or None."""
    try:
        rows = database.run("schema_version")
    except LedgerUnavailableError:
        return "database"
    except LedgerError:
        # there is no such table
        return "schema"
    found = schema.Version(rows[0].version_num, rows[0].oldest_code) if rows else None
    return None if schema.problem(found) is None else "schema"
