"""Secrets: values that do not show themselves, behind references."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

from mailglass.settings.problems import Report

# bytes; the longest secrets are private keys
LONGEST_FILE = 64 * 1024


class SecretFileError(Exception):
    """A secret file that cannot be used.

    Attributes:
        problem: the rest of a sentence about the file, such as `is empty`.
        remedy: the step that mends it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


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


class SecretValues(Mapping[str, typing.Any]):
    """Options of an account with its secrets. Shows no value, and does not pickle.

    Args:
        values: the options.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, typing.Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> typing.Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(self._values)})"

    __str__ = __repr__

    def __reduce__(self) -> typing.NoReturn:
        raise TypeError("options with secrets are never serialised")


def read_secret_file(path: str) -> str:
    """Return the secret in a file, without the white space around it.

    Raises:
        SecretFileError: says what is wrong with the file, without its content.
    """
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(LONGEST_FILE + 1)
    except (OSError, ValueError):
        raise SecretFileError("cannot be read", "Mount it, or refer to another one") from None
    if len(content) > LONGEST_FILE:
        raise SecretFileError(f"is longer than {LONGEST_FILE} bytes", "Refer to the file that holds the secret alone")
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise SecretFileError("cannot be read as UTF-8", "Write the secret as text") from None
    if not text:
        raise SecretFileError("is empty", "Write the secret into it")
    return text


def given_secret(value: object, key: str, report: Report) -> Secret | None:
    """Return a secret that is given as its value. A text that looks like a reference is a value all the same."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value:
        report(key, "no secret, or of the wrong type", "Give it as a string")
        return None
    return Secret(value)


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
        return Secret(read_secret_file(name), value)
    except SecretFileError as error:
        report(key, f"the file {name} {error.problem}", error.remedy)
        return None
