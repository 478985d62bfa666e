"""An application that forks by itself: what its child sends travels over connections of the child's own."""

from __future__ import annotations

import os
from collections.abc import Callable

from mailglass import Message, deliver_later
from mailglass.celery import app
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import Status
from mailglass.routing import Lane
from mailglass.runtime import get_runtime


def in_a_child(work: Callable[[], bytes]) -> bytes:
    """What `work` answers in a process forked from this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return answer


def connection() -> int:
    """Which connection a ring would be published on."""
    with app.producer_pool.acquire(block=True, timeout=5) as producer:
        return id(producer.connection)


def test_a_forked_child_rings_on_a_connection_of_its_own_and_leaves_its_parents_alone(cluster) -> None:
    deliver_later.delay(Message(to="ada@example.com", subject="s", text="t"))
    parents = {id(resource) for resource in (app.pool, app.producer_pool)} | {connection()}

    def child() -> bytes:
        result = deliver_later.delay(Message(to="bob@example.com", subject="s", text="t"))
        # the parent's ring of this lane is pending, so that this one is the child's own
        rung = get_runtime().doorbell.ring([Lane("mailglass", "child", "bulk")])
        own = {id(resource) for resource in (app.pool, app.producer_pool)} | {connection()}
        return f"{result.id} {rung} {len(own & parents)}".encode()

    delivery_id, rung, shared = in_a_child(child).decode().split()
    assert (rung, shared) == ("1", "0")
    assert deliveries.get(cluster.runtime.database, delivery_id).status is Status.QUEUED
    assert cluster.runtime.doorbell.ring([Lane("mailglass", "parent", "bulk")]) == 1
    assert cluster.rings.count() == 3


def test_a_child_that_never_rings_costs_its_parent_nothing(cluster) -> None:
    deliver_later.delay(Message(to="ada@example.com", subject="s", text="t"))
    before = connection()
    assert in_a_child(lambda: b"done") == b"done"
    assert connection() == before
    assert cluster.runtime.doorbell.ring([Lane("mailglass", "parent", "bulk")]) == 1
