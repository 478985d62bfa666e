"""The limiter: grants batches of mails, adjusts rates by providers' feedback, and never fails open."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from mailglass import clock, telemetry
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger.database import Runs
from mailglass.limits.batch import GRANTED, Grant, compile_batch
from mailglass.limits.gcra_ledger import LedgerGcra
from mailglass.limits.gcra_redis import RedisGcra
from mailglass.limits.rate_adjustment import RateAdjustment
from mailglass.limits.rules import Cap, Limit, Rule
from mailglass.settings import Settings

HORIZON = 30.0
_LONGEST_CALL = 1000
_LONGEST_PAUSE = 86400.0
_GRANTED_RATE_LASTS = 86400.0
_SPREAD_WITHIN = 60.0


class Limiter:
    """Rate limiter shared by all workers. Safe to use from several threads and after a fork.

    Args:
        ledger: keeps counts, and rates while there is no Redis.
        redis: keeps rates; None without Redis.
        horizon: seconds beyond a limit's next free place, within which refused mails get places of their own.
    """

    def __init__(self, ledger: Runs, redis: RedisGcra | None = None, horizon: float = HORIZON) -> None:
        self._ledger = LedgerGcra(ledger)
        self._redis = redis
        self._horizon = horizon * 1e6
        self._cooldown = clock.Cooldown()

    def take(
        self, requests: Sequence[tuple[Limit, ...]], *, urgent: bool = False, now: int | None = None
    ) -> list[Grant]:
        """Take a place for each mail from all of its limits, or from none of them.

        One round trip; two where there are counts and Redis, since counts are kept in the ledger alone.

        Args:
            requests: the limits of each mail (`RuleBook.rules_for`), most urgent mail first. More than 1,000 mails
                take several calls, so that no call blocks the server for long.
            urgent: put refused mails ahead of those that are not urgent.
            now: microseconds since 1970, for tests; by default the server's clock.

        Returns:
            A grant for each mail, in order.

        Raises:
            LedgerUnavailableError: neither Redis nor the database can be reached.
        """
        grants: list[Grant] = []
        for start in range(0, len(requests), _LONGEST_CALL):
            grants += self._take(requests[start : start + _LONGEST_CALL], urgent, now)
        return grants

    def give_back(self, mails: Mapping[str, int]) -> None:
        """Return unused places of counts, of mails that were not sent. Never raises.

        Places of rates drain, so they are not returned.

        Args:
            mails: number of places by the key of the `Cap`.
        """
        _attempt(lambda: self._ledger.give(mails), (LedgerUnavailableError,))

    def slow_down(
        self,
        account: str,
        *,
        retry_after: float | None = None,
        factor: float = 2.0,
        lasting: float = 60.0,
        now: int | None = None,
    ) -> None:
        """Slow an account down after its provider throttled it (429, 421). Never raises.

        The account pauses: as long as the provider asked, else one second, longer each time it happens again while
        it is slowed. Afterwards its limit runs at a rate divided by `factor`. Factors multiply up to 16; refusals of
        mails sent before the pause began do not count again. An account without a limit only pauses.

        Args:
            account: its name.
            retry_after: seconds of the provider's Retry-After, at most a day; None if it names none.
            factor: divides the rate; above 1.
            lasting: seconds after the pause.
            now: as for `take`.
        """
        pause = -1.0 if retry_after is None else _microseconds(min(max(retry_after, 0.0), _LONGEST_PAUSE))
        self._apply_feedback(
            account, RateAdjustment(pause=pause, factor=factor, lasting=_microseconds(lasting)), "throttled", now
        )

    def observe(self, account: str, remaining: int, reset_seconds: float, *, now: int | None = None) -> None:
        """Adjust an account's rate by its remaining quota. Never raises.

        Without quota the account pauses until the reset. With little quota and a reset within a minute, the rest is
        spread over that time. A reset farther away slows nothing down while there is quota.

        Args:
            account: its name.
            remaining: mails that the provider still accepts; call this only if they are few.
            reset_seconds: seconds until the quota resets, at most a day.
            now: as for `take`.
        """
        if reset_seconds <= 0:
            return
        if remaining <= 0:
            pause = _microseconds(min(reset_seconds, _LONGEST_PAUSE))
            self._apply_feedback(account, RateAdjustment(pause=pause), "nothing_remaining", now)
        elif reset_seconds <= _SPREAD_WITHIN:
            adjustment = RateAdjustment(rate=remaining / reset_seconds, rate_lasting=_microseconds(reset_seconds))
            self._apply_feedback(account, adjustment, "little_remaining", now)

    def set_rate(
        self, account: str, per_second: float, *, lasting: float = _GRANTED_RATE_LASTS, now: int | None = None
    ) -> None:
        """Set the rate that a provider grants an account (SES: MaxSendRate). Never raises.

        The lower one of the granted and the configured rate holds. Set it again before it ends.

        Args:
            account: its name.
            per_second: mails a second, above 0.
            lasting: seconds that the rate holds.
            now: as for `take`.
        """
        if per_second > 0:
            adjustment = RateAdjustment(rate=per_second, rate_lasting=_microseconds(lasting))
            self._apply_feedback(account, adjustment, "rate_granted", now)

    def _take(self, requests: Sequence[tuple[Limit, ...]], urgent: bool, now: int | None) -> list[Grant]:
        redis = self._redis
        if redis is None or self._cooldown.active:
            return self._take_from(self._ledger, requests, urgent, now)
        counts = _parts(requests, Cap)
        if not any(counts):
            return self._take_rates(redis, requests, urgent, now)
        grants = self._take_from(self._ledger, counts, urgent, now)
        going = [position for position, grant in enumerate(grants) if grant.granted]
        rates = _parts(requests, Rule)
        unused: Counter[str] = Counter()
        for position, grant in zip(
            going, self._take_rates(redis, [rates[position] for position in going], urgent, now), strict=True
        ):
            grants[position] = grant
            if not grant.granted:
                unused.update(cap.key for cap in counts[position])
        if unused:
            self.give_back(unused)
        return grants

    def _take_rates(
        self, redis: RedisGcra, requests: Sequence[tuple[Limit, ...]], urgent: bool, now: int | None
    ) -> list[Grant]:
        try:
            grants = self._take_from(redis, requests, urgent, now)
        except redis.errors as error:
            self._cooldown.start()
            telemetry.emit("mailglass.limits.fallback", level=logging.WARNING, error_type=type(error).__name__)
            return self._take_from(self._ledger, requests, urgent, now)
        self._cooldown.reset()
        return grants

    def _take_from(
        self, server: RedisGcra | LedgerGcra, requests: Sequence[tuple[Limit, ...]], urgent: bool, now: int | None
    ) -> list[Grant]:
        batch = compile_batch(requests, clock.now().timestamp() if now is None else now / 1e6)
        if not batch.limits:
            return [GRANTED] * len(requests)
        seed = random.random()  # noqa: S311 - spreads, hides nothing
        return server.take(batch, urgent=urgent, horizon=self._horizon, seed=seed, now=now)

    def _apply_feedback(self, account: str, adjustment: RateAdjustment, reason: str, now: int | None) -> None:
        """Adjust the rate at both servers, since either may be asked next."""
        telemetry.emit("mailglass.limits.adjusted", account=account, reason=reason)
        _attempt(lambda: self._ledger.apply_feedback(account, adjustment, now=now), (LedgerUnavailableError,))
        redis = self._redis
        if redis is not None:
            _attempt(lambda: redis.apply_feedback(account, adjustment, now=now), redis.errors)


def limiter_for(settings: Settings, ledger: Runs) -> Limiter:
    """Return the limiter of the settings: in Redis if there is one, else in the ledger."""
    if settings.redis_url is not None:
        return Limiter(ledger, RedisGcra(settings.redis_url.reveal()))
    if settings.require_broker().startswith("redis"):
        return Limiter(ledger, RedisGcra(settings.require_broker()))
    return Limiter(ledger)


def _parts(requests: Sequence[tuple[Limit, ...]], kind: type[Limit]) -> list[tuple[Limit, ...]]:
    """Return each mail's limits of one kind; the same tuple for the same mail, so that batches group them."""
    distinct = {id(request): request for request in requests}
    parts = {
        number: tuple(limit for limit in request if isinstance(limit, kind)) for number, request in distinct.items()
    }
    return [parts[id(request)] for request in requests]


def _attempt(work: Callable[[], None], errors: tuple[type[Exception], ...]) -> None:
    try:
        work()
    except errors as error:
        telemetry.emit("mailglass.limits.not_adjusted", level=logging.WARNING, error_type=type(error).__name__)


def _microseconds(seconds: float) -> float:
    return float(round(seconds * 1e6))
