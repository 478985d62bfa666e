"""SASL mechanisms for AUTH (RFC 4954), in order of preference. A further one is a further row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How one mechanism answers.

    Attributes:
        name: as the server announces it.
        answers: user name and password to the raw answers, one per challenge, in order.
        initial: whether the first answer travels with the AUTH command itself (RFC 4954 section 4).
    """

    name: str
    answers: Callable[[str, str], tuple[bytes, ...]]
    initial: bool


def _plain(username: str, password: str) -> tuple[bytes, ...]:
    return (f"\x00{username}\x00{password}".encode(),)  # RFC 4616


def _login(username: str, password: str) -> tuple[bytes, ...]:
    return username.encode(), password.encode()


MECHANISMS: Final = (
    Mechanism("PLAIN", _plain, initial=True),
    Mechanism("LOGIN", _login, initial=False),
)
