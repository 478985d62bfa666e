"""Use of secrets: when each proved a webhook last, and when a provider refused it.

Older workers go on: they note nothing.
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision: str | None = "0024"
branch_labels: str | None = None
depends_on: str | None = None

TABLE = """
CREATE TABLE mailglass.secret_uses (
    account text NOT NULL,
    fingerprint bytea NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    refused_at timestamptz,
    PRIMARY KEY (account, fingerprint)
);
COMMENT ON TABLE mailglass.secret_uses IS
    'Use of secrets, each by a slow salted fingerprint of 8 bytes, by which it cannot be read';
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(TABLE)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.secret_uses")
