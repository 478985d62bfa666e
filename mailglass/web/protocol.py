"""HTTP connections for `mailglass web`: uvicorn's own, with heads that are bounded in size and in time.

With httptools, uvicorn buffers a head of any length and waits for its end without limit. This module gives an idle
connection a time limit, and a request's head, chunk frames and trailers a size limit. With h11, which bounds the size
by itself, it adds the time limit.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

# bytes; proxies and servers of the field stop at 8 to 32 KiB
MAX_HEAD = 64 * 1024
# seconds that a head may take; and a new connection until its first byte, because some proxies open them ahead
HEAD_TIMEOUT = 10.0
FIRST_BYTE_TIMEOUT = 75.0
# idle connections at one time; beyond it the oldest is closed
MAX_IDLE = 1000
# requests sent before the one ahead of them was answered
MAX_PIPELINED = 16
_CHECK_EVERY = 1.0

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n"
    b"cache-control: no-store\r\n\r\n"
)


class IdleConnections:
    """Connections that wait for a request, the oldest first, with one timer for all of them."""

    def __init__(self) -> None:
        self._until: dict[Any, float] = {}
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._until)

    def add(self, connection: Any, seconds: float) -> None:
        """Close a connection after `seconds`, or a second later, unless it is discarded before."""
        loop = asyncio.get_running_loop()
        self._until.pop(connection, None)
        if len(self._until) >= MAX_IDLE:
            self._close(next(iter(self._until)))
        self._until[connection] = loop.time() + seconds
        if not self._scheduled:
            self._scheduled = True
            loop.call_later(min(_CHECK_EVERY, seconds), self._check, loop)

    def discard(self, connection: Any) -> None:
        """Let a connection live."""
        self._until.pop(connection, None)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in [connection for connection, until in self._until.items() if until <= now]:
            self._close(connection)
        self._scheduled = bool(self._until)
        if self._scheduled:
            loop.call_later(_CHECK_EVERY, self._check, loop)

    def _close(self, connection: Any) -> None:
        self.discard(connection)
        connection.transport.close()


class _Timed(asyncio.Protocol):
    """Base of both parsers' connections: the time limit of a head."""

    idle: IdleConnections
    transport: Any
    _timed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.idle.add(self, FIRST_BYTE_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self.idle.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_idle():
            self._timed = False
            self.idle.discard(self)
        elif not self._timed and not self.transport.is_closing():
            # from the first byte, whatever comes after it
            self._timed = True
            self.idle.add(self, HEAD_TIMEOUT)

    def _is_idle(self) -> bool:
        """Return whether no request is in progress."""
        raise NotImplementedError


def _refuse(transport: Any) -> None:
    transport.write(_TOO_LARGE)
    transport.close()


def _h11_protocol() -> type[H11Protocol]:
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(_Timed, H11Protocol):
        idle = IdleConnections()

        def _is_idle(self) -> bool:
            return bool(self.conn.their_state is h11.IDLE)

    return Bounded


def _httptools_protocol() -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Bounded(_Timed, HttpToolsProtocol):
        idle = IdleConnections()
        _in_head = False
        # bytes of head and trailers so far, and bytes received since the parser last used some
        _head = 0
        _unread = 0

        def _is_idle(self) -> bool:
            return self._in_head or self.cycle is None or self.cycle.response_complete

        def data_received(self, data: bytes) -> None:
            self._unread += len(data)
            super().data_received(data)
            if self._unread > MAX_HEAD and not self.transport.is_closing():
                _refuse(self.transport)

        def on_message_begin(self) -> None:
            self._in_head, self._head, self._unread = True, 0, 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_head = False
            if len(self.pipeline) >= MAX_PIPELINED:
                raise ValueError("too many requests at once")
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unread = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._unread = 0
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            if self._head > MAX_HEAD:
                _refuse(self.transport)
            else:
                super().send_400_response(msg)

        def _count(self, size: int) -> None:
            self._head += size
            if self._head > MAX_HEAD:
                # the parser stops, and asks for an answer
                raise ValueError("the head is too large")

    return Bounded


def bounded_protocol() -> type[asyncio.Protocol]:
    """Return a class of connections for one server: `uvicorn.Config(http=bounded_protocol())`."""
    try:
        return _httptools_protocol()
    except ImportError:
        return _h11_protocol()
