"""Recipient domains that an account waits for.

Older workers go on: they do not look.
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision: str | None = "0018"
branch_labels: str | None = None
depends_on: str | None = None

TABLE = """
CREATE TABLE mailglass.destinations (
    account text NOT NULL,
    domain text NOT NULL,
    failures smallint NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (account, domain)
);
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(TABLE)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.destinations")
