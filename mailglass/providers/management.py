"""Calls to a provider's management API, such as its suppression list: one request each, answered or an error."""

from __future__ import annotations

from typing import Any, Final

from mailglass.clock import monotonic
from mailglass.errors import ProviderCallError
from mailglass.mail.outcomes import Outcome
from mailglass.providers.http import TOO_LARGE, HTTPAnswer, HTTPClient, HTTPRequest
from mailglass.providers.http_provider import encode_json

CALL_BUDGET: Final = 60.0
_PASSING: Final = frozenset({408, 425, 429})


def call(http: HTTPClient, request: HTTPRequest, what: str) -> HTTPAnswer:
    """Ask once, within a minute, and return the answer whatever its status.

    Args:
        http: the account's connections, which carry its credentials.
        request: what is asked.
        what: names account and call in errors, without addresses: `acme-mailgun: list bounces`.

    Raises:
        ProviderCallError: no answer, or one that is too large.
    """
    answer = http.exchange(request, deadline=monotonic() + CALL_BUDGET)
    if isinstance(answer, Outcome):
        too_large = answer.reason == TOO_LARGE
        raise ProviderCallError(what, retryable=not too_large, too_large=too_large)
    return answer


def answered(http: HTTPClient, request: HTTPRequest, what: str) -> Any:
    """As `call`, for the JSON value of an answer that must be a good one; None where its body is no JSON.

    Raises:
        ProviderCallError: no answer, or a status that is not 2xx.
    """
    answer = call(http, request, what)
    if not 200 <= answer.status < 300:
        raise refused(answer, what)
    return answer.json()


def refused(answer: HTTPAnswer, what: str) -> ProviderCallError:
    """Return the error of an answer that says no."""
    retryable = answer.status in _PASSING or answer.status >= 500
    return ProviderCallError(what, status=answer.status, retryable=retryable)


def json_request(method: str, path: str, value: Any) -> HTTPRequest:
    """Return a request with a JSON body."""
    return HTTPRequest(path, encode_json(value), {"content-type": "application/json"}, method)
