"""What a worker must outlive: a Redis that dies while tasks are under way.

Celery then gives up the connection, kombu's channels with it. A channel that still holds messages wants to put them
back, and a task that ends later wants to acknowledge its message; both ask the connection, which is gone, where Redis
is. kombu answers with an AttributeError, which no caller expects and which ends the worker in the middle of its sends;
with the connection error that it means, each of them goes on. What was not put back comes again after the visibility
timeout, and the pump rings long before that.
"""

from __future__ import annotations

from typing import Any


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
