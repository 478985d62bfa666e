"""Fetch webhooks that providers lay into a queue, and keep them as the endpoint keeps those that are posted."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mailglass import clock, telemetry
from mailglass.ledger.database import Database
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts, provider_class
from mailglass.routing import Router
from mailglass.settings import Settings
from mailglass.webhooks.store import Ring, arrival, keep
from mailglass.webhooks.tenants import tenant_of

BUDGET = 20.0
# of one account, before the others have their turn
ROUNDS = 50


def run(settings: Settings, database: Database, accounts: Accounts, router: Router, ring: Ring) -> bool:
    """Take from the queues of all accounts that have one; an account whose queue fails keeps no other waiting.

    Returns:
        Whether more may be waiting.
    """
    deadline = clock.monotonic() + BUDGET
    more = False
    for account in settings.accounts.values():
        try:
            if provider_class(account.provider).collect is Provider.collect:
                continue
            provider = accounts.open(account.name)
            store = _Store(provider, tenant_of(account, None, router.tenancy), database, ring)
            rounds = ROUNDS
            while rounds and clock.monotonic() < deadline and provider.collect(store):
                rounds -= 1
            more = more or not rounds or clock.monotonic() >= deadline
        except Exception as error:
            # the text may quote what was to be kept; what was not kept waits in the queue
            telemetry.emit(
                "mailglass.webhooks.poll_failed",
                level=logging.ERROR, account=account.name, provider=account.provider, error_type=type(error).__name__,
            )  # fmt: skip
    return more


class _Store:
    """Keeps one account's webhooks: what `Provider.collect` is given."""

    def __init__(self, provider: Provider, tenant: str | None, database: Database, ring: Ring) -> None:
        self._provider = provider
        self._tenant = tenant
        self._database = database
        self._ring = ring

    def __call__(self, account: str, body: bytes, headers: Mapping[str, str], dedupe_key: str) -> None:
        item = arrival(account, self._provider, dedupe_key, body, headers, self._tenant)
        (kept,) = keep(self._database, [item], self._ring)
        if isinstance(kept, Exception):
            raise kept
