"""Leadership among beats: a session-level advisory lock in the ledger, lost with its connection."""

from __future__ import annotations

import logging
from typing import Any

import psycopg

from mailglass import telemetry

_KEY = 0x6D672062656174  # "mg beat"


class Leader:
    """Holds, or waits for, the lock.

    Args:
        url: of the ledger's database.
    """

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://")
        self._connection: psycopg.Connection[Any] | None = None
        self._leading = False

    def leads(self) -> bool:
        """Whether this process leads now; takes over where nobody does."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url, autocommit=True, connect_timeout=5, application_name="mailglass beat"
                )
            if self._leading:
                self._connection.execute("SELECT 1")
                return True
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (_KEY,)).fetchone()
            self._leading = bool(row and row[0])
            if self._leading:
                telemetry.emit("mailglass.beat.leads")
        except psycopg.Error as error:
            telemetry.emit("mailglass.beat.ledger_lost", level=logging.WARNING, error_type=type(error).__name__)
            self.resign()
        return self._leading

    def resign(self) -> None:
        """Give the lock up, if it is held."""
        self._leading = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
