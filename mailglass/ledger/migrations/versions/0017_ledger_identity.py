"""The ledger's identity, by which a caller's connection is known to lead to it."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Apply this revision."""
    op.execute("""
        CREATE TABLE mailglass.ledger_identity (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            id uuid NOT NULL DEFAULT gen_random_uuid()
        )
    """)
    op.execute("INSERT INTO mailglass.ledger_identity DEFAULT VALUES")


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.ledger_identity")
