"""The limits of one mail: from the settings, from an application's hook, from a warm-up plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from mailglass.errors import ConfigError, RateLimitType
from mailglass.mail.streams import Stream
from mailglass.settings import WarmupPlan
from mailglass.settings.limits import ANY, MAX_BURST, LimitRule, LimitScope

_TYPES = {
    LimitScope.TENANT: RateLimitType.PER_TENANT,
    LimitScope.TENANT_DOMAIN: RateLimitType.PER_DOMAIN,
    LimitScope.DOMAIN: RateLimitType.PER_DOMAIN,
    LimitScope.SENDER_DOMAIN: RateLimitType.PER_DOMAIN,
    LimitScope.ACCOUNT: RateLimitType.PER_ACCOUNT,
    LimitScope.STREAM: RateLimitType.PER_STREAM,
}
# limits among our own tenants, for fairness; beyond the others a provider or a receiving domain refuses mail
_FAIRNESS_SCOPES = {LimitScope.TENANT, LimitScope.TENANT_DOMAIN, LimitScope.SENDER_DOMAIN, LimitScope.STREAM}
# the share of bursts that other mail leaves to transactional mail: one in so many
_RESERVED = 10
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """Limit of a rate: `burst` mails at once, and one each `interval` in the long run.

    Attributes:
        key: identifies the limit; all mails with one key share it.
        interval: seconds; 0 for no rate, of an account that only pauses by feedback.
        burst: 1 to 1,000,000 mails.
        type: the kind of limit, for errors.
        account: the account whose feedback (`Limiter.slow_down`) changes this limit, or "".
        reserve: mails of the burst left to urgent mail under the key; below the burst.

    Raises:
        ConfigError: an interval below zero, or a burst or reserve out of range.
    """

    key: str
    interval: float
    burst: int
    type: RateLimitType
    account: str = ""
    reserve: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.interval < float("inf"):
            raise ConfigError(f"limit {self.key}", "interval is no duration", "Give seconds, 0 or more")
        if not 1 <= self.burst <= MAX_BURST:
            raise ConfigError(f"limit {self.key}", "burst is out of range", f"Give 1 to {MAX_BURST} mails")
        if not 0 <= self.reserve < self.burst:
            raise ConfigError(f"limit {self.key}", "reserve is out of range", "Give 0 or more mails, below the burst")


@dataclass(frozen=True, slots=True)
class Cap:
    """Limit of a count: `maximum` mails under one key, which names the day.

    Attributes:
        key: identifies the count.
        maximum: mails; 0 lets nothing pass.
        until: end of the count, as Unix time.
        type: the kind of limit, for errors.

    Raises:
        ConfigError: a maximum below zero.
    """

    key: str
    maximum: int
    until: float
    type: RateLimitType = RateLimitType.PER_ACCOUNT

    def __post_init__(self) -> None:
        if self.maximum < 0:
            raise ConfigError(f"cap {self.key}", "maximum is below zero", "Give mails a day, 0 or more")


Limit = Rule | Cap


def warmup_cap(account: str, plan: WarmupPlan, moment: datetime) -> Cap | None:
    """Return the cap of a warm-up plan on the day of a moment.

    Returns:
        The cap, or None once the plan is over.
    """
    day = plan.day(moment)
    return None if day is None else Cap(f"warmup:{account}:{day.date.isoformat()}", day.cap, day.ends)


@dataclass(frozen=True, slots=True)
class Mail:
    """Properties of a mail that select its limits.

    Attributes:
        tenant: its owner.
        stream: transactional, operational or bulk.
        account: the account that sends it.
        recipient_domain: lower-case A-labels, as `Address.domain` gives them.
        sender_domain: of the From address, in the same form.
    """

    tenant: str
    stream: str
    account: str
    recipient_domain: str
    sender_domain: str

    @property
    def urgent(self) -> bool:
        """True if limits among our own tenants do not bind the mail."""
        return self.stream == Stream.TRANSACTIONAL

    def key(self, scope: LimitScope) -> str:
        """Return the key under which a limit of a scope counts the mail."""
        match scope:
            case LimitScope.TENANT:
                return self.tenant
            case LimitScope.TENANT_DOMAIN:
                return f"{self.tenant}/{self.recipient_domain}"
            case LimitScope.DOMAIN:
                return self.recipient_domain
            case LimitScope.SENDER_DOMAIN:
                return self.sender_domain
            case LimitScope.ACCOUNT:
                return self.account
            case LimitScope.STREAM:
                return self.stream


class RuleBook:
    """Look-up of the configured limits. Safe to use from several threads.

    Limits among our own tenants (tenant, tenant and domain, sender, stream) do not bind transactional mail. Those of
    the account and of the recipient's domain bind all mail, because the other side refuses what exceeds them. All
    other mail leaves transactional mail a tenth of their bursts.

    Args:
        limits: `Settings.limits`.
    """

    def __init__(self, limits: Iterable[LimitRule]) -> None:
        self._limits = {(limit.scope, limit.key): limit for limit in limits}
        self._rules = lru_cache(_REMEMBERED)(self._find)

    def rules_for(self, mail: Mail, extra: Iterable[LimitRule] = (), cap: Cap | None = None) -> tuple[Limit, ...]:
        """Return the limits of one mail.

        Args:
            mail: its properties.
            extra: limits from the application. They count apart from configured ones of the same scope and key, so that
                both bind. Limits that do not concern the mail are ignored.
            cap: today's cap of the account's warm-up plan.

        Returns:
            The limits, always with a rule of the account, so that its feedback counts.
        """
        rules = self._rules(mail)
        added = [rule for limit in extra if (rule := _from_application(limit, mail)) is not None]
        return rules if cap is None and not added else (*rules, *added, *([cap] if cap is not None else []))

    def _find(self, mail: Mail) -> tuple[Limit, ...]:
        rules = (self._rule(scope, mail) for scope in LimitScope)
        return tuple(rule for rule in rules if rule is not None)

    def _rule(self, scope: LimitScope, mail: Mail) -> Rule | None:
        key = mail.key(scope)
        limit = self._limits.get((scope, key)) or self._limits.get((scope, ANY))
        account = key if scope is LimitScope.ACCOUNT else ""
        if limit is None:
            return Rule(f"{scope}:{key}", 0.0, 1, _TYPES[scope], account) if account else None
        return _binding(limit, f"{scope}:{key}", mail, account)


def _from_application(limit: LimitRule, mail: Mail) -> Rule | None:
    key = mail.key(limit.scope)
    if limit.key not in (ANY, key):
        return None
    # the key holds the rate, since one mail may have several rates, and two tenants different rates for one domain
    return _binding(limit, f"hook:{limit.scope}:{key}/{limit.amount}/{limit.period}/{limit.burst}", mail)


def _binding(limit: LimitRule, key: str, mail: Mail, account: str = "") -> Rule | None:
    """Return a limit as a rule for a mail, or None if it does not bind the mail."""
    for_fairness = limit.scope in _FAIRNESS_SCOPES
    if mail.urgent and for_fairness:
        return None
    reserve = 0 if mail.urgent or for_fairness else limit.burst // _RESERVED
    return Rule(key, limit.interval, limit.burst, _TYPES[limit.scope], account, reserve)
