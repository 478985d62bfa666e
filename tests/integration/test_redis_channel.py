"""A Redis that dies under a worker: what kombu's channels say when their connection is gone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from kombu import Connection, Queue

from mailglass_workers.redis_channel import outlive_lost_connections


@pytest.fixture
def lost(redis_url: str) -> tuple[Connection, Any]:
    """A connection that Celery has just given up, and a message of its that a task still works on."""
    outlive_lost_connections()
    outlive_lost_connections()
    connection = Connection(redis_url)
    queue = Queue("work", channel=connection.default_channel)
    queue.declare()
    connection.Producer().publish({}, routing_key="work")
    message = queue.get()
    assert message is not None
    # where Redis is dead its channels cannot be closed, and the connection forgets where it was
    connection.default_channel._disconnect_pools()
    connection._do_close_transport()
    return connection, message


def test_closing_a_lost_connection_with_messages_in_it_ends_no_worker(lost: tuple[Connection, Any]) -> None:
    connection, _ = lost
    connection.close()


def test_a_task_that_ends_after_its_connection_was_lost_ends_no_worker(lost: tuple[Connection, Any]) -> None:
    connection, message = lost
    message.ack_log_error(logging.getLogger("test"), errors=connection.connection_errors)
    connection.close()
