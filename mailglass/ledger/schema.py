"""The schema's version: upgrade it, say which one stands, refuse to work on the wrong one.

The schema names the oldest revision of the code that may work on it. Code works on any schema from its own revision up
to the newest one that still names it or an older one. So `mailglass db upgrade` may run while older workers run, and
they may restart. A migration that takes something away raises the oldest revision.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mailglass import clock
from mailglass.errors import LedgerUnavailableError, MailglassError, SchemaError

HEAD = "0026"
# the triggers that hold the ledger's promises
TRIGGERS = frozenset(
    {
        "deliveries_lifecycle",
        "deliveries_own_content",
        "deliveries_put_off",
        "deliveries_same_content",
        "deliveries_waiting",
        "events_append_only",
    }
)
_LOCK = 0x6D61696C676C6173  # "mailglas": one upgrade at a time


def upgrade(url: str, revision: str = "head") -> str:
    """Bring the schema to a revision; safe to call from several processes at once.

    Args:
        url: of the PostgreSQL database.
        revision: `head`, or a revision's number.

    Returns:
        The revision that stands afterwards.

    Raises:
        SchemaError: the schema is newer, and this code cannot work on it.
        LedgerUnavailableError: the database cannot be reached.
    """
    from alembic import command

    found = version(url)
    if found is not None and found.revision > HEAD:
        # there is nothing to upgrade to, and alembic knows nothing of what stands
        return check(url).revision
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


def execute(url: str, statements: Sequence[str]) -> str | None:
    """Run statements in one transaction, and return the SQLSTATE of the refusal, or None if all were run.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    from sqlalchemy.exc import DBAPIError, OperationalError

    with _connection(url) as connection:
        try:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))
            connection.commit()
        except OperationalError:
            raise
        except DBAPIError as error:
            return str(getattr(error.orig, "sqlstate", None) or type(error).__name__)
    return None


class Version(NamedTuple):
    """The version of a schema.

    Attributes:
        revision: the newest migration that it has.
        oldest_code: the oldest revision of the code that may work on it.
    """

    revision: str
    oldest_code: str


def current(url: str) -> str | None:
    """Return the schema's revision, or None if there is no ledger.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    found = version(url)
    return None if found is None else found.revision


def version(url: str) -> Version | None:
    """Return the schema's version, or None if there is no ledger.

    Raises:
        LedgerUnavailableError: the database cannot be reached.
    """
    with _connection(url) as connection:
        if connection.exec_driver_sql("SELECT to_regclass('mailglass.schema_version')").scalar() is None:
            return None
        revision = connection.exec_driver_sql("SELECT version_num FROM mailglass.schema_version").scalar()
        if revision is None:
            return None
        # revisions before the rule stand for themselves alone
        has_rule = connection.exec_driver_sql("SELECT to_regclass('mailglass.schema_support')").scalar() is not None
        oldest = (
            connection.exec_driver_sql("SELECT oldest_code FROM mailglass.schema_support").scalar()
            if has_rule
            else revision
        )
        return Version(str(revision), str(oldest))


def problem(found: Version | None) -> str | None:
    """Return why this code cannot work on a schema, with the command to run, or None if it can."""
    if found is None:
        return f"the ledger's schema is missing, this mailglass needs {HEAD}: run `mailglass db upgrade`"
    if found.revision < HEAD:
        return (
            f"the ledger's schema is at revision {found.revision}, this mailglass needs {HEAD}: "
            "run `mailglass db upgrade`"
        )
    if found.oldest_code > HEAD:
        return (
            f"the ledger's schema is at revision {found.revision}, which needs a mailglass of {found.oldest_code} or "
            f"newer; this one is of {HEAD}: upgrade mailglass"
        )
    return None


def check(url: str) -> Version:
    """Refuse to work on a schema that is missing, too old, or too new for this code.

    Returns:
        The version of the schema, if this code can work on it.

    Raises:
        SchemaError: names the command to run.
        LedgerUnavailableError: the database cannot be reached.
    """
    found = version(url)
    reason = problem(found)
    if found is None or reason is not None:
        raise SchemaError(reason or "")
    return found


def wait(url: str, timeout: float, on_wait: Callable[[str], object] = lambda _: None, poll: float = 0.5) -> Version:
    """Wait until this code can work on the schema.

    Args:
        url: of the PostgreSQL database.
        timeout: seconds to wait at most; 0 looks once.
        on_wait: called with the reason each time it changes.
        poll: seconds between two looks.

    Returns:
        The version of the schema.

    Raises:
        SchemaError: the schema cannot be worked on when the time is up, or is too new, which waiting does not mend.
        LedgerUnavailableError: the database cannot be reached when the time is up.
    """
    deadline = clock.monotonic() + timeout
    said = None
    while True:
        try:
            found = version(url)
        except LedgerUnavailableError as error:
            refusal: MailglassError = error
        else:
            reason = problem(found)
            if found is not None and reason is None:
                return found
            refusal = SchemaError(reason or "")
            if found is not None and found.oldest_code > HEAD:
                raise refusal
        left = deadline - clock.monotonic()
        if left <= 0:
            raise refusal
        if str(refusal) != said:
            said = str(refusal)
            on_wait(said)
        time.sleep(min(poll, left))


@contextlib.contextmanager
def _connection(url: str) -> Iterator[Any]:
    import sqlalchemy
    from sqlalchemy.exc import DBAPIError, OperationalError

    from mailglass.ledger.database import sqlalchemy_url
    from mailglass.ledger.unreachable import of_the_url, unreachable, unusable

    engine = sqlalchemy.create_engine(
        sqlalchemy_url(url),
        poolclass=sqlalchemy.NullPool,
        # behind a pooler, what is prepared stays with a session that others get
        connect_args={"prepare_threshold": None},
    )
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        # its text may hold the URL's user
        raise LedgerUnavailableError(unreachable(url, error.orig)) from error
    except DBAPIError as error:
        if not of_the_url(error.orig):
            raise
    else:
        return
    finally:
        engine.dispose()
    # outside of the handler: the driver's error quotes the options
    raise unusable()


def _config(connection: Any) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
