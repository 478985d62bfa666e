"""The servers behind the URLs, read by the libraries that use them: what may be said of them."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.errors import ConfigError
from mailglass.settings.server_urls import ENCODE, HOST, UNREADABLE, is_readable


@dataclass(frozen=True, slots=True)
class Server:
    """Address of a server.

    Attributes:
        host: its name or address, or the path of its socket; "" where the URL names none.
        port: None where the URL names none.
        database: the database's name, the virtual host or the number.
    """

    host: str
    port: int | None
    database: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host or "this machine"
        place = host if self.port is None else f"{host} port {self.port}"
        return f"{place}, database {self.database}" if self.database else place


def database_server(url: str) -> Server:
    """Return the PostgreSQL server of a URL, as SQLAlchemy reads it.

    Raises:
        ConfigError: it cannot be read.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url) if is_readable("database_url", url) else None
    except (ArgumentError, ValueError):
        parts = None
    # outside of the handler: the library's error quotes what it could not read
    if parts is None or ("@" in url and parts.username is None):
        raise _unreadable("database_url")
    named = parts.host or parts.query.get("host", "")
    host = named if isinstance(named, str) else ", ".join(named)
    if not all(HOST.match(one) for one in host.split(", ")):
        raise _unreadable("database_url")
    return Server(host, parts.port, parts.database or "")


def broker_servers(url: str) -> list[Server]:
    """Return the brokers of a URL, as kombu reads it: one, or several to fail over to.

    Raises:
        ConfigError: it cannot be read.
    """
    from kombu.utils.url import url_to_parts

    if not is_readable("broker_url", url):
        raise _unreadable("broker_url")
    found = [url_to_parts(piece) for piece in url.split(";")]
    return [Server(parts.hostname or "", parts.port, parts.path or "") for parts in found]


def redis_server(url: str) -> Server:
    """Return the Redis or Valkey server of a URL, as the Redis client reads it.

    Raises:
        ConfigError: it cannot be read.
    """
    from redis.connection import parse_url

    try:
        parts = dict(parse_url(url)) if is_readable("redis_url", url) else None  # type: ignore[no-untyped-call]
    except ValueError:
        parts = None
    if parts is None:
        raise _unreadable("redis_url")
    return Server(str(parts.get("host") or parts.get("path") or ""), parts.get("port"), str(parts.get("db", "")))


def _unreadable(key: str) -> ConfigError:
    return ConfigError(f"MAILGLASS_{key.upper()}", UNREADABLE, ENCODE)
