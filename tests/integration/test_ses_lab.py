"""SES end to end against the lab: signed requests in, events by SNS back, verified with the lab's own certificate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailglass.clock import monotonic
from mailglass.errors import ProviderCallError, SignatureError
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind
from mailglass.mail.events import ProviderEvent as Event
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret

K, O = EventKind, OutcomeClass  # noqa: E741
SECRETS = {"LAB_ID": "AKIALAB", "LAB_KEY": "lab/secret+key", "LAB_PW": "hook-pw-51"}
ARGUMENTS = [
    "--http-port", "0", "--calm", "--watch-stdin", "--event-delay", "0.02", "--open-rate", "0",
    "--webhook-password", "env:LAB_PW", "--account", "acme-ses=ses",
    "--secret", "acme-ses.access_key_id=env:LAB_ID", "--secret", "acme-ses.secret_access_key=env:LAB_KEY",
]  # fmt: skip


class Receiver:
    """A webhook endpoint that does with a request what mailglass does."""

    def __init__(self) -> None:
        self.provider: SESProvider | None = None
        self.events: list[Event] = []
        self.keys: list[str | None] = []
        self.refused = 0
        self.changed = threading.Condition()
        self.port = 0

    def take(self, headers: dict[str, str], body: bytes) -> int:
        assert self.provider is not None
        request = WebhookRequest(headers, body)
        with self.changed:
            try:
                self.provider.verify(request)
                kept = {name: headers[name] for name in self.provider.signed_headers}
                self.provider.on_webhook(body, kept)
                self.events += self.provider.normalise(body, kept)
                self.keys.append(self.provider.delivery_key(request))
            except SignatureError:
                self.refused += 1
                return 401
            finally:
                self.changed.notify_all()
        return 200

    def kinds(self, delivery_id: UUID) -> list[EventKind]:
        return [event.kind for event in self.events if event.delivery_id == delivery_id]

    def wait_for(self, delivery_id: UUID, *kinds: EventKind) -> list[Event]:
        with self.changed:
            told = self.changed.wait_for(lambda: set(kinds) <= set(self.kinds(delivery_id)), 20)
            assert told, (self.kinds(delivery_id), self.refused)
            return [event for event in self.events if event.delivery_id == delivery_id]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    receiver.port = server.server_port
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def lab_process(*arguments: str) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mailglass.testing.lab", *ARGUMENTS, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | SECRETS,
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        assert line, "the lab did not start"
        yield json.loads(line)
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()


class Bench:
    def __init__(self, ready: dict[str, Any], receiver: Receiver) -> None:
        told = ready["accounts"]["acme-ses"]
        self.url = f"{ready['http_url']}/acme-ses"
        self.receiver = receiver
        self.pems = {told["certificate_url"]: told["certificate"].encode()}
        self.topic = told["topic_arn"]
        self.provider = self.account()
        receiver.provider = self.provider

    def account(self, secret: str = SECRETS["LAB_KEY"]) -> SESProvider:
        options = SESOptions(
            region="us-east-1", access_key_id=Secret(SECRETS["LAB_ID"]), secret_access_key=Secret(secret),
            endpoint_url=self.url, topic_arns=(self.topic,), read_timeout=5.0,
        )  # fmt: skip
        return SESProvider("acme-ses", options, self.pems.__getitem__)

    def send(self, recipient: str, **more: Any) -> tuple[UUID, Outcome]:
        mail = Outgoing(
            uuid4(), "acme", "transactional", Address(recipient), Address("shop@example.org", "Shöp"), "Größe",
            datetime.now(UTC), text="Hello.", **more,
        )  # fmt: skip
        (found,) = self.provider.send([mail], deadline=monotonic() + 30)
        return mail.delivery_id, found


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with receiving() as receiver, lab_process("--webhooks", f"http://127.0.0.1:{receiver.port}/webhooks") as ready:
        found = Bench(ready, receiver)
        yield found
        found.provider.close()


def test_a_mail_is_accepted_and_its_events_come_back_by_its_id(bench: Bench) -> None:
    delivery_id, outcome = bench.send(
        "sunny@example.com", html="<p>ü</p>", tags=("wälcome",), metadata={"order": "7 7"},
        attachments=(Attachment("ä.txt", b"x"),), bcc=(Address("b@example.com"),),
    )  # fmt: skip
    assert outcome.kind is O.ACCEPTED
    events = bench.receiver.wait_for(delivery_id, K.SENT, K.DELIVERED)
    assert {event.provider_message_id for event in events} == {outcome.provider_message_id}
    assert {event.recipient for event in events} == {"sunny@example.com"}
    assert bench.receiver.refused == 0


@pytest.mark.parametrize(
    ("marker", "kind", "bounce_class"),
    [
        ("bounce", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox", K.BOUNCED, BounceClass.SOFT),
        ("slow", K.DEFERRED, None),
        ("complains", K.COMPLAINED, None),
        ("suppressed", K.REJECTED, None),
    ],
)
def test_what_becomes_of_a_mail_is_told(
    bench: Bench, marker: str, kind: EventKind, bounce_class: BounceClass | None
) -> None:
    delivery_id, outcome = bench.send(f"{marker}.{uuid4().hex}@example.com")
    assert outcome.kind is O.ACCEPTED
    events = bench.receiver.wait_for(delivery_id, kind)
    assert {event.bounce_class for event in events if event.kind is kind} == {bounce_class}


def test_an_event_posted_twice_is_one_event(bench: Bench) -> None:
    delivery_id, _ = bench.send(f"twice.{uuid4().hex}@example.com")
    receiver = bench.receiver
    with receiver.changed:
        assert receiver.changed.wait_for(lambda: len(receiver.kinds(delivery_id)) >= 4, 20)
        events = [event for event in receiver.events if event.delivery_id == delivery_id]
    assert len(events) == 4 and len({event.provider_event_id for event in events}) == 2


def test_weather_is_classed(bench: Bench) -> None:
    name = uuid4().hex
    assert bench.send(f"throttled.{name}@example.com")[1].kind is O.THROTTLED
    assert bench.send(f"outage.{name}@example.com")[1].kind is O.TRANSIENT
    delivery_id, lost = bench.send(f"silence.{name}@example.com")
    assert (lost.kind, lost.reason) == (O.UNCERTAIN, "answer_lost")
    # the evidence that settles it
    assert bench.receiver.wait_for(delivery_id, K.SENT)


def test_a_request_signed_with_another_key_is_refused(bench: Bench) -> None:
    stranger = bench.account(secret="another")
    mail = Outgoing(
        uuid4(), "acme", "transactional", Address("sunny@example.com"), Address("shop@example.org"), "S",
        datetime.now(UTC), text="Hello.",
    )  # fmt: skip
    (found,) = stranger.send([mail], deadline=monotonic() + 30)
    assert (found.kind, found.reason) == (O.MISCONFIGURED, "ses_InvalidSignatureException")
    with pytest.raises(ProviderCallError) as error:
        stranger.send_quota()
    assert (error.value.status, error.value.retryable) == (403, False)
    stranger.close()


def test_a_webhook_changed_on_its_way_is_refused(bench: Bench) -> None:
    seen: list[tuple[dict[str, str], bytes]] = []
    take = bench.receiver.take

    def keep(headers: dict[str, str], body: bytes) -> int:
        seen.append((headers, body))
        return take(headers, body)

    bench.receiver.take = keep  # type: ignore[method-assign]
    delivery_id, _ = bench.send("sunny@example.com")
    bench.receiver.wait_for(delivery_id, K.DELIVERED)
    bench.receiver.take = take  # type: ignore[method-assign]
    headers, body = seen[0]
    bench.provider.verify(WebhookRequest(headers, body))
    with pytest.raises(SignatureError):
        bench.provider.verify(WebhookRequest(headers, body.replace(b"sunny@", b"rainy@")))


def test_the_quota_is_read(bench: Bench) -> None:
    quota = bench.provider.send_quota()
    assert (quota.per_second, quota.per_day, quota.enabled) == (14.0, 50000.0, True)


def test_the_granted_rate_is_told_and_never_raises(bench: Bench) -> None:
    assert bench.provider.granted_rate() == 14.0
    stranger = bench.account(secret="another")
    assert stranger.granted_rate() is None
    stranger.close()


def test_the_suppression_list_is_read_page_by_page_and_changed(bench: Bench) -> None:
    listed = bench.provider.suppression_list()
    entries = [
        ListedAddress("ada@example.com", "hard_bounce"),
        ListedAddress("o'brien+x/y@example.com", "complaint"),
        ListedAddress("carl@example.com", "hard_bounce"),
        ListedAddress("dora@example.com", "unsubscribe"),
        ListedAddress("nobody", "hard_bounce"),
    ]
    assert listed.push(entries) == [True, True, True, False, False]
    first, cursor = listed.pull(None)
    assert len(first) == 2 and cursor
    second, end = listed.pull(cursor)
    assert end is None
    assert {(entry.address, entry.reason) for entry in first + second} == {
        ("ada@example.com", "hard_bounce"),
        ("o'brien+x/y@example.com", "complaint"),
        ("carl@example.com", "hard_bounce"),
    }
    assert all(entry.created_at and entry.created_at.tzinfo for entry in first)
    assert listed.remove(["o'brien+x/y@example.com", "ada@example.com", "never@example.com"]) == [True, True, True]
    left, _ = listed.pull(None)
    assert [entry.address for entry in left] == ["carl@example.com"]
