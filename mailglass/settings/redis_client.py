"""The one Redis client: quick to give up, since whoever uses it has another way."""

from __future__ import annotations

from typing import Any, Final

from mailglass.errors import ConfigError
from mailglass.settings.server_urls import ENCODE, UNREADABLE

TIMEOUT: Final = 1.0


def redis_client(url: str) -> Any:
    """Return a client without retries of its own. Safe after a fork and between threads.

    Args:
        url: redis://, rediss://, redis+socket:// or unix://.

    Raises:
        ConfigError: it cannot be read.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        client = redis.Redis.from_url(
            f"unix{url.removeprefix('redis+socket')}" if url.startswith("redis+socket") else url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        # connects to nobody; an option of the URL that no connection has would show at each use
        client.connection_pool.make_connection()
    except (ValueError, TypeError):
        pass
    else:
        return client
    # outside of the handler: the library's error quotes what it could not read
    raise ConfigError("MAILGLASS_REDIS_URL", UNREADABLE, ENCODE)
