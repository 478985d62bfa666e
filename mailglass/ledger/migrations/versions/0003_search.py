"""Moments at which uncertain deliveries are searched for at their providers."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

# only what waits for evidence stands in the index; what is sent at once never enters it
SEARCH = """
ALTER TABLE mailglass.deliveries ADD COLUMN search_at timestamptz;
CREATE INDEX deliveries_search ON mailglass.deliveries (account, search_at) WHERE search_at IS NOT NULL;
UPDATE mailglass.deliveries SET search_at = now() WHERE lease_expires_at IS NOT NULL AND status = 'uncertain';
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(SEARCH)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP INDEX mailglass.deliveries_search")
    op.execute("ALTER TABLE mailglass.deliveries DROP COLUMN search_at")
