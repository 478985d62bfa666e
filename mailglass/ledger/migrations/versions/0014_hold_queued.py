"""An operator may hold what is queued: after a restore it may have been sent."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision: str | None = "0013"
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
    "held>failed",
)
# the pairs of mailglass.ledger.lifecycle.MOVES as of this revision
MOVES = (*BEFORE, "queued>held")


def _allow(moves: tuple[str, ...]) -> None:
    """Replace the trigger that refuses every other move, and a cancellation of what may have been sent."""
    op.execute("DROP TRIGGER deliveries_lifecycle ON mailglass.deliveries")
    op.execute(f"""
        CREATE TRIGGER deliveries_lifecycle BEFORE UPDATE OF status ON mailglass.deliveries FOR EACH ROW
            WHEN (OLD.status IS DISTINCT FROM NEW.status
                  AND ((OLD.status || '>' || NEW.status) <> ALL (ARRAY[{", ".join(f"'{move}'" for move in moves)}])
                       OR (NEW.status = 'canceled' AND NEW.in_doubt)))
            EXECUTE FUNCTION mailglass.refuse_move()
    """)


def upgrade() -> None:
    """Apply this revision."""
    _allow(MOVES)


def downgrade() -> None:
    """Undo this revision."""
    _allow(BEFORE)
