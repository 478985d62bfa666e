"""Claims that ended without a verdict are counted, so that what ends its workers is claimed apart from the rest.

Older workers go on: they claim as before, and count nothing.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

# neither index knows a row that is in no such claim, and a mark changes none of these columns
COLUMNS = """
ALTER TABLE mailglass.deliveries
    ADD COLUMN crashes smallint NOT NULL DEFAULT 0,
    ADD COLUMN crashes_alone smallint NOT NULL DEFAULT 0,
    ADD COLUMN claimed_alone boolean NOT NULL DEFAULT false;
CREATE INDEX deliveries_suspect
    ON mailglass.deliveries (queue, tenant_id, stream, (crashes > 1), priority DESC, due_at)
    WHERE crashes > 0 AND due_at IS NOT NULL;
CREATE INDEX deliveries_crashed_alone ON mailglass.deliveries (id) WHERE crashes_alone > 0;
"""

# Event ids begin with their time in milliseconds. Only the newest are looked at: where mail is sent some of them say
# so, and a provider whose clock is ahead hides none.
FIRST_ID = """
CREATE FUNCTION mailglass.first_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM moment) * 1000 AS bigint)), 12, '0')
                || '70008000000000000000' AS uuid)
$$;
COMMENT ON FUNCTION mailglass.first_id(timestamptz) IS 'The smallest UUIDv7 of a moment';
"""

CRASHES_BY_ITSELF = """
CREATE FUNCTION mailglass.crashes_by_itself(delivery uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) < 4 FROM (
                SELECT FROM mailglass.deliveries d
                WHERE d.crashes_alone > 0 AND d.id <> crashes_by_itself.delivery
                  AND d.status IN ('queued', 'claimed') LIMIT 4) o)
        OR EXISTS (
            SELECT FROM (
                SELECT n.delivery_id, n.kind FROM mailglass.events n
                WHERE n.id < mailglass.first_id(now() + interval '1 minute') AND n.id > (
                    SELECT mailglass.first_id(min(c.recorded_at))
                    FROM (SELECT e.recorded_at FROM mailglass.events e
                          WHERE e.delivery_id = crashes_by_itself.delivery AND e.reason = 'lease_expired'
                          ORDER BY e.recorded_at DESC LIMIT 5) c)
                ORDER BY n.id DESC LIMIT 2000) v
            WHERE v.kind = 'attempted' AND v.delivery_id <> crashes_by_itself.delivery)
$$;
COMMENT ON FUNCTION mailglass.crashes_by_itself(uuid) IS
    'Whether others were attempted since this delivery ended its first claim, or few others end theirs';
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(COLUMNS)
    op.execute(FIRST_ID)
    op.execute(CRASHES_BY_ITSELF)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP FUNCTION mailglass.crashes_by_itself(uuid)")
    op.execute("DROP FUNCTION mailglass.first_id(timestamptz)")
    op.execute("DROP INDEX mailglass.deliveries_suspect")
    op.execute("DROP INDEX mailglass.deliveries_crashed_alone")
    op.execute(
        "ALTER TABLE mailglass.deliveries DROP COLUMN crashes, DROP COLUMN crashes_alone, DROP COLUMN claimed_alone"
    )
