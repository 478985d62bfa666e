"""URLs in header fields: plain ASCII, with hosts in A-labels."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

_BRACKETED = re.compile(r"<[^<>]*>")
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
_HOSTED = re.compile(r"<\s*([A-Za-z][A-Za-z0-9+.-]{0,30}:)//([^/?#<>]*)(.*)>\Z", re.DOTALL)
_MAILBOXES = re.compile(r"<\s*(mailto:)([^?<>]*)(.*)>\Z", re.DOTALL | re.IGNORECASE)


def as_uris(value: str) -> str:
    """Return a field's value with its URLs between `<` and `>` as URIs (RFC 3987 3.1).

    Hosts become A-labels, and the rest that is not ASCII is percent-encoded.
    """
    return value if value.isascii() else _BRACKETED.sub(lambda match: _uri(match[0]), value)


def _uri(bracketed: str) -> str:
    if hosted := _HOSTED.match(bracketed):
        user, at, host = hosted[2].rpartition("@")
        name, colon, port = host.partition(":")
        bracketed = f"<{hosted[1]}//{user}{at}{a_labels(name)}{colon}{port}{hosted[3]}>"
    elif mailboxes := _MAILBOXES.match(bracketed):
        addresses = ",".join(_mailbox(address) for address in mailboxes[2].split(","))
        bracketed = f"<{mailboxes[1]}{addresses}{mailboxes[3]}>"
    return quote(bracketed, safe=_PRINTABLE)


def _mailbox(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{a_labels(domain)}" if at else address


def a_labels(host: str) -> str:
    """Return a host's name in A-labels (RFC 5891), or as it is where it is none."""
    if host.isascii() or len(host) > 253:
        return host
    import idna

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        # no name of a host: percent-encoded like the rest
        return host
