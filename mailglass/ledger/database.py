"""The ledger's connections, and its statements by name.

Every write is one statement in autocommit: one round trip, one transaction. `mailglass.ledger.statements` has them
by name.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any, ClassVar, Protocol, TypeVar

import psycopg
import sqlalchemy
from psycopg.rows import namedtuple_row
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from mailglass import clock
from mailglass.errors import LedgerError, LedgerUnavailableError, MailglassError
from mailglass.ledger.pooler import STARTUP_OPTIONS, pooler_refusal
from mailglass.ledger.statements import PARAMETER, numbered, statements
from mailglass.ledger.unreachable import of_the_url, unreachable, unusable
from mailglass.settings import get_settings
from mailglass.settings.servers import database_server

T = TypeVar("T")
# of named tuples, or of SQLAlchemy's rows where the connection is the caller's
Rows = list[Any]

_CONNECT_TIMEOUT = 5
_READ_ONLY = "25006"
# unsupported, data exception, integrity, syntax or access rule, the schema's own, a program's limit: the same again is
# refused again
_OF_THE_STATEMENT = ("0A", "22", "23", "42", "45", "54")


class Runs(Protocol):
    """Anything that runs the ledger's statements."""

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows:
        """Run one statement by its name, and return its rows."""


def sqlalchemy_url(url: str) -> str:
    """Return the URL with psycopg 3 as its driver.

    Raises:
        ConfigError: SQLAlchemy cannot read it; its own error would quote it.
    """
    database_server(url)
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgres", "postgresql") else url


@cache
def _named(name: str) -> sqlalchemy.TextClause:
    """Return the statement for a connection that the caller brings, whatever its driver: every parameter is text.

    Drivers do not agree on what a parameter is: some send what they are given as text, others ask the server for its
    type and want a value of Python's for it. All of them send text as text.
    """
    return sqlalchemy.text(PARAMETER.sub(r"CAST(:\1 AS text)", statements()[name]))


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value)


