"""The oldest mailglass that may work on the schema, so that workers outlive an upgrade that only adds to it.

A migration that takes something away, or changes what older code relies on, raises it:
`UPDATE mailglass.schema_support SET oldest_code = '<its own revision>'`.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Apply this revision."""
    op.execute("""
        CREATE TABLE mailglass.schema_support (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            oldest_code text NOT NULL
        )
    """)
    op.execute("INSERT INTO mailglass.schema_support (oldest_code) VALUES ('0005')")


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.schema_support")
