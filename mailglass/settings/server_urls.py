"""URLs of servers: whether they can be read. A URL itself is never printed, as it may hold a password."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

UNREADABLE: Final = "not a URL that can be read"
ENCODE: Final = "Percent-encode what is special in its user name and password: @ as %40, / as %2F, : as %3A, ; as %3B"
HOST = re.compile(r"[A-Za-z0-9._:%/-]*\Z")


def is_readable(key: str, url: str) -> bool:
    """Return whether it is certain which part of a URL is the password, so that no other part can be a piece of it.

    Args:
        key: `database_url`, `broker_url` or `redis_url`.
        url: the URL. Of a broker several, with `;` between them.
    """
    if key == "database_url":
        # SQLAlchemy ends the password at the first @, whatever stands before it
        return url.count("@") <= 1
    pieces = url.split(";") if key == "broker_url" else [url]
    return all(_is_plain(piece) for piece in pieces)


def _is_plain(url: str) -> bool:
    scheme, separator, rest = url.partition("://")
    try:
        parts = urlsplit(f"http://{rest}")
        _ = parts.port
    except ValueError:
        return False
    known = scheme.replace("+", "").isalnum() and bool(separator) and HOST.match(parts.hostname or "") is not None
    return known and parts.netloc.count("@") == url.count("@")
