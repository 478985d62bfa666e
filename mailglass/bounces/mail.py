"""A reader of mail that comes from anybody: any bytes give a result, and the work is bounded by their number.

The standard library's parser is not used here: its work grows with the depth of nested parts, its errors with the
imagination of who writes them, and it takes an encoded report for a text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_DEPTH: Final = 4
MAX_PARTS: Final = 32
MAX_FIELDS: Final = 300
# one for the message and one for each of its recipients, of whom a mail of ours has few
MAX_GROUPS: Final = 200
MAX_HEAD: Final = 64 * 1024
MAX_VALUE: Final = 4096
MAX_DATE: Final = 200

Fields = dict[str, list[str]]

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]*\)")


@dataclass(frozen=True, slots=True)
class Part:
    """A mail, or a part of one.

    Attributes:
        fields: values by lower-case name, unfolded, in order; never content of a body.
        body: as it was sent, with LF line ends.
    """

    fields: Fields = field(repr=False)
    body: bytes = field(repr=False)

    def first(self, name: str) -> str:
        """Return the first value of a field, or ""."""
        return self.fields.get(name, [""])[0]

    @property
    def content_type(self) -> str:
        """`type/subtype` in lower case; text/plain where there is none (RFC 2045 5.2)."""
        return self.first("content-type").partition(";")[0].strip().lower() or "text/plain"

    @property
    def decoded(self) -> bytes:
        """The body without its transfer encoding, which some systems give even to reports (RFC 3464 forbids it)."""
        encoding = _COMMENT.sub("", self.first("content-transfer-encoding")).strip().lower()
        try:
            if encoding == "base64":
                return _lf(binascii.a2b_base64(self.body))
            if encoding == "quoted-printable":
                return _lf(binascii.a2b_qp(self.body))
        except ValueError:
            pass
        return self.body


def read_mail(raw: bytes) -> Part:
    """Return the mail's header and body, from any bytes."""
    return _part(_lf(raw))


def parts_of(mail: Part) -> Iterator[Part]:
    """Yield the leaf parts in order, or the mail itself where it has none. Attached mails stay closed."""
    budget = [MAX_PARTS]
    yield from _leaves(mail, MAX_DEPTH, budget)


def _leaves(part: Part, depth: int, budget: list[int]) -> Iterator[Part]:
    boundary = _BOUNDARY.search(part.first("content-type"))
    if boundary is None or depth == 0 or not part.content_type.startswith("multipart/"):
        yield part
        return
    name = re.escape((boundary[1] or boundary[2]).encode("utf-8", "replace"))
    # a whole line: a longer boundary may begin with this one; "--" after it ends the multipart (RFC 2046 5.1.1)
    delimiter = re.compile(rb"\n--" + name + rb"(--)?[ \t]*(?=\n|\Z)")
    body, start = b"\n" + part.body, None
    for found in delimiter.finditer(body):
        if start is not None:
            if budget[0] == 0:
                return
            budget[0] -= 1
            yield from _leaves(_part(body[start : found.start()]), depth - 1, budget)
        if found[1]:
            return
        start = found.end() + 1
    if start is not None and budget[0] > 0:
        budget[0] -= 1
        # cut off before its end, as what was too large to be kept
        yield from _leaves(_part(body[start:]), depth - 1, budget)


def fields_of(text: bytes) -> Fields:
    """Header fields up to the first empty line: unfolded, comments and encoded words as they are."""
    return _part(_lf(text)).fields


def groups_of(text: bytes) -> list[Fields]:
    """Return the groups of fields between empty lines, up to a bound (message/delivery-status, RFC 3464 2.1)."""
    groups: list[Fields] = []
    lines: list[bytes] = []
    for line in [*text.split(b"\n"), b""]:
        if line.strip():
            lines.append(line)
        elif lines:
            groups.append(_fields(lines))
            lines = []
            if len(groups) == MAX_GROUPS:
                break
    return groups


def merged(groups: Iterable[Fields]) -> Fields:
    """Return the fields of all groups; of those of one name the first group's."""
    fields: Fields = {}
    for group in groups:
        for name, values in group.items():
            fields.setdefault(name, values)
    return fields


def moment(value: str) -> datetime | None:
    """Return the aware moment of a date field, or None where it is none."""
    try:
        found = parsedate_to_datetime(_COMMENT.sub("", value[:MAX_DATE]).strip())
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _part(text: bytes) -> Part:
    if text.startswith(b"\n"):
        return Part({}, text[1:])
    head, _, body = text.partition(b"\n\n")
    return Part(_fields(head[:MAX_HEAD].split(b"\n")), body)


def _fields(lines: list[bytes]) -> Fields:
    unfolded: list[list[bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and unfolded:
            unfolded[-1].append(line.strip())
        elif len(unfolded) < MAX_FIELDS:
            unfolded.append([line.strip()])
        else:
            break
    fields: Fields = {}
    for pieces in unfolded:
        name, colon, value = b" ".join(pieces)[:MAX_VALUE].partition(b":")
        if colon:
            key = name.strip().lower().decode("ascii", "replace")
            fields.setdefault(key, []).append(value.strip().decode("utf-8", "replace"))
    return fields


def _lf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text