class Database:
    """A pool of connections to the ledger. Safe to share between threads, not across a fork.

    Args:
        url: of the PostgreSQL database.
        pool_size: connections kept; as many again may be opened for a moment.
        pooled: behind a pooler in transaction mode: no startup parameters, no prepared statements, no session locks.
    """

    def __init__(self, url: str, pool_size: int = 10, pooled: bool = False) -> None:
        self._url = url
        self._pooled = pooled
        self._engine: Engine = sqlalchemy.create_engine(
            sqlalchemy_url(url),
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_reset_on_return=None,
            pool_timeout=30,
            pool_recycle=1800,
            # parameters hold addresses, and errors are logged
            hide_parameters=True,
            connect_args={
                "connect_timeout": _CONNECT_TIMEOUT,
                "application_name": "mailglass",
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                # what was written into a dead connection is not waited for as long as the kernel would; milliseconds
                "tcp_user_timeout": 30_000,
                **({"prepare_threshold": None} if pooled else {"options": STARTUP_OPTIONS}),
            },
        )

        # counts the times that the pool was let go of
        self._generation = 0
        self._renewing = threading.Lock()

    in_memory: ClassVar[bool] = False
    """True for a ledger of tests that no session of a caller leads to."""

    def runner_of(self, session: object) -> Callable[[str, Mapping[str, Any]], Rows]:
        """Return what records in memory for a caller's session; a database joins the session instead."""
        return self.run

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows:
        """Run one statement by its name and fetch what it returns.

        A connection that turns out to be dead is replaced once, with all of its age, and the victim of a deadlock
        tries again: every statement may be run twice without harm. One that has a parameter `again` is told so by it,
        and one that has a parameter `waited`, in seconds, how long it had to wait for a connection too.

        Raises:
            LedgerUnavailableError: the database cannot be reached, or cannot work now.
            LedgerError: it refuses the statement.
        """
        sql = statements()[name]
        given = params or {}
        if "again" not in given and "waited" not in given:
            return self._retried(lambda: self._run(sql, given), name)
        runs, started = count(), clock.monotonic()

        def told() -> Mapping[str, Any]:
            of_this_run: dict[str, Any] = {"again": next(runs) > 0}
            if "waited" in given:
                of_this_run["waited"] = round(given["waited"] + clock.monotonic() - started, 6)
            return {**given, **of_this_run}

        return self._retried(lambda: self._run(sql, told), name)

    @contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Hold a lock by this name among all processes, if nobody else holds it; lost with its connection.

        Behind a pooler a transaction holds it, because a session is not one's own.

        Yields:
            Whether it is held.

        Raises:
            LedgerUnavailableError: the database cannot be reached.
        """
        pooled, held = self._retried(lambda: self._try_lock(name), "try_lock")
        try:
            yield held
        finally:
            try:
                if held:
                    self._unlock(pooled.driver_connection, name)
            except psycopg.Error as error:
                # what cannot let go must not go back to the pool
                pooled.invalidate(error)
            finally:
                pooled.close()

    def _try_lock(self, name: str) -> tuple[Any, bool]:
        """Return a connection of the pool, and whether it has got the lock."""
        sql = statements()["try_lock_in_transaction" if self._pooled else "try_lock"]
        try:
            pooled: Any = self._engine.raw_connection()
        except psycopg.Error as error:
            raise self._translated(error, sql, lost=True) from error
        try:
            if self._pooled:
                pooled.driver_connection.execute("BEGIN")
            (row,) = pooled.driver_connection.execute(sql, {"name": name}).fetchall()
            if self._pooled and not row[0]:
                pooled.driver_connection.execute("COMMIT")
        except psycopg.Error as error:
            lost = pooled.driver_connection.closed
            pooled.invalidate(error)
            raise self._translated(error, sql, lost) from error
        return pooled, bool(row[0])

    def _unlock(self, connection: Any, name: str) -> None:
        if self._pooled:
            connection.execute("COMMIT")
        else:
            connection.execute(statements()["unlock"], {"name": name})

    def query(self, statement: sqlalchemy.Executable) -> Rows:
        """Run a SQLAlchemy statement, for reads whose shape the caller chooses.

        Raises:
            LedgerUnavailableError: the database cannot be reached, or cannot work now.
            LedgerError: it refuses the statement.
        """
        return self._retried(lambda: self._query(statement), "a query")

    def _query(self, statement: sqlalchemy.Executable) -> Rows:
        with self._engine.connect() as connection:
            return _fetch(connection.execute(statement))

    def _run(self, sql: str, params: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> Rows:
        """Run a statement on the driver's own cursor: SQLAlchemy's result would cost more than most statements do.

        Args:
            sql: one of `statements`.
            params: of the statement; called for them once there is a connection.
        """
        pool = self._engine.pool
        try:
            pooled = self._engine.raw_connection()
        except psycopg.Error as error:
            raise self._translated(error, sql, lost=True) from error
        connection: Any = pooled.driver_connection
        try:
            given = params() if callable(params) else params
            text, names = numbered(sql)
            cursor = psycopg.RawCursor(connection, row_factory=namedtuple_row)
            cursor.execute(text, [given[name] for name in names], binary=True)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            # read-only: since a failover this is no primary any more, and a new connection finds the one that is
            lost = connection.closed or error.sqlstate == _READ_ONLY
            if lost:
                pooled.invalidate(error)
            raise self._translated(error, sql, lost) from error
        except BaseException as error:
            # a time limit may strike in the middle of an answer, which nobody must read as the next one's
            pooled.invalidate(error)
            raise
        finally:
            if pool is not self._engine.pool and pooled.is_valid:
                # nobody comes back to the pool that it is of
                pooled.invalidate()
            pooled.close()

    def _translated(self, error: psycopg.Error, sql: str, lost: bool) -> BaseException:
        """Return the error as SQLAlchemy would raise it."""
        return DBAPIError.instance(
            sql,
            None,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=self._engine.dialect,
        )

    def _retried(self, work: Callable[[], T], name: str) -> T:
        pauses = {_Disconnected: [0.0], _Deadlocked: [0.05, 0.1, 0.2, 0.4]}
        while True:
            generation = self._generation
            try:
                return self._once(work)
            except _UnusableURL:
                refusal: MailglassError = unusable()
                break
            except (_Disconnected, _Deadlocked) as error:
                if isinstance(error, _Disconnected):
                    self._renew(generation)
                if not pauses[type(error)]:
                    raise LedgerUnavailableError(self._problem(error)) from error.__cause__
                time.sleep(pauses[type(error)].pop(0))
            except DBAPIError as error:
                refusal = refused(error, name)
                break
            except UnicodeError as error:
                refusal = LedgerError(name, None, type(error).__name__)
                break
        # outside of the handler: the driver's error quotes rows, so it must not travel along as __context__
        raise refusal

    def _once(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except DBAPIError as error:
            if (behind := pooler_refusal(error.orig)) is not None:
                raise behind from None
            if getattr(error.orig, "sqlstate", None) in ("40P01", "40001"):
                raise _Deadlocked from error
            if of_the_url(error.orig):
                raise _UnusableURL from None
            if _of_the_connection(error):
                raise _Disconnected from error
            raise
        except sqlalchemy.exc.TimeoutError as error:
            raise LedgerUnavailableError("no database connection became free in time") from error

    def _renew(self, generation: int) -> None:
        """Let go of all connections of a generation, of which one was lost: a restart or failover ends them all.

        So one statement meets a dead connection, and neither its second try nor any other statement meets the next.
        """
        with self._renewing:
            if generation == self._generation:
                self._generation += 1
                self._engine.dispose()

    def _problem(self, error: _Disconnected | _Deadlocked) -> str:
        """Return why the database cannot work, for people."""
        if isinstance(error, _Deadlocked):
            return error.problem
        return unreachable(self._url, getattr(error.__cause__, "orig", error.__cause__))

    def dispose(self, close: bool = True) -> None:
        """Close the pool; with close=False only forget it, as after a fork."""
        self._engine.dispose(close=close)


class _Disconnected(Exception):
    """The connection was lost, or could not be made."""


class _UnusableURL(Exception):
    """The driver does not take the URL's options."""


