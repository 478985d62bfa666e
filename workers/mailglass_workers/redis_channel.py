"""What a worker must outlive: a Redis that dies while tasks are under way, and entries of a queue that are no messages.

Celery then gives up the connection, kombu's channels with it. A channel that still holds messages wants to put them
back, and a task that ends later wants to acknowledge its message; both ask the connection, which is gone, where Redis
is. kombu answers with an AttributeError, which no caller expects and which ends the worker in the middle of its sends;
with the connection error that it means, each of them goes on. What was not put back comes again after the visibility
timeout, and the pump rings long before that.

What was laid into a queue by somebody else may not even be a message. By then it is out of the queue, and kombu's error
ends the worker.
"""

from __future__ import annotations

from queue import Empty
from typing import Any

from mailglass_workers.messages import note_refusal, without_lookups


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
