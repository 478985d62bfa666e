"""Lanes with due work are found without a look at those whose mail is due later."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None

# A row that is due stands in `deliveries_ready` by its lane. One that is put off stands in `deliveries_waiting` by its
# moment. So neither index is ever walked over for the other's sake. The trigger sees every write, also older code's.
# The condition is looked at without a call. What is due by the moment of its statement is due for good.
WAITING = """
ALTER TABLE mailglass.deliveries ADD COLUMN waiting boolean NOT NULL DEFAULT false;
UPDATE mailglass.deliveries SET waiting = true WHERE due_at > now();
CREATE INDEX deliveries_ready ON mailglass.deliveries (tenant_id, queue, stream)
    WHERE due_at IS NOT NULL AND NOT waiting;
CREATE INDEX deliveries_waiting ON mailglass.deliveries (due_at, tenant_id, queue, stream)
    WHERE due_at IS NOT NULL AND waiting;
CREATE FUNCTION mailglass.note_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.waiting := NEW.due_at > statement_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER deliveries_waiting BEFORE INSERT OR UPDATE OF due_at ON mailglass.deliveries FOR EACH ROW
    WHEN (NEW.due_at IS NOT NULL AND NEW.waiting <> (NEW.due_at > statement_timestamp()))
    EXECUTE FUNCTION mailglass.note_waiting();
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(WAITING)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TRIGGER deliveries_waiting ON mailglass.deliveries")
    op.execute("DROP FUNCTION mailglass.note_waiting()")
    op.execute("DROP INDEX mailglass.deliveries_ready")
    op.execute("DROP INDEX mailglass.deliveries_waiting")
    op.execute("ALTER TABLE mailglass.deliveries DROP COLUMN waiting")