class _Deadlocked(Exception):
    """The statement was rolled back as the victim of a deadlock."""

    problem = "the database cannot get these rows locked"


def _is_connection_failure(error: DBAPIError) -> bool:
    state = _sqlstate(error)
    if state is None:
        # the server was not reached
        return isinstance(error, OperationalError)
    # 08: connection exception, 57P: operator intervention, 53: no resources
    return state.startswith(("08", "57P", "53"))


def _of_the_connection(error: DBAPIError) -> bool:
    return error.connection_invalidated or isinstance(error, InterfaceError) or _is_connection_failure(error)


def _sqlstate(error: DBAPIError) -> str | None:
    """Return PostgreSQL's error code, wherever the driver keeps it."""
    said: Any = error.orig
    for attribute in ("sqlstate", "pgcode"):
        if state := getattr(said, attribute, None):
            return str(state)
    details = said.args[0] if getattr(said, "args", None) else None
    return details.get("C") if isinstance(details, dict) else None


def refused(error: DBAPIError, name: str) -> MailglassError:
    """Return the error that callers get for a statement's failure, in words that quote nothing.

    Args:
        error: the driver's, which may quote the rows it is about.
        name: the statement's.
    """
    state = _sqlstate(error)
    if state is None or state.startswith(_OF_THE_STATEMENT):
        return LedgerError(name, state, type(error).__name__)
    # a time limit, a standby, the server's own trouble: the same statement may work later
    return LedgerUnavailableError(f"the database cannot run {name} now ({state})")


def _fetch(result: Any) -> Rows:
    return list(result.all()) if result.returns_rows else []


def run_on(connection: Connection, name: str, params: Mapping[str, Any]) -> Rows:
    """Run one statement on a connection of the caller's, inside the caller's transaction.

    Raises:
        LedgerError: the database refuses the statement.
        DBAPIError: what concerns the caller's transaction as a whole, such as a serialization failure or a lost
            connection, as the caller knows it from its own statements; without parameters.
    """
    try:
        return _fetch(connection.execute(_named(name), {key: _as_text(value) for key, value in params.items()}))
    except DBAPIError as error:
        error.hide_parameters = True
        refusal = refused(error, name)
        if not isinstance(refusal, LedgerError) or _of_the_connection(error):
            raise
    raise refusal


def run_on_psycopg(connection: psycopg.Connection[Any], name: str, params: Mapping[str, Any]) -> Rows:
    """Run one statement on a psycopg connection of the caller's, inside the caller's transaction.

    Raises:
        LedgerError: the database refuses the statement.
        psycopg.Error: what concerns the caller's transaction as a whole.
    """
    try:
        with psycopg.Cursor(connection, row_factory=namedtuple_row) as cursor:
            cursor.execute(statements()[name], params)
            return cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        state = error.sqlstate
        if connection.closed or not (state is None or state.startswith(_OF_THE_STATEMENT)):
            raise
        refusal = LedgerError(name, state, type(error).__name__)
    # outside of the handler: the driver's error quotes rows
    raise refusal


_lock = threading.Lock()
_databases: dict[tuple[str, bool], Database] = {}


def get_database(url: str, pooled: bool | None = None) -> Database:
    """Return this process's pool for a URL.

    Args:
        url: of the PostgreSQL database.
        pooled: whether a pooler in transaction mode stands before it; as the process's settings say when left out.
    """
    key = url, get_settings().pooled if pooled is None else pooled
    database = _databases.get(key)
    if database is None:
        with _lock:
            database = _databases.get(key)
            if database is None:
                database = _databases[key] = Database(url, pooled=key[1])
    return database


def close_databases() -> None:
    """Close every pool of this process."""
    with _lock:
        for database in _databases.values():
            database.dispose()
        _databases.clear()


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for database in _databases.values():
        database.dispose(close=False)
    _databases.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
