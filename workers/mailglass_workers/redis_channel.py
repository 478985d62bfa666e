"""Patches of kombu's Redis transport: outlive a dying Redis and invalid messages, notice a free slot.

When Redis dies while tasks are under way, Celery gives up the connection, kombu's channels with it. A channel that
still holds messages wants to put them back, and a task that ends later wants to acknowledge its message. Both ask the
connection, which is gone, where Redis is. kombu answers with an AttributeError, which no caller expects and which ends
the worker in the middle of its sends. With the connection error that it means, each of them goes on. What was not put
back comes again after the visibility timeout, and the pump rings long before that.

A worker that takes no message beyond its slots waits for messages two seconds at a time. Without an event loop (gevent)
nothing tells it meanwhile that a slot is free.

What was laid into a queue by somebody else may not even be a message. By then it is out of the queue, and kombu's error
ends the worker. So it is with a broadcast, which every worker gets at once.
"""

from __future__ import annotations

from queue import Empty
from typing import Any, Final

from mailglass_workers.messages import is_broadcast, note_refusal, without_lookups

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


def drop_what_is_no_message() -> None:
    """Make kombu's Redis transport go on after an entry of a queue that it cannot read; once is enough."""
    from kombu.transport.redis import Channel

    given = Channel._brpop_read
    if getattr(given, "drops", False):
        return

    def brpop_read(self: Any, **options: Any) -> Any:
        lost: tuple[type[BaseException], ...] = (Empty, *without_lookups(self.connection_errors))
        try:
            return given(self, **options)
        except lost:
            raise
        except Exception as error:
            note_refusal("unreadable", error_type=type(error).__name__)
            return True

    brpop_read.drops = True  # type: ignore[attr-defined]
    Channel._brpop_read = brpop_read  # type: ignore[method-assign]


def drop_what_is_no_broadcast() -> None:
    """Make kombu's Redis transport go on after a broadcast that it cannot read; once is enough."""
    from kombu.transport.redis import Channel

    read, receive = Channel._handle_message, Channel._receive_one
    if getattr(receive, "drops", False):
        return

    def handle_message(self: Any, client: Any, response: Any) -> Any:
        found = read(self, client, response)
        data = found["data"]
        if isinstance(data, bytes | str) and data and not is_broadcast(data):
            note_refusal("unreadable", size=len(data))
            # kombu would write what it cannot read into the log, and passes nothing over
            return {**found, "data": None}
        return found

    def receive_one(self: Any, client: Any) -> Any:
        lost: tuple[type[BaseException], ...] = (Empty, *without_lookups(self.connection_errors))
        try:
            return receive(self, client)
        except lost:
            raise
        except Exception as error:
            note_refusal("unreadable", error_type=type(error).__name__)
            return True

    receive_one.drops = True  # type: ignore[attr-defined]
    Channel._handle_message = handle_message  # type: ignore[method-assign]
    Channel._receive_one = receive_one  # type: ignore[method-assign]


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
