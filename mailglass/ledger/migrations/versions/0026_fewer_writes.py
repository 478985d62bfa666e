"""A delivery on its way is written into fewer indexes, and is not locked once more by each statement that moves it.

Older workers go on: what they put off is noted as before, and they find deliveries by their moment with another plan.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision: str | None = "0025"
branch_labels: str | None = None
depends_on: str | None = None

# An index of rows gets an entry for each new version of a row, though no move changes when it was recorded. One of page
# ranges gets none. `mailglass.ledger.deliveries.find` looks for the newest range by range.
CREATED = """
DROP INDEX mailglass.deliveries_created;
CREATE INDEX deliveries_created ON mailglass.deliveries USING {method}
"""

MOVES = (
    "queued>claimed",
    "queued>canceled",
    "queued>failed",
    "queued>sent",
    "claimed>queued",
    "claimed>suppressed",
    "claimed>failed",
    "claimed>held",
    "claimed>sending",
    "sending>sent",
    "sending>queued",
    "sending>failed",
    "sending>suppressed",
    "sending>held",
    "sending>uncertain",
    "uncertain>sent",
    "uncertain>queued",
    "uncertain>held",
    "uncertain>failed",
    "held>queued",
    "held>canceled",
    "held>sent",
    "claimed>sent",
    "claimed>uncertain",
    "held>failed",
    "queued>held",
)
_REFUSED = f"""((OLD.status || '>' || NEW.status) <> ALL (ARRAY[{", ".join(f"'{move}'" for move in MOVES)}])
               OR (NEW.status = 'canceled' AND NEW.in_doubt))"""
# most mails go this way, so it is looked at first
_USUAL = "(OLD.status, NEW.status) NOT IN (('queued', 'claimed'), ('claimed', 'sending'), ('sending', 'sent'))"

# A trigger before an update locks each row for itself and logs that. One after it refuses as well: the statement fails.
LIFECYCLE = """
DROP TRIGGER deliveries_lifecycle ON mailglass.deliveries;
CREATE TRIGGER deliveries_lifecycle {moment} UPDATE OF status ON mailglass.deliveries FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND {condition})
    EXECUTE FUNCTION mailglass.refuse_move()
"""

SAME_CONTENT = """
DROP TRIGGER deliveries_same_content ON mailglass.deliveries;
CREATE TRIGGER deliveries_same_content {moment} UPDATE OF id, message_id, group_id, tenant_id ON mailglass.deliveries
    FOR EACH ROW WHEN ((OLD.id, OLD.message_id, OLD.group_id, OLD.tenant_id)
                       IS DISTINCT FROM (NEW.id, NEW.message_id, NEW.group_id, NEW.tenant_id))
    EXECUTE FUNCTION mailglass.refuse_foreign_content()
"""

# Looked at for each new delivery, and settled for most by the ids alone: a mail's own content has the mail's id as a
# version 8. Bytes tell that sooner than texts.
OWN_CONTENT = """
DROP TRIGGER deliveries_own_content ON mailglass.deliveries;
CREATE TRIGGER deliveries_own_content BEFORE INSERT ON mailglass.deliveries
    FOR EACH ROW WHEN (
        (NEW.group_id IS NOT NULL OR {other_id})
        AND substr(CAST(NEW.message_id AS text), 15, 1) = '8'
        AND replace(CAST(NEW.message_id AS text), '-', '') <> overlay(overlay(
            substr(encode(sha256(convert_to(
                NEW.tenant_id || '/' || CAST(COALESCE(NEW.group_id, NEW.id) AS text), 'UTF8')), 'hex'), 1, 32)
            PLACING '8' FROM 13 FOR 1) PLACING '8' FROM 17 FOR 1))
    EXECUTE FUNCTION mailglass.refuse_foreign_content()
"""
_BY_BYTES = """uuid_send(NEW.message_id)
            <> set_byte(uuid_send(NEW.id), 6, get_byte(uuid_send(NEW.id), 6) & 15 | 128)"""
_BY_TEXT = "CAST(NEW.message_id AS text) <> overlay(CAST(NEW.id AS text) PLACING '8' FROM 15 FOR 1)"

# `record` notes itself what it puts off. The trigger sees every other write, also older code's. It writes one column
# for whoever may write the moment.
WAITING = """
DROP TRIGGER deliveries_waiting ON mailglass.deliveries;
CREATE TRIGGER deliveries_waiting BEFORE INSERT ON mailglass.deliveries FOR EACH ROW
    WHEN (NEW.due_at IS NOT NULL AND NEW.waiting <> (NEW.due_at > statement_timestamp()))
    EXECUTE FUNCTION mailglass.note_waiting();
CREATE FUNCTION mailglass.note_put_off() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE mailglass.deliveries SET waiting = (due_at > statement_timestamp()) WHERE id = NEW.id AND due_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER deliveries_put_off AFTER UPDATE OF due_at ON mailglass.deliveries FOR EACH ROW
    WHEN (NEW.due_at IS NOT NULL AND NEW.waiting <> (NEW.due_at > statement_timestamp()))
    EXECUTE FUNCTION mailglass.note_put_off()
"""
WAITING_BEFORE = """
DROP TRIGGER deliveries_put_off ON mailglass.deliveries;
DROP FUNCTION mailglass.note_put_off();
DROP TRIGGER deliveries_waiting ON mailglass.deliveries;
CREATE TRIGGER deliveries_waiting BEFORE INSERT OR UPDATE OF due_at ON mailglass.deliveries FOR EACH ROW
    WHEN (NEW.due_at IS NOT NULL AND NEW.waiting <> (NEW.due_at > statement_timestamp()))
    EXECUTE FUNCTION mailglass.note_waiting()
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(CREATED.format(method="brin (created_at) WITH (pages_per_range = 32)"))
    op.execute(LIFECYCLE.format(moment="AFTER", condition=f"{_USUAL} AND {_REFUSED}"))
    op.execute(SAME_CONTENT.format(moment="AFTER"))
    op.execute(OWN_CONTENT.format(other_id=_BY_BYTES))
    op.execute(WAITING)


def downgrade() -> None:
    """Undo this revision."""
    op.execute(WAITING_BEFORE)
    op.execute(OWN_CONTENT.format(other_id=_BY_TEXT))
    op.execute(SAME_CONTENT.format(moment="BEFORE"))
    op.execute(LIFECYCLE.format(moment="BEFORE", condition=_REFUSED))
    op.execute(CREATED.format(method="btree (created_at, id)"))
