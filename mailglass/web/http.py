"""Translation between ASGI messages and our own values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any

from mailglass.providers.base import WebhookRequest
from mailglass.web.memory_budget import BodyReading, MemoryBudget
from mailglass.web.timeouts import SharedTimeout
from mailglass.webhooks.client_address import client_address
from mailglass.webhooks.ingress import TOO_LARGE, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_TIMEOUT = 10.0
_DIGITS = 15

# the rest of the body is not read, so the connection cannot be used again
_CLOSE = (("connection", "close"),)


class ClientDisconnected(Exception):
    """Raised when the client leaves before its request is complete."""


class BudgetExceeded(Exception):
    """Raised when a body exceeds the memory budget, or is dropped for another one."""


def closing(response: Response, scope: Scope) -> Response:
    """Return a response to a request with an unread body: it closes the connection, which cannot be reused."""
    if any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    ):
        return replace(response, headers=(*response.headers, *_CLOSE))
    return response


async def read_body(
    scope: Scope, receive: Receive, limit: int, timeout: SharedTimeout, memory: MemoryBudget, account: str, peer: str
) -> tuple[bytes, BodyReading] | Response:
    """Read a whole body.

    Reading stops as soon as a body is known to be too large. The caller releases the body's memory when done with it.

    Args:
        scope: of the request.
        receive: of the request.
        limit: bytes.
        timeout: bounds the reading to 10 seconds.
        memory: holds the body.
        account: the account in the URL.
        peer: the client's address.

    Returns:
        The body with its place in the budget, or the response to a body that is too large or too slow.

    Raises:
        ClientDisconnected: the client left.
        BudgetExceeded: there is no memory for the body.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                return Response(400, _CLOSE)
            if len(value) > _DIGITS or int(value) > limit:
                return Response(TOO_LARGE.status, _CLOSE)
    task = asyncio.current_task()
    reading = memory.begin(account, peer, lambda: timeout.cancel(task))
    try:
        return await timeout.wait(_read(receive, limit, memory, reading), BODY_TIMEOUT)
    except TimeoutError:
        if reading.dropped:
            raise BudgetExceeded from None
        return Response(408, _CLOSE)


async def _read(
    receive: Receive, limit: int, memory: MemoryBudget, reading: BodyReading
) -> tuple[bytes, BodyReading] | Response:
    chunks: list[bytes] = []
    whole = False
    try:
        while not whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk = message.get("body", b"")
            if reading.size + len(chunk) > limit:
                return Response(TOO_LARGE.status, _CLOSE)
            # the announced length is not trusted: memory is taken for received bytes
            if not memory.take(reading, len(chunk)):
                raise BudgetExceeded
            chunks.append(chunk)
            whole = not message.get("more_body", False)
        return b"".join(chunks), reading
    finally:
        memory.end(reading, keep=whole)


_FORWARDED = "x-forwarded-for"


def webhook_request(scope: Scope, body: bytes) -> WebhookRequest:
    """Return the request in the form that providers verify.

    A header with two different values is left out, because a proxy may have meant either. A missing signature is
    refused. The lines of `X-Forwarded-For` are joined, since some proxies write one line each (RFC 9110 5.3).
    """
    named = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    headers = dict(named)
    if len(headers) < len(named):
        for name in {name for name, value in named if headers[name] != value}:
            del headers[name]
        if forwarded := [value for name, value in named if name == _FORWARDED]:
            headers[_FORWARDED] = ",".join(forwarded)
    client = scope.get("client")
    return WebhookRequest(headers, body, _url(scope, headers), client[0] if client else "")


def peer_of(scope: Scope, proxies: tuple[str, ...]) -> str:
    """Return a request's client address, before its body is read.

    Args:
        scope: of the request.
        proxies: trusted proxies, whose `X-Forwarded-For` counts; see `mailglass.webhooks.client_address`.
    """
    client = scope.get("client")
    peer: str = client[0] if client else ""
    if not proxies:
        return peer
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    return client_address(peer, ",".join(lines), proxies)


def _url(scope: Scope, headers: MutableMapping[str, str]) -> str:
    host = headers.get("host")
    if not host:
        return ""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    target = path + (b"?" + query if query else b"")
    return f"{scope.get('scheme', 'http')}://{host}{target.decode('latin-1')}"


async def respond(send: Send, response: Response, *, with_body: bool = True) -> None:
    """Send a response; without its body to HEAD."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers.append((b"content-length", str(len(response.body)).encode("ascii")))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})
