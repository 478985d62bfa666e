"""Access tokens for AUTH: a given one, or fetched ones (RFC 6749) that all of a process's sessions share."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from mailglass.clock import monotonic
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPOptions, HTTPRequest, retry_after
from mailglass.providers.smtp.auth import TokenSource, TokenUnavailable
from mailglass.providers.smtp.options import SMTPOptions
from mailglass.settings import Secret

# a token is not used any more when so little of its life is left; seconds
MARGIN: Final = 60.0
# RFC 6749 5.1 only recommends `expires_in`; without it a token is taken to live this long
UNSTATED_LIFE: Final = 300.0
_FORM: Final = {"content-type": "application/x-www-form-urlencoded"}
# RFC 6749 5.2; what is not in this list is not repeated, a stranger wrote it
_REFUSALS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
# RFC 6749 4.1.2.1 has them for another endpoint, and some servers use them at this one
_PASSING: Final = frozenset({"temporarily_unavailable", "server_error"})
_PASSING_STATUSES: Final = frozenset({408, 425, 429})


def token_source(options: SMTPOptions) -> TokenSource | None:
    """Return the source of the account's tokens, or None without OAuth 2.0 options."""
    if options.oauth2_token is not None:
        return GivenToken(options.oauth2_token)
    if options.oauth2_token_url is not None:
        return FetchedToken(options)
    return None


class GivenToken:
    """A token that somebody else keeps fresh.

    Args:
        secret: where it stands; behind `file:PATH` the file is read again for each session.
    """

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def token(self, until: float) -> str:
        """Return an access token that is valid just now."""
        return current(self._secret)

    def renew(self, refused: str, until: float) -> str | None:
        """Return another token than the refused one, or None if there is none."""
        token = current(self._secret)
        return None if token == refused else token

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class _Fetch:
    """The result of one round to the token endpoint."""

    number: int
    token: str | None
    good_until: float
    failure: Outcome | None = None

    def result(self) -> str:
        if self.token is None or self.failure is not None:
            raise TokenUnavailable(self.failure or _INVALID)
        return self.token


class FetchedToken:
    """Tokens by refresh token where there is one, else by client credentials (RFC 6749 6 and 4.4).

    One thread at a time asks; those that waited meanwhile take what it got, a failure included.

    Args:
        options: the account's; `oauth2_token_url` is set.
    """

    def __init__(self, options: SMTPOptions) -> None:
        self._options = options
        self._client = HTTPClient(
            HTTPOptions(
                base_url=options.oauth2_token_url or "",
                connect_timeout=options.connect_timeout,
                read_timeout=options.timeout,
            ),
            _FORM,
        )
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._last = _Fetch(0, None, 0.0)

    def token(self, until: float) -> str:
        """Return an access token that is valid just now."""
        last = self._last
        if last.token is not None and monotonic() < last.good_until:
            return last.token
        return self._next(last, until)

    def renew(self, refused: str, until: float) -> str | None:
        """Return another token than the refused one, or None if there is none."""
        last = self._last
        if last.token is not None and last.token != refused:
            return last.token
        token = self._next(last, until)
        return None if token == refused else token

    def close(self) -> None:
        """Close the kept connection."""
        self._client.close()

    def _next(self, seen: _Fetch, until: float) -> str:
        """Return the round after the one that was seen: this thread's own, or another's that is under way."""
        if self._pid != os.getpid():
            # in a forked child the parent's thread that held the lock does not run
            self._lock, self._pid = threading.Lock(), os.getpid()
        if not self._lock.acquire(timeout=max(0.0, until - monotonic())):
            raise TokenUnavailable(Outcome(OutcomeClass.TRANSIENT, reason="oauth2_unavailable"))
        try:
            if self._last.number == seen.number:
                self._last = self._fetch(seen.number + 1, until)
            return self._last.result()
        finally:
            self._lock.release()

    def _fetch(self, number: int, until: float) -> _Fetch:
        asked = monotonic()
        request = HTTPRequest("", urlencode(self._grant()).encode("ascii"))
        answer = self._client.exchange(request, deadline=until)
        if isinstance(answer, Outcome):
            # no mail was in this request, so whatever became of it may be asked again
            kind = answer.kind if answer.kind is OutcomeClass.MISCONFIGURED else OutcomeClass.TRANSIENT
            return _Fetch(number, None, 0.0, Outcome(kind, reason="oauth2_unavailable"))
        if answer.status != 200:
            return _Fetch(number, None, 0.0, _refusal(answer))
        body = answer.json()
        token = body.get("access_token") if isinstance(body, dict) else None
        if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
            return _Fetch(number, None, 0.0, _INVALID)
        return _Fetch(number, token, asked + _life(body) - MARGIN)

    def _grant(self) -> dict[str, str]:
        options = self._options
        form = {"client_id": options.oauth2_client_id or ""}
        if options.oauth2_client_secret is not None:
            form["client_secret"] = current(options.oauth2_client_secret)
        if options.oauth2_refresh_token is not None:
            form |= {"grant_type": "refresh_token", "refresh_token": current(options.oauth2_refresh_token)}
        else:
            form["grant_type"] = "client_credentials"
        if options.oauth2_scope is not None:
            form["scope"] = options.oauth2_scope
        return form


_INVALID: Final = Outcome(OutcomeClass.MISCONFIGURED, reason="oauth2_answer_invalid")


def current(secret: Secret) -> str:
    """Return the secret; behind `file:PATH` as the file has it now, so that somebody else may keep it fresh."""
    kind, _, path = secret.reference.partition(":")
    if kind != "file":
        return secret.reveal()
    try:
        return Path(path).read_text(encoding="utf-8").strip() or secret.reveal()
    except (OSError, UnicodeDecodeError):
        return secret.reveal()


def _refusal(answer: HTTPAnswer) -> Outcome:
    body = answer.json()
    error = str(body.get("error")) if isinstance(body, dict) else ""
    if answer.status >= 500 or answer.status in _PASSING_STATUSES or error in _PASSING:
        return Outcome(
            OutcomeClass.TRANSIENT,
            reason="oauth2_unavailable",
            status=answer.status,
            retry_after=retry_after(answer.headers),
        )
    reason = f"oauth2_{error}" if error in _REFUSALS else "oauth2_refused"
    return Outcome(OutcomeClass.MISCONFIGURED, reason=reason, status=answer.status)


def _life(answer: dict[str, object]) -> float:
    """`expires_in`, which some servers write as a string."""
    try:
        return max(0.0, float(str(answer["expires_in"])))
    except (KeyError, ValueError):
        return UNSTATED_LIFE
