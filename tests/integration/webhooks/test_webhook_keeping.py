"""Webhooks that are kept together, and those that are fetched from a queue: the same storing for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import botocore.session
import pytest
from moto import mock_aws

from mailglass import telemetry
from mailglass.doorbell import POLL, WEBHOOKS
from mailglass.errors import LedgerError, SignatureError, SignatureErrorType
from mailglass.ledger.database import Database
from mailglass.ledger.webhooks import Arrival
from mailglass.mail.addresses import Address
from mailglass.providers.base import WebhookRequest
from mailglass.providers.registry import Accounts
from mailglass.routing import Router
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.webhooks import ingress, poll, process
from mailglass.webhooks.ingress import IncomingWebhook, IngressContext
from mailglass.webhooks.store import store


def item(key: str, account: str = "main", body: bytes = b"{}") -> Arrival:
    return Arrival(account, "notes", key, body, {"x-kept": 'a "quoted" \\ ü'}, "acme")


def test_many_are_kept_by_one_statement_and_rung_for_once(desk: Any) -> None:
    bodies = [b"", b'\x00\xff\\"{},NULL', bytes(range(256)), b"x" * 100_000]
    rung: list[str] = []
    assert store(desk.ledger, [item(str(n), body=body) for n, body in enumerate(bodies)], rung.append) == [True] * 4
    rows = desk.rows("SELECT * FROM mailglass.webhook_events ORDER BY id")
    assert [bytes(row.body) for row in rows] == bodies
    assert {(row.account, row.provider, row.tenant_id, row.headers["x-kept"]) for row in rows} == {
        ("main", "notes", "acme", 'a "quoted" \\ ü')
    }
    assert rung == [WEBHOOKS]


def test_of_one_key_in_a_group_the_first_is_kept_and_accounts_have_keys_of_their_own(desk: Any) -> None:
    rung: list[str] = []
    group = [item("a", body=b"1"), item("a", body=b"2"), item("a", "other", b"3")]
    assert store(desk.ledger, group, rung.append) == [True, False, True]
    assert store(desk.ledger, group, rung.append) == [False] * 3
    assert [bytes(row.body) for row in desk.rows("SELECT body FROM mailglass.webhook_events ORDER BY id")] == [
        b"1",
        b"3",
    ]
    assert rung == [WEBHOOKS]


def test_webhook_that_the_ledger_cannot_take_sinks_no_other(desk: Any) -> None:
    group = [item("a"), replace(item("b"), tenant="nul\x00"), item("c")]
    first, second, third = store(desk.ledger, group, lambda task: None)
    assert (first, third) == (True, True)
    assert isinstance(second, LedgerError)


def test_unkeepable_webhooks_are_each_said_to_be_so(unused_url: str) -> None:
    away = Database(unused_url)
    kept = store(away, [item("a"), item("b")], lambda task: None)
    assert [isinstance(found, Exception) for found in kept] == [True, True]


@pytest.fixture
def unused_url(unused_port: int) -> str:
    return f"postgresql://nobody@127.0.0.1:{unused_port}/nowhere"


def test_requests_that_come_together_are_judged_one_by_one(desk: Any) -> None:
    class Choosy(desk.NotesProvider):
        def verify(self, request: WebhookRequest) -> None:
            if b"forged" in request.body:
                raise SignatureError(SignatureErrorType.BAD_SIGNATURE)
            if b"bug" in request.body:
                raise RuntimeError("a bug in a provider's room")

    accounts = desk.accounts(main=Choosy(), other=Choosy("other"))
    rung: list[str] = []
    where = IngressContext(desk.SETTINGS, desk.ledger, accounts, rung.append)
    told = [("main", b"1"), ("main", b"forged"), ("other", b"3"), ("main", b"bug"), ("main", b"1")]
    posted = [IncomingWebhook(account, WebhookRequest({}, body)) for account, body in told]
    assert [answer.status for answer in ingress.handle_all(posted, where)] == [200, 401, 200, 500, 200]
    assert rung == [WEBHOOKS]
    rows = desk.rows("SELECT account, body FROM mailglass.webhook_events ORDER BY id")
    assert [(row.account, bytes(row.body)) for row in rows] == [("main", b"1"), ("other", b"3")]


# --- fetched from a queue ---


class Queue:
    """A topic with a queue subscribed to it, as moto keeps them."""

    def __init__(self) -> None:
        session = botocore.session.Session()
        session.set_credentials("AKIA", "x")
        self.sns, self.sqs = (session.create_client(name, region_name="eu-west-1") for name in ("sns", "sqs"))
        self.topic = self.sns.create_topic(Name="ses-events")["TopicArn"]
        self.url = self.sqs.create_queue(QueueName="ses-events", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        names = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=names["Attributes"]["QueueArn"])

    def publish(self, delivery_id: Any) -> None:
        mail = {"messageId": "p-0", "destination": ["u0@example.com"], "tags": {"mailglass_id": [str(delivery_id)]}}
        event = {"eventType": "Delivery", "mail": mail, "delivery": {"recipients": ["u0@example.com"]}}
        self.sns.publish(TopicArn=self.topic, Message=json.dumps(event))

    def waiting(self) -> int:
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(found["Attributes"]["ApproximateNumberOfMessages"])

    def account(self, name: str, **changes: Any) -> AccountSettings:
        options = {
            "region": "eu-west-1",
            "access_key_id": "env:ID",
            "secret_access_key": "env:KEY",
            "topic_arns": [self.topic],
            "sqs_queue_url": self.url,
            **changes,
        }
        return AccountSettings(name, "ses", Address("shop@example.com"), options)


@pytest.fixture
def queue() -> Iterator[Queue]:
    with mock_aws():
        yield Queue()


def settings_of(*accounts: AccountSettings) -> Settings:
    return Settings(accounts={account.name: account for account in accounts}, routes=(Route(("main",)),))


@pytest.fixture
def fetch(desk: Any) -> Callable[..., tuple[bool, list[str]]]:
    def run(*accounts: AccountSettings) -> tuple[bool, list[str]]:
        settings, rung = settings_of(*accounts), []
        opened = Accounts(settings, {"ID": "AKIA", "KEY": "x"})
        more = poll.run(settings, desk.ledger, opened, Router(settings), rung.append)
        opened.close()
        return more, rung

    return run


def test_queued_webhook_is_kept_and_understood_like_a_posted_one(
    desk: Any, queue: Queue, fetch: Callable[..., tuple[bool, list[str]]]
) -> None:
    (delivery_id,) = desk.sent()
    for _ in range(12):
        queue.publish(delivery_id)
    more, rung = fetch(replace(queue.account("main"), tenant="acme"))
    assert (more, set(rung), queue.waiting()) == (False, {WEBHOOKS}, 0)
    rows = desk.rows("SELECT account, provider, tenant_id, headers FROM mailglass.webhook_events")
    assert len(rows) == 12
    assert {(row.account, row.provider, row.tenant_id) for row in rows} == {("main", "ses", "acme")}
    assert all(row.headers["x-amz-sns-message-type"] == "Notification" for row in rows)
    settings = settings_of(queue.account("main"))
    accounts = Accounts(settings, {"ID": "AKIA", "KEY": "x"})
    process.run(settings, desk.ledger, accounts, after_claim=lambda more: None)
    assert desk.delivery(delivery_id).outcome == "delivered"


def test_an_account_whose_queue_fails_keeps_no_other_waiting(
    desk: Any, queue: Queue, fetch: Callable[..., tuple[bool, list[str]]]
) -> None:
    queue.publish(uuid4())
    told: list[tuple[str, Any]] = []
    end = telemetry.subscribe(lambda name, fields: told.append((name, fields.get("account"))))
    try:
        fetch(
            queue.account("broken", sqs_queue_url=f"{queue.url}-gone"),
            queue.account("closed", api="x"),
            queue.account("main"),
        )
    finally:
        end()
    assert [account for name, account in told if name == "mailglass.webhooks.poll_failed"] == ["broken", "closed"]
    assert len(desk.rows("SELECT id FROM mailglass.webhook_events")) == 1


def test_unkept_webhook_stays_in_the_queue(queue: Queue, unused_url: str) -> None:
    queue.publish(uuid4())
    settings = settings_of(queue.account("main"))
    accounts = Accounts(settings, {"ID": "AKIA", "KEY": "x"})
    assert not poll.run(settings, Database(unused_url), accounts, Router(settings), lambda task: None)
    assert queue.waiting() == 1


def test_a_long_queue_leaves_the_others_their_turn_and_is_rung_for_again(
    desk: Any, queue: Queue, fetch: Callable[..., tuple[bool, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "ROUNDS", 1)
    for _ in range(12):
        queue.publish(uuid4())
    more, _ = fetch(queue.account("main"))
    assert (more, len(desk.rows("SELECT id FROM mailglass.webhook_events"))) == (True, 10)


def test_no_queue_is_opened_without_an_account_that_has_one(desk: Any) -> None:
    class Closed(Accounts):
        def open(self, name: str) -> Any:
            raise AssertionError("nobody needs to be opened")

    settings = settings_of(AccountSettings("main", "null"), AccountSettings("mark", "postmark"))
    assert not poll.run(settings, desk.ledger, Closed(settings), Router(settings), lambda task: None)


def test_beat_rings_the_task_that_fetches() -> None:
    from mailglass_beat.schedule import SCHEDULE
    from mailglass_workers import tasks

    (entry,) = [entry for entry in SCHEDULE.values() if entry["task"] == POLL]
    assert entry["schedule"].total_seconds() == 10
    assert tasks.poll_webhooks.name == POLL == "mailglass.webhooks.poll"
