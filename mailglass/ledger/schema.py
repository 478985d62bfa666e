"""The schema's version: upgrade it, say which one stands, refuse to work on the wrong one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mailglass.errors import LedgerUnavailableError, SchemaError

HEAD = "0004"
_LOCK = 0x6D61696C676C6173  # "mailglas": one upgrade at a time


def upgrade(url: str, revision: str = "head") -> str:
    """Bring the schema to a revision; safe to call from several processes at once.

    Args:
        url: of the PostgreSQL database.
        revision: `head`, or a revision's number.

    Returns:
        The revision that stands afterwards.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    from alembic import command

    with _connection(url) as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS mailglass")
        command.upgrade(_config(connection), revision)
        connection.commit()
    return current(url) or ""


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to a revision, `base` for nothing. Destroys what later revisions hold."""
    from alembic import command

    with _connection(url) as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        command.downgrade(_config(connection), revision)
        connection.commit()


def current(url: str) -> str | None:
    """The revision that stands, None where there is no ledger.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    with _connection(url) as connection:
        there = connection.exec_driver_sql("SELECT to_regclass('mailglass.schema_version')").scalar()
        if there is None:
            return None
        found = connection.exec_driver_sql("SELECT version_num FROM mailglass.schema_version").scalar()
        return None if found is None else str(found)


def check(url: str) -> None:
    """Refuse to work on a schema that is missing, older or newer.

    Raises:
        SchemaError: names the command to run.
    """
    found = current(url)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise SchemaError(
            f"the ledger's schema is at revision {found}, newer than this mailglass knows ({HEAD}): upgrade mailglass"
        )
    state = "missing" if found is None else f"at revision {found}"
    raise SchemaError(f"the ledger's schema is {state}, this mailglass needs {HEAD}: run `mailglass db upgrade`")


@contextlib.contextmanager
def _connection(url: str) -> Iterator[Any]:
    import sqlalchemy
    from sqlalchemy.exc import OperationalError

    from mailglass.ledger.database import sqlalchemy_url

    engine = sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        # its text may hold the URL's user; the remedy is the same for every cause
        raise LedgerUnavailableError("cannot reach the database: check MAILGLASS_DATABASE_URL") from error
    finally:
        engine.dispose()


def _config(connection: Any) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
