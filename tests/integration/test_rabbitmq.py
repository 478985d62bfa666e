"""What RabbitMQ alone does, and our own server for tests of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import amqp
import psutil
import pytest
from kombu import Connection

from mailglass import Message, deliver_later, tenant
from mailglass.doorbell import LedgerMarks
from mailglass.ledger import deliveries
from mailglass.limits.limiter import limiter_for
from mailglass.routing import Lane
from mailglass.settings import configure, load_settings
from mailglass.stack.guardian import start_time
from mailglass.stack.process import Guardian
from tests.cluster import frozen

LANE = Lane("mailglass", "acme", "transactional")


def family(server) -> list[psutil.Process]:
    """Every process of a server."""
    node = psutil.Process(server.pid)
    return [node, psutil.Process(server._epmd.pid), *node.children(recursive=True)]


def test_without_redis_marks_and_limits_are_kept_in_the_ledger(rabbit, cluster) -> None:
    cluster.runtime.doorbell.ring([LANE])
    assert isinstance(cluster.runtime.doorbell._marks, LedgerMarks)
    assert limiter_for(cluster.runtime.settings, cluster.runtime.database)._redis is None


def test_producer_and_worker_declare_the_same_durable_queue(rabbit, cluster, wait_for: Callable[..., None]) -> None:
    cluster.runtime.doorbell.ring([LANE])
    declared = rabbit.queue("mailglass")
    assert (declared["type"], declared["durable"], declared["arguments"]) == ("classic", True, {"x-max-priority": 9})
    cluster.worker("-P", "threads", "-c", "2")
    wait_for(lambda: cluster.rings.count() == 0)
    assert rabbit.queue("mailglass") == declared


def test_a_ring_waits_for_no_disk(rabbit, cluster) -> None:
    cluster.runtime.doorbell.ring([LANE])
    (ring,) = cluster.rings.take()
    # transient: RabbitMQ confirms it before it is written (AMQP 0-9-1, delivery-mode)
    assert ring.properties["delivery_mode"] == 1


def test_a_ring_is_published_through_the_first_host_that_answers(rabbit, cluster, unused_port: int) -> None:
    url = cluster.environment["MAILGLASS_BROKER_URL"]
    absent = f"amqp://nobody:nothing@127.0.0.1:{unused_port}/none"
    configure(load_settings({**cluster.environment, "MAILGLASS_BROKER_URL": f"{absent};{url}"}))
    assert cluster.runtime.doorbell.ring([LANE]) == 1
    assert cluster.rings.count() == 1


def test_a_queue_that_somebody_declared_otherwise_fails_no_caller_and_spoils_no_connection(
    rabbit, cluster, wait_for: Callable[..., None]
) -> None:
    with Connection(rabbit.url()) as connection:
        connection.default_channel.queue_declare("mailglass", durable=True, auto_delete=False)
        assert cluster.runtime.doorbell.ring([LANE]) == 0
        connection.default_channel.queue_delete("mailglass")
    wait_for(lambda: cluster.runtime.doorbell.ring([LANE]) == 1)


def test_a_green_worker_waits_for_nothing_between_two_rings(rabbit, cluster, wait_for: Callable[..., None]) -> None:
    cluster.worker("-P", "gevent", "-c", "4")
    for number in range(60):
        with tenant(f"t{number}"):
            deliver_later.delay(Message(to="ada@example.com", subject="Receipt", text="Thanks."))
    started = time.monotonic()
    wait_for(lambda: not deliveries.find(cluster.runtime.database, status="queued"))
    # 60 times Celery's tenth of a second would be six
    assert time.monotonic() - started < 4


def test_a_server_that_does_not_answer_holds_the_pump_for_seconds_and_is_asked_again(rabbit, cluster) -> None:
    doorbell = cluster.runtime.doorbell
    assert doorbell.repair([LANE], ring_timeout=60) == 1
    with frozen(rabbit):
        assert doorbell._waiting("mailglass") == 0
    assert doorbell._waiting("mailglass") == 1
    assert doorbell._waiting("mailglass.nobody-declared") == 0


def test_the_server_listens_on_loopback_only_and_asks_for_the_password(rabbit) -> None:
    processes = family(rabbit)
    listening = [
        item.laddr.ip for process in processes for item in process.net_connections("inet") if item.status == "LISTEN"
    ]
    # for clients, for management, for other nodes, and where those ask for its port
    assert len(listening) >= 4
    assert set(listening) <= {"127.0.0.1", "::1"}
    address = rabbit.url().rpartition("@")[2]
    with Connection(f"amqp://guest:guest@{address}") as stranger, pytest.raises(amqp.AccessRefused):
        stranger.connect()
    password = rabbit.url().partition("@")[0].rpartition(":")[2]
    assert not any(password in " ".join(process.cmdline()) for process in processes)


def test_flush_empties_the_queues_and_renew_cuts_everybody_off(rabbit) -> None:
    with Connection(rabbit.url(), transport_options={"confirm_publish": True}) as connection:
        queue = connection.SimpleQueue("some")
        queue.put("a")
        assert queue.qsize() == 1
        rabbit.flush()
        assert queue.qsize() == 0
        rabbit.renew()
        with pytest.raises(connection.connection_errors):
            queue.put("b")
    assert rabbit.queues() == []


def test_a_killed_server_comes_back_at_its_address_with_what_was_confirmed_to_be_kept(rabbit) -> None:
    url = rabbit.url()
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        connection.SimpleQueue("kept").put("a")
    rabbit.kill()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", rabbit._port), 1):
        pass
    rabbit.start()
    assert rabbit.url() == url
    with Connection(url) as connection:
        assert connection.SimpleQueue("kept").get(timeout=60).payload == "a"


@pytest.mark.parametrize("end", ["stop", "kill", "guardian"])
def test_nothing_is_left_of_a_server_that_ended(rabbit, stack_root: Path, until: Callable[..., bool], end: str) -> None:
    guardian = Guardian()
    server = type(rabbit)(stack_root / "rabbitmq", guardian=guardian)
    server.start()
    processes = family(server)
    started = {process.pid: start_time(process.pid) for process in processes}
    assert {"beam.smp", "epmd"} <= {process.name() for process in processes}
    if end == "guardian":
        guardian.close()
    else:
        getattr(server, end)()
    assert until(lambda: not any(start_time(pid) == since is not None for pid, since in started.items()))
    server.stop()
    guardian.close()
