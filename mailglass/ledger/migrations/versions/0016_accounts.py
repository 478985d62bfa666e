"""Mail that waits for an account, who failed last at a half-open breaker, and what somebody has paused.

Older workers go on: they do not look at pauses, and what they put off for an account fails once it is too old.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None

# a row enters and leaves the index only when it begins or ends to wait for an account
UPGRADE = """
ALTER TABLE mailglass.deliveries ADD COLUMN awaits_account text;
CREATE INDEX deliveries_awaiting ON mailglass.deliveries (awaits_account) WHERE awaits_account IS NOT NULL;
ALTER TABLE mailglass.breakers ADD COLUMN failed_delivery uuid, ADD COLUMN last_error text;
CREATE TABLE mailglass.pauses (
    account text NOT NULL DEFAULT '',
    tenant_id text NOT NULL DEFAULT '',
    stream text NOT NULL DEFAULT '',
    paused_at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    PRIMARY KEY (tenant_id, stream, account),
    CHECK ((account = '') <> (tenant_id = '')),
    CHECK (stream = '' OR tenant_id <> '')
);
COMMENT ON TABLE mailglass.pauses IS
    'Accounts that are not called, and lanes (a tenant, or one stream of it) that are not claimed, until somebody says';
"""

DOWNGRADE = """
DROP TABLE mailglass.pauses;
ALTER TABLE mailglass.breakers DROP COLUMN failed_delivery, DROP COLUMN last_error;
ALTER TABLE mailglass.deliveries DROP COLUMN awaits_account;
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo this revision."""
    op.execute(DOWNGRADE)
