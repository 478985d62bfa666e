"""Rings after the caller's own transaction. A ring after a rollback finds no work and does no harm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, scoped_session

from mailglass.doorbell import Doorbell
from mailglass.routing import Lane

_LANES = "mailglass_lanes"
_RING = "mailglass_ring"
# seconds; SQLAlchemy reports a connection's commit just before it happens
_COMMIT_GRACE = 0.05
_Ring = Callable[[set[Lane]], object]


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
    listeners: tuple[tuple[str, Any], ...]
    if isinstance(session, Connection):
        listeners = _CONNECTION_LISTENERS
        session.info[_RING] = _ring_soon_in_loop(doorbell) if session.dialect.is_async else _ring_soon(doorbell)
    else:
        listeners = _SESSION_LISTENERS
        session.info[_RING] = _ring_apart(doorbell) if session.connection().dialect.is_async else doorbell.ring
    # a listener cannot remove itself during its call, so each session keeps one
    for name, listener in listeners:
        if not event.contains(session, name, listener):
            event.listen(session, name, listener)


def _session_ended(session: Session, transaction: Any) -> None:
    if transaction.parent is None and not transaction.nested:
        _ring(session.info)


def _connection_ends(connection: Connection) -> None:
    _ring(connection.info)


def _ring(info: dict[Any, Any]) -> None:
    lanes = info.pop(_LANES, None)
    if lanes:
        info[_RING](lanes)


def _ring_soon(doorbell: Doorbell) -> _Ring:
    def ring(lanes: set[Lane]) -> None:
        timer = threading.Timer(_COMMIT_GRACE, doorbell.ring, (lanes,))
        timer.daemon = True
        timer.start()

    return ring


def _ring_apart(doorbell: Doorbell) -> _Ring:
    from mailglass.outbound.event_loop import in_background

    return lambda lanes: in_background(partial(doorbell.ring, lanes))


def _ring_soon_in_loop(doorbell: Doorbell) -> _Ring:
    import asyncio

    ring = _ring_apart(doorbell)
    return lambda lanes: asyncio.get_running_loop().call_later(_COMMIT_GRACE, ring, lanes)


_SESSION_LISTENERS = (("after_transaction_end", _session_ended),)
_CONNECTION_LISTENERS = (("commit", _connection_ends), ("rollback", _connection_ends))
