"""Between ASGI's messages and our own values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mailglass.providers.base import WebhookRequest
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


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes | Answer:
    """The whole body, or the answer to one that is larger than `limit` bytes or takes longer than 10 seconds.

    Of a body that is too large no more is read than shows it.

    Raises:
        ClientGone: the client left.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and not value.isdigit():
            return Answer(400, _CLOSE)
        if name == b"content-length" and (len(value) > _DIGITS or int(value) > limit):
            return Answer(TOO_LARGE.status, _CLOSE)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    return Answer(TOO_LARGE.status, _CLOSE)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        return Answer(408, _CLOSE)


def webhook_request(scope: Scope, body: bytes) -> WebhookRequest:
    """The request as a provider's room gets it.

    A header that is there twice with different values is left out: whichever was taken, somebody between the
    provider and us might have meant the other one. A signature that is missing is refused.
    """
    headers: dict[str, str] = {}
    ambiguous: set[str] = set()
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if headers.setdefault(name, value) != value:
            ambiguous.add(name)
    for name in ambiguous:
        del headers[name]
    client = scope.get("client")
    return WebhookRequest(headers=headers, body=body, url=_url(scope, headers), remote_addr=client[0] if client else "")


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
