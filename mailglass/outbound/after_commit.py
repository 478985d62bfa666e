"""Rings after the caller's own transaction. A ring after a rollback finds no work and does no harm."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
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
    """Ring a lane when the transaction of `session` has ended. An event loop does not wait for the broker.

    Args:
        session: a SQLAlchemy Session, scoped_session or Connection, that of an asynchronous one too.
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
            _ring(session.info[_DOORBELL], lanes)


def _connection_ends(connection: Connection) -> None:
    lanes = connection.info.pop(_LANES, None)
    if not lanes:
        return
    ring, loop = partial(_ring, connection.info[_DOORBELL], lanes), _running_loop()
    if loop is None:
        timer = threading.Timer(_COMMIT_GRACE, ring)
        timer.daemon = True
        timer.start()
    else:
        loop.call_later(_COMMIT_GRACE, ring)


def _ring(doorbell: Doorbell, lanes: set[Lane]) -> None:
    if _running_loop() is None:
        doorbell.ring(lanes)
        return
    from mailglass.outbound.event_loop import in_background

    in_background(partial(doorbell.ring, lanes))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that waits for this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_SESSION_LISTENERS = (("after_transaction_end", _session_ended),)
_CONNECTION_LISTENERS = (("commit", _connection_ends), ("rollback", _connection_ends))
