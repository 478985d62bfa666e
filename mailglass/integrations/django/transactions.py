"""Django's transaction, for deliveries that commit and roll back with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections, transaction

from mailglass.errors import ConfigError, SessionError
from mailglass.ledger.session import HostTransaction, runner_of
from mailglass.settings import configure, get_settings
from mailglass.settings.django import DEFAULT_ALIAS, database_url, reference_of


def session() -> HostTransaction:
    """Return Django's current transaction, for `session=` of the calls that send mail.

        with transaction.atomic():
            order.save()
            deliver_later.delay(Message(...), session=session())

    The delivery is written on Django's own connection. It commits and rolls back with the transaction, savepoints
    included, and workers are rung after the commit. Where no transaction is open, it is written at once.

    Returns:
        The transaction of the database that `MAILGLASS["database"]` names, `default` if it names none. Use it at once
        and in this thread.

    Raises:
        ConfigError: the database is not PostgreSQL.
        SessionError: by the call it is given to, if the ledger is in another database.
    """
    alias = ledger_alias()
    found = on_connection(alias)
    if found is None:
        raise ConfigError(
            reference_of(alias),
            "is not PostgreSQL, so no delivery can join its transaction",
            "Send after the commit: transaction.on_commit(lambda: deliver_later.delay(message))",
        )
    return found


def ledger_alias() -> str:
    """Return the name in `DATABASES` of the database whose transactions deliveries join.

    Settings that were read from another `DATABASES` are forgotten: Django's test runner puts its databases there.
    """
    # this raises for a name that is in no DATABASES
    url = get_settings().database_url
    alias: str = (getattr(settings, "MAILGLASS", None) or {}).get("database", DEFAULT_ALIAS)
    own = database_url(alias, settings.DATABASES.get(alias, {}))
    if own is not None and url.reference == own.reference and url != own:
        configure(None)
    return alias


def joined(alias: str) -> HostTransaction | None:
    """Return Django's transaction if the ledger is in its database, else None.

    Raises:
        SessionError: the ledger should be in this database, because nothing names another, and is not.
        LedgerUnavailableError: the ledger cannot be reached.
    """
    found = on_connection(alias)
    url = get_settings().database_url
    if found is None:
        return None
    info = found.connection.info
    key = (info.host, info.port, info.dbname, url)
    if key in _elsewhere:
        return None
    try:
        with connections[alias].wrap_database_errors:
            runner_of(found)
    except SessionError:
        if url.reference == reference_of(alias):
            raise
        _elsewhere.add(key)
        return None
    return found


# databases of Django that have been found not to hold the ledger
_elsewhere: set[tuple[object, ...]] = set()


def on_connection(alias: str) -> HostTransaction | None:
    """Return the transaction of one of Django's databases, or None if its driver is not psycopg 3."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return None
    connection.ensure_connection()
    raw: Any = connection.connection
    if not isinstance(raw, psycopg.Connection):
        return None
    # as Django's own cursor does: after a failed statement a transaction takes nothing but its rollback
    connection.validate_no_broken_transaction()
    return HostTransaction(raw, partial(_on_commit, alias))


def _on_commit(alias: str, function: Callable[[], object]) -> None:
    connection = connections[alias]
    if connection.in_atomic_block or connection.get_autocommit():
        transaction.on_commit(function, using=alias, robust=True)
    # else AUTOCOMMIT is off, and Django tells nobody of commits: the pump rings
