"""An SMTP server that counts what it took, and whose connections end after any byte, heard or said."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

PATIENCE = 20.0
_ID = re.compile(rb"^X-Mailglass-Id: ([0-9a-f-]+)\r$", re.MULTILINE)


@dataclass(frozen=True)
class Cut:
    """Where a connection ends: after so many bytes from the client were understood, or as many said to it.

    Attributes:
        reset: by a reset, and not by an end.
    """

    heard: int | None = None
    said: int | None = None
    reset: bool = False


class Counting:
    """Takes mail. A recipient's local part may ask for a refusal: `rcpt550@`, `dot554@`, `dot451@`, `mail451@`…

    Attributes:
        taken: how often each delivery was taken, counted before it is acknowledged.
        contents: what was taken last of each.
        cuts: one for each connection to come; without one a connection stands.
        delay: seconds before each answer to a content.
        connections: opened so far.
        most_open: connections at once.
        last: connections after so many are turned away.
    """

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.contents: dict[str, bytes] = {}
        self.cuts: deque[Cut] = deque()
        self.connections = 0
        self.most_open = 0
        self.delay = 0.0
        self.last: int | None = None
        self._open = 0
        self._lock = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def reaches(self, connections: int) -> bool:
        """Wait until so many were open at once."""
        with self._lock:
            return self._lock.wait_for(lambda: self.most_open >= connections, PATIENCE)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock = self._listener.accept()[0]
                with self._lock:
                    self.connections += 1
                    self._open += 1
                    self.most_open = max(self.most_open, self._open)
                    self._lock.notify_all()
                    cut = self.cuts.popleft() if self.cuts else Cut()
                    full = self.last is not None and self.connections > self.last
                threading.Thread(target=self._serve, args=(sock, cut, full), daemon=True).start()

    def _serve(self, sock: socket.socket, cut: Cut, full: bool) -> None:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if full:
                sock.sendall(b"421 4.7.0 Too many connections\r\n")
                return
            _Conversation(self, sock, cut).run()
            if cut.reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            return
        finally:
            with self._lock:
                self._open -= 1
            sock.close()

    def take(self, content: bytes) -> None:
        found = _ID.search(content)
        assert found is not None
        delivery = found[1].decode()
        with self._lock:
            self.taken[delivery] += 1
            self.contents[delivery] = content


class _Conversation:
    def __init__(self, counting: Counting, sock: socket.socket, cut: Cut) -> None:
        self._counting = counting
        self._sock = sock
        self._hears = cut.heard
        self._says = cut.said
        self._buffer = b""
        self._over = False
        self._sender = False
        self._recipients: list[str] = []

    def run(self) -> None:
        with contextlib.suppress(_Ended):
            self._say(b"220 counting\r\n")
            while not self._over:
                line = self._line()
                verb = line[:4].upper()
                if verb == b"DATA" and self._recipients:
                    self._content()
                else:
                    self._say(self._answer(verb, line))

    def _answer(self, verb: bytes, line: bytes) -> bytes:
        match verb:
            case b"EHLO":
                return b"250-counting\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250 8BITMIME\r\n"
            case b"MAIL" if not self._sender:
                self._sender = True
                return b"250 2.1.0 ok\r\n"
            case b"RCPT" if self._sender:
                recipient = line.partition(b"<")[2].partition(b"@")[0].decode()
                if recipient.startswith("rcpt"):
                    return f"{recipient[4:7]} {recipient[4]}.1.1 no\r\n".encode()
                self._recipients.append(recipient)
                return b"250 2.1.5 ok\r\n"
            case b"RSET":
                self._sender, self._recipients = False, []
                return b"250 2.0.0 ok\r\n"
            case b"NOOP":
                return b"250 2.0.0 ok\r\n"
            case b"QUIT":
                self._over = True
                return b"221 2.0.0 bye\r\n"
        return b"503 5.5.1 not now\r\n"

    def _content(self) -> None:
        self._say(b"354 go on\r\n")
        lines: list[bytes] = []
        while (line := self._line()) != b".":
            lines.append(line.removeprefix(b"."))
        if self._counting.delay:
            threading.Event().wait(self._counting.delay)
        recipient = self._recipients[0]
        self._sender, self._recipients = False, []
        if recipient.startswith("dot"):
            self._say(f"{recipient[3:6]} {recipient[3]}.3.0 no\r\n".encode())
            return
        self._counting.take(b"".join(line + b"\r\n" for line in lines))
        self._say(b"250 2.0.0 taken\r\n")

    def _say(self, reply: bytes) -> None:
        if self._says is not None:
            whole, reply = reply, reply[: self._says]
            self._says -= len(reply)
            if len(reply) < len(whole) or not self._says:
                self._sock.sendall(reply)
                raise _Ended
        self._sock.sendall(reply)

    def _line(self) -> bytes:
        """The next line without its end."""
        while b"\r\n" not in self._buffer:
            if self._hears == 0:
                raise _Ended
            received = self._sock.recv(4096)
            if not received:
                raise _Ended
            if self._hears is not None:
                received = received[: self._hears]
                self._hears -= len(received)
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line


class _Ended(Exception):
    """The connection is over."""


@contextlib.contextmanager
def counting() -> Iterator[Counting]:
    server = Counting()
    try:
        yield server
    finally:
        server.close()
