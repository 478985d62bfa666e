"""Between ASGI's messages and our own values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from mailglass.providers.base import WebhookRequest
from mailglass.web.patience import Patience
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


@dataclass(slots=True)
class Room:
    """Memory for bodies, shared by all requests.

    Attributes:
        free: bytes that are left.
    """

    free: int


class NoRoom(Exception):
    """The bodies of all requests together take as much memory as they may."""


async def read_body(scope: Scope, receive: Receive, limit: int, patience: Patience, room: Room) -> bytes | Answer:
    """The whole body, or the answer to one that is larger than `limit` bytes or takes longer than 10 seconds.

    Of a body that is too large no more is read than shows it. What a body takes of the room is the caller's to give
    back once it is done with; where there is none, nothing is taken.

    Raises:
        ClientGone: the client left.
        NoRoom: it does not fit into the room.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                return Answer(400, _CLOSE)
            if len(value) > _DIGITS or int(value) > limit:
                return Answer(TOO_LARGE.status, _CLOSE)
    try:
        return await patience.wait(_read(receive, limit, room), BODY_TIMEOUT)
    except TimeoutError:
        return Answer(408, _CLOSE)


async def _read(receive: Receive, limit: int, room: Room) -> bytes | Answer:
    chunks: list[bytes] = []
    size = 0
    body: bytes | None = None
    try:
        while body is None:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            # what was announced is not believed: room is taken by what has come
            size += len(chunk)
            room.free -= len(chunk)
            if size > limit:
                return Answer(TOO_LARGE.status, _CLOSE)
            if room.free < 0:
                raise NoRoom
            chunks.append(chunk)
            if not message.get("more_body", False):
                body = b"".join(chunks)
        return body
    finally:
        if body is None:
            room.free += size


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
