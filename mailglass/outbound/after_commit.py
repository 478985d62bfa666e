"""Rings after the caller's own transaction. A ring after a rollback finds no work and does no harm."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, scoped_session

from mailglass.doorbell import Doorbell
from mailglass.routing import Lane

_LANES = "mailglass_lanes"
_DOORBELL = "mailglass_doorbell"
# seconds; SQLAlchemy reports a connection's commit just before it happens
_COMMIT_GRACE = 0.05


def ring_after_commit(session: Any, lane: Lane, doorbell: Doorbell) -> None:
    """Ring a lane when the transaction of `session` has ended.

    Args:
        session: a SQLAlchemy Session, scoped_session or Connection.
        lane: the lane to ring.
        doorbell: rings it.
    """
    if isinstance(session, scoped_session):
        session = session()
    session.info.setdefault(_LANES, set()).add(lane)
    session.info[_DOORBELL] = doorbell
    listeners = _CONNECTION_LISTENERS if isinstance(session, Connection) else _SESSION_LISTENERS
    # a listener cannot remove itself during its call, so each session keeps one
    for name, listener in listeners:
        if not event.contains(session, name, listener):
            event.listen(session, name, listener)


def _session_ended(session: Session, transaction: Any) -> None:
    if transaction.parent is None and not transaction.nested:
        lanes = session.info.pop(_LANES, None)
        if lanes:
            session.info[_DOORBELL].ring(lanes)


def _connection_ends(connection: Connection) -> None:
    lanes = connection.info.pop(_LANES, None)
    if lanes:
        timer = threading.Timer(_COMMIT_GRACE, connection.info[_DOORBELL].ring, (lanes,))
        timer.daemon = True
        timer.start()


_SESSION_LISTENERS = (("after_transaction_end", _session_ended),)
_CONNECTION_LISTENERS = (("commit", _connection_ends), ("rollback", _connection_ends))
