"""SASL mechanisms for AUTH (RFC 4954), in order of preference. A further one is a further row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from mailglass.errors import MailglassError
from mailglass.mail.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Answers of one mechanism.

    Attributes:
        name: as the server announces it.
        answers: user name and password, or access token, to the raw answers, one per challenge, in order.
        initial: whether the first answer travels with the AUTH command itself (RFC 4954 section 4).
        token: whether it takes an OAuth 2.0 access token in place of a password.
    """

    name: str
    answers: Callable[[str, str], tuple[bytes, ...]]
    initial: bool
    token: bool = False


def _plain(username: str, password: str) -> tuple[bytes, ...]:
    return (f"\x00{username}\x00{password}".encode(),)  # RFC 4616


def _login(username: str, password: str) -> tuple[bytes, ...]:
    return username.encode(), password.encode()


def _xoauth2(username: str, token: str) -> tuple[bytes, ...]:
    # Google's and Microsoft's own; a refusal comes as a challenge, to be answered with nothing
    return f"user={username}\x01auth=Bearer {token}\x01\x01".encode(), b""


def _oauthbearer(username: str, token: str) -> tuple[bytes, ...]:
    # RFC 7628 3.1, and 3.2.3 for the answer to a refusal; RFC 5801 4 for what stands for "," and "=" in the name
    name = username.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={name},\x01auth=Bearer {token}\x01\x01".encode(), b"\x01"


MECHANISMS: Final = (
    Mechanism("PLAIN", _plain, initial=True),
    Mechanism("LOGIN", _login, initial=False),
    Mechanism("XOAUTH2", _xoauth2, initial=True, token=True),
    Mechanism("OAUTHBEARER", _oauthbearer, initial=True, token=True),
)


class TokenUnavailable(MailglassError):
    """No access token can be had.

    Attributes:
        outcome: what that makes of every mail that waited for it; nothing was sent.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"no access token: {outcome.reason}; check the account's oauth2 options")
        self.outcome = outcome


class TokenSource(Protocol):
    """Source of access tokens. Safe to use from several threads."""

    def token(self, until: float) -> str:
        """Return a token that should do.

        Args:
            until: on `mailglass.clock.monotonic()`; to be had by then.

        Raises:
            TokenUnavailable: there is none.
        """
        ...

    def renew(self, refused: str, until: float) -> str | None:
        """Another token than the refused one; None: there is no other.

        Raises:
            TokenUnavailable: it cannot be had.
        """
        ...

    def close(self) -> None:
        """Close what is kept open."""
