"""What one process needs to work, opened when first used: settings, ledger, accounts, doorbell, engine."""

from __future__ import annotations

import logging
import os
import sys
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from mailglass import telemetry
from mailglass.doorbell import Doorbell
from mailglass.routing import Router
from mailglass.settings import Settings, get_settings

if TYPE_CHECKING:
    # who only says what to send needs none of these
    from mailglass.engine import Engine
    from mailglass.engine.settler import Settler
    from mailglass.ledger.database import Database
    from mailglass.ledger.low_water import LowWaters
    from mailglass.limits import Limiter
    from mailglass.providers.registry import Accounts


class Runtime:
    """The opened parts of one process.

    Args:
        settings: what they are opened from.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        tell_unknown_variables(settings)

    @property
    def database(self) -> Database:
        """The ledger's pool."""
        from mailglass.ledger.database import get_database

        return get_database(self.settings.require_database(), self.settings.pooled)

    @cached_property
    def accounts(self) -> Accounts:
        """The accounts, each opened when first used."""
        from mailglass.providers.registry import Accounts

        return Accounts(self.settings)

    @cached_property
    def doorbell(self) -> Doorbell:
        """The doorbell, on the project's Celery app."""
        from mailglass.celery import app, use_settings

        use_settings(self.settings)
        return Doorbell(self.settings, app)

    @cached_property
    def router(self) -> Router:
        """Routes, the tenancy's hooks included."""
        return Router(self.settings)

    @cached_property
    def limiter(self) -> Limiter:
        """The rate limiter, shared with all workers."""
        from mailglass.limits import limiter_for

        return limiter_for(self.settings, self.database)

    @cached_property
    def engine(self) -> Engine:
        """The delivery engine."""
        from mailglass.engine import Engine, bulkhead

        return Engine(self.settings, self.database, self.accounts, self.limiter, self.router, bulkhead.current())

    @cached_property
    def low_water(self) -> LowWaters:
        """Where the scans of this process start."""
        from mailglass.ledger.low_water import LowWaters

        return LowWaters()

    @cached_property
    def settler(self) -> Settler:
        """What settles uncertain deliveries."""
        from mailglass.engine.settler import Settler

        return Settler(self.settings, self.database, self.accounts)


_told: set[str] = set()


def tell_unknown_variables(settings: Settings) -> None:
    """Warn of variables that look like settings and are none; of each once in this process and its children."""
    for variable in settings.unknown_variables:
        if variable.name not in _told:
            _told.add(variable.name)
            telemetry.emit(
                "mailglass.settings.unknown_variable",
                level=logging.WARNING, variable=variable.name, nearest=variable.nearest,
            )  # fmt: skip


_lock = threading.Lock()
_runtime: Runtime | None = None


def get_runtime() -> Runtime:
    """This process's runtime. A changed configuration gives a new one."""
    global _runtime
    settings = get_settings()
    runtime = _runtime
    if runtime is None or runtime.settings is not settings:
        with _lock:
            runtime = _runtime
            if runtime is None or runtime.settings is not settings:
                runtime = _runtime = Runtime(settings)
    return runtime


def close_runtime() -> None:
    """Close what this process has opened."""
    global _runtime
    with _lock:
        if _runtime is not None:
            _runtime.accounts.close()
        _runtime = None
    # what was not loaded has opened nothing
    if (ledger := sys.modules.get("mailglass.ledger.database")) is not None:
        ledger.close_databases()


def _forget_after_fork() -> None:
    global _runtime, _lock
    _lock = threading.Lock()
    _runtime = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
