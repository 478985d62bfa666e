"""Conditions of a worker's start: those that it waits for, and those without which it does not start."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mailglass import clock, telemetry
from mailglass.errors import ConfigError, LedgerUnavailableError
from mailglass.ledger import schema
from mailglass.ledger.database import Database
from mailglass.ledger.pooler import check_session
from mailglass.settings import Settings

# seconds between two looks; the first ones are short, because most outages are a restart
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
# seconds between two log lines of one outage: twice as long each time
_FIRST_SILENCE: Final = 5.0
_LONGEST_SILENCE: Final = 300.0


def require_accounts(settings: Settings) -> None:
    """Refuse settings without accounts, unless the application may keep some: the worker would give its mail back.

    Raises:
        ConfigError: there is no account.
    """
    if not settings.accounts and settings.tenancy is None:
        read = f"{settings.file} has none" if settings.file else "no settings file was read"
        raise ConfigError(
            "accounts",
            f"no account is configured ({read}), so this worker could send nothing",
            "Set MAILGLASS_CONFIG to the file with [accounts.NAME]; `mailglass config check` says which file is read",
        )


def check_schema(settings: Settings) -> None:
    """Refuse a schema that this code cannot use; wait for a database that cannot be reached.

    A signal to end the worker ends it at once while it waits.

    Raises:
        SchemaError: names the command to run.
        ConfigError: no database is configured, or a pooler before it is not.
    """
    url = settings.require_database()
    began = clock.monotonic()
    pause, silence, speak_at = _FIRST_PAUSE, _FIRST_SILENCE, began
    with _ended_by_signals():
        while True:
            try:
                schema.check(url)
                _check_session(url, settings.pooled)
            except LedgerUnavailableError as error:
                if clock.monotonic() >= speak_at:
                    telemetry.configure_logging(settings.log_level, settings.log_format)
                    _say("mailglass.startup.waiting", logging.WARNING, began, reason=str(error))
                    speak_at = clock.monotonic() + silence
                    silence = min(2 * silence, _LONGEST_SILENCE)
            else:
                break
            time.sleep(pause * random.uniform(1.0, 1.2))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)
    if speak_at > began:
        _say("mailglass.startup.database_reached", logging.INFO, began)


def _check_session(url: str, pooled: bool) -> None:
    # in a pool of its own, which the processes of the worker do not inherit
    database = Database(url, 1, pooled)
    try:
        check_session(database, pooled)
    finally:
        database.dispose()


def _say(event: str, level: int, began: float, **fields: str) -> None:
    telemetry.emit(event, level=level, duration_ms=round((clock.monotonic() - began) * 1000), **fields)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Handle SIGTERM until Celery does, because the first process of a container ignores it."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
