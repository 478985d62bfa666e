"""The bytes of an SMTP session: bounded replies in, whole buffers out, every wait against a moment on the clock."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Final

from mailglass.clock import monotonic
from mailglass.providers.smtp.replies import Reply

# RFC 5321 4.5.3.1.5 allows 512 octets a line; servers that write more are borne, endless ones are not
MAX_REPLY_LINE: Final = 4096
MAX_REPLY: Final = 64 * 1024
_CHUNK: Final = 256 * 1024
# a wait may be off by so much of itself: setting a socket's timeout is a system call
_TOLERANCE: Final = 0.02
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class ProtocolError(Exception):
    """The server said something that is no SMTP."""


class Wire:
    """A connected socket. For one thread at a time.

    Args:
        sock: connected; closed by `close`.

    Attributes:
        unwritten: bytes of the last `write` that were not handed to the network.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.unwritten = 0
        self._sock = sock
        self._buffer = b""
        self._timeout = -1.0

    @property
    def local_address(self) -> str:
        """Address of this end of the connection."""
        return str(self._sock.getsockname()[0])

    @property
    def peer_address(self) -> str:
        """Address of the server's end of the connection."""
        return str(self._sock.getpeername()[0])

    @property
    def has_unread(self) -> bool:
        """True if something was received that no reply was made of yet."""
        return bool(self._buffer)

    def write(self, data: bytes, until: float) -> None:
        """Hand all of it to the network. When this raises, the last `unwritten` bytes were not sent.

        Args:
            data: what to write.
            until: on `mailglass.clock.monotonic()`.

        Raises:
            TimeoutError: not within the time.
            OSError: the connection is lost.
        """
        size = self.unwritten = len(data)
        view = memoryview(data)
        while left := self.unwritten:
            self._wait_at_most(until)
            begun = size - left
            self.unwritten = left - self._sock.send(view[begun : begun + _CHUNK])

    def read_reply(self, until: float) -> Reply:
        """Return the next reply, all its lines.

        Args:
            until: on `mailglass.clock.monotonic()`.

        Raises:
            TimeoutError: not within the time.
            OSError: the connection is lost.
            ProtocolError: endless, or no reply at all.
        """
        code, lines, size = b"", [], 0
        while True:
            line = self._read_line(until)
            size += len(line)
            parsed = _LINE.fullmatch(line)
            if parsed is None or size > MAX_REPLY or (code and parsed[1] != code):
                raise ProtocolError("not an SMTP reply")
            code, mark, text = parsed.groups(b"")
            lines.append(text.decode("utf-8", "replace"))
            if mark != b"-":
                return Reply(int(code), tuple(lines))

    def start_tls(self, context: ssl.SSLContext, host: str, until: float) -> None:
        """Go on under TLS. What the peer said before it and was not read yet is dropped: it is not authentic.

        Raises:
            ssl.SSLError: no agreement, or the certificate is not trusted.
            OSError: the connection is lost.
        """
        self._buffer = b""
        self._wait_at_most(until)
        self._sock = context.wrap_socket(self._sock, server_hostname=host)
        self._timeout = -1.0

    def close(self) -> None:
        """Close the socket. Never raises."""
        try:
            self._sock.close()
        except OSError:
            return

    def _read_line(self, until: float) -> bytes:
        while (end := self._buffer.find(b"\n", 0, MAX_REPLY_LINE)) < 0:
            if len(self._buffer) >= MAX_REPLY_LINE:
                raise ProtocolError("a reply line without an end")
            self._wait_at_most(until)
            received = self._sock.recv(MAX_REPLY_LINE)
            if not received:
                raise ConnectionResetError("closed by the server")
            self._buffer += received
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.removesuffix(b"\r")

    def _wait_at_most(self, until: float) -> None:
        left = until - monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        if abs(left - self._timeout) > _TOLERANCE * left:
            self._sock.settimeout(left)
            self._timeout = left


def as_data(message: bytes) -> bytes:
    """Return the message as it follows DATA: lines end in CRLF only, leading dots are doubled, the final dot is there.

    Bare CR and LF are made CRLF first: a server that takes them for line ends could be talked into seeing a second
    mail in the first one's body (SMTP smuggling).
    """
    if not message.count(b"\n") == message.count(b"\r") == message.count(b"\r\n"):
        message = _BARE_LINE_END.sub(b"\r\n", message)
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..") + b".\r\n"
