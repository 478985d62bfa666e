"""Rate limits as they are configured: the array of tables `[[limits]]`."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mailglass.errors import ConfigError
from mailglass.mail.streams import Stream
from mailglass.settings.problems import Report
from mailglass.settings.values import domain_name, whole

ANY = "*"
MAX_BURST = 1_000_000
_DEFAULT_BURST_SECONDS = 2
_RATE = re.compile(r"([1-9]\d{0,8})/([smhd])\Z")
_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE_REMEDY = 'Write "100/s", "600/m", "5000/h" or "100000/d"'
_BURST_REMEDY = f"Give 1 to {MAX_BURST} mails, or leave it out"


class LimitScope(StrEnum):
    """Scope that one limit counts together."""

    TENANT = "tenant"
    TENANT_DOMAIN = "tenant_domain"
    DOMAIN = "domain"
    SENDER_DOMAIN = "sender_domain"
    ACCOUNT = "account"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One entry of `[[limits]]`.

    Attributes:
        scope: what is counted together.
        key: whose mail; `*` gives everybody who is not named elsewhere a limit of their own.
        amount: mails per `period`, 1 or more.
        period: seconds, 1 or more.
        burst: mails that may go at once after a pause, 1 to 1,000,000.

    Raises:
        ConfigError: an unknown scope, a key that is no text, or a figure out of range.
    """

    scope: LimitScope
    key: str
    amount: int
    period: int
    burst: int

    def __post_init__(self) -> None:
        if self.scope not in list(LimitScope):
            raise ConfigError("limit", "unknown scope", f"Use one of {', '.join(LimitScope)}")
        if not isinstance(self.key, str) or not self.key:
            raise ConfigError(f"limit {self.scope}", "its key is no text", f"Give a string, or {ANY} for each")
        if not (whole(self.amount, 1) and whole(self.period, 1)):
            raise ConfigError(f"limit {self.scope}", "not a rate", _RATE_REMEDY)
        if not (whole(self.burst, 1) and self.burst <= MAX_BURST):
            raise ConfigError(f"limit {self.scope}", "burst is out of range", _BURST_REMEDY)

    @classmethod
    def of(cls, scope: str, rate: str, key: str = ANY, burst: int | None = None) -> LimitRule:
        """Return the rule as an entry of `[[limits]]` says it: `LimitRule.of("tenant", "100/s", "acme")`.

        Args:
            scope: a `LimitScope`.
            rate: mails per second, minute, hour or day: `"100/s"`, `"600/m"`, `"5000/h"`, `"100000/d"`.
            key: whose mail; domains in lower-case A-labels.
            burst: mails that may go at once; else two seconds' worth, at least one.

        Raises:
            ConfigError: unknown scope, not a rate, a key that is no text, or a burst out of range.
        """
        if scope not in list(LimitScope):
            raise ConfigError("limit", "unknown scope", f"Use one of {', '.join(LimitScope)}")
        match = _RATE.match(rate)
        if match is None:
            raise ConfigError("limit", "not a rate", _RATE_REMEDY)
        amount, period = int(match[1]), _PERIODS[match[2]]
        return cls(LimitScope(scope), key, amount, period, _burst(amount, period) if burst is None else burst)

    @property
    def interval(self) -> float:
        """Seconds between two mails at the full rate."""
        return self.period / self.amount


def _burst(amount: int, period: int) -> int:
    return min(MAX_BURST, max(1, _DEFAULT_BURST_SECONDS * amount // period))


def parse_limits(
    value: object, *, accounts: Container[str], name: re.Pattern[str], report: Report
) -> tuple[LimitRule, ...]:
    """Return the limits in an array of tables.

    Args:
        value: what stands under `limits`.
        accounts: the accounts there are.
        name: what names of tenants look like.
        report: told of each wrong key, the problem and the remedy.
    """
    if not isinstance(value, list) or not all(isinstance(body, dict) for body in value):
        report("limits", "wrong type", "Write an array of tables: [[limits]]")
        return ()
    rules: dict[tuple[LimitScope, str], LimitRule] = {}
    for index, body in enumerate(value):
        rule = _rule(f"limits[{index}]", body, accounts, name, report)
        if rule is None:
            continue
        if (rule.scope, rule.key) in rules:
            report(f"limits[{index}].key", "a second limit for the same scope and key", "Keep one of them")
        rules[rule.scope, rule.key] = rule
    return tuple(rules.values())


def _rule(
    where: str, body: Mapping[str, Any], accounts: Container[str], name: re.Pattern[str], report: Report
) -> LimitRule | None:
    for unknown in sorted(body.keys() - {"scope", "key", "rate", "burst"}):
        report(f"{where}.{unknown}", "unknown setting", "Known are: scope, key, rate, burst")
    scope, rate = body.get("scope"), body.get("rate")
    if scope not in list(LimitScope):
        report(f"{where}.scope", "missing or unknown", f"Use one of {', '.join(LimitScope)}")
        return None
    key = _key(LimitScope(scope), body.get("key", ANY), f"{where}.key", accounts, name, report)
    match = _RATE.match(rate) if isinstance(rate, str) else None
    if match is None:
        report(f"{where}.rate", "missing or not a rate", _RATE_REMEDY)
        return None
    amount, period = int(match[1]), _PERIODS[match[2]]
    burst = body.get("burst", _burst(amount, period))
    if not whole(burst, 1) or burst > MAX_BURST:
        report(f"{where}.burst", "not a whole number in range", _BURST_REMEDY)
        return None
    return None if key is None else LimitRule(LimitScope(scope), key, amount, period, burst)


def _key(
    scope: LimitScope, value: object, where: str, accounts: Container[str], name: re.Pattern[str], report: Report
) -> str | None:
    """Return the key as limits are looked up by: domains in lower-case A-labels."""
    if value == ANY:
        return ANY
    if not isinstance(value, str):
        report(where, "wrong type", "Give a string, or leave it out for *")
        return None
    match scope:
        case LimitScope.TENANT if name.match(value):
            return value
        case LimitScope.ACCOUNT if value in accounts:
            return value
        case LimitScope.STREAM if value in list(Stream):
            return value
        case LimitScope.DOMAIN | LimitScope.SENDER_DOMAIN if found := domain_name(value):
            return found
        case LimitScope.TENANT_DOMAIN:
            tenant, _, rest = value.partition("/")
            if name.match(tenant) and (found := domain_name(rest)):
                return f"{tenant}/{found}"
    report(where, f"not a key of scope {scope}", _REMEDIES[scope])
    return None


_REMEDIES = {
    LimitScope.TENANT: "Give a tenant's name, or * for each",
    LimitScope.TENANT_DOMAIN: "Write tenant/domain, for example acme/gmail.com, or * for each pair",
    LimitScope.DOMAIN: "Give a recipient domain, for example gmail.com, or * for each",
    LimitScope.SENDER_DOMAIN: "Give a sender domain, for example shop.example, or * for each",
    LimitScope.ACCOUNT: "Give an account that stands under [accounts], or * for each",
    LimitScope.STREAM: f"Use {', '.join(Stream)}, or * for each",
}
