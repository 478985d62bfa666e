"""Messages, engines and counts for tests of coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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


@asynccontextmanager
async def engine_of(cluster: Any, driver: str = "asyncpg", url: str = "") -> AsyncIterator[AsyncEngine]:
    address = make_url(sqlalchemy_url(url or cluster.environment["MAILGLASS_DATABASE_URL"]))
    engine = create_async_engine(address.set(drivername=f"postgresql+{driver}"))
    try:
        yield engine
    finally:
        await engine.dispose()


def statuses(cluster: Any) -> dict[str, dict[str, int]]:
    return deliveries.counts(cluster.runtime.database)
