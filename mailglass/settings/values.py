"""Single values of the settings: names, addresses, lists, choices, numbers."""

from __future__ import annotations

import re
from typing import Any

from mailglass.errors import MessageError
from mailglass.mail.addresses import Address, parse_address
from mailglass.settings.problems import Problems

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
NAME_REMEDY = "Use 1 to 63 of a-z, 0-9, `_`, `.`, `-`"


def address(key: str, value: object, problems: Problems) -> Address | None:
    """Return an address, None where none is given."""
    if value is None or value == "":
        return None
    try:
        return parse_address(value, key)
    except MessageError:
        problems.add(key, "not an address", 'Write "name@example.com" or "Name <name@example.com>"')
        return None


def domain_name(value: str) -> str | None:
    """Return a domain in lower-case A-labels, as those of recipients are kept; None where it is none."""
    if "@" in value:
        return None
    try:
        return parse_address(f"postmaster@{value}", "key").domain
    except MessageError:
        return None


def strings(key: str, value: object, problems: Problems) -> tuple[str, ...]:
    """Return a list of strings."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        problems.add(key, "wrong type", "Give a list of strings")
        return ()
    return tuple(value)


def choice(key: str, value: object, allowed: tuple[str, ...], problems: Problems) -> Any:
    """One of the allowed values; the first of them where it is none."""
    if value not in allowed:
        problems.add(key, "not an allowed value", f"Use one of {', '.join(allowed)}")
        return allowed[0]
    return value


def whole(value: object, least: int) -> bool:
    """Return whether it is a whole number, and not a smaller one."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def flag(key: str, value: object, problems: Problems) -> bool:
    """Return a setting that is true or false."""
    if not isinstance(value, bool):
        problems.add(key, "neither true nor false", "Write true or false")
        return False
    return value
