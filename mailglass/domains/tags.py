"""Tag lists, `name=value; name=value`: of DKIM keys, DMARC, MTA-STS, TLS-RPT and BIMI records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_SPACE: Final = " \t\r\n"
MAX_RECORD: Final = 65_535


@dataclass(frozen=True, slots=True)
class TagList:
    """A parsed tag list.

    Attributes:
        tags: values by name, in order; of a name that occurs twice the first value.
        errors: what is wrong with the syntax, each with its position in characters from 0.
        duplicates: names that occur more than once.
    """

    tags: Mapping[str, str]
    errors: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names in order."""
        return tuple(self.tags)

    def get(self, name: str, default: str = "") -> str:
        """Return a tag's value."""
        return self.tags.get(name, default)


def parse_tags(text: str, *, lower_names: bool = False) -> TagList:
    """Parse a tag list (RFC 6376 3.2, RFC 9989 4.7). Linear in its length; never raises.

    Args:
        text: the record.
        lower_names: whether names are compared without case.
    """
    tags: dict[str, str] = {}
    errors: list[str] = []
    duplicates: list[str] = []
    position = 0
    pieces = text[:MAX_RECORD].split(";")
    for number, piece in enumerate(pieces):
        name, separator, value = piece.partition("=")
        name, value = name.strip(_SPACE), value.strip(_SPACE)
        if not separator or not _NAME.match(name):
            # what follows the last separator may be empty
            if piece.strip(_SPACE) or number < len(pieces) - 1:
                errors.append(f"no tag=value at position {position}")
        else:
            key = name.lower() if lower_names else name
            if key in tags:
                duplicates.append(key)
            else:
                tags[key] = value
        position += len(piece) + 1
    return TagList(tags, tuple(errors[:10]), tuple(dict.fromkeys(duplicates)))


def version_of(text: str) -> str:
    """Return the value of a leading `v=` tag, or "" if the record does not begin with one."""
    first = text[:64].partition(";")[0]
    name, separator, value = first.partition("=")
    return value.strip(_SPACE) if separator and name.strip(_SPACE).lower() == "v" else ""
