"""The lab's SMTP server: takes mail, counts it by its delivery id, and makes weather on request."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import ssl
from collections.abc import Callable, Sequence
from email.errors import MessageError as EmailMessageError
from email.header import decode_header, make_header
from typing import Final

from mailglass.testing.lab.weather import LabMail, Weather

MAX_SIZE: Final = 35 * 1024 * 1024
_MAX_LINE: Final = 4096
_MAX_RECIPIENTS: Final = 100
_END_OF_DATA: Final = b"\r\n.\r\n"
_PATH = re.compile(r"(FROM|TO):\s*<([^<>\"]*|\"(?:[^\"\\]|\\.)*\"@[^<>]*)>(.*)", re.IGNORECASE)
_HEADER = re.compile(rb"^(x-mailglass-id|subject):[ \t]*([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE | re.MULTILINE)
_SIZE = re.compile(r"\bSIZE=(\d{1,15})\b", re.IGNORECASE)

# the answer to the first attempt of a delivery; the second one is accepted
_ONCE: Final = {
    Weather.SOFT_BOUNCE: b"451 4.7.1 Mailbox unavailable for now, come back later\r\n",
    Weather.DEFER: b"451 4.7.1 Greylisted, come back later\r\n",
    Weather.THROTTLE_ONCE: b"451 4.7.1 Sending rate exceeded, slow down\r\n",
    Weather.SERVER_ERROR_ONCE: b"451 4.3.0 Local fault, come back later\r\n",
}


class SMTPLab:
    """An asyncio SMTP server with PIPELINING, SIZE, 8BITMIME, SMTPUTF8, AUTH and STARTTLS.

    What the weather of the main recipient does here: `hard_bounce` refuses the recipient with 550 5.1.1;
    `soft_bounce`, `defer`, `throttle_once` and `server_error_once` answer the first attempt of a delivery with 451
    after its content and accept the second; `lost_answer` accepts and hangs up without a word, once per delivery;
    all else is accepted.

    Args:
        record: called with every accepted mail, before it is acknowledged.
        weather: the weather for a recipient, for example a `Climate`.
        username: when given, AUTH is required.
        password: its password.
        ssl_context: a server's context; offers STARTTLS.
        account: what the recorded mails name as their account.
        keep: called with the envelope's recipients and the content of every accepted mail.
    """

    def __init__(
        self,
        record: Callable[[LabMail], None],
        weather: Callable[[str], Weather],
        username: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        account: str = "smtp",
        keep: Callable[[Sequence[str], bytes], None] | None = None,
    ) -> None:
        self.record = record
        self.keep = keep
        self.weather = weather
        self.credentials = None if username is None else (username, password or "")
        self.ssl_context = ssl_context
        self.account = account
        self.met: set[tuple[Weather, str]] = set()
        self.conversations: set[_Conversation] = set()
        self.connections = 0
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port, which the system chooses for port 0."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Conversation(self), host, port, backlog=256)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the door and hang up every conversation."""
        if self._server is None:
            return
        self._server.close()
        for conversation in list(self.conversations):
            conversation.hang_up()
        await self._server.wait_closed()
        self._server = None

    def meets_once(self, weather: Weather, key: str) -> bool:
        """Return whether this weather falls on this delivery for the first time."""
        if (weather, key) in self.met:
            return False
        self.met.add((weather, key))
        return True


