"""Header fields as they go over the wire: folded at whitespace only, encoded only where the rules allow it.

The standard library's generator turns a long `List-Unsubscribe` into encoded words, which mail clients then do not
understand; here a word that needs no encoding is never touched.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from itertools import groupby

from mailglass.errors import MessageError
from mailglass.mail.addresses import FORBIDDEN, Address
from mailglass.mail.content_types import extended
from mailglass.mail.message import MESSAGE_ID_HEADERS, refuse_reserved
from mailglass.mail.uris import as_uris

# RFC 2047 2 limits lines that hold an encoded word to 76 and an encoded word to 75; RFC 5322 2.1.1 any line to 998
LINE = 76
ENCODED_WORD = 75
HARD_LINE = 998

_OVERHEAD = len("=?utf-8?q??=")
_SHORTEST_FIRST_WORD = 24
_LONGEST_PLAIN_WORD = 900
_FREE_TEXT = frozenset({"subject", "comments"})
_NAME = re.compile(r"[!-9;-~]+\Z")
_UNUSUAL = re.compile(r"[^\t -~]")
_WORD = re.compile(r"[ \t]+[^ \t]+")
_TOKEN = re.compile(r"[ \t]+(?:<[^<>]*>|[^ \t])+")
_PLAIN_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
# RFC 2047 5(3): what stands for itself even inside a phrase
_Q_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
_Q = tuple(chr(byte) if byte in _Q_PLAIN else "_" if byte == 0x20 else f"={byte:02X}" for byte in range(256))


def text_header(name: str, value: str) -> str:
    """Return a field of one's own, folded.

    Subject and Comments are free text: words that are not plain ASCII become encoded words (RFC 2047), and so do
    those that a reader would take for one. In every other field plain ASCII is written as it is.

    Args:
        name: the field's name.
        value: its value on one line.

    Returns:
        The field without its final CRLF.

    Raises:
        MessageError: CR, LF or NUL, a name that is none, or a word of more than 998 octets that cannot be folded.
    """
    refuse_line_ends(value)
    if not _NAME.match(name):
        raise MessageError("headers", "a name must be printable ASCII characters without a colon")
    kind = name.lower()
    plain = value.isascii() and value.isprintable()
    if plain and len(name) + len(value) + 2 <= LINE and not (kind in _FREE_TEXT and "=?" in value):
        return f"{name}: {value}".rstrip(" ")
    value = " " + value.strip(" \t")
    if kind in _FREE_TEXT:
        return _fold(name, _encode_runs(_WORD.findall(value), _unfit_as_free_text, LINE - len(name) - 2))
    if not plain and kind in MESSAGE_ID_HEADERS:
        raise MessageError("headers", f"{kind} holds message ids, which are plain ASCII (RFC 5322 3.6.4)")
    if not plain and kind.startswith("list-"):
        value = as_uris(value)
    return _fold(name, _encode_runs(_TOKEN.findall(value), _not_plain, LINE - len(name) - 2))


def own_header(name: str, value: str) -> str:
    """As `text_header`, for a field the message brought along: those mailglass writes itself are refused."""
    refuse_reserved(name)
    return text_header(name, value)


def address_header(name: str, mailboxes: Sequence[Address]) -> str:
    """Return a list of mailboxes (RFC 5322 3.4), folded between them and between the words of a name.

    Domains are A-labels already; a local part that is not ASCII is written as UTF-8 (RFC 6532).

    Raises:
        MessageError: CR, LF or NUL.
    """
    tokens: list[str] = []
    for position, mailbox in enumerate(mailboxes, start=1):
        refuse_line_ends(mailbox.email)
        comma = "," if position < len(mailboxes) else ""
        if mailbox.name:
            tokens += _phrase(mailbox.name, LINE - len(name) - 2 if position == 1 else ENCODED_WORD)
            tokens.append(f" <{mailbox.email}>{comma}")
        else:
            tokens.append(f" {mailbox.email}{comma}")
    return _fold(name, tokens)


def disposition_header(kind: str, filename: str) -> str:
    """Content-Disposition with the filename quoted when plain ASCII, else by RFC 2231, in pieces when it is long.

    Args:
        kind: `attachment` or `inline`.
        filename: any characters but CR, LF and NUL.

    Raises:
        MessageError: CR, LF or NUL.
    """
    refuse_line_ends(filename)
    if not _not_plain(filename) and "=?" not in filename:
        return _fold("Content-Disposition", [f" {kind};", f" filename={_quoted(filename)}"])
    pieces = extended("filename", filename)
    return _fold("Content-Disposition", [f" {kind};", *(f" {piece};" for piece in pieces[:-1]), f" {pieces[-1]}"])


def refuse_line_ends(value: str) -> None:
    """Refuse line ends as the last guard against header injection; the message model has refused them already.

    Raises:
        MessageError: CR, LF or NUL.
    """
    if FORBIDDEN.search(value):
        raise MessageError("headers", "a value must not hold CR, LF or NUL")


def _not_plain(text: str) -> bool:
    return _UNUSUAL.search(text) is not None


def _unfit_as_free_text(word: str) -> bool:
    return _not_plain(word) or "=?" in word or len(word) > _LONGEST_PLAIN_WORD


def _encode_runs(words: Sequence[str], unfit: Callable[[str], bool], room: int) -> list[str]:
    """Neighbouring words that need it become one run of encoded words: readers drop the space between two of them.

    Args:
        words: each with the whitespace before it.
        unfit: says of a word whether it needs encoding.
        room: columns left on the first line.
    """
    tokens: list[str] = []
    for encode, group in groupby(words, unfit):
        if not encode:
            tokens += group
            continue
        run = "".join(group)
        first, *others = _encoded_words(run[1:], ENCODED_WORD if tokens else room)
        tokens += [run[0] + first, *(" " + other for other in others)]
    return tokens


def _phrase(name: str, room: int) -> list[str]:
    refuse_line_ends(name)
    if _not_plain(name) or "=?" in name or "\t" in name:
        return [" " + word for word in _encoded_words(name, room)]
    if _PLAIN_PHRASE.match(name):
        return [" " + word for word in name.split(" ")]
    return [" " + _quoted(name)]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _encoded_words(text: str, room: int) -> list[str]:
    """`text` as encoded words, each of whole characters; the first one fits into `room` where that is sensible."""
    data = text.encode("utf-8")
    special = len(data.translate(None, _Q_PLAIN))
    as_base64 = len(data) + 2 * special > len(data) * 4 / 3
    limit = min(room, ENCODED_WORD) if room >= _SHORTEST_FIRST_WORD else ENCODED_WORD
    if not as_base64 and len(whole := _encoded_word(data, False)) <= limit:
        return [whole]
    words: list[str] = []
    piece, size = b"", 0
    for char in text:
        octets = char.encode("utf-8")
        cost = len(octets) if as_base64 else sum(len(_Q[byte]) for byte in octets)
        if size + cost > ((limit - _OVERHEAD) // 4 * 3 if as_base64 else limit - _OVERHEAD):
            words.append(_encoded_word(piece, as_base64))
            piece, size, limit = b"", 0, ENCODED_WORD
        piece += octets
        size += cost
    words.append(_encoded_word(piece, as_base64))
    return words


def _encoded_word(octets: bytes, as_base64: bool) -> str:
    if as_base64:
        return f"=?utf-8?b?{base64.b64encode(octets).decode('ascii')}?="
    return f"=?utf-8?q?{''.join([_Q[byte] for byte in octets])}?="


def _fold(name: str, tokens: Sequence[str]) -> str:
    """Join the tokens, each with the whitespace before it, and begin a new line only before one of them."""
    if len(whole := f"{name}:{''.join(tokens)}") <= LINE:
        return whole
    lines: list[str] = []
    line = name + ":"
    for position, token in enumerate(tokens):
        fits = len(line) + len(token) <= LINE
        # a field whose first line is blank is legal but trips some readers
        stays = position == 0 and not token.startswith(" =?") and len(line) + len(token) <= HARD_LINE
        if fits or stays:
            line += token
            continue
        lines.append(line)
        line = token
    lines.append(line)
    if any(len(line) > LINE and len(line.encode("utf-8")) > HARD_LINE for line in lines):
        raise MessageError("headers", f"{name.lower()} holds a word of more than {HARD_LINE} octets (RFC 5322 2.1.1)")
    return "\r\n".join(lines)
