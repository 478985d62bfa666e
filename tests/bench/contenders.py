"""What mailglass is measured against: a plain Celery task, and mail sent by hand with Celery and SQLAlchemy.

The second is what a careful developer writes: the row is committed before the task is queued, the task is acknowledged
late, looks whether it still has to send, and commits what became of it; connections are pooled.
Run as a worker by `celery -A tests.bench.contenders worker`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import DateTime, Engine, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mailglass.ledger.database import sqlalchemy_url
from mailglass.mail.addresses import Address
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.null import NullOptions, NullProvider

DATABASE = "BENCH_DATABASE_URL"
BROKER = "BENCH_BROKER_URL"
QUEUE = "celery"

app = Celery("contenders", broker=os.environ.get(BROKER), set_as_current=False)
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


class Base(DeclarativeBase):
    """The application's tables."""


class Mail(Base):
    """One mail, as an application would keep it."""

    __tablename__ = "mails"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    recipient: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    html: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default="queued", index=True)
    provider_message_id: Mapped[str | None] = mapped_column(Text, index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


@cache
def engine() -> Engine:
    """The process's pool, made after the worker has forked."""
    return create_engine(sqlalchemy_url(os.environ[DATABASE]))


@cache
def provider() -> NullProvider:
    return NullProvider("null", NullOptions())


@app.task
def noop(number: int) -> None:
    """Nothing: what Celery itself costs."""


@app.task(acks_late=True)
def send_mail(mail_id: str) -> None:
    """Send one mail and keep what became of it."""
    with Session(engine()) as session:
        mail = session.get(Mail, UUID(mail_id))
        if mail is None or mail.status == "sent":
            return
        (outcome,) = provider().send([_outgoing(mail)], deadline=float("inf"))
        mail.status = "sent"
        mail.provider_message_id = outcome.provider_message_id
        mail.sent_at = datetime.now(UTC)
        session.commit()


def queue_mail(number: int, text: str, html: str) -> None:
    """What the web request does: keep the row, commit, queue the task."""
    with Session(engine()) as session:
        mail = Mail(recipient=f"customer{number}@example.com", subject=f"Receipt {number}", text=text, html=html)
        session.add(mail)
        session.commit()
        send_mail.delay(str(mail.id))


def _outgoing(mail: Mail) -> Outgoing:
    return Outgoing(
        delivery_id=mail.id,
        tenant="default",
        stream="transactional",
        recipient=Address(mail.recipient),
        sender=Address("shop@example.com"),
        subject=mail.subject,
        created_at=mail.created_at,
        text=mail.text,
        html=mail.html,
    )
