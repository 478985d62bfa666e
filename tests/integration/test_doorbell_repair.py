"""Lost rings are rung again; rings that wait their turn are not, however long the queue is."""

from __future__ import annotations

import json
import time

import pytest

from mailglass.celery import app
from mailglass.routing import Lane

LANES = [Lane("mailglass", f"t{number}", "bulk") for number in range(20)]


def take(cluster, count: int) -> None:
    """Lose rings, as a worker does that is killed with them in its hands."""
    with app.connection_for_read() as connection, connection.channel() as channel:
        for _ in range(count):
            assert channel.basic_get("mailglass", no_ack=True) is not None


def test_rings_that_wait_their_turn_are_not_rung_again(cluster) -> None:
    doorbell = cluster.runtime.doorbell
    assert doorbell.repair(LANES, ring_timeout=0) == 20
    for _ in range(10):
        time.sleep(0.002)  # older than the ring_timeout
        assert doorbell.repair(LANES, ring_timeout=0) == 0
    assert cluster.rings.count() == 20


@pytest.mark.parametrize("lost", [1, 20])
def test_lost_rings_are_rung_again_and_the_queue_stays_within_two_for_a_lane(cluster, lost: int) -> None:
    doorbell = cluster.runtime.doorbell
    doorbell.repair(LANES, ring_timeout=0)
    take(cluster, lost)
    for _ in range(10):
        time.sleep(0.002)
        doorbell.repair(LANES, ring_timeout=0)
    assert 20 <= cluster.rings.count() <= 40


def test_rings_in_the_hands_of_workers_are_not_rung_again_for_all_that_wait(cluster) -> None:
    doorbell = cluster.runtime.doorbell
    doorbell.repair(LANES, ring_timeout=0)
    take(cluster, 2)
    time.sleep(0.002)
    # as many as are missing, and not all that are old
    assert doorbell.repair(LANES, ring_timeout=0) == 2
    assert cluster.rings.count() == 20


def test_the_rings_that_have_waited_longest_are_those_that_are_rung_again(cluster) -> None:
    doorbell = cluster.runtime.doorbell
    for lane in LANES:
        doorbell.ring([lane])
        time.sleep(0.002)
    take(cluster, 3)
    doorbell.repair(LANES, ring_timeout=0)
    again = [json.loads(ring.body)[0][0] for ring in cluster.rings.take()][-3:]
    assert sorted(again) == sorted(map(str, LANES[:3]))
