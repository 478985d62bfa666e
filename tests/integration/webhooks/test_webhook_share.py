"""A backlog of webhooks beside mail: both progress, mail first; and without mail the backlog has every slot."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from mailglass import Message, deliver_many, tenant
from mailglass.doorbell import WEBHOOKS
from mailglass.ids import uuid7s
from mailglass.ledger import webhooks
from mailglass.webhooks.process import MAX_BYTES
from mailglass_workers import webhook_share
from mailglass_workers.webhook_share import BESIDE_MAIL, LONGEST_REST, MAIL_DUE, REST, WebhookShare

EVENTS = 100
PROCESSED = "SELECT count(*) FROM mailglass.webhook_events WHERE status = 'processed'"
OPEN = "SELECT count(*) FROM mailglass.deliveries WHERE status <> 'sent'"
WAITING = """SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'"""


@pytest.fixture
def ledger(direct_url: str) -> Any:
    with psycopg.connect(direct_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def grid(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cluster with an account whose provider posts events in batches."""
    monkeypatch.setenv("GRID_KEY", "a-key-of-the-test")
    config = cluster.directory / "mailglass.toml"
    account = '[accounts.grid]\nprovider = "sendgrid"\napi_key = "env:GRID_KEY"\n'
    config.write_text(config.read_text(encoding="utf-8").replace("[accounts.relay]", account + "[accounts.relay]"))
    return cluster


def count(ledger: Any, statement: str) -> int:
    return int(ledger.execute(statement).fetchone()[0])


def store(cluster: Any, ledger: Any, number: int) -> list[UUID]:
    """Keep webhooks of many events each, about deliveries that are sent."""
    ids = uuid7s(EVENTS * number)
    ledger.execute(
        """INSERT INTO mailglass.deliveries (id, tenant_id, message_id, stream, queue, status, recipient,
                                             recipient_domain, account, provider, attempts, sent_at)
           SELECT id, 'default', id, 'transactional', 'mailglass', 'sent', 'u@example.com', 'example.com',
                  'grid', 'sendgrid', 1, now() FROM unnest(%s::uuid[]) AS id""",
        (ids,),
    )
    webhooks.store_all(
        cluster.runtime.database,
        [
            webhooks.Arrival("grid", "sendgrid", uuid4().hex, body(ids[start : start + EVENTS]), {})
            for start in range(0, len(ids), EVENTS)
        ],
    )
    return ids


def body(ids: list[UUID]) -> bytes:
    fixed = {"event": "delivered", "email": "u@example.com", "timestamp": 1_795_000_000, "response": "250 OK" * 40}
    return json.dumps([{**fixed, "sg_event_id": uuid4().hex, "mailglass_id": str(key)} for key in ids]).encode()


def test_mail_beside_a_backlog_of_webhooks_has_the_larger_share_and_both_progress(
    grid: Any, ledger: Any, wait_for: Callable[..., Any]
) -> None:
    stored = 300
    store(grid, ledger, stored)
    grid.runtime.doorbell.ring_task(WEBHOOKS)
    with tenant("null"):
        deliver_many(Message(to=f"u{number}@example.com", subject="Hi", text="Thanks.") for number in range(10_000))
    grid.worker("-c", "2")
    wait_for(lambda: count(ledger, OPEN) == 0, timeout=120)
    assert 0 < count(ledger, PROCESSED) < stored / 2
    wait_for(lambda: count(ledger, PROCESSED) == stored, timeout=120)


def test_a_backlog_of_webhooks_has_every_slot_while_no_mail_is_due(
    grid: Any, ledger: Any, direct_url: str, wait_for: Callable[..., Any]
) -> None:
    stored = 40
    ids = store(grid, ledger, stored)
    with psycopg.connect(direct_url) as reader:
        reader.execute("SELECT 1 FROM mailglass.deliveries WHERE id = ANY(%s) FOR UPDATE", (ids,))
        grid.worker("-c", "2")
        wait_for(lambda: count(ledger, WAITING) == 2, timeout=60)
    wait_for(lambda: count(ledger, PROCESSED) == stored, timeout=120)


class Moments:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Moments:
    moments = Moments()
    monkeypatch.setattr(webhook_share, "clock", moments)
    return moments


def serve(share: WebhookShare, clock: Moments, seconds: float, more: bool) -> int:
    with share.taken() as batch:
        clock.seconds += seconds
        batch.more = more
    return batch.max_bytes


def test_webhooks_that_leave_none_behind_are_never_put_off(clock: Moments) -> None:
    share = WebhookShare()
    for _ in range(100):
        share.note_mail(more=True)
        assert not share.put_off(was_last=False)
        assert serve(share, clock, 0.01, more=False) == BESIDE_MAIL
        assert not share.take_up()


def test_a_process_full_of_mail_gives_a_backlog_one_part_in_twenty(clock: Moments) -> None:
    share = WebhookShare()
    began, served = clock.seconds, 0.0
    while clock.seconds < began + 100:
        share.note_mail(more=True)
        if not share.put_off(was_last=False):
            serve(share, clock, 0.02, more=True)
            served += 0.02
        clock.seconds += 0.01
    assert served * (REST + 1) == pytest.approx(clock.seconds - began, rel=0.1)


def test_a_put_off_ring_is_taken_up_once_when_the_rest_is_over(clock: Moments) -> None:
    share = WebhookShare()
    share.note_mail(more=True)
    serve(share, clock, 0.02, more=True)
    assert share.put_off(was_last=True)
    assert not share.take_up()
    clock.seconds += 0.02 * REST
    assert [share.take_up(), share.take_up()] == [True, False]


def test_a_backlog_that_let_all_rings_go_first_waits_only_for_mail(clock: Moments) -> None:
    share = WebhookShare()
    serve(share, clock, 0.2, more=True)
    assert not share.put_off(was_last=False)
    share.note_mail(more=False)
    assert share.put_off(was_last=False)
    assert not share.put_off(was_last=True)
    share.note_mail(more=True)
    assert share.put_off(was_last=True)
    clock.seconds += MAIL_DUE
    assert not share.put_off(was_last=True)


def test_batches_without_mail_grow_and_the_next_mail_makes_them_small(clock: Moments) -> None:
    share = WebhookShare()
    sizes = [serve(share, clock, 0.1, more=True) for _ in range(10)]
    assert (sizes[0], sizes[-1]) == (BESIDE_MAIL, MAX_BYTES)
    assert all(after == min(2 * before, MAX_BYTES) for before, after in pairwise(sizes))
    share.note_mail(more=False)
    assert serve(share, clock, 0.1, more=True) == BESIDE_MAIL


def test_a_batch_of_minutes_stops_webhooks_for_seconds_only(clock: Moments) -> None:
    share = WebhookShare()
    serve(share, clock, 600.0, more=True)
    share.note_mail(more=True)
    assert share.put_off(was_last=False)
    clock.seconds += LONGEST_REST
    share.note_mail(more=True)
    assert not share.put_off(was_last=False)
