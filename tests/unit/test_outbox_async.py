"""The outbox catches what coroutines send too, in a session and without."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import mailglass.web
from mailglass import Message, SuppressedError, adeliver, adeliver_many, deliver_later
from mailglass.testing import Outbox


def message(to: str = "ada@example.com") -> Message:
    return Message(to=to, subject="Receipt 1001", text="Thank you.")


def test_mail_of_coroutines_is_in_the_outbox(outbox: Outbox) -> None:
    outbox.suppress("gone@example.com")

    async def main() -> None:
        result = await deliver_later.adelay(message())
        assert await result.astate() == "sent"
        assert (await adeliver(message("b@example.com"))).status == "sent"
        await adeliver_many([message("c@example.com")])
        with pytest.raises(SuppressedError):
            await deliver_later.adelay(message("gone@example.com"))

    asyncio.run(main())
    assert [mail.to.email for mail in outbox.sent] == ["ada@example.com", "b@example.com", "c@example.com"]


def test_mail_in_a_session_of_a_coroutine_needs_no_database(outbox: Outbox) -> None:
    async def main() -> None:
        engine = create_async_engine("postgresql+asyncpg://nowhere.invalid/shop")
        async with AsyncSession(engine) as session:
            await deliver_later.adelay(message(), session=session)
            await session.commit()
            await adeliver_many([message("undone@example.com")], session=session)
            await session.rollback()

    asyncio.run(main())
    assert [mail.to.email for mail in outbox.sent] == ["ada@example.com"]


def test_an_application_with_the_endpoints_lifespan_starts_without_secrets_or_database(outbox: Outbox) -> None:
    app = FastAPI(lifespan=mailglass.web.app.lifespan)

    @app.post("/welcome")
    async def welcome() -> str:
        return (await deliver_later.adelay(message())).id

    with TestClient(app) as client:
        assert client.post("/welcome").status_code == 200
    outbox.assert_sent(to="ada@example.com", count=1)
