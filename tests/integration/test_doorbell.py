"""Rings reach the broker once for each lane, the urgent ones first; no state of the broker fails or holds a caller."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from mailglass.doorbell import DISPATCH, PUMP, WEBHOOKS, Doorbell, LedgerMarks, Marks, RedisMarks, marks_for
from mailglass.mail.streams import Stream
from mailglass.routing import Lane
from mailglass.runtime import get_runtime
from mailglass.settings import Secret, Settings, configure, load_settings
from mailglass.settings.queues import TASKS
from tests.cluster import Rings, frozen


def lane(tenant: str = "acme", stream: Stream = Stream.TRANSACTIONAL) -> Lane:
    return Lane("mailglass", tenant, str(stream))


def rung(cluster) -> list[str]:
    """The lanes of the rings that wait, in the order in which workers would get them; they are taken."""
    return [json.loads(ring.body)[0][0] for ring in cluster.rings.take()]


@pytest.fixture
def bell(cluster) -> Doorbell:
    return cluster.runtime.doorbell


def cut_connections(broker) -> None:
    """Close what is connected to the broker, which the other side notices when it next uses it."""
    if hasattr(broker, "cut_connections"):
        assert broker.cut_connections()
    else:
        with redis.Redis.from_url(broker.url()) as client:
            assert client.client_kill_filter(_type="normal", skipme=True)


def test_a_lane_is_rung_once_until_it_is_answered(cluster, bell: Doorbell) -> None:
    assert bell.ring([lane(), lane(), lane("other")]) == 2
    assert bell.ring([lane()]) == 0
    bell.answer(lane())
    assert bell.ring([lane(), lane("other")]) == 1
    assert sorted(rung(cluster)) == [str(lane()), str(lane()), str(lane("other"))]


def test_a_task_is_rung_once_until_it_is_answered(cluster, bell: Doorbell) -> None:
    assert [bell.ring_task(PUMP), bell.ring_task(PUMP)] == [1, 0]
    bell.answer_task(PUMP)
    assert bell.ring_task(PUMP) == 1
    assert [ring.headers["task"] for ring in cluster.rings.take()] == [PUMP, PUMP]


def test_a_task_with_a_queue_of_its_own_rings_there_and_is_worked_off_there(
    cluster, wait_for: Callable[..., None]
) -> None:
    config = cluster.directory / "mailglass.toml"
    config.write_text(f'{config.read_text()}\n[tasks]\n"mailglass.webhooks.process" = "mailglass.webhooks"\n')
    configure(load_settings())
    bell = get_runtime().doorbell
    assert [bell.ring_task(PUMP), bell.ring_task(WEBHOOKS)] == [1, 1]
    assert [cluster.rings.count(queue) for queue in ("mailglass", "mailglass.webhooks")] == [1, 1]
    worker = ["worker", "-Q", "mailglass.webhooks", "-P", "solo", "-n", "webhooks@%h", "-l", "info"]
    cluster.celery("webhooks", worker, "ready\\.")
    wait_for(lambda: cluster.rings.count("mailglass.webhooks") == 0)
    assert cluster.rings.count() >= 1


def test_a_lane_whose_queue_the_settings_no_longer_name_rings_in_the_common_one_and_holds_up_no_other(
    cluster, bell: Doorbell
) -> None:
    old = Lane("mailglass.before", "acme", "transactional")
    assert bell.ring([old, lane()]) == 2
    assert bell.repair([old, lane()], 60) == 0
    assert sorted(rung(cluster)) == [str(old), str(lane())]


def test_every_task_but_dispatch_may_have_a_queue_and_is_one_that_workers_know() -> None:
    import mailglass_workers.tasks  # noqa: F401 - registers them
    from mailglass.celery import app

    ours = {name for name in app.tasks if name.startswith("mailglass.")}
    assert ours - {"mailglass.deliver_later"} == {*TASKS, DISPATCH}


def test_a_ring_that_nobody_answered_is_rung_again_by_one_who_knows_the_queue_is_served(
    cluster, bell: Doorbell, wait_for
) -> None:
    bell.ring([lane()])
    assert bell.ring([lane()], ring_timeout=60) == 0
    wait_for(lambda: bell.ring([lane()], ring_timeout=0) == 1)


def test_the_urgent_lanes_are_answered_first(cluster, bell: Doorbell) -> None:
    for stream in (Stream.BULK, Stream.OPERATIONAL, Stream.TRANSACTIONAL):
        bell.ring([lane("first", stream)])
        bell.ring([lane("second", stream)])
    bell.ring_task(PUMP)
    streams = [json.loads(ring.body)[0][:1] for ring in cluster.rings.take()]
    assert [place and place[0].rpartition("/")[2] for place in streams] == [
        *["transactional"] * 2,
        [],
        *["operational"] * 2,
        *["bulk"] * 2,
    ]


def test_no_ring_is_lost_on_connections_that_died_while_nobody_used_them(cluster, bell: Doorbell, broker) -> None:
    lanes = [lane(f"t{number}") for number in range(8)]
    together = threading.Barrier(len(lanes))

    def ring(place: Lane) -> int:
        together.wait(60)
        return bell.ring([place])

    with ThreadPoolExecutor(len(lanes)) as threads:
        assert sum(threads.map(ring, lanes)) == 8
    for place in lanes:
        bell.answer(place)
    cut_connections(broker)
    assert [bell.ring([place]) for place in lanes] == [1] * 8
    assert cluster.rings.count() == 16


def test_a_broker_that_is_gone_is_not_waited_for(cluster, bell: Doorbell, broker, wait_for) -> None:
    bell.ring([lane()])
    broker.kill()
    try:
        # on the connection that died, and on none
        assert bell.ring([lane("second")]) == 0
        assert Doorbell(cluster.runtime.settings, bell._app).ring([lane("second")]) == 0
    finally:
        broker.start()
    wait_for(lambda: bell.ring([lane("second")]) == 1)


def test_a_broker_that_does_not_answer_holds_a_caller_for_seconds_and_the_next_not_at_all(
    cluster, bell: Doorbell, broker, wait_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    bell.ring([lane()])
    tries: list[object] = []
    ring_chunk = bell._ring_chunk
    monkeypatch.setattr(bell, "_ring_chunk", lambda *given: [tries.append(given), ring_chunk(*given)][1])
    with frozen(broker), monkeypatch.context() as standing:
        moment = time.monotonic()
        standing.setattr("mailglass.doorbell.clock.monotonic", lambda: moment)
        assert [bell.ring([lane("second")]) for _ in range(100)] == [0] * 100
        assert len(tries) == 1
    # the second may be marked: Redis hears what it was told while it was frozen, and the pump sees the mark's age
    wait_for(lambda: bell.ring([lane("third")]) == 1)


def test_rings_go_to_the_broker_of_the_settings_in_use(cluster, bell: Doorbell, broker, servers) -> None:
    bell.ring([lane()])
    if servers.on_rabbit:
        broker.renew()
        other = broker.url()
    else:
        other = broker.url(1)
    configure(load_settings({**cluster.environment, "MAILGLASS_BROKER_URL": other}))
    assert get_runtime().doorbell.ring([lane("second")]) == 1
    assert Rings(other).count() == 1


@pytest.fixture(params=["redis", "ledger"])
def marks(request: pytest.FixtureRequest) -> Marks:
    if request.param == "redis":
        return RedisMarks(request.getfixturevalue("redis_url"))
    return LedgerMarks(request.getfixturevalue("database_url"))


def test_marks_that_are_free_are_set_and_the_others_left(marks: Marks, wait_for) -> None:
    assert marks.set(["a", "b"], None) == ["a", "b"]
    assert marks.set(["a", "b", "c"], None) == ["c"]
    assert marks.set(["a"], 60) == []
    marks.clear(["a", "nobody's"])
    assert marks.set(["a", "b", "c"], 60) == ["a"]
    # Redis counts whole milliseconds
    wait_for(lambda: sorted(marks.set(["a", "b", "c"], 0)) == ["a", "b", "c"])


def test_marks_of_a_clock_that_went_ahead_are_taken_for_old(marks: Marks, request: pytest.FixtureRequest) -> None:
    marks.set(["a", "b"], None)
    if isinstance(marks, RedisMarks):
        ahead = int((time.time() + 1800) * 1000)
        redis.Redis.from_url(request.getfixturevalue("redis_url")).set("mailglass:bell:a", ahead)
    else:
        with psycopg.connect(request.getfixturevalue("database_url")) as failover:
            failover.execute("UPDATE mailglass.doorbells SET rung_at = now() + interval '30 minutes' WHERE name = 'a'")
    assert {name for name, age in marks.ages(["a", "b"]).items() if age > 600} == {"a"}
    assert marks.set(["a", "b"], 600) == ["a"]
    assert marks.set(["a", "b"], 600) == []


def test_of_many_who_set_a_mark_one_has_set_it(marks: Marks) -> None:
    names = [f"lane{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: marks.set(names, None), range(16)))
    assert sorted(name for answer in answers for name in answer) == sorted(names)


def test_a_mark_that_is_set_stands_in_no_producers_way(database_url: str) -> None:
    marks = LedgerMarks(database_url)
    marks.set(["busy"], None)
    with psycopg.connect(database_url) as somebody, ThreadPoolExecutor(1) as threads:
        somebody.execute("SELECT FROM mailglass.doorbells WHERE name = 'busy' FOR UPDATE")
        try:
            assert threads.submit(marks.set, ["busy", "free"], None).result(timeout=60) == ["free"]
        finally:
            somebody.rollback()


@pytest.mark.parametrize(
    ("broker", "beside", "kind"),
    [
        ("redis://127.0.0.1:1/0", None, RedisMarks),
        ("rediss://127.0.0.1:1/0", None, RedisMarks),
        ("amqp://127.0.0.1:1//", None, LedgerMarks),
        ("amqps://127.0.0.1:1//", None, LedgerMarks),
        ("amqp://127.0.0.1:1//", "redis://127.0.0.1:1/0", RedisMarks),
    ],
)
def test_marks_are_kept_in_redis_where_there_is_one(broker: str, beside: str | None, kind: type) -> None:
    settings = Settings(
        broker_url=Secret(broker),
        redis_url=None if beside is None else Secret(beside),
        database_url=Secret("postgresql://nobody@127.0.0.1:1/nothing"),
    )
    assert isinstance(marks_for(settings), kind)
