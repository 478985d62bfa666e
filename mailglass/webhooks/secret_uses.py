"""Last use of each webhook secret, kept in the ledger so that you know when an old one may go.

A process writes a use within a minute or so of the first one, and then once an hour for each secret. If it dies before,
that use is not known. What is kept is right to within an hour.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from mailglass import clock, telemetry
from mailglass.ledger import secret_uses as ledger
from mailglass.ledger.database import Runs
from mailglass.ledger.secret_uses import SecretNote, fingerprint
from mailglass.providers.base import Provider
from mailglass.providers.credentials import webhook_secrets_of
from mailglass.settings import Secret

_EVERY: Final = 3600.0
# seconds until uses are written that could not be
_AGAIN: Final = 60.0
# secrets whose last writing is remembered; there are a few for each account
_MOST: Final = 10_000


class SecretUses:
    """Uses that wait to be written. One per process; safe to use from several threads.

    Args:
        database: keeps them.
    """

    def __init__(self, database: Runs) -> None:
        self._database = database
        self._write_at: dict[tuple[str, Secret], float] = {}
        self._due: dict[tuple[str, Secret], Provider] = {}
        self._lock = threading.Lock()

    def note(self, provider: Provider, secret: Secret) -> None:
        """Note that a secret has proved a webhook of an account. No I/O."""
        key = (provider.account, secret)
        now = clock.monotonic()
        if now < self._write_at.get(key, 0.0):
            return
        with self._lock:
            if len(self._write_at) >= _MOST:
                self._write_at.clear()
            self._write_at[key] = now + _EVERY
            self._due[key] = provider

    def write(self) -> None:
        """Write what is due, by one statement. Never raises: webhooks do not depend on it."""
        if not self._due:
            return
        with self._lock:
            due, self._due = self._due, {}
        try:
            ledger.note(
                self._database,
                [
                    SecretNote(account, fingerprint(self._database, account, one.reveal()), used=one == secret)
                    for (account, secret), provider in due.items()
                    for one in sorted(webhook_secrets_of(provider), key=lambda one: one == secret)
                ],
            )
        except Exception as error:
            telemetry.emit("mailglass.secrets.unnoted", level=logging.WARNING, error_type=type(error).__name__)
            with self._lock:
                for key in due:
                    self._write_at[key] = clock.monotonic() + _AGAIN
