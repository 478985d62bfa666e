"""The limiter: takes places for batches of mails, learns from providers, and never fails open."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from mailglass import clock, telemetry
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger.leases import Runs
from mailglass.limits.batch import GRANTED, Grant, compile_batch
from mailglass.limits.gcra_ledger import LedgerGcra
from mailglass.limits.gcra_redis import RedisGcra
from mailglass.limits.lessons import Lesson
from mailglass.limits.rules import Limit
from mailglass.settings import Settings

HORIZON = 30.0
_LONGEST_CALL = 1000
_LONGEST_PAUSE = 86400.0
_TOLD_RATE_LASTS = 86400.0
_FIRST_QUIET = 1.0
_LONGEST_QUIET = 10.0


class Limiter:
    """One limiter, shared by every worker on every machine. Safe to use from several threads and after a fork.

    Args:
        ledger: where limits are kept when Redis is not there.
        redis: where limits are kept; None where there is no Redis.
        horizon: seconds beyond a limit's next free place up to which refused mails get places of their own.
    """

    def __init__(self, ledger: Runs, redis: RedisGcra | None = None, horizon: float = HORIZON) -> None:
        self._ledger = LedgerGcra(ledger)
        self._redis = redis
        self._horizon = horizon * 1e6
        self._quiet_until = 0.0
        self._quiet = _FIRST_QUIET

    def take(
        self, requests: Sequence[tuple[Limit, ...]], *, urgent: bool = False, now: int | None = None
    ) -> list[Grant]:
        """Take a place for each mail from all of its limits, or from none of them. One round trip.

        Args:
            requests: the limits of each mail (`RuleBook.rules_for`), most urgent mail first; over 1,000 mails are
                taken in several calls, so that no call keeps the server for long.
            urgent: whether refused mails come back ahead of what was promised to others that are not.
            now: microseconds since 1970, for tests with a clock of their own; else the server's clock.

        Returns:
            For each mail, in order, whether it may go now, and if not, when to come back and for whose sake.

        Raises:
            LedgerUnavailableError: neither Redis nor the database can be reached.
        """
        grants: list[Grant] = []
        for start in range(0, len(requests), _LONGEST_CALL):
            grants += self._take(requests[start : start + _LONGEST_CALL], urgent, now)
        return grants

    def learn(
        self,
        account: str,
        *,
        retry_after: float | None = None,
        factor: float = 2.0,
        lasting: float = 60.0,
        now: int | None = None,
    ) -> None:
        """Slow an account down after its provider said "too many" (429, 421, a throttling error). Never raises.

        The account pauses: as long as the provider asked, else one second, longer each time it happens again while
        it is slowed. Afterwards its limit runs at a rate divided by `factor`. Factors multiply up to 16; refusals of
        mails sent before the pause began do not count again. An account without a limit only pauses.

        Args:
            retry_after: seconds the provider asked to wait; up to a day is heeded.
            factor: above 1.
            lasting: seconds after the pause.
        """
        pause = -1.0 if retry_after is None else _microseconds(min(max(retry_after, 0.0), _LONGEST_PAUSE))
        self._teach(account, Lesson(pause=pause, factor=factor, lasting=_microseconds(lasting)), "throttled", now)

    def observe(self, account: str, remaining: int, reset_seconds: float, *, now: int | None = None) -> None:
        """Heed a provider's rate limit headers: pause until the reset when nothing is left. Never raises.

        Args:
            remaining: what the provider will still take.
            reset_seconds: seconds until it counts anew; up to a day is heeded.
        """
        if remaining <= 0 and reset_seconds > 0:
            pause = _microseconds(min(reset_seconds, _LONGEST_PAUSE))
            self._teach(account, Lesson(pause=pause), "nothing_remaining", now)

    def set_rate(
        self, account: str, per_second: float, *, lasting: float = _TOLD_RATE_LASTS, now: int | None = None
    ) -> None:
        """Heed the rate that a provider grants an account (SES: MaxSendRate), where it is below the configured one.

        Never raises. To be told again before it runs out.

        Args:
            per_second: mails a second, above 0.
            lasting: seconds it holds.
        """
        if per_second > 0:
            lesson = Lesson(rate=per_second, rate_lasting=_microseconds(lasting))
            self._teach(account, lesson, "rate_told", now)

    def _take(self, requests: Sequence[tuple[Limit, ...]], urgent: bool, now: int | None) -> list[Grant]:
        batch = compile_batch(requests)
        if not batch.limits:
            return [GRANTED] * len(requests)
        seed = random.random()  # noqa: S311 - spreads, hides nothing
        redis = self._redis
        if redis is not None and clock.monotonic() >= self._quiet_until:
            try:
                grants = redis.take(batch, urgent=urgent, horizon=self._horizon, seed=seed, now=now)
                self._quiet = _FIRST_QUIET
                return grants
            except redis.errors as error:
                self._keep_quiet(error)
        return self._ledger.take(batch, urgent=urgent, horizon=self._horizon, seed=seed, now=now)

    def _teach(self, account: str, lesson: Lesson, reason: str, now: int | None) -> None:
        """Write it down in both places, so that whichever is asked next knows."""
        telemetry.emit("mailglass.limits.learnt", account=account, reason=reason)
        _attempt(lambda: self._ledger.teach(account, lesson, now=now), (LedgerUnavailableError,))
        redis = self._redis
        if redis is not None:
            _attempt(lambda: redis.teach(account, lesson, now=now), redis.errors)

    def _keep_quiet(self, error: Exception) -> None:
        self._quiet_until = clock.monotonic() + self._quiet
        self._quiet = min(self._quiet * 2, _LONGEST_QUIET)
        telemetry.emit("mailglass.limits.fallback", level=logging.WARNING, error_type=type(error).__name__)


def limiter_for(settings: Settings, ledger: Runs) -> Limiter:
    """The limiter of these settings: in Redis where there is one, else in the ledger."""
    if settings.redis_url is not None:
        return Limiter(ledger, RedisGcra(settings.redis_url.reveal()))
    if settings.require_broker().startswith("redis"):
        return Limiter(ledger, RedisGcra(settings.require_broker()))
    return Limiter(ledger)


def _attempt(work: Callable[[], None], errors: tuple[type[Exception], ...]) -> None:
    try:
        work()
    except errors as error:
        telemetry.emit("mailglass.limits.not_learnt", level=logging.WARNING, error_type=type(error).__name__)


def _microseconds(seconds: float) -> float:
    return float(round(seconds * 1e6))
