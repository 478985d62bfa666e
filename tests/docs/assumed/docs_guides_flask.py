"""Taken for granted: a user, an order and the extensions of an application."""

import os
from types import SimpleNamespace
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from mailglass.ledger.database import sqlalchemy_url


class ShopSession(Session):
    """A session of an application whose orders are no tables."""

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """Add nothing."""


user: Any = SimpleNamespace(email="user@example.com")
order: Any = SimpleNamespace(email="order@example.com")
_url = os.environ.get("MAILGLASS_DATABASE_URL", "postgresql://localhost/mail")
_session = scoped_session(sessionmaker(create_engine(sqlalchemy_url(_url)), class_=ShopSession))
db: Any = SimpleNamespace(session=_session)
csrf: Any = SimpleNamespace(exempt=lambda blueprint: blueprint)
flash: Any = print
