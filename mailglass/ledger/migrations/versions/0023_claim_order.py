"""Deliveries due at one moment stand in the order of their ids, so a claim can begin where the last one ended.

Older workers go on: to them it is the same index.
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision: str | None = "0022"
branch_labels: str | None = None
depends_on: str | None = None

_INDEX = """
DROP INDEX mailglass.deliveries_due;
CREATE INDEX deliveries_due ON mailglass.deliveries (queue, tenant_id, stream, priority, {order})
    WHERE due_at IS NOT NULL
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(_INDEX.format(order="due_at, id"))


def downgrade() -> None:
    """Undo this revision."""
    op.execute(_INDEX.format(order="due_at"))
