"""A stand-in for Postmark in a process of its own: answers `/email` and `/email/batch` after a delay, counts by number.

Run as `python -m tests.bench.peers.standin PORT DELAY_MS`. Written on bare asyncio, so that it is never what a run
waits for. A mail is accepted when its delay is over, whether or not its sender still listens.
`GET /messages/outbound` finds a mail by the id mailglass gave it, as Postmark's search does. `GET /count` gives how
many different mails and how many mails it has accepted, `GET /report` the moments by number.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import uuid
from collections.abc import Sequence

_RECIPIENT = re.compile(rb'"To": ?"[^"\\]*?customer(\d+)@example\.com')
_OURS = re.compile(rb'"mailglass_id": ?"([0-9a-f-]{36})"')
_SOUGHT = re.compile(rb"[?&]metadata_mailglass_id=([0-9a-f-]{36})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"


class Taken:
    """What was accepted: moments by a mail's number."""

    def __init__(self) -> None:
        self._moments: dict[int, list[float]] = {}
        self._total = 0
        self._ids: dict[str, str] = {}

    def accept(self, numbers: Sequence[int], ours: Sequence[str]) -> list[dict[str, object]]:
        """Accept the mails of a request; the answer's items."""
        now = time.time()
        for number in numbers:
            self._moments.setdefault(number, []).append(now)
        self._total += len(numbers)
        items = [_accepted(number) for number in numbers]
        self._ids.update(zip(ours, (str(item["MessageID"]) for item in items), strict=False))
        return items

    def find(self, ours: str) -> dict[str, object]:
        """The page of a search for one of mailglass's ids."""
        known = self._ids.get(ours)
        messages = [{"MessageID": known, "Metadata": {"mailglass_id": ours}}] if known else []
        return {"TotalCount": len(messages), "Messages": messages}

    def count(self) -> list[int]:
        return [len(self._moments), self._total]

    def report(self) -> dict[int, list[float]]:
        return self._moments


class Exchange(asyncio.Protocol):
    """One connection of a client that waits for each answer."""

    def __init__(self, taken: Taken, delay: float) -> None:
        self._taken = taken
        self._delay = delay
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while request := self._next_request():
            self._handle(*request)

    def _next_request(self) -> tuple[bytes, bytes] | None:
        """The request line and the body of the next request that has come completely."""
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0:
            return None
        head = bytes(self._buffer[:end])
        found = _LENGTH.search(head)
        begin = end + len(_END_OF_HEAD)
        length = int(found[1]) if found else 0
        if len(self._buffer) < begin + length:
            return None
        body = bytes(self._buffer[begin : begin + length])
        del self._buffer[: begin + length]
        return head.partition(b"\r\n")[0], body

    def _handle(self, line: bytes, body: bytes) -> None:
        method, path, _ = line.split(b" ", 2)
        if method == b"GET":
            self._answer(self._asked(path))
            return
        numbers = [int(found) for found in _RECIPIENT.findall(body)]
        ours = [found.decode() for found in _OURS.findall(body)]
        batch = path.endswith(b"/batch")
        asyncio.get_running_loop().call_later(self._delay, self._accept, numbers, ours, batch)

    def _asked(self, path: bytes) -> object:
        if path.startswith(b"/messages/outbound"):
            sought = _SOUGHT.search(path)
            return self._taken.find(sought[1].decode() if sought else "")
        return self._taken.count() if path == b"/count" else self._taken.report()

    def _accept(self, numbers: list[int], ours: list[str], batch: bool) -> None:
        items = self._taken.accept(numbers, ours)
        self._answer(items if batch else items[0])

    def _answer(self, value: object) -> None:
        if self._transport is None:
            return
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _accepted(number: int) -> dict[str, object]:
    return {
        "ErrorCode": 0,
        "Message": "OK",
        "MessageID": str(uuid.uuid4()),
        "To": f"customer{number}@example.com",
        "SubmittedAt": "2026-01-01T00:00:00.0000000Z",
    }


async def serve(port: int, delay: float) -> None:
    taken = Taken()
    server = await asyncio.get_running_loop().create_server(lambda: Exchange(taken, delay), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
