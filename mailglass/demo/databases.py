"""A demo's own place on embedded servers: a database that nobody used before, and an empty broker."""

from __future__ import annotations

import time
from urllib.parse import urlsplit, urlunsplit

from psycopg import sql

from mailglass.stack.postgres import PostgresServer

PREFIX = "demo_"
_BROKER_DB = 1


def fresh(url: str) -> str:
    """Return a new database beside the one of the URL; those of earlier demos are dropped. Returns its URL."""
    server = PostgresServer(url)
    pattern = sql.Literal(PREFIX.replace("_", r"\_") + "%")
    for (name,) in server.execute(sql.SQL("SELECT datname FROM pg_database WHERE datname LIKE {}").format(pattern)):
        server.drop_database(name)
    return server.create_database(f"{PREFIX}{time.time_ns() // 1_000_000}")


def flushed(url: str) -> str:
    """Return the URL of a database of the broker that nobody else uses, emptied."""
    import redis

    ours = urlunsplit(urlsplit(url)._replace(path=f"/{_BROKER_DB}"))
    with redis.Redis.from_url(ours) as client:
        client.flushdb()
    return ours
