"""Since when workers that claimed a delivery have not known its route or account."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Apply this revision."""
    op.execute("ALTER TABLE mailglass.deliveries ADD COLUMN unplaced_since timestamptz")


def downgrade() -> None:
    """Undo this revision."""
    op.execute("ALTER TABLE mailglass.deliveries DROP COLUMN unplaced_since")
