"""The meaning of a refusal is kept with events, deferrals are counted apart, and an address may be in doubt."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision: str | None = "0017"
branch_labels: str | None = None
depends_on: str | None = None

COLUMNS = """
ALTER TABLE mailglass.events ADD COLUMN refusal text;
ALTER TABLE mailglass.deliveries
    ADD COLUMN refusal text,
    ADD COLUMN deferrals smallint NOT NULL DEFAULT 0;
CREATE TABLE mailglass.address_doubts (
    tenant_id text NOT NULL,
    value text NOT NULL,
    since timestamptz NOT NULL,
    latest timestamptz NOT NULL,
    PRIMARY KEY (value, tenant_id)
);
COMMENT ON TABLE mailglass.address_doubts IS
    'Addresses that were refused as unknown or disabled, perhaps for now: the second time a day later suppresses';
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(COLUMNS)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TABLE mailglass.address_doubts")
    op.execute("ALTER TABLE mailglass.deliveries DROP COLUMN refusal, DROP COLUMN deferrals")
    op.execute("ALTER TABLE mailglass.events DROP COLUMN refusal")
