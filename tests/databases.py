"""Databases with the ledger's schema for one test after another: emptied and renamed instead of made anew.

A database costs a hundred milliseconds to copy and to drop, and a tenth of that to empty. One that a test has altered
beyond its rows, or filled with many, is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from mailglass.stack.postgres import PostgresServer

_SPARE = 4
# more than a test writes in passing: what is larger is not worth emptying
_LARGE = 4 << 20

# whatever a statement of DDL, GRANT or COMMENT leaves, in this database or for it, but TRUNCATE
_CATALOGUES = (
    "pg_attribute",
    "pg_attrdef",
    "pg_proc",
    "pg_trigger",
    "pg_constraint",
    "pg_index",
    "pg_type",
    "pg_namespace",
    "pg_rewrite",
    "pg_policy",
    "pg_default_acl",
    "pg_description",
    "pg_extension",
    "pg_event_trigger",
    "pg_inherits",
    "pg_enum",
    "pg_sequence",
    "pg_statistic_ext",
)
_SCHEMA = " UNION ALL ".join(
    [
        *(f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name}" for name in _CATALOGUES),
        # TRUNCATE changes the files and nothing else of these
        "SELECT 'pg_class', count(*), sum(hashtextextended((oid, relname, relnamespace, relowner, relkind, relnatts,"
        " relhastriggers, relrowsecurity, relpersistence, reloptions, relacl)::text, 0) % 1000000007) FROM pg_class",
        "SELECT 'settings', count(*), 0 FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase"
        " WHERE datname = current_database()",
        "SELECT 'grants', count(datacl), max(datconnlimit) FROM pg_database WHERE datname = current_database()",
        "SELECT 'prepared', count(*), 0 FROM pg_prepared_xacts WHERE database = current_database()",
    ]
)
_FILLED = """
    SELECT format('%I.%I', nspname, relname) AS name, pg_relation_size(c.oid) AS size
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind = 'r' AND relpersistence <> 't' AND nspname = 'mailglass' AND pg_relation_size(c.oid) > 0
"""


@dataclass(frozen=True)
class _State:
    """What a database is beside its rows, and the rows that the schema brings, by table."""

    schema: frozenset[tuple[object, ...]]
    brought: dict[str, tuple[object, ...]]


@dataclass
class Databases:
    """Empty databases with the ledger's schema, each for one test.

    Args:
        server: where they are.
        template: the name of the database to copy.
        names: names that no database has.
    """

    server: PostgresServer
    template: str
    names: Iterator[str]
    _spare: list[str] = field(default_factory=list)
    _fresh: _State | None = None
    _admin: psycopg.Connection | None = None

    def take(self) -> str:
        """Return the name of an empty database."""
        name = next(self.names)
        while self._spare:
            if self._renamed(self._spare.pop(), name):
                return name
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, self.template)
        if self._fresh is None:
            with self._connect(name) as connection:
                self._fresh = self._state(connection)
        return name

    def _renamed(self, spare: str, name: str) -> bool:
        """Rename an empty database, or drop it if a process of its last test has come back to it."""
        try:
            self._execute("ALTER DATABASE {} RENAME TO {}", spare, name)
        except psycopg.errors.ObjectInUse:
            self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", spare)
            return False
        return True

    def give_back(self, name: str) -> None:
        """Empty a database for another test; drop it where that cannot be done or would be no gain."""
        try:
            again = len(self._spare) < _SPARE and self._empty(name)
        except psycopg.Error:
            again = False
        if again:
            self._spare.append(name)
        else:
            self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def close(self) -> None:
        while self._spare:
            self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", self._spare.pop())
        if self._admin is not None:
            self._admin.close()

    def _empty(self, name: str) -> bool:
        self._end_connections(name)
        with self._connect(name) as connection:
            state = self._state(connection)
            if state is None or self._fresh is None or state.schema != self._fresh.schema:
                return False
            if any(state.brought.get(table) != rows for table, rows in self._fresh.brought.items()):
                return False
            if written := [table for table in state.brought if table not in self._fresh.brought]:
                # append-only tables refuse their users this
                connection.execute("SET session_replication_role = replica")
                connection.execute(f"TRUNCATE {', '.join(written)} RESTART IDENTITY CASCADE")  # type: ignore[arg-type]
                # whatever refers to a table that the schema fills is in the list or empty
                return all(self._rows(connection, table) == rows for table, rows in self._fresh.brought.items())
        return True

    def _state(self, connection: psycopg.Connection) -> _State | None:
        """Return the state of a database, or None for one that is large."""
        filled = connection.execute(_FILLED).fetchall()
        if sum(size for _, size in filled) > _LARGE:
            return None
        schema = connection.execute(_SCHEMA).fetchall()  # type: ignore[arg-type]
        brought = self._fresh.brought if self._fresh else [table for table, _ in filled]
        rows = {table: self._rows(connection, table) if table in brought else () for table, _ in filled}
        return _State(frozenset(schema), rows)

    @staticmethod
    def _rows(connection: psycopg.Connection, table: str) -> tuple[object, ...]:
        return tuple(connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1").fetchall())  # type: ignore[arg-type]

    def _end_connections(self, name: str) -> None:
        self._run(
            sql.SQL("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = {}").format(
                sql.Literal(name)
            )
        )

    def _execute(self, statement: str, *names: str) -> None:
        self._run(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def _run(self, statement: sql.Composed) -> None:
        if self._admin is None or self._admin.closed:
            self._admin = self._connect("postgres")
        self._admin.execute(statement)

    def _connect(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self.server.url(name), autocommit=True)
