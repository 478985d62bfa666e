"""The remote control command `mailglass`: a worker's versions, for `mailglass preflight`.

`celery -A mailglass inspect mailglass` prints the same.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import inspect_command

from mailglass import __version__
from mailglass.ledger.schema import HEAD
from mailglass.settings import get_settings


@inspect_command(name="mailglass")
def versions(state: Any) -> dict[str, str]:
    """Show the version of mailglass, the newest schema revision it knows, and the log level."""
    return {"version": __version__, "schema": HEAD, "log_level": get_settings().log_level}
