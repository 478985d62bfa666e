"""Taken for granted: orders, and a database of the application's own."""

import os
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session as PlainSession
from sqlalchemy.orm import sessionmaker

from mailglass.ledger.database import sqlalchemy_url


class Order:
    """An order, which is no table here."""

    email: str = "order@example.com"
    number: int = 1001


class ShopSession(PlainSession):
    """A session of an application whose orders are no tables."""

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """Add nothing."""


order = Order()
addresses: list[str] = ["a@example.com", "b@example.com"]
Session = sessionmaker(
    create_engine(sqlalchemy_url(os.environ.get("MAILGLASS_DATABASE_URL", "postgresql://localhost/mail"))),
    class_=ShopSession,
)


def check(page: dict[str, Any]) -> None:
    """Expect every mail of the page to be sent."""
    from mailglass.ledger import deliveries
    from mailglass.runtime import get_runtime

    counts = deliveries.counts(get_runtime().database)
    assert {tenant: found.get("sent", 0) for tenant, found in counts.items()}.items() >= {"default": 2}.items()
    assert len(page["results"].results if hasattr(page["results"], "results") else list(page["results"])) == 2
