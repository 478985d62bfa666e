"""A kept-alive HTTP/1.1 connection that posts and reads a status: what the lab's webhooks leave through.

The general client costs about 2 ms of processor time per request here, which would leave the lab no time to accept
mail; this takes a tenth of it. It speaks only to mailglass's own webhook endpoint on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import Final

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,9})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_CLOSE = re.compile(rb"^connection:[ \t]*close", re.IGNORECASE | re.MULTILINE)
_TIMEOUT: Final = 10.0


class Line:
    """One connection to one server, opened when needed and again after it broke.

    Args:
        host: name or IP address.
        port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post once; returns the answer's status, or 0 where there was none."""
        fields = {
            "host": f"{self._host}:{self._port}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **headers,
        }
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        try:
            # not wait_for, which in Python 3.11 swallows a cancellation that comes together with the answer
            async with asyncio.timeout(_TIMEOUT):
                return await self._exchange(head.encode("latin-1") + body)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            await self.close()
            return 0

    async def close(self) -> None:
        """Hang up."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def _exchange(self, request: bytes) -> int:
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, length = _STATUS.match(head), _LENGTH.search(head)
        if length is not None:
            await reader.readexactly(int(length[1]))
        if length is None or _CLOSE.search(head):
            await self.close()
        return int(status[1]) if status else 0
