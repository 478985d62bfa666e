"""A delivery held after a restore stays in doubt whatever an account answers: the attempts since are not known."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision: str | None = "0019"
branch_labels: str | None = None
depends_on: str | None = None

_FUNCTION = """
CREATE OR REPLACE FUNCTION mailglass.in_other_doubt(delivery uuid, account text, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM mailglass.events e
        WHERE e.delivery_id = in_other_doubt.delivery AND {condition});
$$;
COMMENT ON FUNCTION mailglass.in_other_doubt(uuid, text, timestamptz) IS '{comment}'
"""
_LOST = """'uncertain' IN (e.kind, e.status, e.outcome)
          AND (e.account IS DISTINCT FROM in_other_doubt.account OR e.recorded_at < in_other_doubt.since)"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(
        _FUNCTION.format(
            condition=f"({_LOST}\n          OR e.kind = 'held' AND e.reason = 'restored')",
            comment="Whether an attempt has lost its answer at another account, before this moment, or with a backup",
        )
    )


def downgrade() -> None:
    """Undo this revision."""
    op.execute(
        _FUNCTION.format(
            condition=_LOST,
            comment="Whether an attempt has lost its answer at another account, or before this moment",
        )
    )
