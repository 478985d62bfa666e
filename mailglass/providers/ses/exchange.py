"""One SendEmail call, made once: how far its request came onto the wire, and so what its failure proves.

botocore names its exceptions after what went wrong, not after what had been sent by then: a closed connection may
have swallowed half a request or a whole one. So the body is handed over through a reader that knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from mailglass.clock import monotonic
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.http import LEAST_BUDGET

_CHUNK: Final = 64 * 1024

# what stopped a call before anything of the mail was on the wire, the narrower type first
_NOT_SENT: Final[tuple[tuple[type[Exception], OutcomeClass, str], ...]] = (
    (ParamValidationError, OutcomeClass.REJECTED, "invalid_options"),
    (NoCredentialsError, OutcomeClass.MISCONFIGURED, "credentials_missing"),
    (PartialCredentialsError, OutcomeClass.MISCONFIGURED, "credentials_missing"),
    (CredentialRetrievalError, OutcomeClass.TRANSIENT, "credentials_unavailable"),
    (TokenRetrievalError, OutcomeClass.TRANSIENT, "credentials_unavailable"),
    (HTTPClientError, OutcomeClass.TRANSIENT, "connect_failed"),
    (NoConnectionError, OutcomeClass.TRANSIENT, "connect_failed"),
    (BotoCoreError, OutcomeClass.MISCONFIGURED, "request_invalid"),
    (OSError, OutcomeClass.TRANSIENT, "connect_failed"),
)
_OF_THE_NETWORK: Final = (HTTPClientError, NoConnectionError)
_NEVER_CONNECTED: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)


@dataclass(slots=True)
class _Exchange:
    """One call.

    Attributes:
        deadline: on `clock.monotonic()`.
        watched: the request passed through `_hand_over`, so `begun` and `written` can be believed.
        begun: the first byte of the request was handed to the kernel.
        written: so was the last one; before it the other side cannot have accepted anything.
    """

    deadline: float
    watched: bool = False
    begun: bool = False
    written: bool = False


_current: ContextVar[_Exchange | None] = ContextVar("mailglass_ses_exchange", default=None)


def watch(client: Any) -> Any:
    """Have a botocore client's requests tell how far they came. Returns the client."""
    # after all others: what answers in place of the network (moto does) wants to see the body as it was
    client.meta.events.register_last("before-send", _hand_over)
    return client


def call_once(client: Any, parameters: Mapping[str, Any], deadline: float) -> Mapping[str, Any] | Outcome:
    """Call SendEmail, once.

    Args:
        client: for `sesv2`, made without retries and given to `watch`.
        parameters: of the call.
        deadline: on `clock.monotonic()`; with less than half a second left nothing is started.

    Returns:
        SES's answer or error, as botocore parsed it; or, where there is none, the outcome that is proved.
    """
    if deadline - monotonic() < LEAST_BUDGET:
        return Outcome(OutcomeClass.TRANSIENT, reason="deadline")
    exchange = _Exchange(deadline)
    token = _current.set(exchange)
    try:
        answer: Mapping[str, Any] = client.send_email(**parameters)
        return answer
    except ClientError as error:
        refusal: Mapping[str, Any] = error.response
        return refusal
    except Exception as error:
        return _lost(exchange, error)
    finally:
        _current.reset(token)


def _lost(exchange: _Exchange, error: Exception) -> Outcome:
    proven = exchange.watched or isinstance(error, _NEVER_CONNECTED) or not isinstance(error, _OF_THE_NETWORK)
    if exchange.written or not proven:
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
    if exchange.begun:
        return Outcome(OutcomeClass.TRANSIENT, reason="request_incomplete")
    for kind, outcome, reason in _NOT_SENT:
        if isinstance(error, kind):
            return Outcome(outcome, reason=reason)
    return Outcome(OutcomeClass.TRANSIENT, reason="request_failed")


def _hand_over(request: Any, **_: Any) -> None:
    exchange = _current.get()
    if exchange is None or request.body is None:
        return
    body = request.body.encode() if isinstance(request.body, str) else bytes(request.body)
    request.body = _Reader(body, exchange)
    exchange.watched = True
    # botocore takes a timeout per request from here where it can; older ones wait for the account's
    if isinstance(request.context, dict):
        left = max(exchange.deadline - monotonic(), 0.01)
        config = request.context.get("client_config")
        request.context["read_timeout"] = min(left, getattr(config, "read_timeout", None) or left)


class _Reader:
    """The body of a request as a file, in pieces: asked for the next one, the last one is with the kernel."""

    def __init__(self, body: bytes, exchange: _Exchange) -> None:
        self._body = memoryview(body)
        self._place = 0
        self._exchange = exchange

    def read(self, size: int = -1) -> bytes:
        """Return the next piece; b"" when all were handed over."""
        if self._place >= len(self._body):
            self._exchange.written = True
            return b""
        if monotonic() > self._exchange.deadline:
            raise TimeoutError("the deadline passed while the request was written")
        # the header fields went ahead of the first piece
        self._exchange.begun = True
        end = self._place + (min(size, _CHUNK) if size > 0 else _CHUNK)
        piece = bytes(self._body[self._place : end])
        self._place = end
        return piece
