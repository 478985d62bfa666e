"""The kept sessions of one account in one process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Final

from mailglass.clock import monotonic
from mailglass.providers.smtp.session import Session

# idle for longer, it is asked whether it still stands; idle for much longer, it is not worth the question
PROBE_AFTER: Final = 5.0
DROP_AFTER: Final = 60.0
# seconds after which a server that had too many connections is offered one more
MORE_AFTER: Final = 60.0


class SessionPool:
    """Bounds how many sessions are open at once and keeps idle ones for the next batch.

    A batch holds a `slot` while it sends; within it, sessions come from `take` and go back with `keep`. Safe to use
    from several threads or greenlets. After a fork the child forgets its parent's sessions: two processes on one
    connection would talk into each other's mails.

    Args:
        connect: opens a session.
        limit: slots.
    """

    def __init__(self, connect: Callable[[], Session], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._waiting = 0
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(limit)
        # slots that are not given out for a while: held back already, and still to be once they come back
        self._held_back = 0
        self._to_hold_back = 0
        self._more_at = 0.0
        self._idle: list[Session] = []
        self._closed = False
        forget = weakref.WeakMethod(self._forget_parent)
        os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def acquire_slot(self, deadline: float) -> bool:
        """Wait for a slot; False when there is none before the deadline (on `mailglass.clock.monotonic()`)."""
        self._offer_more()
        if self._slots.acquire(blocking=False):
            return True
        self._count_waiting(1)
        try:
            return self._slots.acquire(timeout=min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX))
        finally:
            self._count_waiting(-1)

    def release_slot(self) -> None:
        """Let the next batch in."""
        self._release(self._slots)

    def hold_back(self) -> None:
        """Open half as many connections for a while, one at the least: the server says that there are too many."""
        with self._lock:
            now = monotonic()
            if now < self._more_at - MORE_AFTER / 2:
                # said by several connections of the same moment
                return
            given = self._limit - self._held_back - self._to_hold_back
            self._to_hold_back += given - max(1, given // 2)
            self._more_at = now + MORE_AFTER
            while self._to_hold_back and self._slots.acquire(blocking=False):
                self._to_hold_back -= 1
                self._held_back += 1

    def _offer_more(self) -> None:
        with self._lock:
            if not (self._held_back or self._to_hold_back) or monotonic() < self._more_at:
                return
            self._more_at = monotonic() + MORE_AFTER
            if self._to_hold_back:
                self._to_hold_back -= 1
            else:
                self._held_back -= 1
                self._slots.release()

    def _release(self, slots: threading.BoundedSemaphore) -> None:
        """Give a slot back, unless it is to be held back; one of before a fork is nobody's."""
        with self._lock:
            if self._to_hold_back and slots is self._slots:
                self._to_hold_back -= 1
                self._held_back += 1
                return
        slots.release()

    @property
    def wanted(self) -> bool:
        """True if a batch waits for its first slot: those who hold a second one should let go of it."""
        return self._waiting > 0

    def lend(self, work: Callable[[], None]) -> bool:
        """Run this beside the caller, on a slot that nobody holds or waits for; False when there is none.

        A thread for each: it costs little beside the waiting that makes a second session worth while, and nothing of
        it is left for a fork or a shutdown to stumble over.
        """
        slots = self._slots
        if self.wanted or not slots.acquire(blocking=False):
            return False

        def run() -> None:
            try:
                work()
            finally:
                self._release(slots)

        try:
            threading.Thread(target=run, name="mailglass-smtp", daemon=True).start()
        except RuntimeError:  # the system has no thread to spare
            slots.release()
            return False
        return True

    def take(self) -> Session:
        """Return a kept session that still answers, else a new one.

        Raises:
            SessionFailed: none could be opened.
        """
        while session := self._pop():
            idle = monotonic() - session.last_used
            if idle > DROP_AFTER:
                session.quit()
            elif idle < PROBE_AFTER or session.is_alive():
                return session
        return self._connect()

    def connect(self) -> Session:
        """Return a new session.

        Raises:
            SessionFailed: it could not be opened.
        """
        return self._connect()

    def keep(self, session: Session) -> None:
        """Take a session back: kept for the next batch if it can carry more, else closed."""
        if session.usable:
            with self._lock:
                kept = not self._closed
                if kept:
                    self._idle.append(session)
            if kept:
                self._drop_expired()
                return
        if session.sound:
            session.quit()
        else:
            session.close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
        for session in idle:
            session.quit()

    def _count_waiting(self, change: int) -> None:
        with self._lock:
            self._waiting += change

    def _pop(self) -> Session | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _drop_expired(self) -> None:
        oldest = monotonic() - DROP_AFTER
        with self._lock:
            expired = [session for session in self._idle if session.last_used < oldest]
            self._idle = [session for session in self._idle if session.last_used >= oldest]
        for session in expired:
            session.quit()

    def _forget_parent(self) -> None:
        """In a forked child: close this process's ends without a word, and take nothing over, held locks least."""
        idle, self._idle = self._idle, []
        self._waiting = 0
        self._held_back = self._to_hold_back = 0
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._limit)
        for session in idle:
            session.close()
