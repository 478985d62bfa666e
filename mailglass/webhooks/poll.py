"""Polling of webhooks that providers put into a queue, such as Amazon SQS."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mailglass import clock, telemetry
from mailglass.ledger.database import Database
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts, provider_class
from mailglass.routing import Router
from mailglass.settings import Settings
from mailglass.webhooks.store import Ring, arrival, store
from mailglass.webhooks.tenants import tenant_of

BUDGET = 20.0
# requests for one account, before the other accounts have their turn
ROUNDS = 50


def run(settings: Settings, database: Database, accounts: Accounts, router: Router, ring: Ring) -> bool:
    """Store the webhooks that wait in accounts' queues. An account whose queue fails delays no other.

    Args:
        settings: name the accounts.
        database: stores the webhooks.
        accounts: fetch from their queues.
        router: has the tenancy hooks.
        ring: rings a task by its name.

    Returns:
        Whether more webhooks may be waiting.
    """
    deadline = clock.monotonic() + BUDGET
    more = False
    for account in settings.accounts.values():
        try:
            if not provider_class(account.provider).polled:
                continue
            provider = accounts.open(account.name)
            sink = _Sink(provider, tenant_of(account, None, router.tenancy), database, ring)
            rounds = ROUNDS
            while rounds and clock.monotonic() < deadline and provider.collect(sink):
                rounds -= 1
            more = more or not rounds or clock.monotonic() >= deadline
        except Exception as error:
            # the text may quote a webhook; webhooks that are not stored wait in the queue
            telemetry.emit(
                "mailglass.webhooks.poll_failed",
                level=logging.ERROR,
                account=account.name,
                provider=account.provider,
                error_type=type(error).__name__,
            )
    return more


class _Sink:
    """Store of one account's webhooks, as `Provider.collect` calls it."""

    def __init__(self, provider: Provider, tenant: str | None, database: Database, ring: Ring) -> None:
        self._provider = provider
        self._tenant = tenant
        self._database = database
        self._ring = ring

    def __call__(self, account: str, body: bytes, headers: Mapping[str, str], dedupe_key: str) -> None:
        item = arrival(account, self._provider, dedupe_key, body, headers, self._tenant)
        (result,) = store(self._database, [item], self._ring)
        if isinstance(result, Exception):
            raise result
