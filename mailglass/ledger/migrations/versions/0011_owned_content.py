"""The id of content follows from what it belongs to, and a trigger refuses it to any other delivery."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

# A UUID of version 8 (RFC 9562, 5.8) says that it was derived, by mailglass.ledger.submit.content_id or
# derived_content_id. Older code writes others, which are not looked at. A foreign key would cost each insert a look-up;
# this compares one row with itself, once, and what is the most frequent first.
OWNED = """
CREATE FUNCTION mailglass.refuse_foreign_content() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a delivery has the content of its own call and tenant, and keeps it' USING ERRCODE = '45A03';
END $$;
CREATE TRIGGER deliveries_own_content BEFORE INSERT ON mailglass.deliveries
    FOR EACH ROW WHEN (
        (NEW.group_id IS NOT NULL
         OR CAST(NEW.message_id AS text) <> overlay(CAST(NEW.id AS text) PLACING '8' FROM 15 FOR 1))
        AND substr(CAST(NEW.message_id AS text), 15, 1) = '8'
        AND replace(CAST(NEW.message_id AS text), '-', '') <> overlay(overlay(
            substr(encode(sha256(convert_to(
                NEW.tenant_id || '/' || CAST(COALESCE(NEW.group_id, NEW.id) AS text), 'UTF8')), 'hex'), 1, 32)
            PLACING '8' FROM 13 FOR 1) PLACING '8' FROM 17 FOR 1))
    EXECUTE FUNCTION mailglass.refuse_foreign_content();
CREATE TRIGGER deliveries_same_content BEFORE UPDATE OF id, message_id, group_id, tenant_id ON mailglass.deliveries
    FOR EACH ROW WHEN ((OLD.id, OLD.message_id, OLD.group_id, OLD.tenant_id)
                       IS DISTINCT FROM (NEW.id, NEW.message_id, NEW.group_id, NEW.tenant_id))
    EXECUTE FUNCTION mailglass.refuse_foreign_content();
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(OWNED)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP TRIGGER deliveries_same_content ON mailglass.deliveries")
    op.execute("DROP TRIGGER deliveries_own_content ON mailglass.deliveries")
    op.execute("DROP FUNCTION mailglass.refuse_foreign_content()")
