"""The limits that one mail must pass: from the settings, from code, from a warm-up plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from mailglass.errors import ConfigError, RateLimitType
from mailglass.limit_settings import ANY, MAX_BURST, LimitRule, LimitScope
from mailglass.streams import Stream

_TYPES = {
    LimitScope.TENANT: RateLimitType.PER_TENANT,
    LimitScope.TENANT_DOMAIN: RateLimitType.PER_DOMAIN,
    LimitScope.DOMAIN: RateLimitType.PER_DOMAIN,
    LimitScope.SENDER_DOMAIN: RateLimitType.PER_DOMAIN,
    LimitScope.ACCOUNT: RateLimitType.PER_ACCOUNT,
    LimitScope.STREAM: RateLimitType.PER_STREAM,
}
# limits of our own house, for fairness; the others are what a provider or a receiving domain refuses beyond
_HOUSE_SCOPES = {LimitScope.TENANT, LimitScope.TENANT_DOMAIN, LimitScope.SENDER_DOMAIN, LimitScope.STREAM}
_HOUSE_TYPES = {RateLimitType.PER_TENANT, RateLimitType.PER_STREAM}
# what other mail leaves of the bursts that transactional mail shares with it: nobody waits for a password behind a
# newsletter
_RESERVED = 10
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `burst` mails at once and one each `interval` in the long run.

    Attributes:
        key: one key is one limit: everybody who takes under it shares it.
        interval: seconds; 0 for no limit of its own, as an account has that only pauses when it is told to.
        burst: 1 to 1,000,000 mails.
        type: whose limit it is.
        account: the account whose lessons (`Limiter.learn`) bear on this limit, or "".

    Raises:
        ConfigError: an interval below zero or a burst out of range.
    """

    key: str
    interval: float
    burst: int
    type: RateLimitType
    account: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.interval < float("inf"):
            raise ConfigError(f"limit {self.key}", "interval is no duration", "Give seconds, 0 or more")
        if not 1 <= self.burst <= MAX_BURST:
            raise ConfigError(f"limit {self.key}", "burst is out of range", f"Give 1 to {MAX_BURST} mails")


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `maximum` mails in one day, from midnight to midnight in UTC.

    Attributes:
        key: one key is one count.
        maximum: mails; 0 lets nothing pass.
        type: whose limit it is.

    Raises:
        ConfigError: a maximum below zero.
    """

    key: str
    maximum: int
    type: RateLimitType = RateLimitType.PER_ACCOUNT

    def __post_init__(self) -> None:
        if self.maximum < 0:
            raise ConfigError(f"cap {self.key}", "maximum is below zero", "Give mails a day, 0 or more")


Limit = Rule | Cap


def warmup_cap(account: str, start: date, caps: Sequence[int], today: date) -> Cap | None:
    """What a warm-up plan allows an account today.

    Args:
        account: whose plan.
        start: the UTC day that `caps[0]` is for; nothing passes before it.
        caps: mails a day, day by day.
        today: the day in UTC.

    Returns:
        None once the plan is over.
    """
    day = (today - start).days
    if day >= len(caps):
        return None
    return Cap(f"warmup:{account}", caps[day] if day >= 0 else 0)


class RuleBook:
    """The configured limits, ready to be looked up. Safe to use from several threads.

    Args:
        limits: `Settings.limits`.
    """

    def __init__(self, limits: Iterable[LimitRule]) -> None:
        self._limits = {(limit.scope, limit.key): limit for limit in limits}
        self._rules = lru_cache(_REMEMBERED)(self._find)

    def rules_for(
        self,
        *,
        tenant: str,
        stream: str,
        account: str,
        recipient_domain: str,
        sender_domain: str,
        extra: Sequence[Limit] = (),
    ) -> tuple[Limit, ...]:
        """The limits that one mail must pass through an account.

        A transactional mail is not held up by limits of our own house (tenant, tenant and domain, sender, stream) and
        takes nothing from them; those of the account and of the recipient's domain bind it as any other, because
        beyond them the other side refuses. Of their bursts all other mail leaves it a tenth.

        Args:
            recipient_domain: lower-case A-labels, as `Address.domain` gives them.
            sender_domain: the same, of the From address.
            extra: more limits, from code. A transactional mail passes those of the types per_tenant and per_stream.

        Returns:
            Always with a rule of the account, so that its lessons are heeded where it has no limit.
        """
        rules = self._rules(tenant, stream, account, recipient_domain, sender_domain)
        if not extra:
            return rules
        return *rules, *(
            limit for limit in extra if not (stream == Stream.TRANSACTIONAL and limit.type in _HOUSE_TYPES)
        )

    def _find(
        self, tenant: str, stream: str, account: str, recipient_domain: str, sender_domain: str
    ) -> tuple[Limit, ...]:
        keys = {
            LimitScope.TENANT: tenant,
            LimitScope.TENANT_DOMAIN: f"{tenant}/{recipient_domain}",
            LimitScope.DOMAIN: recipient_domain,
            LimitScope.SENDER_DOMAIN: sender_domain,
            LimitScope.ACCOUNT: account,
            LimitScope.STREAM: stream,
        }
        urgent = stream == Stream.TRANSACTIONAL
        rules = (
            self._rule(scope, key, urgent) for scope, key in keys.items() if not (urgent and scope in _HOUSE_SCOPES)
        )
        return tuple(rule for rule in rules if rule is not None)

    def _rule(self, scope: LimitScope, key: str, urgent: bool) -> Rule | None:
        limit = self._limits.get((scope, key)) or self._limits.get((scope, ANY))
        account = key if scope is LimitScope.ACCOUNT else ""
        if limit is None:
            return Rule(f"{scope}:{key}", 0.0, 1, _TYPES[scope], account) if account else None
        reserve = 0 if urgent or scope in _HOUSE_SCOPES else limit.burst // _RESERVED
        return Rule(f"{scope}:{key}", limit.interval, limit.burst - reserve, _TYPES[scope], account)
