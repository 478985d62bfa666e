"""Secrets: values that do not show themselves, behind references."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path

from mailglass.settings.problems import Report


class Secret:
    """A secret value that does not show itself: repr and str are masked, and it does not pickle."""

    __slots__ = ("_value", "reference")

    def __init__(self, value: str, reference: str = "") -> None:
        self._value = value
        self.reference = reference

    def reveal(self) -> str:
        """Return the secret itself, for the one line that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.reference or '***'})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> typing.NoReturn:
        raise TypeError("a Secret is never serialised")


def resolve_secret(value: object, key: str, environ: Mapping[str, str], report: Report) -> Secret | None:
    """Return the secret behind `env:NAME` or `file:PATH`; anything else, and a missing one, is reported."""
    if not isinstance(value, str) or not value.startswith(("env:", "file:")):
        report(key, "a secret written out, or of the wrong type", "Give a reference: env:NAME or file:PATH")
        return None
    kind, _, name = value.partition(":")
    if kind == "env":
        if not environ.get(name):
            report(key, f"the environment variable {name} is not set", f"Set {name}, or refer to another one")
            return None
        return Secret(environ[name], value)
    try:
        content = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        report(key, f"the file {name} cannot be read", "Mount it, or refer to another one")
        return None
    if not content:
        report(key, f"the file {name} is empty", "Write the secret into it")
        return None
    return Secret(content, value)
