"""Turns of work that one process at a time does: the pump, and the beat that leads."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

# a few rows, each rewritten about once a second
TURNS = """
CREATE TABLE mailglass.turns (
    name text PRIMARY KEY,
    holder uuid,
    until timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE mailglass.turns IS 'holder: who has the turn, NULL while nobody has; until: nobody else has it before';
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(TURNS)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.turns")
