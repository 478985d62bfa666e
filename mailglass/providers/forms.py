"""HTML form bodies of webhooks, urlencoded or multipart, as the exact bytes of their fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailglass.errors import WebhookBodyError

MAX_FIELDS: Final = 1000
_NAME = re.compile(rb'^content-disposition:[^\r\n]*?;[ \t]*name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE)
_PIECE: Final = 64 * 1024
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})++")

Fields = Sequence[tuple[bytes, bytes]]


def read_form(body: bytes) -> Fields:
    """Return the fields of a form in their order, names and values decoded to the bytes that were submitted.

    Which of the two encodings it is shows in the body itself: a multipart body begins with its boundary
    (RFC 7578 4.1) and has lines, of which an urlencoded one has only one. So the answer does not hang on a header.

    Raises:
        WebhookBodyError: a multipart body that is not well-formed, or more than `MAX_FIELDS` fields.
    """
    multipart = body.startswith(b"--") and (b"\n" in body or b"=" not in body)
    return _multipart(body) if multipart else _urlencoded(body)


def first(fields: Fields, name: str) -> str | None:
    """Return the first value under a name, as text; None where there is none."""
    return next(iter(values(fields, name)), None)


def last(fields: Fields, name: str) -> str | None:
    """Return the last value under a name, as text; None where there is none."""
    return next(iter(reversed(values(fields, name))), None)


def values(fields: Fields, name: str) -> list[str]:
    """All values under a name, as text; bytes that are no UTF-8 become U+FFFD."""
    wanted = name.encode()
    return [value.decode("utf-8", "replace") for key, value in fields if key == wanted]


def _urlencoded(body: bytes) -> Fields:
    if body.count(b"&") >= MAX_FIELDS:
        raise WebhookBodyError("the form has too many fields")
    pairs = (piece.partition(b"=") for piece in body.split(b"&") if piece)
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: bytes) -> bytes:
    """Decode piece by piece: at once, as `urllib.parse` does it, takes up to 300 times the text's size in memory."""
    text = text.replace(b"+", b" ")
    if b"%" not in text:
        return text
    decoded, start = bytearray(), 0
    while start < len(text):
        end = start + _PIECE
        # no piece ends within an escape
        cut = text.find(b"%", end - 2, end) if end < len(text) else -1
        end = end if cut < 0 else cut
        decoded += _ESCAPES.sub(_octets, text[start:end])
        start = end
    return bytes(decoded)


def _octets(run: re.Match[bytes]) -> bytes:
    return bytes.fromhex(run[0].replace(b"%", b"").decode("ascii"))


def _multipart(body: bytes) -> Fields:
    line = body.partition(b"\n")[0]
    end = b"\r\n" if line.endswith(b"\r") else b"\n"
    delimiter = line.rstrip()
    if not 3 <= len(delimiter) <= 72 or body.count(delimiter) > MAX_FIELDS + 1:
        raise WebhookBodyError("the form has no usable boundary")
    fields: list[tuple[bytes, bytes]] = []
    for part in (end + body).split(end + delimiter)[1:]:
        if part.startswith(b"--"):
            return fields
        head, separator, value = part.partition(end + end)
        named = _NAME.search(head)
        if not separator or not named or head[: len(end)] != end:
            raise WebhookBodyError("a part of the form has no name or no end of its head")
        fields.append((named[1], value))
    raise WebhookBodyError("the form has no end")
