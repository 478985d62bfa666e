"""Content types: guessed from a file's name, and written as a header allows it."""

from __future__ import annotations

import mimetypes
import re
from typing import Final
from urllib.parse import quote

UNKNOWN: Final = "application/octet-stream"
# what a file is whose content is compressed: its name tells what is inside, and its bytes are not that
_COMPRESSED: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_PLAIN = re.compile(r"[\t -~]*\Z")
_PARAMETER = re.compile(r';[ \t]*+([^=;"\s]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^;"]*+))[ \t]*+')
_PIECE: Final = 60


def guessed(filename: str) -> str:
    """Return the content type that a file's name stands for, of a compressed file the compression's."""
    # a relative path: a name with a colon would be read as a URL
    kind, encoding = mimetypes.guess_type(f"./{filename}")
    if encoding is not None:
        return _COMPRESSED.get(encoding, UNKNOWN)
    return kind or UNKNOWN


def written(content_type: str) -> str:
    """Return a content type in plain ASCII: a parameter that is not goes by RFC 2231, and the others stay as they are.

    Args:
        content_type: `type/subtype`, perhaps with parameters. What is no parameter is left out where one is not ASCII.
    """
    if _PLAIN.match(content_type):
        return content_type
    kind, _, _ = content_type.partition(";")
    parts = [kind.strip()]
    for found in _PARAMETER.finditer(content_type, len(kind)):
        name, value = found[1], found[3]
        if value is None:
            value = re.sub(r"\\(.)", r"\1", found[2])
        if name.isascii():
            parts += [found[0][1:].strip()] if _PLAIN.match(found[0]) else extended(name, value.strip())
    return "; ".join(parts)


def extended(name: str, value: str) -> list[str]:
    """Return a parameter by RFC 2231, in pieces when it is long.

    Pieces end between characters, as some readers decode each piece by itself.
    """
    pieces, piece, room = [], "UTF-8''", _PIECE - len(name)
    for char in value:
        encoded = quote(char, safe="")
        if len(piece) + len(encoded) > room:
            pieces.append(piece)
            piece = ""
        piece += encoded
    pieces.append(piece)
    if len(pieces) == 1:
        return [f"{name}*={piece}"]
    return [f"{name}*{number}*={piece}" for number, piece in enumerate(pieces)]
