"""The ledger as commands open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailglass.settings import get_settings

if TYPE_CHECKING:
    from mailglass.ledger.database import Database

# rows that one statement changes
BATCH = 5000


def open_database() -> Database:
    """Return the ledger of the process's settings.

    Raises:
        ConfigError: the settings name no database.
    """
    from mailglass.ledger.database import get_database

    return get_database(get_settings().require_database())
