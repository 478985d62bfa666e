"""Transactions of records: the ledger's own, or the caller's."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from mailglass.errors import SessionError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    from mailglass.ledger.database import Database, Rows
    from mailglass.ledger.submit import Runner

    # what coroutines take
    AsyncSessionLike: TypeAlias = AsyncSession | async_scoped_session[Any] | AsyncConnection

_ASYNC: Final = "await deliver_later.adelay(message, session=session)"
_NONE: Final = "session is None: leave it out for a transaction of mailglass's own, or give a session"


class NotGiven(Enum):
    """The type of `NOT_GIVEN`."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
"""No session: a transaction of the ledger's own. None is an error instead."""


@dataclass(frozen=True, slots=True)
class HostTransaction:
    """A transaction of a web framework that works on a psycopg connection and tells when it has committed.

    Attributes:
        connection: the framework's connection.
        on_commit: calls a function once the transaction has committed, at once where none is open, and never after a
            rollback.
    """

    connection: psycopg.Connection[Any]
    on_commit: Callable[[Callable[[], object]], object]


if TYPE_CHECKING:
    # what `session=` takes
    SessionLike: TypeAlias = Session | scoped_session[Any] | Connection | psycopg.Connection[Any] | HostTransaction


# finds the ledger that a test has put in the place of the configured one
_substitute: Callable[[], Database | None] | None = None


def substitute_ledger(find: Callable[[], Database | None]) -> None:
    """Use the ledger that a function finds instead of the configured one, wherever it finds one. For tests.

    Args:
        find: called for each record; returns None where the configured ledger is meant.
    """
    global _substitute
    _substitute = find


def is_in_memory() -> bool:
    """Return whether a test keeps deliveries in memory, where no transaction holds them back."""
    ledger = None if _substitute is None else _substitute()
    return ledger is not None and ledger.in_memory


def _ledger() -> Database:
    if _substitute is not None and (ledger := _substitute()) is not None:
        return ledger
    # an import of `deliver_later` opens nothing, and reads no settings
    from mailglass.ledger.database import get_database
    from mailglass.settings import get_settings

    settings = get_settings()
    return get_database(settings.require_database(), settings.pooled)


def runner_of(session: object) -> Runner:
    """Return a function that runs statements on the ledger's own connection, or in the caller's transaction.

    Raises:
        TypeError: it is no session or connection.
        SessionError: it belongs to another database than the ledger's.
    """
    if session is NOT_GIVEN:
        return _ledger().run
    if session is None:
        raise TypeError(_NONE)
    from mailglass.ledger import database

    if isinstance(session, HostTransaction):
        session = session.connection
    if (ledger := _ledger()).in_memory:
        _check_kind(session)
        return ledger.runner_of(session)
    if is_psycopg(session):
        run = _runner(database.run_on_psycopg, session)
        info = session.info  # type: ignore[attr-defined]
        _check((info.host, info.port, info.dbname), run)
        return run
    connection = _connection(session)
    run = _runner(database.run_on, connection)
    _check(connection.engine, run)
    return run


def async_session(session: object) -> AsyncSession | AsyncConnection:
    """Return the session that a coroutine was given, if it can wait for its statements.

    Raises:
        TypeError: it is no asynchronous session or connection of SQLAlchemy.
    """
    if session is None:
        raise TypeError(_NONE)
    asyncio = sys.modules.get("sqlalchemy.ext.asyncio")
    if asyncio is not None and isinstance(session, asyncio.async_scoped_session):
        session = session()
    if asyncio is None or not isinstance(session, asyncio.AsyncSession | asyncio.AsyncConnection):
        raise TypeError(
            f"session must be a SQLAlchemy AsyncSession or AsyncConnection, not {type(session).__name__}; "
            "outside of a coroutine use `deliver_later.delay(message, session=session)`"
        )
    return cast("AsyncSession | AsyncConnection", session)


def remember_ledger() -> None:
    """Read the identity of the ledger, unless it is known, so that the check of a caller's connection need not."""
    ours = _ledger()
    if not ours.in_memory and ours not in _own:
        identity = _identity(ours.run)
        with _lock:
            _engines.clear()
            _addresses.clear()
            _own[ours] = identity


class Ledger:
    """The ledger in a transaction of its own, or in the caller's.

    Args:
        session: as `runner_of` takes it.

    Raises:
        TypeError: it is no session or connection.
        SessionError: it belongs to another database than the ledger's.
    """

    def __init__(self, session: object) -> None:
        self._run = runner_of(session)

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows:
        """Run one statement by its name, and return its rows."""
        return self._run(name, params or {})


def is_psycopg(session: object) -> bool:
    """Return whether it is a psycopg connection, which reports no commits."""
    psycopg = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(session, psycopg.Connection)


def _runner(run_on: Any, connection: Any) -> Runner:
    def run(name: str, params: Mapping[str, Any]) -> Rows:
        rows: Rows = run_on(connection, name, params)
        return rows

    return run


def _connection(session: Any) -> Connection:
    from sqlalchemy.engine import Connection

    _check_kind(session)
    return session if isinstance(session, Connection) else session.connection()


def _check_kind(session: object) -> None:
    """Check that it is something that records can join.

    Raises:
        TypeError: it is not.
    """
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session, scoped_session

    if not (is_psycopg(session) or isinstance(session, Connection | Session | scoped_session)):
        raise TypeError(
            "session must be a SQLAlchemy Session or Connection, or a psycopg Connection, "
            f"not {type(session).__name__}; with an AsyncSession use `{_ASYNC}`"
        )


# engines and addresses of plain connections that lead to the ledger's own database
_engines: weakref.WeakSet[Any] = weakref.WeakSet()
_addresses: set[tuple[object, ...]] = set()
_own: weakref.WeakKeyDictionary[Database, tuple[str, str]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _check(key: Any, run: Runner) -> None:
    """Check once that a caller's connection leads to the ledger, since workers read no other database.

    Raises:
        SessionError: it leads to another database.
    """
    ours = _ledger()
    known: Any = _addresses if isinstance(key, tuple) else _engines
    with _lock:
        if ours in _own and key in known:
            return
    expected = _own.get(ours) or _identity(ours.run)
    (row,) = run("has_ledger", {})
    if not row.there or _identity(run) != expected:
        raise SessionError(str(row.database), ledger_there=bool(row.there))
    with _lock:
        if ours not in _own:
            # another ledger than before, as after `configure`
            _engines.clear()
            _addresses.clear()
        _own[ours] = expected
        known.add(key)


def _identity(run: Any) -> tuple[str, str]:
    (row,) = run("ledger_identity", {})
    return str(row.id), str(row.database)
