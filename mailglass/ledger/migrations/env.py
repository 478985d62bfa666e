"""Alembic's environment: runs on the connection that `mailglass.ledger.schema` hands over."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="mailglass",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
