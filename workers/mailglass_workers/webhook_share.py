"""A process's share for webhooks: a backlog of them never keeps mail from its slots, and never stands still.

Webhooks are durable once their provider has its answer, and mail has somebody who waits for it. As long as a claim
takes all webhooks that wait, they are processed at once. A claim that leaves some is a backlog: its ring lets all other
rings go first, and a slot that serves it rests for `REST` times as long before it serves webhooks ahead of mail again.
With no mail due, nothing goes first, and a backlog has all slots.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mailglass import clock
from mailglass.webhooks.process import MAX_BYTES

REST: Final = 19
"""Of its time, a process gives a backlog one part in so many and one, while mail is due."""
LONGEST_REST: Final = 10.0
"""Seconds; a batch that met a slow database does not stop webhooks for minutes."""
MAIL_DUE: Final = 1.0
"""Seconds for which mail counts as due after a claim of some."""
BESIDE_MAIL: Final = 64 * 1024
"""Bytes of bodies in one batch while mail is due: some ten to thirty milliseconds. Without mail each takes twice as
many as the one before, up to `MAX_BYTES`: mail that another process is claiming shows here a moment later."""


@dataclass(slots=True)
class Taken:
    """One batch of webhooks.

    Attributes:
        max_bytes: of its bodies.
        more: whether its claim left webhooks behind.
    """

    max_bytes: int
    more: bool = False


class WebhookShare:
    """Decides when this process serves webhooks. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mail_until = float("-inf")
        self._serves_mail_until = float("-inf")
        self._rests_until = float("-inf")
        self._max_bytes = BESIDE_MAIL
        self._owed = False

    def note_mail(self, more: bool) -> None:
        """Remember that this process claims mail.

        Args:
            more: whether it left mail that is due.
        """
        with self._lock:
            self._max_bytes = BESIDE_MAIL
            self._serves_mail_until = clock.monotonic() + MAIL_DUE
            self._mail_until = self._serves_mail_until if more else float("-inf")

    def put_off(self, *, was_last: bool) -> bool:
        """Return whether a ring for webhooks must wait, and owe it if so.

        Args:
            was_last: the ring has let all others go first, so only a lane that another slot is claiming matters.
        """
        with self._lock:
            now = clock.monotonic()
            mail_until = self._mail_until if was_last else self._serves_mail_until
            waits = now < min(self._rests_until, mail_until)
            self._owed = self._owed or waits
            return waits

    def take_up(self) -> bool:
        """Return whether to ring for webhooks that were put off or left behind: once, when the rest is over."""
        with self._lock:
            due = self._owed and clock.monotonic() >= self._rests_until
            self._owed = self._owed and not due
            return due

    @contextmanager
    def taken(self) -> Iterator[Taken]:
        """Serve one batch, and rest afterwards if it left webhooks behind."""
        began = clock.monotonic()
        batch = Taken(self._max_bytes)
        yield batch
        with self._lock:
            now = clock.monotonic()
            if now >= self._serves_mail_until:
                self._max_bytes = min(2 * self._max_bytes, MAX_BYTES)
            self._owed = batch.more
            self._rests_until = now + min(REST * (now - began), LONGEST_REST) if batch.more else now
