"""Rollbacks of a caller's session, so that a mail that was recorded in it is forgotten with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_WATCHED = "mailglass_outbox_undo"


def on_rollback(session: Any, undo: Callable[[], object]) -> None:
    """Call a function if the transaction that is under way rolls back, or the savepoint, or one around it.

    Args:
        session: a SQLAlchemy Session or scoped_session. Nothing else reports its savepoints, and is left alone.
        undo: called at most once.
    """
    from sqlalchemy import event
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(session, scoped_session):
        session = session()
    if not isinstance(session, Session):
        return
    if not session.in_transaction():
        session.begin()
    current = session.get_nested_transaction() or session.get_transaction()
    session.info.setdefault(_WATCHED, []).append((current, undo))
    for name, listener in (("after_soft_rollback", _rolled_back), ("after_commit", _committed)):
        if not event.contains(session, name, listener):
            event.listen(session, name, listener)


def _rolled_back(session: Any, transaction: Any) -> None:
    waiting = session.info.pop(_WATCHED, [])
    kept = []
    for at, undo in waiting:
        if _within(at, transaction):
            undo()
        else:
            kept.append((at, undo))
    if kept:
        session.info[_WATCHED] = kept


def _committed(session: Any) -> None:
    # what a savepoint releases may still roll back with those around it
    if session.get_nested_transaction() is None:
        session.info.pop(_WATCHED, None)


def _within(transaction: Any, around: Any) -> bool:
    while transaction is not None:
        if transaction is around:
            return True
        transaction = transaction.parent
    return False
