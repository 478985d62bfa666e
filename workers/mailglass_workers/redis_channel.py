"""What kombu's Redis transport has to be taught: to outlive a Redis that dies, and to notice a slot that is free again.

When Redis dies while tasks are under way, Celery gives up the connection, kombu's channels with it. A channel that
still holds messages wants to put them back, and a task that ends later wants to acknowledge its message. Both ask the
connection, which is gone, where Redis is. kombu answers with an AttributeError, which no caller expects and which ends
the worker in the middle of its sends. With the connection error that it means, each of them goes on. What was not put
back comes again after the visibility timeout, and the pump rings long before that.

A worker that takes no message beyond its slots waits for messages two seconds at a time. Without an event loop (gevent)
nothing tells it meanwhile that a slot is free.
"""

from __future__ import annotations

from typing import Any, Final

# seconds between two looks while all slots are taken
_LOOK: Final = 0.05


def outlive_lost_connections() -> None:
    """Make a closed channel of kombu's Redis transport say that its connection is lost; once is enough."""
    from kombu.transport.redis import Channel
    from redis.exceptions import ConnectionError as RedisConnectionError

    given = Channel._connparams
    if getattr(given, "outlives", False):
        return

    def connparams(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection of this channel is closed")
        return given(self, *args, **kwargs)

    connparams.outlives = True  # type: ignore[attr-defined]
    Channel._connparams = connparams  # type: ignore[method-assign]


def notice_free_slots() -> None:
    """Let a worker without an event loop look for a free slot twenty times a second; once is enough."""
    from kombu.transport.redis import MultiChannelPoller

    given = MultiChannelPoller.get
    if getattr(given, "notices", False):
        return

    def get(self: Any, callback: Any, timeout: float | None = None) -> Any:
        full = any(channel.active_queues and not channel.qos.can_consume() for channel in self._channels)
        return given(self, callback, _LOOK if full and (timeout is None or timeout > _LOOK) else timeout)

    get.notices = True  # type: ignore[attr-defined]
    MultiChannelPoller.get = get  # type: ignore[method-assign]
