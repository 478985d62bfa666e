"""The limits that one mail must pass: from the settings, from code, from a warm-up plan."""

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
# limits of our own house, for fairness; the others are what a provider or a receiving domain refuses beyond
_HOUSE_SCOPES = {LimitScope.TENANT, LimitScope.TENANT_DOMAIN, LimitScope.SENDER_DOMAIN, LimitScope.STREAM}
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
        account: the account whose feedback (`Limiter.slow_down`) changes this limit, or "".
        reserve: mails of the burst that are left to others who take under the key; below the burst.

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
    """At most `maximum` mails under one key, counted exactly: the key names the day that is counted.

    Attributes:
        key: one key is one count.
        maximum: mails; 0 lets nothing pass.
        until: when the count is over and another key's begins, as Unix time.
        type: whose limit it is.

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
    """What a warm-up plan allows an account on the day of a moment.

    Returns:
        None once the plan is over.
    """
    day = plan.day(moment)
    return None if day is None else Cap(f"warmup:{account}:{day.date.isoformat()}", day.cap, day.ends)


@dataclass(frozen=True, slots=True)
class Mail:
    """What limits are looked up by.

    Attributes:
        account: through which it goes.
        recipient_domain: lower-case A-labels, as `Address.domain` gives them.
        sender_domain: the same, of the From address.
    """

    tenant: str
    stream: str
    account: str
    recipient_domain: str
    sender_domain: str

    @property
    def urgent(self) -> bool:
        """Whether limits of our own house let it through."""
        return self.stream == Stream.TRANSACTIONAL

    def key(self, scope: LimitScope) -> str:
        """Whose mail it is, as a limit of this scope counts."""
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
    """The configured limits, ready to be looked up. Safe to use from several threads.

    A transactional mail is not held up by limits of our own house (tenant, tenant and domain, sender, stream) and takes
    nothing from them; those of the account and of the recipient's domain bind it as any other, because beyond them the
    other side refuses. Of their bursts all other mail leaves it a tenth.

    Args:
        limits: `Settings.limits`.
    """

    def __init__(self, limits: Iterable[LimitRule]) -> None:
        self._limits = {(limit.scope, limit.key): limit for limit in limits}
        self._rules = lru_cache(_REMEMBERED)(self._find)

    def rules_for(self, mail: Mail, extra: Iterable[LimitRule] = (), cap: Cap | None = None) -> tuple[Limit, ...]:
        """The limits that one mail must pass through an account.

        Args:
            mail: whose and where to.
            extra: more limits, from the application. They are counted apart from the configured ones of the same scope
                and key, so that both must be passed; those that are not about this mail are passed over.
            cap: what the account's warm-up plan allows today.

        Returns:
            Always with a rule of the account, so that its feedback counts where it has no limit.
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
    # The rate is in it: 10 a second and 100,000 a day may be said of the same mail, and of two tenants whose mails to
    # one domain have different rates neither fills up the other's.
    return _binding(limit, f"hook:{limit.scope}:{key}/{limit.amount}/{limit.period}/{limit.burst}", mail)


def _binding(limit: LimitRule, key: str, mail: Mail, account: str = "") -> Rule | None:
    """What a limit asks of a mail that it is about; None where it lets the mail through."""
    of_our_house = limit.scope in _HOUSE_SCOPES
    if mail.urgent and of_our_house:
        return None
    reserve = 0 if mail.urgent or of_our_house else limit.burst // _RESERVED
    return Rule(key, limit.interval, limit.burst, _TYPES[limit.scope], account, reserve)
