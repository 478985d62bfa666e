"""Between ASGI's messages and our own values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any

from mailglass.providers.base import WebhookRequest
from mailglass.web.bodies import Bodies, Reading
from mailglass.web.timeouts import SharedTimeout
from mailglass.webhooks.client_address import peer_through
from mailglass.webhooks.ingress import TOO_LARGE, Answer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_TIMEOUT = 10.0
_DIGITS = 15

# what is left of the body is not read, so the connection cannot be used again
_CLOSE = (("connection", "close"),)


class ClientGone(Exception):
    """The client left before its request was complete."""


class GivenUp(Exception):
    """The body had to make room for others, or found none."""


def closing(answer: Answer, scope: Scope) -> Answer:
    """The answer to a request whose body is not read; it ends the connection, because what is left would be read."""
    if any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    ):
        return replace(answer, headers=(*answer.headers, *_CLOSE))
    return answer


async def read_body(
    scope: Scope, receive: Receive, limit: int, timeout: SharedTimeout, bodies: Bodies, account: str, peer: str
) -> tuple[bytes, Reading] | Answer:
    """The whole body, or the answer to one that is larger than `limit` bytes or takes longer than 10 seconds.

    Of a body that is too large no more is read than shows it. What a body takes of the memory is the caller's to
    release once it is done with.

    Raises:
        ClientGone: the client left.
        GivenUp: there is no room for it.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                return Answer(400, _CLOSE)
            if len(value) > _DIGITS or int(value) > limit:
                return Answer(TOO_LARGE.status, _CLOSE)
    task = asyncio.current_task()
    reading = bodies.begin(account, peer, lambda: timeout.give_up(task))
    try:
        return await timeout.wait(_read(receive, limit, bodies, reading), BODY_TIMEOUT)
    except TimeoutError:
        if reading.given_up:
            raise GivenUp from None
        return Answer(408, _CLOSE)


async def _read(receive: Receive, limit: int, bodies: Bodies, reading: Reading) -> tuple[bytes, Reading] | Answer:
    chunks: list[bytes] = []
    whole = False
    try:
        while not whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            if reading.size + len(chunk) > limit:
                return Answer(TOO_LARGE.status, _CLOSE)
            # what was announced is not believed: memory is taken by what has come
            if not bodies.take(reading, len(chunk)):
                raise GivenUp
            chunks.append(chunk)
            whole = not message.get("more_body", False)
        return b"".join(chunks), reading
    finally:
        bodies.end(reading, keep=whole)


_FORWARDED = "x-forwarded-for"


def webhook_request(scope: Scope, body: bytes) -> WebhookRequest:
    """The request as a provider's room gets it.

    A header that is there twice with different values is left out: whichever was taken, somebody between the
    provider and us might have meant the other one. A signature that is missing is refused. `X-Forwarded-For` is a list,
    of which some proxies write a line each (RFC 9110 5.3): its lines are one.
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
    """The address a request comes from, before its body is read.

    Args:
        proxies: whose `X-Forwarded-For` is believed, see `mailglass.webhooks.client_address`.
    """
    client = scope.get("client")
    peer: str = client[0] if client else ""
    if not proxies:
        return peer
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    return peer_through(peer, ",".join(lines), proxies)


def _url(scope: Scope, headers: MutableMapping[str, str]) -> str:
    host = headers.get("host")
    if not host:
        return ""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    target = path + (b"?" + query if query else b"")
    return f"{scope.get('scheme', 'http')}://{host}{target.decode('latin-1')}"


async def respond(send: Send, answer: Answer, *, with_body: bool = True) -> None:
    """Send an answer; without its body to HEAD."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode("ascii")))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})
