"""Taken for granted: an application's user, its orders, and an engine of its own."""

import os
from dataclasses import dataclass
from typing import Any

from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mailglass.ledger.database import sqlalchemy_url

_url = sqlalchemy_url(os.environ.get("MAILGLASS_DATABASE_URL", "postgresql://localhost/mail"))
engine = create_async_engine(_url, poolclass=NullPool)


class Base(DeclarativeBase):
    """The application's tables."""


class Order(Base):
    """An order, of which each user has one."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(unique=True)


@dataclass
class User:
    """Somebody who has signed in."""

    name: str = "ada"
    email: str = "ada@example.com"
    company: str = "acme"


async def get_user() -> User:
    """Return who has signed in."""
    return User()


def check(page: dict[str, Any]) -> None:
    """Expect the endpoint below each mount, and mail that exists exactly if its order does."""
    from litestar import Litestar, post
    from litestar.di import Provide
    from starlette.testclient import TestClient

    from mailglass import Message
    from mailglass.integrations.mailer import Mailer
    from mailglass.ledger import deliveries
    from mailglass.ledger.suppressions import Suppression, suppress
    from mailglass.runtime import get_runtime

    database = get_runtime().database
    suppress(database, [Suppression("default", "gone@example.com", "hard_bounce", "webhook")])
    own = create_engine(_url)
    Base.metadata.create_all(own)
    own.dispose()
    for application in (page["starlette_app"], page["litestar_app"]):
        with TestClient(application) as client:
            assert client.get("/mailglass/readyz").status_code == 200
    assert page["app"].dependency_overrides.pop(page["get_mailer"])().tenant == "test"
    with TestClient(page["app"], raise_server_exceptions=False) as client:
        assert client.get("/mailglass/readyz").status_code == 200
        assert client.post("/welcome?email=gone@example.com").status_code == 422
        assert client.post("/welcome?email=grace@example.com").status_code == 200
        order = client.post("/orders")
        assert order.status_code == 200
        assert client.get(f"/mails/{order.json()}").json() == "queued"
        before = deliveries.counts(database)
        assert before["acme"] == {"queued": 1}
        # the second order of one user cannot be committed, and its mail exists no more than the order
        assert client.post("/orders").status_code == 500
        assert deliveries.counts(database) == before

    @post("/confirm")
    async def confirm(mail: Mailer, db_session: AsyncSession) -> str:
        result = await mail.adelay(Message(to="linus@example.com", subject="Confirm", text="Please."))
        await db_session.commit()
        return result.id

    own_session = Provide(page["get_session"])
    litestar: Any = Litestar([confirm], dependencies={**page["dependencies"], "db_session": own_session})
    with TestClient(litestar) as client:
        assert client.post("/confirm").status_code == 201
    assert deliveries.counts(database)["default"]["queued"] == before["default"]["queued"] + 1
