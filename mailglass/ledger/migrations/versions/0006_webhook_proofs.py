"""Proofs of webhooks that do not cover the body, bound to the first body they came with."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

TABLE = """
CREATE TABLE mailglass.webhook_proofs (
    proof bytea PRIMARY KEY,
    digest bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_proofs_used ON mailglass.webhook_proofs (used_at);
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(TABLE)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.webhook_proofs")
