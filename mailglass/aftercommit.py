"""Ringing once the caller's own transaction has ended. A ring for a rolled back one finds no work and does no harm."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, scoped_session

from mailglass.doorbell import Doorbell
from mailglass.routing import Lane

_KEY = "mailglass_lanes"
# SQLAlchemy tells of a connection's commit just before it happens; seconds
_COMMIT_GRACE = 0.05


def ring_after_commit(session: Any, lane: Lane, doorbell: Doorbell) -> None:
    """Ring a lane when the transaction of `session` is over.

    Args:
        session: a SQLAlchemy Session, scoped_session or Connection.
    """
    if isinstance(session, scoped_session):
        session = session()
    waiting: set[Lane] | None = session.info.get(_KEY)
    if waiting is not None:
        waiting.add(lane)
        return
    session.info[_KEY] = {lane}
    if isinstance(session, Connection):
        _on_connection(session, doorbell)
    else:
        _on_session(session, doorbell)


def _on_session(session: Session, doorbell: Doorbell) -> None:
    def ended(ended_session: Session, transaction: Any) -> None:
        if transaction.parent is not None or transaction.nested:
            return
        event.remove(session, "after_transaction_end", ended)
        doorbell.ring(ended_session.info.pop(_KEY, ()))

    event.listen(session, "after_transaction_end", ended)


def _on_connection(connection: Connection, doorbell: Doorbell) -> None:
    def ended(ending: Connection) -> None:
        lanes = ending.info.pop(_KEY, None)
        for name in ("commit", "rollback"):
            event.remove(connection, name, ended)
        if lanes:
            timer = threading.Timer(_COMMIT_GRACE, doorbell.ring, (lanes,))
            timer.daemon = True
            timer.start()

    for name in ("commit", "rollback"):
        event.listen(connection, name, ended)
