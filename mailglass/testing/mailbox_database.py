"""The database of a test's mailbox: the one that the settings name, or an embedded one of this process."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy.engine import Connection

from mailglass.errors import OutboxError
from mailglass.ledger import schema


class DjangoConnection(Protocol):
    """A connection of Django, such as `django.db.connection`."""

    connection: Any

    def ensure_connection(self) -> None:
        """Connect, unless it is connected."""


# a connection as tests have it
ConnectionLike: TypeAlias = psycopg.Connection[Any] | Connection | DjangoConnection

# deliveries of other tests and people that stand in the database are out of this one's reach
_HIDE: Final = """
UPDATE mailglass.deliveries d
SET due_at = d.due_at + interval '1000 years', lease_expires_at = d.lease_expires_at + interval '1000 years',
    search_at = d.search_at + interval '1000 years'
WHERE d.id IN (SELECT e.id FROM mailglass.deliveries e
               WHERE COALESCE(e.due_at, e.lease_expires_at, e.search_at) IS NOT NULL FOR UPDATE SKIP LOCKED)
"""
_lock = threading.Lock()
_embedded: str | None = None


def embedded_url() -> str:
    """Return the URL of this process's embedded PostgreSQL with a ledger; start it at the first call.

    Raises:
        StackError: the extra `embedded` is missing, or the server does not start.
    """
    global _embedded
    with _lock:
        if _embedded is None:
            _embedded = _start()
        return _embedded


def _start() -> str:
    from mailglass.stack.postgres import EmbeddedPostgres
    from mailglass.stack.process import Guardian

    with ExitStack() as started:
        directory = Path(tempfile.mkdtemp(prefix="mailglass-mailbox-"))
        started.callback(shutil.rmtree, directory, ignore_errors=True)
        guardian = Guardian()
        started.callback(guardian.close)
        guardian.sweep(directory)
        server = EmbeddedPostgres(directory / "postgres", durable=False, guardian=guardian)
        started.enter_context(server)
        url = server.create_database("mailbox")
        schema.upgrade(url)
        atexit.register(started.pop_all().close)
    return url


@contextmanager
def rolled_back(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect to a ledger for one transaction, which is rolled back.

    Raises:
        OutboxError: the database cannot be reached, or holds no ledger.
    """
    try:
        connection = psycopg.connect(_for_psycopg(url), application_name="mailglass mailbox")
    except psycopg.OperationalError as error:
        problem = type(error).__name__
    else:
        try:
            check(connection)
            yield connection
        finally:
            connection.rollback()
            connection.close()
        return
    raise OutboxError(f"the mailbox cannot connect to its database ({problem}): check MAILGLASS_DATABASE_URL")


def check(connection: psycopg.Connection[Any]) -> None:
    """Check that a connection leads to a ledger, and put what is in it out of this test's reach.

    Raises:
        OutboxError: it does not.
    """
    found = connection.execute("SELECT to_regclass('mailglass.deliveries') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        raise OutboxError("the mailbox's database holds no ledger: run `mailglass db upgrade` on it first")
    connection.execute(_HIDE)


def driver_connection(connection: ConnectionLike) -> psycopg.Connection[Any]:
    """Return the driver's connection, which is within a transaction, or begins one with its first statement.

    Raises:
        OutboxError: it is of another driver than psycopg 3, or each of its statements commits.
    """
    raw: Any = connection
    if isinstance(connection, Connection):
        raw = connection.connection.driver_connection
    elif not isinstance(connection, psycopg.Connection):
        connection.ensure_connection()
        raw = connection.connection
    if not isinstance(raw, psycopg.Connection):
        raise OutboxError("the mailbox needs a connection of psycopg 3: use postgresql+psycopg:// in the test's URL")
    if raw.autocommit and raw.info.transaction_status == TransactionStatus.IDLE:
        raise OutboxError("the mailbox's connection is in no transaction: begin one, and roll it back after the test")
    return raw


def _for_psycopg(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"postgresql{separator}{rest}" if scheme == "postgresql+psycopg" else url
