"""Real Celery workers and beats: mail leaves, whatever happens to the broker and the processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from urllib.error import HTTPError

import pytest
import sqlalchemy

from mailglass import Message, deliver_later, deliver_many, tenant
from mailglass.ledger import deliveries, schema
from mailglass.ledger.lifecycle import FINAL
from mailglass.settings import configure, get_settings
from mailglass.testing.lab.weather import Weather


def messages(count: int) -> list[Message]:
    return [Message(to=f"u{number}@example.com", subject="Receipt", text="Thanks.") for number in range(count)]


def all_final(cluster) -> bool:
    counts = deliveries.counts(cluster.runtime.database)
    return all(status in FINAL for statuses in counts.values() for status in statuses)


def celery(cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "mailglass", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cluster.directory,
        check=False,
    )


@pytest.mark.parametrize(
    "options",
    [("-c", "2"), ("-P", "threads", "-c", "4"), ("-P", "gevent", "-c", "8"), ("-P", "solo")],
    ids=["prefork", "threads", "gevent", "solo"],
)
def test_mail_leaves_through_every_pool(cluster, outside, options: tuple[str, ...]) -> None:
    cluster.worker(*options)
    ids = [str(result.ids[0]) for result in deliver_many(messages(300))]
    result = deliver_later.delay(messages(1)[0])
    assert result.get(timeout=60).account == "relay"
    for delivery_id in ids:
        deliver_later.AsyncResult(delivery_id).get(timeout=60)
    assert outside.received == dict.fromkeys([*ids, result.id], 1)


def test_every_weather_ends_as_it_should(cluster, outside, wait_for) -> None:
    kinds = [Weather.DELIVER, Weather.HARD_BOUNCE, Weather.DEFER, Weather.THROTTLE_ONCE, Weather.SERVER_ERROR_ONCE]
    outside.weather = lambda recipient: kinds[int(recipient.split("@")[0][1:]) % len(kinds)]
    cluster.worker("-c", "2")
    results = deliver_many(messages(50))
    wait_for(lambda: all_final(cluster), timeout=60)
    counts = deliveries.counts(cluster.runtime.database)["default"]
    assert counts == {"sent": 40, "failed": 10}
    assert set(outside.received.values()) == {1}
    assert len(results) == 50


def test_a_worker_killed_in_the_middle_loses_nothing_and_doubles_only_what_it_calls_uncertain(
    cluster, outside, wait_for
) -> None:
    first = cluster.worker("-c", "2", name="first")
    ids = [str(result.ids[0]) for result in deliver_many(messages(2000))]
    wait_for(lambda: len(outside.mails) > 50)
    first.send_signal(signal.SIGKILL)
    cluster.worker("-c", "2", name="second")
    wait_for(lambda: all_final(cluster), timeout=90)
    assert deliveries.counts(cluster.runtime.database)["default"] == {"sent": 2000}
    received = outside.received
    assert set(received) == set(ids)
    twice = {delivery_id for delivery_id, count in received.items() if count > 1}
    resent = {
        str(row.delivery_id)
        for row in cluster.runtime.database.query(
            sqlalchemy.text("SELECT delivery_id FROM mailglass.events WHERE kind = 'resent'")
        )
    }
    assert twice <= resent


def test_mail_recorded_while_the_broker_was_away_leaves_when_it_is_back_once(
    cluster, outside, broker, wait_for
) -> None:
    cluster.worker("-P", "threads", "-c", "2")
    broker.stop()
    results = [deliver_later.delay(message) for message in messages(100)]
    broker.start()
    wait_for(lambda: all_final(cluster), timeout=90)
    assert outside.received == dict.fromkeys((result.id for result in results), 1)


def test_a_ring_that_the_broker_lost_is_rung_again(cluster, outside) -> None:
    result = deliver_later.delay(messages(1)[0])
    assert len(cluster.rings.take()) == 1
    cluster.worker("-P", "threads", "-c", "2")
    assert result.get(timeout=60)
    assert outside.received == {result.id: 1}


def test_a_ring_that_comes_twice_sends_once(cluster, outside) -> None:
    from mailglass.celery import app

    result = deliver_later.delay(messages(1)[0])
    for _ in range(5):
        app.send_task("mailglass.dispatch", args=["mailglass/default/transactional"], queue="mailglass")
    cluster.worker("-c", "2")
    result.get(timeout=60)
    assert outside.received == {result.id: 1}


def test_a_lane_under_a_cap_is_worked_off_ring_by_ring_without_the_pump(cluster) -> None:
    from mailglass_workers import tasks

    settings = get_settings()
    configure(replace(settings, routes=tuple(replace(route, concurrency=5) for route in settings.routes)))
    with tenant("null"):
        deliver_many(messages(23))
    rounds = 0
    while rings := cluster.rings.take():
        for ring in rings:
            tasks.dispatch(*json.loads(ring.body)[0])
            rounds += 1
    assert deliveries.counts(cluster.runtime.database)["null"] == {"sent": 23}
    assert rounds == 6


def test_a_scheduled_mail_leaves_when_it_is_due_with_two_beats_and_an_idle_worker(cluster, outside) -> None:
    cluster.worker("-P", "threads", "-c", "2")
    cluster.beat("first")
    cluster.beat("second")
    result = deliver_later.apply_async((messages(1)[0],), countdown=1.5)
    delivery = result.get(timeout=60)
    assert delivery.facts.sent_at >= delivery.created_at
    assert outside.received == {result.id: 1}


def test_without_beat_an_idle_worker_rings_the_pump(cluster, outside) -> None:
    cluster.worker("-P", "threads", "-c", "2")
    result = deliver_later.apply_async((messages(1)[0],), countdown=0.5)
    result.get(timeout=60)
    assert outside.received == {result.id: 1}


def test_a_database_that_goes_away_loses_nothing(cluster, outside, wait_for, postgres) -> None:
    cluster.worker("-P", "threads", "-c", "2")
    ids = [str(result.ids[0]) for result in deliver_many(messages(1500))]
    wait_for(lambda: len(outside.mails) > 20)
    name = cluster.environment["MAILGLASS_DATABASE_URL"].rpartition("/")[2]
    for _ in range(3):
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    wait_for(lambda: all_final(cluster), timeout=90)
    assert deliveries.counts(cluster.runtime.database)["default"] == {"sent": 1500}
    assert set(outside.received) == set(ids)


def test_a_worker_told_to_stop_finishes_and_gives_the_rest_back(cluster, outside, wait_for) -> None:
    worker = cluster.worker("-P", "threads", "-c", "2")
    deliver_many(messages(3000))
    wait_for(lambda: len(outside.mails) > 10)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: not worker.running)
    counts = deliveries.counts(cluster.runtime.database)["default"]
    assert set(counts) <= {"sent", "queued"}
    assert set(outside.received.values()) == {1}
    assert counts["sent"] == len(outside.mails)


def test_threads_with_autoscale_are_refused_with_the_reason(cluster) -> None:
    answer = celery(cluster, "worker", "-P", "threads", "--autoscale=4,1")
    assert answer.returncode == 1
    assert "--autoscale" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_old_schema_is_refused_with_the_command_to_run(cluster) -> None:
    schema.downgrade(cluster.environment["MAILGLASS_DATABASE_URL"], "base")
    answer = celery(cluster, "worker", "-c", "1")
    assert answer.returncode == 1
    assert "mailglass db upgrade" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_wrong_setting_is_refused_by_its_key(cluster, tmp_path) -> None:
    (tmp_path / "mailglass.toml").write_text('[accounts.a]\nprovider = "smtp"\nhost = "h"\nportt = 25\n')
    answer = celery(cluster, "worker", "-c", "1")
    assert answer.returncode == 1
    assert "accounts.a.portt" in answer.stderr


def test_celerys_own_tools_work_against_a_running_worker(cluster) -> None:
    cluster.worker("-c", "1")
    ping = celery(cluster, "inspect", "ping")
    assert ping.returncode == 0, ping.stderr
    registered = celery(cluster, "inspect", "registered").stdout
    for task in ("mailglass.dispatch", "mailglass.pump", "mailglass.webhooks.process", "mailglass.webhooks.reconcile"):
        assert task in registered


def test_flower_shows_the_tasks_and_no_address(cluster, outside, unused_port, wait_for) -> None:
    cluster.worker("-c", "1", "-E")
    port = unused_port
    cluster.celery("flower", ["flower", f"--port={port}", "--address=127.0.0.1"], "Connected to")
    with tenant("default"):
        for _ in range(5):
            deliver_later.delay(Message(to="very.private@example.com", subject="s", text="t")).get(timeout=60)

    def page(path: str) -> str:
        body = b"draw=1&start=0&length=100&search[value]=&order[0][column]=0&columns[0][data]=name&order[0][dir]=asc"
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body if "datatable" in path else None)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read().decode()
        except HTTPError as error:
            return f"{error.code}"

    wait_for(lambda: "mailglass.dispatch" in page("/tasks/datatable"))
    table = page("/tasks/datatable")
    assert json.loads(table)["data"]
    assert "mailglass/default/transactional" in table
    assert "private" not in table + page("/tasks") + page("/")
