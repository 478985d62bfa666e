"""Messages, engines and counts for tests of coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mailglass import Message
from mailglass.ledger import deliveries
from mailglass.ledger.database import sqlalchemy_url

DRIVERS = ("asyncpg", "psycopg")
every_driver = pytest.mark.parametrize("driver", DRIVERS)


def message(to: object = "ada@example.com", **fields: Any) -> Message:
    return Message(to=to, subject="Receipt 1001", text="Thank you.", **fields)


_POOLED: Mapping[str, dict[str, Any]] = {
    "asyncpg": {"statement_cache_size": 0, "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__"},
    "psycopg": {"prepare_threshold": None},
}


@asynccontextmanager
async def engine_of(cluster: Any, driver: str = "asyncpg", url: str = "") -> AsyncIterator[AsyncEngine]:
    address = make_url(sqlalchemy_url(url or cluster.environment["MAILGLASS_DATABASE_URL"]))
    # an application's own engine, set up as its driver asks for behind a pooler
    options = _POOLED[driver] if cluster.environment.get("MAILGLASS_POOLER") else {}
    engine = create_async_engine(address.set(drivername=f"postgresql+{driver}"), connect_args=options)
    try:
        yield engine
    finally:
        await engine.dispose()


def statuses(cluster: Any) -> dict[str, dict[str, int]]:
    return deliveries.counts(cluster.runtime.database)
