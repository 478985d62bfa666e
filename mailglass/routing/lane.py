"""Lanes: the queue, tenant and stream that due work waits in."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.mail.streams import Stream
from mailglass.settings import NAME
from mailglass.settings.routes import QUEUE

_STREAMS = frozenset(Stream)


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """A queue, a tenant and a stream: the unit of ringing and claiming."""

    queue: str
    tenant: str
    stream: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.tenant}/{self.stream}"

    @classmethod
    def parse(cls, text: str) -> Lane:
        """Parse a lane that `str()` wrote.

        Raises:
            ValueError: the text is no lane; it is not repeated, since anybody may have written it.
        """
        parts = text.split("/", 3)
        if len(parts) != 3 or not QUEUE.match(parts[0]) or not NAME.match(parts[1]) or parts[2] not in _STREAMS:
            raise ValueError("not a lane: write queue/tenant/stream")
        return cls(*parts)
