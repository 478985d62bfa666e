"""Deliveries are listed by when they were recorded, and found without a walk over those that were sent."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

# ids may be the callers' own, so they tell no order; what was sent stands in the first index only
INDEXES = """
CREATE INDEX deliveries_created ON mailglass.deliveries (created_at, id);
CREATE INDEX deliveries_unsent ON mailglass.deliveries (created_at, id)
    WHERE due_at IS NULL AND lease_expires_at IS NULL AND sent_at IS NULL;
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(INDEXES)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP INDEX mailglass.deliveries_created")
    op.execute("DROP INDEX mailglass.deliveries_unsent")
