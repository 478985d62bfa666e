"""Settings of sending domains: the tables `[accounts.NAME.dns]`, and `[domains]` for the watch."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mailglass.settings.problems import Problems
from mailglass.settings.values import domain_name, flag, strings

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_SELECTOR: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{0,20}}\Z")
_ACCOUNT_KEYS: Final = ("domains", "dkim_selectors", "return_path", "hosts", "ips")
_WATCH_KEYS: Final = ("resolver", "watch")


@dataclass(frozen=True, slots=True)
class SendingSettings:
    """Origin that an account's mail states, for `mailglass mail-doctor` and the watch.

    Attributes:
        domains: whose mail it is; left out, the domain of the account's `from`, else of `default_from`.
        dkim_selectors: selectors that sign: `s1` for each of the domains, `s1._domainkey.example.com` for one.
        return_path: the domain of the envelope's sender.
        hosts: those that links and unsubscribe buttons lead to.
        ips: your own addresses that the mail leaves from.
    """

    domains: tuple[str, ...] = ()
    dkim_selectors: tuple[str, ...] = ()
    return_path: str = ""
    hosts: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """Settings of the watch of sending domains.

    Attributes:
        resolver: `IP` or `IP:PORT` of the DNS resolver; "" for those of the system.
        watch: whether a worker checks every sending domain, about once an hour.
    """

    resolver: str = ""
    watch: bool = True


def parse_sending(value: object, key: str, problems: Problems) -> SendingSettings:
    """Return what `[accounts.NAME.dns]` says.

    Args:
        value: the table as written; None where there is none.
        key: `accounts.NAME.dns`, for errors.
        problems: collects what is wrong.
    """
    if value is None:
        return SendingSettings()
    if not isinstance(value, dict):
        problems.add(key, "wrong type", f"Write a table: [{key}]")
        return SendingSettings()
    for name in sorted(value.keys() - set(_ACCOUNT_KEYS)):
        problems.add(f"{key}.{name}", "unknown setting", f"Known are: {', '.join(_ACCOUNT_KEYS)}")

    def listed(name: str, convert: Callable[[str], str | None], problem: str, remedy: str) -> tuple[str, ...]:
        found = []
        for item in strings(f"{key}.{name}", value.get(name, []), problems):
            converted = convert(item)
            if converted is None:
                problems.add(f"{key}.{name}", problem, remedy)
            else:
                found.append(converted)
        return tuple(dict.fromkeys(found))

    domain = ("not a domain", "Write for example example.com")
    return SendingSettings(
        domains=listed("domains", domain_name, *domain),
        dkim_selectors=listed(
            "dkim_selectors", _selector, "not a selector", "Write for example s1, or s1._domainkey.example.com"
        ),
        return_path=_one_domain(value.get("return_path"), f"{key}.return_path", problems),
        hosts=listed("hosts", domain_name, *domain),
        ips=listed("ips", _ip, "not an IP address", "Write for example 192.0.2.1"),
    )


def parse_domains(value: object, problems: Problems) -> DomainSettings:
    """Return what `[domains]` says.

    Args:
        value: the table as written.
        problems: collects what is wrong.
    """
    if not isinstance(value, dict):
        problems.add("domains", "wrong type", "Write a table: [domains]")
        return DomainSettings()
    for name in sorted(value.keys() - set(_WATCH_KEYS)):
        problems.add(f"domains.{name}", "unknown setting", f"Known are: {', '.join(_WATCH_KEYS)}")
    resolver = value.get("resolver", "")
    if not isinstance(resolver, str) or not _is_resolver(resolver):
        problems.add("domains.resolver", "not the address of a resolver", "Write IP or IP:PORT, for example 1.1.1.1")
        resolver = ""
    return DomainSettings(resolver, flag("domains.watch", value.get("watch", True), problems))


def _one_domain(value: object, key: str, problems: Problems) -> str:
    if value is None or value == "":
        return ""
    found = domain_name(value) if isinstance(value, str) else None
    if found is None:
        problems.add(key, "not a domain", "Write the domain of the Return-Path, for example bounces.example.com")
        return ""
    return found


def _selector(value: str) -> str | None:
    text = value.strip().rstrip(".").lower()
    return text if _SELECTOR.match(text) else None


def _ip(value: str) -> str | None:
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError:
        return None


def _is_resolver(value: str) -> bool:
    if not value:
        return True
    host, port = value, "53"
    if value.startswith("["):
        host, _, rest = value[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif value.count(":") == 1:
        host, _, port = value.partition(":")
    return _ip(host) is not None and port.isdigit() and 0 < int(port[:6]) < 65536
