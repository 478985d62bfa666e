"""Feedback of provider calls on their accounts' rates, for the limiter that all workers share."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.engine.assignment import AccountBatch
from mailglass.limits import Limiter
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider, RateSignal
from mailglass.refusals.consequences import Hears, hears

# an answer that says the same again a moment later is no news
_SAME_MOMENT: Final = 1.0
_PERHAPS_SENT: Final = frozenset({OutcomeClass.ACCEPTED, OutcomeClass.UNCERTAIN})


class RateFeedback:
    """Feedback of providers' answers on their accounts' rates. Safe to use from several threads; never raises.

    Args:
        limiter: keeps the rates; None for no limits.
    """

    def __init__(self, limiter: Limiter | None) -> None:
        self._limiter = limiter
        # the last signal of each account: whether anything remained, and when it counts anew
        self._last_signals: dict[str, tuple[bool, float]] = {}

    def apply(self, batch: AccountBatch, mails: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
        """Slow an account down whose provider refused mails, or says that it is about to.

        Its plan for the day counts what was sent or may have been: the other mails give their places back.
        """
        provider = batch.provider
        if any(outcome.refusal is not None and hears(outcome.refusal) is Hears.CONCURRENCY for outcome in outcomes):
            provider.hold_back()
        if self._limiter is None:
            return
        answered = zip(mails, outcomes, strict=True)
        self.not_sent(batch, [mail.delivery_id for mail, outcome in answered if outcome.kind not in _PERHAPS_SENT])
        throttled = [outcome for outcome in outcomes if _slows_the_account(outcome)]
        if throttled:
            waits = [outcome.retry_after for outcome in throttled if outcome.retry_after is not None]
            self._limiter.slow_down(provider.account, retry_after=max(waits, default=None))
        signal = _heard(provider)
        # while another piece of this size fits there is nothing to say
        if signal is not None and signal.remaining < len(outcomes) and self._is_news(provider.account, signal):
            self._limiter.observe(provider.account, signal.remaining, signal.reset_seconds)

    def not_sent(self, batch: AccountBatch, ids: Iterable[UUID]) -> None:
        """Give back what places these deliveries took in the account's plan for the day.

        Each delivery gives its place back once: it is not marked, given back unsent, or attempted and not sent.
        """
        keys = Counter(batch.cap_keys[delivery_id] for delivery_id in ids if delivery_id in batch.cap_keys)
        if keys and self._limiter is not None:
            self._limiter.give_back(keys)

    def _is_news(self, account: str, signal: RateSignal) -> bool:
        now = clock.monotonic()
        something, until = signal.remaining > 0, now + signal.reset_seconds
        known_something, known_until = self._last_signals.get(account, (True, 0.0))
        repeated = abs(until - known_until) < _SAME_MOMENT and now < known_until
        if repeated and (something or not known_something):
            return False
        self._last_signals[account] = (something, until)
        return True


def _heard(provider: Provider) -> RateSignal | None:
    try:
        return provider.rate_signal()
    except Exception as error:
        # the mails of the call are recorded; a fault of the room's here is none of theirs
        telemetry.emit(
            "mailglass.limits.signal_failed",
            level=logging.WARNING,
            account=provider.account,
            error_type=type(error).__name__,
        )
        return None


def _slows_the_account(outcome: Outcome) -> bool:
    """Return whether all of the account's mail is to go slower: not for what one mailbox or one domain says."""
    if outcome.kind is not OutcomeClass.THROTTLED:
        return False
    return outcome.refusal is None or hears(outcome.refusal) is Hears.LIMITER
