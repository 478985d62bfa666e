"""Runtimes that tests put in the place of the process's: which one a call belongs to, and none that is over.

A call belongs to the test in whose context it is made. A thread that a test has started without its context belongs to
the one test that is under way. A call of a test that is over is refused, so that nothing of it reaches the next one,
and nothing is really sent.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Final

from mailglass import runtime
from mailglass.errors import OutboxError
from mailglass.ledger import session
from mailglass.ledger.database import Database
from mailglass.mail.addresses import Address
from mailglass.runtime import Runtime
from mailglass.settings import AccountSettings, Route, Settings

_ACCOUNT: Final = "outbox"
SENDER: Final = Address("sender@example.com")
"""From of accounts that the application keeps, which a test does not resolve."""
# names of threads that work for event loops: the loop's own, and mailglass's
_LOOP_THREADS: Final = ("asyncio_", "mailglass-")


class Substitution:
    """A runtime in place of the process's own, for the time of one test.

    Args:
        runtime: the substitute.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.parent: Substitution | None = None


class SilentDoorbell:
    """A doorbell that rings nobody."""

    def ring(self, lanes: object) -> None:
        """Do nothing."""


def for_tests(settings: Settings) -> Settings:
    """Return the settings as a test uses them: with an account, and without a guard against real recipients."""
    settings = replace(settings, recipients=None)
    if settings.accounts or settings.routes or settings.tenancy:
        return settings
    account = AccountSettings(_ACCOUNT, "null", settings.default_from or SENDER)
    return replace(settings, accounts={_ACCOUNT: account}, routes=(Route((_ACCOUNT,)),))


_mine: ContextVar[Substitution | None] = ContextVar("mailglass_testing", default=None)
_open: list[Substitution] = []
_lock = threading.Lock()


@contextmanager
def substituted(substitution: Substitution) -> Iterator[None]:
    """Use a substitute for every call that belongs to this context, until the block ends."""
    substitution.parent = _mine.get()
    with _lock:
        _open.append(substitution)
        # they stay: a thread that outlives its test must not send either
        runtime.substitute_runtime(_runtime)
        session.substitute_ledger(_ledger)
    _mine.set(substitution)
    try:
        yield
    finally:
        # not by a token: a fixture may be torn down in another context than it was set up in
        _mine.set(substitution.parent)
        with _lock:
            _open.remove(substitution)


def _runtime() -> Runtime | None:
    substitution = _current()
    return None if substitution is None else substitution.runtime


def _ledger() -> Database | None:
    substitution = _current()
    return None if substitution is None else substitution.runtime.database


def _current() -> Substitution | None:
    mine = _mine.get()
    with _lock:
        if mine in _open:
            return mine
        parents = [substitution.parent for substitution in _open]
        innermost = [substitution for substitution in _open if substitution not in parents]
    if mine is not None and not (innermost and _of_event_loop()):
        raise OutboxError("mail is sent by code of a test that is over: let the test wait for its threads and tasks")
    if len(innermost) > 1:
        raise OutboxError(
            "several tests are under way, and this thread belongs to none of them: start it with "
            "contextvars.copy_context().run"
        )
    return innermost[0] if innermost else None


def _of_event_loop() -> bool:
    """Return whether an event loop runs here, or this thread works for one.

    A loop that serves several tests may keep the context of the first one, so its context tells nothing.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return threading.current_thread().name.startswith(_LOOP_THREADS)
    return True
