"""Rates that providers grant accounts: requested about once an hour, by any worker."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from typing import Final

from mailglass import telemetry
from mailglass.errors import ConfigError
from mailglass.ledger.database import Runs
from mailglass.limits.limiter import Limiter
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts

# a rate lasts an hour longer than the next request, so that a provider may be away for a while
_LEAD: Final = 3600.0
_ASKED_EVERY: Final = (3600.0, 4200.0)
# seconds that one worker has to ask an account, before another one may
_ANSWER_WITHIN: Final = 300.0


def learn_granted_rates(names: Iterable[str], ledger: Runs, accounts: Accounts, limiter: Limiter) -> int:
    """Request the granted rates of accounts that are due.

    Args:
        names: the accounts.
        ledger: keeps the time of each request, so that one of many workers makes it.
        accounts: the opened providers.
        limiter: keeps the rates.

    Returns:
        The number of rates received.
    """
    providers = {name: provider for name in names if (provider := _granting(accounts, name)) is not None}
    if not providers:
        return 0
    due = ledger.run("claim_rates", {"accounts": sorted(providers), "lead": _LEAD, "answer_within": _ANSWER_WITHIN})
    received = 0
    for row in due:
        rate = _request(providers[row.account])
        if rate is not None and rate > 0:
            lasting = _LEAD + random.uniform(*_ASKED_EVERY)  # noqa: S311 - spreads, hides nothing
            limiter.set_rate(row.account, rate, lasting=lasting)
            received += 1
    return received


def _granting(accounts: Accounts, name: str) -> Provider | None:
    try:
        provider = accounts.open(name)
    except ConfigError:
        # reported at the start, and with every mail that is held for it
        return None
    return provider if provider.grants_rate else None


def _request(provider: Provider) -> float | None:
    try:
        return provider.granted_rate()
    except Exception as error:
        telemetry.emit(
            "mailglass.limits.granted_rate_failed",
            level=logging.WARNING,
            account=provider.account,
            error_type=type(error).__name__,
        )
        return None
