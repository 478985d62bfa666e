"""The ledger's tables as SQLAlchemy knows them, for reads; the migrations define them."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, DateTime, LargeBinary, MetaData, SmallInteger, Table, Text
from sqlalchemy import Uuid as UuidType

metadata = MetaData(schema="mailglass")


def _time(name: str, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _text(name: str, nullable: bool = True) -> Column[object]:
    return Column(name, Text, nullable=nullable)


deliveries = Table(
    "deliveries",
    metadata,
    Column("id", UuidType, primary_key=True),
    _text("tenant_id", nullable=False),
    Column("group_id", UuidType),
    Column("message_id", UuidType, nullable=False),
    _text("stream", nullable=False),
    _text("queue", nullable=False),
    _text("mailable"),
    _text("status", nullable=False),
    _text("recipient", nullable=False),
    _text("recipient_name", nullable=False),
    _text("recipient_domain", nullable=False),
    _text("account"),
    _text("provider"),
    _text("provider_message_id"),
    _text("idempotency_key"),
    _text("idempotency_digest"),
    Column("priority", SmallInteger, nullable=False),
    _time("due_at"),
    Column("waiting", Boolean, nullable=False),
    _time("scheduled_at", nullable=False),
    _time("expires_at"),
    Column("lease_token", UuidType),
    _time("lease_expires_at"),
    _time("search_at"),
    _text("search_account"),
    Column("attempts", SmallInteger, nullable=False),
    Column("in_doubt", Boolean, nullable=False),
    Column("ask_again", Boolean, nullable=False),
    Column("deferrals", SmallInteger, nullable=False),
    _text("refusal"),
    _text("awaits_account"),
    Column("crashes", SmallInteger, nullable=False),
    Column("crashes_alone", SmallInteger, nullable=False),
    Column("claimed_alone", Boolean, nullable=False),
    _text("last_error"),
    _time("unplaced_since"),
    _time("created_at", nullable=False),
    _time("sent_at"),
    _time("deferred_at"),
    _time("delivered_at"),
    _time("rejected_at"),
    _time("failed_at"),
    _time("bounced_at"),
    _time("complained_at"),
    _time("opened_at"),
    _time("clicked_at"),
    _time("unsubscribed_at"),
    _text("bounce_class"),
    _text("last_event"),
    _time("last_event_at"),
    Column("last_event_id", UuidType),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", UuidType, primary_key=True),
    _text("account", nullable=False),
    _text("provider", nullable=False),
    _text("tenant_id"),
    _text("dedupe_key", nullable=False),
    Column("body", LargeBinary),
    Column("headers", JSON, nullable=False),
    _text("status", nullable=False),
    _text("reason"),
    Column("attempts", SmallInteger, nullable=False),
    _time("received_at", nullable=False),
    _time("lease_expires_at"),
    _time("processed_at"),
)

webhook_proofs = Table(
    "webhook_proofs",
    metadata,
    Column("proof", LargeBinary, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    _time("used_at", nullable=False),
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("id", UuidType, primary_key=True),
    _text("tenant_id", nullable=False),
    _text("scope", nullable=False),
    _text("value", nullable=False),
    _text("stream", nullable=False),
    _text("reason", nullable=False),
    _text("source", nullable=False),
    _text("account"),
    _time("created_at", nullable=False),
    _time("expires_at"),
)

suppression_removals = Table(
    "suppression_removals",
    metadata,
    Column("value", Text, primary_key=True),
    Column("tenant_id", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    _time("removed_at", nullable=False),
)

messages = Table(
    "messages",
    metadata,
    Column("id", UuidType, primary_key=True),
    Column("content", JSON),
    Column("frozen", Boolean, nullable=False),
    _time("created_at", nullable=False),
    _time("scrubbed_at"),
)
