"""Processing that is cut short, repeated, or done by several at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from mailglass.errors import LedgerUnavailableError
from mailglass.ids import uuid7_for
from mailglass.ledger import deliveries, webhooks
from mailglass.ledger.events import Projection, project
from mailglass.ledger.statements import statements
from mailglass.mail.events import ProviderEvent
from mailglass.settings import WebhookSettings
from mailglass.suppressions import from_events
from mailglass.webhooks import process

WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
STEPS: list[tuple[Any, str]] = [
    (webhooks, "match"),
    (webhooks, "append"),
    (webhooks, "recorded_events"),
    (webhooks, "project"),
    (from_events, "update_suppressions"),
    (from_events, "suppress"),
    (webhooks, "unsubscribe"),
    (webhooks, "keep_orphans"),
    (webhooks, "finish"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_process_that_dies_between_two_steps_does_no_harm(
    desk: Any, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, when: str
) -> None:
    ids = desk.sent(3, lane=desk.BULK)
    told = [
        desk.event("delivered", ids[0]),
        desk.event("bounced", ids[1], bounce_class="hard"),
        desk.event("unsubscribed", ids[2]),
        desk.event("opened", provider_message_id="unknown"),
        desk.event("delivered", ids[0]),
    ]
    key = desk.post(*told)
    step = getattr(module, name)

    class Died(SystemExit):
        """What no `except Exception` sees, like the end of the process."""

    def die(*args: Any) -> None:
        if when == "after":
            step(*args)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(module, name, die)
        with pytest.raises(Died):
            desk.work()
    desk.end_leases()
    desk.work()
    assert desk.stands(key) == ("processed", "orphaned")
    assert [desk.delivery(delivery_id).outcome for delivery_id in ids] == ["delivered", "bounced", None]
    assert [desk.kinds(delivery_id)[2:] for delivery_id in ids] == [["delivered"], ["bounced"], ["unsubscribed"]]
    assert desk.reasons("u1@example.com") == [("address", "", "hard_bounce")]
    assert desk.reasons("u2@example.com") == [("address_stream", "bulk", "unsubscribe")]
    assert len(desk.rows("SELECT * FROM mailglass.orphans")) == 1
    for delivery_id in ids:
        facts = desk.delivery(delivery_id).facts
        assert replace(project(deliveries.timeline(desk.ledger, delivery_id)), status_id=None) == facts


def test_a_webhook_that_brings_its_worker_down_is_dead_after_its_attempts_and_takes_no_other_with_it(
    desk: Any,
) -> None:
    settings = replace(desk.SETTINGS, webhooks=WebhookSettings(max_attempts=3))
    ids = desk.sent(4)
    stored = [desk.post(desk.event("delivered", key)) for key in ids]
    fatal = desk.post(desk.event("opened", ids[0]), body=b"fatal")
    stored += [desk.post(desk.event("clicked", key)) for key in ids]

    class Died(SystemExit):
        """The process is gone."""

    class Fatal(desk.NotesProvider):
        def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
            if body == b"fatal":
                raise Died
            return super().normalise(body, headers)

    for _ in range(30):
        try:
            desk.work(settings, main=Fatal())
        except Died:
            desk.end_leases()
    assert desk.stands(fatal) == ("dead", "too_many_attempts")
    assert [desk.stands(key) for key in stored] == [("processed", None)] * 8


def test_a_database_that_refuses_to_write_leaves_the_batch_to_a_later_run(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    key = desk.post(desk.event("delivered", delivery_id))
    desk.rows("ALTER TABLE mailglass.events RENAME TO events_away")
    with pytest.raises(LedgerUnavailableError, match="42P01"):
        desk.work()
    desk.rows("ALTER TABLE mailglass.events_away RENAME TO events")
    assert desk.stands(key) == ("received", None)
    desk.end_leases()
    desk.work()
    assert desk.delivery(delivery_id).outcome == "delivered"


def test_workers_side_by_side_leave_the_latest_event_and_the_earliest_times(desk: Any) -> None:
    ids = desk.sent(4)
    moments = [desk.NOON + timedelta(seconds=second) for second in range(40)]
    for number, moment in enumerate(moments[::-1] if uuid4().int % 2 else moments):
        for key in ids:
            desk.post(desk.event(("delivered", "opened", "deferred")[number % 3], key, at=moment))
    settings = replace(desk.SETTINGS, webhooks=WebhookSettings(batch_size=5))
    barrier = threading.Barrier(4)

    def worker() -> None:
        barrier.wait()
        while process.run(settings, desk.ledger, desk.accounts(settings), after_claim=lambda more: None).claimed:
            pass

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not process.waiting(desk.ledger)
    for key in ids:
        facts = desk.delivery(key).facts
        assert (facts.last_event_at, facts.delivered_at) == (moments[-1], min(moments[0::3]))
        assert replace(project(deliveries.timeline(desk.ledger, key)), status_id=None) == facts


class InTransaction:
    """Runs statements in one transaction of its own, which stays open."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        cursor = self.connection.cursor(row_factory=namedtuple_row)
        return cursor.execute(statements()[name], dict(params or {})).fetchall()  # type: ignore[arg-type]


def test_an_older_event_that_waited_for_the_row_does_not_become_the_last(
    desk: Any, database_url: str, wait_for: Callable[..., None]
) -> None:
    (delivery_id,) = desk.sent()

    def joining(kind: str, at: datetime) -> webhooks.ProjectionUpdate:
        return webhooks.ProjectionUpdate(
            delivery_id, Projection(last_event=kind, last_event_at=at, last_event_id=uuid7_for(at, kind)), False, None
        )

    older = threading.Thread(target=webhooks.project, args=(desk.ledger, [joining("delivered", desk.NOON)]))
    with psycopg.connect(database_url) as connection:
        webhooks.project(InTransaction(connection), [joining("opened", desk.NOON + timedelta(seconds=9))])
        older.start()
        wait_for(lambda: desk.rows(WAITING))
    older.join(60)
    facts = desk.delivery(delivery_id).facts
    assert (facts.last_event, facts.last_event_at) == ("opened", desk.NOON + timedelta(seconds=9))


def test_the_victim_of_a_deadlock_tries_again(desk: Any, database_url: str, wait_for: Callable[..., None]) -> None:
    low, high = sorted(desk.sent(2))
    tell_both = threading.Thread(target=desk.tell, args=(desk.event("delivered", low), desk.event("delivered", high)))
    with psycopg.connect(database_url) as connection:
        # the other one may wait for long, so that the victim is ours
        connection.execute("SET deadlock_timeout = '60s'")
        touch = "UPDATE mailglass.deliveries SET last_error = 'touched' WHERE id = %s"
        connection.execute(touch, [high])
        tell_both.start()
        wait_for(lambda: desk.rows(WAITING))
        connection.execute(touch, [low])
    tell_both.join(60)
    assert [desk.delivery(key).outcome for key in (low, high)] == ["delivered", "delivered"]
