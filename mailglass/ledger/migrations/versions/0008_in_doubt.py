"""Doubt is a column of its own, and a delivery in doubt cannot be canceled.

Older workers go on: they leave both columns as they are, and say of what they leave in doubt what they said before.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

BEFORE = (
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
)
# the pairs of mailglass.ledger.lifecycle.MOVES as of this revision
MOVES = (*BEFORE, "held>failed")

# the index changes with the doubt alone, so a mark still rewrites no index
COLUMNS = """
ALTER TABLE mailglass.deliveries
    ADD COLUMN in_doubt boolean NOT NULL DEFAULT false,
    ADD COLUMN ask_again boolean NOT NULL DEFAULT false;
UPDATE mailglass.deliveries d
SET in_doubt = true,
    ask_again = d.status IN ('queued', 'claimed', 'sending') AND d.last_error IS NOT DISTINCT FROM 'asked_again'
WHERE d.status = 'uncertain'
   OR (d.status IN ('queued', 'claimed', 'sending', 'held') AND d.last_error IS DISTINCT FROM 'not_found' AND EXISTS (
        SELECT FROM mailglass.events e
        WHERE e.delivery_id = d.id AND 'uncertain' IN (e.kind, e.status, e.outcome)));
CREATE INDEX deliveries_in_doubt ON mailglass.deliveries (id) WHERE in_doubt;
"""

OTHER_DOUBT = """
CREATE FUNCTION mailglass.in_other_doubt(delivery uuid, account text, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM mailglass.events e
        WHERE e.delivery_id = in_other_doubt.delivery AND 'uncertain' IN (e.kind, e.status, e.outcome)
          AND (e.account IS DISTINCT FROM in_other_doubt.account OR e.recorded_at < in_other_doubt.since))
$$;
COMMENT ON FUNCTION mailglass.in_other_doubt(uuid, text, timestamptz) IS
    'Whether an attempt has lost its answer at another account, or before this moment';
"""


def _allow(moves: tuple[str, ...], also: str = "") -> None:
    """Replace the trigger that refuses every other move.

    Args:
        moves: pairs of states.
        also: a condition for a further refusal, beginning with OR.
    """
    op.execute("DROP TRIGGER deliveries_lifecycle ON mailglass.deliveries")
    op.execute(f"""
        CREATE TRIGGER deliveries_lifecycle BEFORE UPDATE OF status ON mailglass.deliveries FOR EACH ROW
            WHEN (OLD.status IS DISTINCT FROM NEW.status
                  AND ((OLD.status || '>' || NEW.status) <> ALL (ARRAY[{", ".join(f"'{move}'" for move in moves)}])
                       {also}))
            EXECUTE FUNCTION mailglass.refuse_move()
    """)


def upgrade() -> None:
    """Apply this revision."""
    op.execute(COLUMNS)
    op.execute(OTHER_DOUBT)
    _allow(MOVES, "OR (NEW.status = 'canceled' AND NEW.in_doubt)")


def downgrade() -> None:
    """Undo this revision."""
    _allow(BEFORE)
    op.execute("DROP FUNCTION mailglass.in_other_doubt(uuid, text, timestamptz)")
    op.execute("DROP INDEX mailglass.deliveries_in_doubt")
    op.execute("ALTER TABLE mailglass.deliveries DROP COLUMN in_doubt, DROP COLUMN ask_again")
