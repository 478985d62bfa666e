"""Ask providers what rate they grant our accounts: about once an hour, by whichever worker comes first."""

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

# a rate outlives the next asking by an hour, so that a provider that cannot be asked for a while changes nothing
_LEAD: Final = 3600.0
_ASKED_EVERY: Final = (3600.0, 4200.0)
# seconds that one worker has to ask an account, before another one may
_ANSWER_WITHIN: Final = 300.0


def learn_granted_rates(names: Iterable[str], ledger: Runs, accounts: Accounts, limiter: Limiter) -> int:
    """Ask for those accounts whose provider tells a rate and was not asked for an hour.

    Args:
        names: the accounts.
        ledger: keeps when each was asked, so that of many workers one asks.
        accounts: the opened providers.
        limiter: is told the rates.

    Returns:
        How many rates were learnt.
    """
    telling = {name: provider for name in names if (provider := _telling(accounts, name)) is not None}
    if not telling:
        return 0
    due = ledger.run("claim_rates", {"accounts": sorted(telling), "lead": _LEAD, "answer_within": _ANSWER_WITHIN})
    learnt = 0
    for row in due:
        rate = _ask(telling[row.account])
        if rate is not None and rate > 0:
            lasting = _LEAD + random.uniform(*_ASKED_EVERY)  # noqa: S311 - spreads, hides nothing
            limiter.set_rate(row.account, rate, lasting=lasting)
            learnt += 1
    return learnt


def _telling(accounts: Accounts, name: str) -> Provider | None:
    try:
        provider = accounts.open(name)
    except ConfigError:
        # said at the start, and again with every mail that is held for it
        return None
    return provider if type(provider).granted_rate is not Provider.granted_rate else None


def _ask(provider: Provider) -> float | None:
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
