"""An HTTP server that can hang up without an answer, as a provider does whose answer is lost."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_ABORT: Final = "mailglass.lab.abort"


class _HangUp(Response):
    """Closes the connection where an answer would stand. Needs `HangingUpProtocol` under it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][_ABORT]()
        # the server answers 500 for an application that returns in silence, unless it knows the client is gone
        while (await receive())["type"] != "http.disconnect":
            pass


HANG_UP: Final = _HangUp()


class HangingUpProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which tells the application how to break the connection off."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Tell the application how to break this connection off."""
        super().connection_made(transport)
        self.app = _told(self.app, transport)


def _told(app: Any, transport: asyncio.Transport) -> ASGIApp:
    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[_ABORT] = transport.abort
        await app(scope, receive, send)

    return told
