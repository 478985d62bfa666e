"""Where webhooks are worked on: proved in the event loop where that takes a core and nothing else, kept in threads.

A proof that only computes is cheapest in the loop itself: a group's proofs run one after the other, and no thread takes
the interpreter from another in between. What may wait (for a certificate, for an application's hook) or is large goes
to a thread as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from mailglass.errors import ConfigError
from mailglass.runtime import Runtime
from mailglass.web.batcher import Gathering
from mailglass.web.debounce import SteadyRing
from mailglass.webhooks import ingress
from mailglass.webhooks.ingress import Answer, Desk, Posted

# bytes. A body that a stranger made for it takes a tenth of a millisecond a KiB to read (a form, each of its characters
# escaped): so it is one body that may keep the loop for some milliseconds, and a group for a few times as long
LIGHT = 64 * 1024
LIGHT_GROUP = 4 * LIGHT


class Counter:
    """Takes webhooks in groups of one provider. To be used from one event loop.

    Args:
        runtime: whose accounts, ledger and doorbell.
        threads: where what waits is done.
    """

    def __init__(self, runtime: Runtime, threads: Executor) -> None:
        self.runtime = runtime
        self._ring = SteadyRing(_ring_of(runtime), asyncio.get_running_loop(), threads)
        self._in_loop = Gathering(self._prove_in_loop, threads, LIGHT_GROUP)
        self._in_threads = Gathering(self._prove_in_threads, threads)

    def hand_in(self, posted: Posted) -> asyncio.Future[Answer]:
        """Have a webhook proved and kept."""
        size = len(posted.request.body)
        quick = size <= LIGHT and ingress.is_proved_at_once(posted.account, self._desk())
        return (self._in_loop if quick else self._in_threads).hand_in(self._lane(posted.account), posted, size)

    def hangs(self, account: str) -> bool:
        """Whether what the account's provider posts now would wait behind groups that do not end."""
        lane = self._lane(account)
        return self._in_loop.hangs(lane) or self._in_threads.hangs(lane)

    def sweep(self, account: str) -> None:
        """Let go of webhooks of the account's provider that nobody waits for any more."""
        for gathering in (self._in_loop, self._in_threads):
            gathering.sweep(self._lane(account))

    def _prove_in_loop(self, posted: Sequence[Posted]) -> Callable[[], list[Answer]]:
        desk = self._desk()
        return partial(ingress.keep_all, ingress.admit_all(posted, desk), desk)

    def _prove_in_threads(self, posted: Sequence[Posted]) -> Callable[[], list[Answer]]:
        return partial(ingress.handle_all, posted, self._desk())

    def _desk(self) -> Desk:
        runtime = self.runtime
        return Desk(runtime.settings, runtime.database, runtime.accounts, self._ring, runtime.router)

    def _lane(self, account: str) -> str:
        try:
            return self.runtime.accounts.settings(account).provider
        except ConfigError:
            return ""


def _ring_of(runtime: Runtime) -> Callable[[str], object]:
    # the doorbell is opened when it is first rung: where it cannot be, the webhook is kept all the same
    return lambda task: runtime.doorbell.ring_task(task)
