"""The ledger behind a connection pooler such as PgBouncer, where a session is not one's own.

A pooler in transaction mode gives each transaction whichever server connection is free. Startup parameters do not reach
the server, and a statement prepared in one transaction is not there in the next one. So the session's settings are
given to the role in the database, once, and nothing is prepared.
"""

from __future__ import annotations

from typing import Any, Final

from mailglass.errors import ConfigError

# Every statement is a few index look-ups by key. Plans made while a table was small must not scan it once it is
# large, and planning costs more than most of them: so no sequential plans, and one generic plan for each. No key is
# looked up twice in one statement, so to remember what was found costs more than it saves.
SESSION: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_memoize": "off",
    "jit": "off",
    "timezone": "UTC",
}
STARTUP_OPTIONS: Final = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
# a statement that was prepared is not there, or is there already: another session answers than the one before
_ANOTHER_SESSION: Final = frozenset({"26000", "42P05"})
# PgBouncer; Amazon RDS Proxy
_REFUSALS: Final = ("unsupported startup parameter", "command-line options")
_REMEDY: Final = 'Set pooler = "transaction", and run `mailglass db upgrade --role ROLE` once: docs/guides/pooler.md'


def pooler_refusal(error: BaseException | None) -> ConfigError | None:
    """Return what to tell of a driver's error that only a pooler causes, or None if it is of another kind."""
    if getattr(error, "sqlstate", None) in _ANOTHER_SESSION:
        return ConfigError("pooler", "the database is behind a connection pooler that shares its sessions", _REMEDY)
    if any(words in str(error) for words in _REFUSALS):
        return ConfigError(
            "pooler", "the database is behind a connection pooler (PgBouncer) that refuses startup parameters", _REMEDY
        )
    return None


def check_session(database: Any, pooled: bool) -> None:
    """Refuse sessions without the settings that the ledger's statements need.

    Args:
        database: a `Database`.
        pooled: whether the settings name a pooler.

    Raises:
        ConfigError: says what to run.
        LedgerUnavailableError: the database cannot be reached.
    """
    (row,) = database.run("session_settings", {"names": list(SESSION)})
    found = dict(zip(row.names, row.settings, strict=True))
    wrong = sorted(name for name, value in SESSION.items() if found.get(name) != value)
    if not wrong:
        return
    if not pooled:
        raise ConfigError(
            "pooler", "a connection pooler before the database ignores the session's startup parameters", _REMEDY
        )
    raise ConfigError(
        "pooler",
        f"the role's sessions lack {', '.join(wrong)}, which a pooler does not pass on",
        "Run `mailglass db upgrade --role ROLE` for the role that connects, then RECONNECT in the pooler's console",
    )


def role_statements(role: str, database: str) -> list[str]:
    """Return the SQL that gives a role's sessions in a database what startup parameters give without a pooler."""
    return [
        f"ALTER ROLE {_quoted(role)} IN DATABASE {_quoted(database)} SET {name} = '{value}'"
        for name, value in SESSION.items()
    ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
