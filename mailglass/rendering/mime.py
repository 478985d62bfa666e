"""MIME: one delivery as a complete RFC 5322 message, the same bytes at every attempt.

Nothing here is drawn at random: the date is the delivery's, the message id and the boundaries come from its id. So
a second attempt after a lost answer is recognisably the same message.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mailglass.errors import MessageError
from mailglass.mail.content_types import written
from mailglass.mail.message import Attachment
from mailglass.mail.outgoing import Outgoing
from mailglass.rendering.headers import (
    HARD_LINE,
    LINE,
    address_header,
    disposition_header,
    own_header,
    refuse_line_ends,
    text_header,
)

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# neither quoted-printable nor base64 can produce it (RFC 2045 6.7 recommends the trick)
_BOUNDARY_MARK = "=_"
_NEEDS_ENCODING = re.compile(r"[^\t\n -~]|[ \t](?:\n|\Z)|" + _BOUNDARY_MARK)
_LINE_END = re.compile(r"\r\n?")
_MIME_TYPE = re.compile(r"[!-~]+/[!-~]+")
_CONTENT_ID = re.compile(r"[!-;=?-~]+\Z")


class _Part(NamedTuple):
    headers: list[str]
    body: list[bytes]


def build(mail: Outgoing) -> bytes:
    """Return the whole message, with CRLF line ends and no line longer than 998 octets.

    Bcc is left to the envelope. Text is 7bit where it is plain and narrow, else quoted-printable; attachments are
    base64. RFC 2046 5.2.1 allows no base64 for `message/*`: such an attachment is carried as it is when it is clean
    7bit, else as application/octet-stream, and so is every `multipart/*`.

    Args:
        mail: a delivery; at least one of its bodies is set.

    Raises:
        MessageError: a header holds CR, LF or NUL or cannot be folded; a value cannot be encoded.
    """
    try:
        root = _structure(mail)
        headers = "\r\n".join([*_headers(mail), "MIME-Version: 1.0", *root.headers])
        chunks = [headers.encode("utf-8"), b"\r\n\r\n", *root.body]
    except UnicodeEncodeError:
        raise MessageError("headers", "a value holds a lone surrogate, which no mail can carry") from None
    if not chunks[-1].endswith(b"\r\n"):
        chunks.append(b"\r\n")
    return b"".join(chunks)


def message_id(mail: Outgoing) -> str:
    """Return the Message-ID of every attempt: the message's own, else `<delivery id @ the sender's domain>`."""
    for name, value in mail.headers:
        if name.lower() == "message-id":
            return value.strip()
    return f"<{mail.delivery_id}@{mail.sender.domain}>"


def needs_smtputf8(mail: Outgoing) -> bool:
    """Return whether an address of the message or its envelope needs the SMTPUTF8 extension (RFC 6531)."""
    mailboxes = (mail.sender, mail.recipient, *mail.cc, *mail.bcc, *mail.reply_to)
    return any(mailbox.smtputf8 for mailbox in mailboxes)


def _headers(mail: Outgoing) -> list[str]:
    fields = [address_header("From", (mail.sender,)), address_header("To", (mail.recipient,))]
    if mail.cc:
        fields.append(address_header("Cc", mail.cc))
    if mail.reply_to:
        fields.append(address_header("Reply-To", mail.reply_to))
    fields += [
        text_header("Subject", mail.subject),
        f"Date: {_date(mail.created_at)}",
        f"Message-ID: {message_id(mail)}",
    ]
    fields += [own_header(name, value) for name, value in mail.headers if name.lower() != "message-id"]
    fields.append(f"X-Mailglass-Id: {mail.delivery_id}")
    return fields


def _date(moment: datetime) -> str:
    at = moment.astimezone(UTC)
    clock = f"{at.hour:02d}:{at.minute:02d}:{at.second:02d}"
    return f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d} {clock} +0000"


def _structure(mail: Outgoing) -> _Part:
    inline = [item for item in mail.attachments if item.inline and mail.html is not None]
    attached = [item for item in mail.attachments if not (item.inline and mail.html is not None)]
    bodies: list[_Part] = []
    if mail.text is not None or mail.html is None:
        bodies.append(_text("plain", mail.text or ""))
    if mail.html is not None:
        html = _text("html", mail.html)
        images = [_attachment(item, mail) for item in inline]
        bodies.append(_multipart("related", mail, [html, *images], ' type="text/html";') if images else html)
    root = bodies[0] if len(bodies) == 1 else _multipart("alternative", mail, bodies)
    if attached:
        root = _multipart("mixed", mail, [root, *(_attachment(item, mail) for item in attached)])
    return root


def _boundary(kind: str, mail: Outgoing) -> str:
    return f"{_BOUNDARY_MARK}{kind}_{mail.delivery_id.hex}"


def _multipart(kind: str, mail: Outgoing, parts: Sequence[_Part], parameters: str = "") -> _Part:
    boundary = _boundary(kind, mail)
    delimiter = f"--{boundary}\r\n".encode("ascii")
    body: list[bytes] = []
    for part in parts:
        body += [delimiter, "\r\n".join(part.headers).encode("ascii"), b"\r\n\r\n", *part.body, b"\r\n"]
    body.append(f"--{boundary}--\r\n".encode("ascii"))
    return _Part([f'Content-Type: multipart/{kind};{parameters}\r\n boundary="{boundary}"'], body)


def _text(subtype: str, text: str) -> _Part:
    if "\r" in text:
        text = _LINE_END.sub("\n", text)
    if text.isascii() and max(map(len, text.split("\n"))) <= LINE and not _NEEDS_ENCODING.search(text):
        encoding, body = "7bit", text.encode("ascii")
    else:
        encoding, body = "quoted-printable", binascii.b2a_qp(text.encode("utf-8"))
    headers = [f"Content-Type: text/{subtype}; charset=utf-8", f"Content-Transfer-Encoding: {encoding}"]
    return _Part(headers, [body.replace(b"\n", b"\r\n")])


def _attachment(item: Attachment, mail: Outgoing) -> _Part:
    refuse_line_ends(item.content_type)
    content_type, encoding = written(item.content_type), "base64"
    if not _MIME_TYPE.match(content_type):
        raise MessageError("attachments", "content_type must be type/subtype, for example application/pdf")
    family = content_type.partition("/")[0].lower()
    if family == "message" and (body := _as_7bit(item.content, mail)) is not None:
        encoding = "7bit"
    else:
        body = _base64(item.content)
        if family in ("message", "multipart"):
            content_type = "application/octet-stream"
    headers = [
        text_header("Content-Type", content_type),
        f"Content-Transfer-Encoding: {encoding}",
        disposition_header("inline" if item.inline else "attachment", item.filename),
    ]
    if item.content_id:
        refuse_line_ends(item.content_id)
        if not _CONTENT_ID.match(item.content_id):
            raise MessageError("attachments", "content_id must be plain characters, without angle brackets")
        headers.append(f"Content-ID: <{item.content_id}>")
    return _Part(headers, [body])


def _as_7bit(content: bytes, mail: Outgoing) -> bytes | None:
    """Return the content with CRLF line ends where it needs no encoding and cannot be mistaken for a boundary."""
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    clean = content.isascii() and b"\x00" not in content and max(map(len, lines)) <= HARD_LINE
    if not clean or mail.delivery_id.hex.encode("ascii") in content:
        return None
    return b"\r\n".join(lines)


def _base64(content: bytes) -> bytes:
    encoded = binascii.b2a_base64(content, newline=False)
    return b"\r\n".join([encoded[start : start + LINE] for start in range(0, len(encoded), LINE)])
