"""Reasons why a database cannot be reached: the server and the remedy, never the driver's words."""

from __future__ import annotations

from typing import Final

import psycopg

from mailglass.errors import ConfigError
from mailglass.settings.servers import database_server

# Connecting fails without an SQLSTATE, so the words tell: libpq's, the server's and the poolers'. The first that fits.
_CAUSES: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (
        ("unsupported startup parameter", "no such parameter", "unrecognized configuration parameter"),
        'a connection pooler refuses mailglass\'s startup options: set pooler = "transaction"',
    ),
    (
        ("no such database", "database does not exist", "no more connections allowed", "server_login_retry"),
        "the connection pooler there cannot serve this database: see the pooler's log",
    ),
    (
        (
            "name or service not known",
            "failed to resolve",
            "could not translate host name",
            "no address associated",
            "nodename nor servname",
            "temporary failure in name resolution",
        ),
        "no such host is known: check the host's name",
    ),
    (
        ("connection refused", "no such file or directory"),
        "nothing accepts connections there: check host and port, and that PostgreSQL is running",
    ),
    (
        ("timeout", "timed out", "no route to host", "network is unreachable"),
        "there was no answer in time: check host and port, and the firewall between",
    ),
    (
        (
            "password authentication failed",
            "no password supplied",
            "authentication failed",
            "no pg_hba.conf entry",
            "peer authentication",
            "permission denied for database",
            "is not permitted to log in",
        ),
        "the login is refused: check user and password, and the server's pg_hba.conf",
    ),
    (
        ("too many clients", "remaining connection slots", "too many connections"),
        "all its connections are taken: close some, or raise max_connections",
    ),
    (
        ("starting up", "shutting down", "in recovery mode", "not accepting connections"),
        "PostgreSQL is starting or stopping there: try again soon",
    ),
    (
        ("ssl", "certificate"),
        "the encrypted connection could not be made: check sslmode and the certificates",
    ),
)
_UNKNOWN: Final = "check MAILGLASS_DATABASE_URL, and the server's log"


def unreachable(url: str, said: object) -> str:
    """Return why a database cannot be reached, as a sentence for people.

    Args:
        url: of the database. Its host, port and database are said, never its user or password.
        said: the driver's error. Nothing of it is repeated.
    """
    try:
        server = str(database_server(url))
    except ConfigError:
        server = "at MAILGLASS_DATABASE_URL"
    return f"the database cannot be reached at {server}: {_cause(str(said).lower())}"


def of_the_url(error: BaseException | None) -> bool:
    """Return whether the driver refuses an option of the URL, before it has asked any server."""
    return isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None


def unusable() -> ConfigError:
    """Return the error of a URL with an option that the driver does not take. It may be of a password: not named."""
    return ConfigError(
        "MAILGLASS_DATABASE_URL",
        "an option after its ? is none of libpq's, or has no value of its kind",
        "Write libpq's parameter key words there, and percent-encode what is special in their values: & as %26",
    )


def _cause(words: str) -> str:
    if "database" in words and "does not exist" in words:
        return "that database does not exist: create it, or mend the name"
    if "role" in words and "does not exist" in words:
        return "the login is refused: check user and password, and the server's pg_hba.conf"
    for signs, cause in _CAUSES:
        if any(sign in words for sign in signs):
            return cause
    return _UNKNOWN
