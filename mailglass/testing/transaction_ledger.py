"""A ledger on one connection, within one transaction, so that a test leaves nothing behind when it rolls back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy
from psycopg.rows import namedtuple_row
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from mailglass.errors import LedgerError
from mailglass.ledger.database import Database, Rows, run_on_psycopg

_DIALECT: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class TransactionLedger(Database):
    """A ledger on one connection of psycopg. Threads take turns.

    Each statement has a savepoint of its own, so one that is refused leaves the others as they are.

    Args:
        connection: within a transaction that somebody else begins and ends.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        # no pool: the connection is the caller's
        self._connection = connection
        self._lock = threading.RLock()

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows:
        """Run one statement by its name and fetch what it returns.

        Raises:
            LedgerError: the database refuses it.
        """
        given = dict(params or {})
        if "again" in given:
            given["again"] = False
        with self._lock, self._connection.transaction():
            return run_on_psycopg(self._connection, name, given)

    def query(self, statement: sqlalchemy.Executable) -> Rows:
        """Run a SQLAlchemy statement.

        Raises:
            LedgerError: the database refuses it.
        """
        compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
        refusal: LedgerError | None = None
        rows: Rows = []
        try:
            with (
                self._lock,
                self._connection.transaction(),
                psycopg.Cursor(self._connection, row_factory=namedtuple_row) as cursor,
            ):
                cursor.execute(compiled.string, compiled.params)
                rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            refusal = LedgerError("a query", error.sqlstate, type(error).__name__)
        # outside of the handler: the driver's error quotes rows
        if refusal is not None:
            raise refusal
        return rows

    @contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Hold nothing: nobody else sees this transaction."""
        yield True

    def dispose(self, close: bool = True) -> None:
        """Leave the connection to its owner."""
