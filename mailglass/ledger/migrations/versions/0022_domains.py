"""Observations of the watch of sending domains, and when each is looked at again.

Older workers go on: they do not look.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision: str | None = "0021"
branch_labels: str | None = None
depends_on: str | None = None

TABLE = """
CREATE TABLE mailglass.domains (
    domain text PRIMARY KEY,
    token uuid NOT NULL,
    due_at timestamptz NOT NULL,
    status text,
    statuses jsonb NOT NULL DEFAULT '{}',
    summary jsonb NOT NULL DEFAULT '{}',
    since timestamptz,
    checked_at timestamptz
);
COMMENT ON TABLE mailglass.domains IS 'The last check of each sending domain; statuses are of findings, by their ids';
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(TABLE)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.domains")
