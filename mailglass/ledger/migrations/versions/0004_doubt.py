"""Evidence of an earlier attempt settles a claimed delivery, and its doubt outlasts a refusal."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision: str | None = "0003"
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
)
# the pairs of mailglass.ledger.lifecycle.MOVES as of this revision
MOVES = (*BEFORE, "claimed>sent", "claimed>uncertain")

# the account itself changes at every mark, which as part of an index would be written anew into all of them
SEARCH = """
ALTER TABLE mailglass.deliveries ADD COLUMN search_account text;
UPDATE mailglass.deliveries SET search_account = account WHERE search_at IS NOT NULL;
DROP INDEX mailglass.deliveries_search;
CREATE INDEX deliveries_search ON mailglass.deliveries (search_account, search_at) WHERE search_at IS NOT NULL;
"""


def _allow(moves: tuple[str, ...]) -> None:
    """Replace the trigger that refuses every other move."""
    op.execute("DROP TRIGGER deliveries_lifecycle ON mailglass.deliveries")
    op.execute(f"""
        CREATE TRIGGER deliveries_lifecycle BEFORE UPDATE OF status ON mailglass.deliveries FOR EACH ROW
            WHEN (OLD.status IS DISTINCT FROM NEW.status
                  AND (OLD.status || '>' || NEW.status) <> ALL (ARRAY[{", ".join(f"'{move}'" for move in moves)}]))
            EXECUTE FUNCTION mailglass.refuse_move()
    """)


def upgrade() -> None:
    """Apply this revision."""
    _allow(MOVES)
    op.execute(SEARCH)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("DROP INDEX mailglass.deliveries_search")
    op.execute(
        "CREATE INDEX deliveries_search ON mailglass.deliveries (account, search_at) WHERE search_at IS NOT NULL"
    )
    op.execute("ALTER TABLE mailglass.deliveries DROP COLUMN search_account")
    _allow(BEFORE)
