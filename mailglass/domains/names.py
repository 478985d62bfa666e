"""Domain names: bring them into one form, walk up their labels, show bytes of strangers without harm."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from mailglass.errors import ConfigError
from mailglass.settings.values import domain_name

# RFC 1035 2.3.4
MAX_NAME: Final = 253
MAX_LABEL: Final = 63
SHOWN: Final = 2000

_HOST_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z", re.IGNORECASE)
_QUERYABLE: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+\Z")
_REMEDY: Final = "Run it against the real sending domain, for example `mailglass mail-doctor --domain example.com`"
# printable ASCII stays; everything else may steer a terminal or reorder its text
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def sending_domain(value: str, key: str = "--domain") -> str:
    """Return a sending domain in lower-case A-labels without a final dot.

    Args:
        value: as a person wrote it.
        key: the option or setting, named in the error.

    Raises:
        ConfigError: an address, `localhost`, an IP address, a name without a dot, or no name at all.
    """
    text = value.strip().rstrip(".").lower()
    if "@" in text:
        raise ConfigError(key, "an address, not a domain", "Write what stands behind the @, for example example.com")
    if is_address(text.strip("[]")):
        raise ConfigError(key, "an IP address, which publishes no mail records", _REMEDY)
    if text == "localhost" or text.endswith(".localhost"):
        raise ConfigError(key, "localhost is this machine, which receives no mail for others", _REMEDY)
    if "." not in text:
        raise ConfigError(key, "a name without a dot", _REMEDY)
    if text.isascii() and is_host(text):
        return text
    found = domain_name(text)
    if found is None:
        raise ConfigError(key, "not a domain name", _REMEDY)
    return found


def is_address(text: str) -> bool:
    """Return whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_host(name: str) -> bool:
    """Return whether a name may stand in DNS as a host: labels of letters, digits, hyphens and underscores."""
    if not 0 < len(name) <= MAX_NAME:
        return False
    return all(_HOST_LABEL.match(label) for label in name.split("."))


def is_queryable(name: str) -> bool:
    """Return whether a name that a record spells out can be asked about.

    Printable ASCII without backslashes, no empty label, none above 63 octets, at most 253 in all.
    """
    if not 0 < len(name) <= MAX_NAME or not _QUERYABLE.match(name):
        return False
    return all(0 < len(label) <= MAX_LABEL for label in name.split("."))


def parents(name: str) -> Iterator[str]:
    """Yield a name and those above it, up to its top-level domain."""
    while name:
        yield name
        name = name.partition(".")[2]


def is_within(name: str, domain: str) -> bool:
    """Return whether a name is a domain or stands below it."""
    return name == domain or name.endswith(f".{domain}")


def shown(text: str, limit: int = SHOWN) -> str:
    """Return text of strangers as printable ASCII: no control characters, no escapes of a terminal, bounded.

    Args:
        text: anything.
        limit: characters to keep at most.
    """
    cut = text[: limit + 1]
    clean = _UNPRINTABLE.sub(_escaped, cut[:limit])
    return f"{clean}..." if len(cut) > limit else clean


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
