"""The parts of one process, opened at their first use: settings, ledger, accounts, doorbell, engine."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from mailglass import telemetry
from mailglass.doorbell import Doorbell
from mailglass.routing import Router
from mailglass.settings import Settings, get_settings

if TYPE_CHECKING:
    # a process that only records mail needs none of these
    from mailglass.engine import Engine
    from mailglass.engine.settler import Settler
    from mailglass.ledger.database import Database
    from mailglass.ledger.low_water import LowWaters
    from mailglass.limits import Limiter
    from mailglass.providers.registry import Accounts
    from mailglass.webhooks.ingress import IngressContext
    from mailglass.webhooks.secret_uses import SecretUses
    from mailglass.webhooks.store import Ring


class Runtime:
    """Container of one process's parts.

    Args:
        settings: of all parts.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        warn_of_unknown_variables(settings)

    @property
    def database(self) -> Database:
        """Return the ledger's pool."""
        from mailglass.ledger.database import get_database

        return get_database(self.settings.require_database(), self.settings.pooled)

    @cached_property
    def accounts(self) -> Accounts:
        """Return the accounts, each opened at its first use."""
        from mailglass.providers.registry import Accounts

        return Accounts(self.settings, router=self.router)

    @cached_property
    def doorbell(self) -> Doorbell:
        """Return the doorbell, on the project's Celery app."""
        from mailglass.celery import app, use_settings

        use_settings(self.settings)
        return Doorbell(self.settings, app)

    @cached_property
    def router(self) -> Router:
        """Return the router, with the tenancy's hooks."""
        return Router(self.settings)

    def prepare_for_webhooks(self) -> None:
        """Open what the first webhook needs, so that wrong settings show at the start.

        Raises:
            ConfigError: the settings are wrong, or an account cannot be opened.
        """
        _ = self.database
        self.accounts.check()
        if self.settings.broker_url.reveal():
            _ = self.doorbell

    def ingress_context(self, ring: Ring | None = None) -> IngressContext:
        """Return what the webhook endpoint works with.

        Args:
            ring: rings a task by its name; by default the doorbell, which opens with the first ring. If it cannot, the
                webhook is stored all the same.
        """
        from mailglass.webhooks.ingress import IngressContext

        def ring_now(task: str) -> None:
            self.doorbell.ring_task(task)

        return IngressContext(
            self.settings, self.database, self.accounts, ring or ring_now, self.router, self.secret_uses
        )

    @cached_property
    def secret_uses(self) -> SecretUses:
        """Return the uses of webhook secrets that wait to be written."""
        from mailglass.webhooks.secret_uses import SecretUses

        return SecretUses(self.database)

    @cached_property
    def limiter(self) -> Limiter:
        """Return the rate limiter, shared with all workers."""
        from mailglass.limits import limiter_for

        return limiter_for(self.settings, self.database)

    @cached_property
    def engine(self) -> Engine:
        """Return the delivery engine."""
        from mailglass.engine import Engine, bulkhead

        return Engine(self.settings, self.database, self.accounts, self.limiter, self.router, bulkhead.current())

    @cached_property
    def low_water(self) -> LowWaters:
        """Return the positions where the scans of this process start."""
        from mailglass.ledger.low_water import LowWaters

        return LowWaters()

    @cached_property
    def settler(self) -> Settler:
        """Return the settler of uncertain deliveries."""
        from mailglass.engine.settler import Settler

        return Settler(self.settings, self.database, self.accounts)


_warned: set[str] = set()


def warn_of_unknown_variables(settings: Settings) -> None:
    """Warn of environment variables that look like settings, once for each in this process and its children."""
    for variable in settings.unknown_variables:
        if variable.name not in _warned:
            _warned.add(variable.name)
            telemetry.emit(
                "mailglass.settings.unknown_variable",
                level=logging.WARNING,
                variable=variable.name,
                nearest=variable.nearest,
            )


_lock = threading.Lock()
_runtime: Runtime | None = None


# finds the runtime that a test has put in the place of the process's
_substitute: Callable[[], Runtime | None] | None = None


def substitute_runtime(find: Callable[[], Runtime | None]) -> None:
    """Use the runtime that a function finds instead of the process's, wherever it finds one. For tests.

    Args:
        find: called for each use; returns None where the process's runtime is meant.
    """
    global _substitute
    _substitute = find


def get_runtime() -> Runtime:
    """Return this process's runtime; a new one if the settings have changed."""
    global _runtime
    if _substitute is not None and (runtime := _substitute()) is not None:
        return runtime
    settings = get_settings()
    runtime = _runtime
    if runtime is None or runtime.settings is not settings:
        with _lock:
            runtime = _runtime
            if runtime is None or runtime.settings is not settings:
                runtime = _runtime = Runtime(settings)
    return runtime


def close_runtime() -> None:
    """Close the parts that this process has opened."""
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
