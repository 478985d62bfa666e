"""What a careful developer writes with Celery, SQLAlchemy, smtplib and requests.

The row is committed before the task is queued; the task is acknowledged late, looks whether the mail is still to be
sent, and commits what became of it. Database connections are pooled; each process keeps one SMTP session and one HTTP
connection, and opens the session anew once when the server has closed it.
"""

from __future__ import annotations

import json
import os
import smtplib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import cache
from uuid import UUID, uuid4

import requests
from celery import Celery
from sqlalchemy import DateTime, Engine, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.bench.peers.mails import SENDER, Mail
from tests.bench.peers.producing import redelivery

app = Celery("by_hand", broker=os.environ["PEERS_BROKER_URL"])
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = redelivery()


class Base(DeclarativeBase):
    """The application's tables."""


class Receipt(Base):
    """One mail, as an application would keep it."""

    __tablename__ = "receipts"

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
    return create_engine(os.environ["PEERS_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))


@cache
def http() -> requests.Session:
    """The process's kept connection."""
    session = requests.Session()
    session.headers.update({"X-Postmark-Server-Token": "token", "Content-Type": "application/json"})
    return session


class Relay:
    """The process's kept SMTP session."""

    def __init__(self) -> None:
        self._session = self._connect()

    def send(self, message: EmailMessage) -> None:
        try:
            self._session.send_message(message)
        except smtplib.SMTPServerDisconnected:
            self._session = self._connect()
            self._session.send_message(message)

    @staticmethod
    def _connect() -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", int(os.environ["PEERS_SMTP_PORT"]), timeout=30)


@cache
def relay() -> Relay:
    return Relay()


@app.task(acks_late=True)
def send_receipt(receipt_id: str) -> None:
    """Send one mail and keep what became of it."""
    with Session(engine()) as session:
        row = session.get(Receipt, UUID(receipt_id))
        if row is None or row.status == "sent":
            return
        send = _by_smtp if os.environ["PEERS_TRANSPORT"] == "smtp" else _by_http
        row.provider_message_id = send(row)
        row.status = "sent"
        row.sent_at = datetime.now(UTC)
        session.commit()


def _by_smtp(row: Receipt) -> str:
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = row.recipient
    message["Subject"] = row.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="example.com")
    message.set_content(row.text)
    message.add_alternative(row.html, subtype="html")
    relay().send(message)
    return str(message["Message-ID"])


def _by_http(row: Receipt) -> str:
    body = {
        "From": SENDER,
        "To": row.recipient,
        "Subject": row.subject,
        "TextBody": row.text,
        "HtmlBody": row.html,
        "MessageStream": "outbound",
    }
    answer = http().post(f"{os.environ['PEERS_POSTMARK_URL']}/email", data=json.dumps(body).encode(), timeout=30)
    answer.raise_for_status()
    return str(answer.json()["MessageID"])


def set_up() -> None:
    Base.metadata.create_all(engine())


def queue_all(mails: Sequence[Mail]) -> None:
    for mail in mails:
        queue_one(mail)


def queue_one(mail: Mail) -> None:
    with Session(engine()) as session:
        row = Receipt(recipient=mail.recipient, subject=mail.subject, text=mail.text, html=mail.html)
        session.add(row)
        session.commit()
        send_receipt.delay(str(row.id))