class _Conversation(asyncio.Protocol):
    """One connection: bytes in, replies out. Replies to pipelined commands leave in one write."""

    def __init__(self, lab: SMTPLab) -> None:
        self._lab = lab
        self._transport: asyncio.Transport | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._then: Callable[[], None] | None = None  # what follows the last reply: TLS, or the end
        self._encrypted = False
        self._buffer = bytearray()
        self._searched = 0
        self._greeted = False
        self._authenticated = lab.credentials is None
        self._continue: Callable[[str], bytes] | None = None
        self._in_data = False
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._smtputf8 = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._lab.conversations.add(self)
        self._lab.connections += 1
        transport.write(b"220 lab.mailglass.test ESMTP, no real mail goes out\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lab.conversations.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._then is None:
            self._work()

    def hang_up(self) -> None:
        """End the conversation at once."""
        if self._upgrade is not None:
            self._upgrade.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        replies: list[bytes] = []
        while self._then is None:
            reply = self._take_content() if self._in_data else self._take_line()
            if reply is None:
                break
            replies.append(reply)
        if replies and self._transport is not None:
            self._transport.write(b"".join(replies))
        if self._then is not None:
            self._then()

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            return self._give_up(b"500 5.5.2 Line too long\r\n") if len(self._buffer) > _MAX_LINE else None
        line = self._buffer[:end].rstrip(b"\r").decode("utf-8", "replace")
        del self._buffer[: end + 1]
        if self._continue is not None:
            answer, self._continue = self._continue, None
            return answer(line)
        verb, _, argument = line.partition(" ")
        command = _COMMANDS.get(verb.upper())
        if command is None:
            return b"500 5.5.1 Unknown command\r\n"
        if verb.upper() in ("MAIL", "RCPT", "DATA") and not self._authenticated:
            return b"530 5.7.0 Authentication required\r\n"
        return command(self, argument)

    def _take_content(self) -> bytes | None:
        if self._buffer.startswith(b".\r\n"):
            end, after = 0, 3
        else:
            end = self._buffer.find(_END_OF_DATA, max(0, self._searched - len(_END_OF_DATA)))
            if end < 0:
                self._searched = len(self._buffer)
                too_large = self._searched > 2 * MAX_SIZE
                return self._give_up(b"552 5.3.4 Too large\r\n") if too_large else None
            end, after = end + 2, end + len(_END_OF_DATA)
        content = bytes(self._buffer[:end])
        del self._buffer[:after]
        self._searched = 0
        self._in_data = False
        return self._accept(content)

    def _accept(self, content: bytes) -> bytes:
        recipients = self._recipients
        recipient = recipients[0]
        self._forget_mail()
        head = content.partition(b"\r\n\r\n")[0]
        headers = {name.lower(): value for name, value in _HEADER.findall(head)}
        delivery_id = headers.get(b"x-mailglass-id", b"").decode("ascii", "replace").strip()
        weather, key = self._lab.weather(recipient), delivery_id or recipient
        if len(content) > MAX_SIZE:
            return b"552 5.3.4 Too large\r\n"
        if weather in _ONCE and self._lab.meets_once(weather, key):
            return _ONCE[weather]
        subject = _decoded(headers.get(b"subject", b""))
        self._lab.record(LabMail(self._lab.account, delivery_id, recipient, subject, len(content)))
        if self._lab.keep is not None:
            self._lab.keep(recipients, content)
        if weather is Weather.LOST_ANSWER and self._lab.meets_once(weather, key):
            self._then = self.hang_up
            return b""
        return b"250 2.0.0 Accepted\r\n"

    def _ehlo(self, argument: str) -> bytes:
        self._greeted = True
        self._forget_mail()
        words = ["lab.mailglass.test", "PIPELINING", f"SIZE {MAX_SIZE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self._lab.ssl_context is not None and not self._encrypted:
            words.append("STARTTLS")
        if self._lab.credentials is not None:
            words.append("AUTH PLAIN LOGIN")
        lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
        return "".join(f"{line}\r\n" for line in lines).encode("ascii")

    def _starttls(self, argument: str) -> bytes:
        if self._lab.ssl_context is None or self._encrypted:
            return b"454 4.7.0 TLS not available\r\n"
        self._then = self._start_tls
        return b"220 2.0.0 Go ahead\r\n"

    def _start_tls(self) -> None:
        if self._transport is None or self._lab.ssl_context is None:
            return
        self._transport.pause_reading()
        self._buffer.clear()  # what came in the clear after STARTTLS is not the client's word (RFC 3207 section 4.2)
        self._upgrade = asyncio.get_running_loop().create_task(self._handshake(self._transport, self._lab.ssl_context))

    async def _handshake(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            self._transport = await asyncio.get_running_loop().start_tls(transport, self, context, server_side=True)
        except OSError:
            transport.abort()
            self._lab.conversations.discard(self)
            return
        self._encrypted, self._greeted = True, False
        self._upgrade = self._then = None
        self._work()

    def _auth(self, argument: str) -> bytes:
        mechanism, _, initial = argument.partition(" ")
        if self._lab.credentials is None or self._authenticated:
            return b"503 5.5.1 No authentication now\r\n"
        if mechanism.upper() == "PLAIN":
            return self._plain(initial) if initial else self._ask(b"334 \r\n", self._plain)
        if mechanism.upper() == "LOGIN":
            return self._ask(b"334 VXNlcm5hbWU6\r\n", self._login_name)
        return b"504 5.5.4 Unknown mechanism\r\n"

    def _ask(self, challenge: bytes, then: Callable[[str], bytes]) -> bytes:
        self._continue = then
        return challenge

    def _plain(self, answer: str) -> bytes:
        _, _, credentials = _unbase64(answer).partition("\x00")
        username, _, password = credentials.partition("\x00")
        return self._check(username, password)

    def _login_name(self, answer: str) -> bytes:
        username = _unbase64(answer)
        return self._ask(b"334 UGFzc3dvcmQ6\r\n", lambda password: self._check(username, _unbase64(password)))

    def _check(self, username: str, password: str) -> bytes:
        expected = "\x00".join(self._lab.credentials or ()).encode()
        if not hmac.compare_digest(f"{username}\x00{password}".encode(), expected):
            return b"535 5.7.8 Authentication failed\r\n"
        self._authenticated = True
        return b"235 2.7.0 Authenticated\r\n"

    def _mail(self, argument: str) -> bytes:
        path = _PATH.match(argument)
        if path is None or path[1].upper() != "FROM":
            return b"501 5.5.4 MAIL FROM:<address>\r\n"
        if not self._greeted or self._sender is not None:
            return b"503 5.5.1 Not now\r\n"
        size = _SIZE.search(path[3])
        if size and int(size[1]) > MAX_SIZE:
            return b"552 5.3.4 Too large\r\n"
        self._smtputf8 = "SMTPUTF8" in path[3].upper().split()
        if not path[2].isascii() and not self._smtputf8:
            return b"550 5.6.7 SMTPUTF8 was not asked for\r\n"
        self._sender = path[2]
        return b"250 2.1.0 Sender ok\r\n"

    def _rcpt(self, argument: str) -> bytes:
        path = _PATH.match(argument)
        if path is None or path[1].upper() != "TO" or not path[2]:
            return b"501 5.5.4 RCPT TO:<address>\r\n"
        if self._sender is None:
            return b"503 5.5.1 MAIL first\r\n"
        if len(self._recipients) >= _MAX_RECIPIENTS:
            return b"452 4.5.3 Too many recipients\r\n"
        if not path[2].isascii() and not self._smtputf8:
            return b"553 5.6.7 SMTPUTF8 was not asked for\r\n"
        if self._lab.weather(path[2]) is Weather.HARD_BOUNCE:
            return b"550 5.1.1 No such user here\r\n"
        self._recipients.append(path[2])
        return b"250 2.1.5 Recipient ok\r\n"

    def _data(self, argument: str) -> bytes:
        if not self._recipients:
            return b"503 5.5.1 No valid recipients\r\n"
        self._in_data = True
        return b"354 End with a dot\r\n"

    def _rset(self, argument: str) -> bytes:
        self._forget_mail()
        return b"250 2.0.0 Ok\r\n"

    def _noop(self, argument: str) -> bytes:
        return b"250 2.0.0 Ok\r\n"

    def _quit(self, argument: str) -> bytes:
        return self._give_up(b"221 2.0.0 Bye\r\n")

    def _give_up(self, last_words: bytes) -> bytes:
        self._then = self._close
        return last_words

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _forget_mail(self) -> None:
        self._sender = None
        self._recipients = []


_COMMANDS: Final[dict[str, Callable[[_Conversation, str], bytes]]] = {
    "EHLO": _Conversation._ehlo,
    "STARTTLS": _Conversation._starttls,
    "AUTH": _Conversation._auth,
    "MAIL": _Conversation._mail,
    "RCPT": _Conversation._rcpt,
    "DATA": _Conversation._data,
    "RSET": _Conversation._rset,
    "NOOP": _Conversation._noop,
    "QUIT": _Conversation._quit,
}


def _unbase64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _decoded(subject: bytes) -> str:
    text = subject.replace(b"\r\n", b"").decode("utf-8", "replace")
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (EmailMessageError, LookupError, UnicodeError):
        return text
