"""The lab as a real child process: sent to by the provider rooms, and listened to as mailglass would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mailglass.clock import monotonic
from mailglass.errors import SignatureError
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.providers.postmark import PostmarkOptions, PostmarkProvider
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
from mailglass.settings import Secret

SECRETS = {"LAB_PM": "pm-token", "LAB_SG": "sg-key", "LAB_PW": "hook-pw-51"}
ARGUMENTS = [
    "--http-port", "0", "--calm", "--watch-stdin", "--event-delay", "0.02",
    "--postmark-account", "acme-postmark", "--postmark-token", "env:LAB_PM",
    "--webhook-username", "hooks", "--webhook-password", "env:LAB_PW",
    "--sendgrid-account", "acme-sendgrid", "--sendgrid-key", "env:LAB_SG",
]  # fmt: skip
K, O = EventKind, OutcomeClass  # noqa: E741


@contextmanager
def lab_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mailglass.testing.lab", *ARGUMENTS, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | SECRETS,
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        assert line, "the lab did not start"
        yield process, json.loads(line)
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()


@dataclass
class Receiver:
    """A small webhook endpoint that verifies what it gets, as mailglass does, and answers as it is told."""

    accounts: dict[str, Provider] = field(default_factory=dict)
    status: Callable[[str, int], int] = lambda account, attempt: 200
    events: dict[str, list[ProviderEvent]] = field(default_factory=lambda: defaultdict(list))
    bodies: Counter[bytes] = field(default_factory=Counter)
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    port: int = 0

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        account = path.rpartition("/")[2]
        with self.changed:
            self.bodies[body] += 1
            status = self.status(account, self.bodies[body])
            try:
                self.accounts[account].verify(WebhookRequest(headers, body))
            except SignatureError:
                self.refused += 1
                return 401
            if status == 200:
                self.events[account] += self.accounts[account].normalise(body, headers)
            self.changed.notify_all()
            return status

    def wait_for(self, fact: Callable[[], bool], seconds: float = 20.0) -> None:
        with self.changed:
            assert self.changed.wait_for(fact, seconds), (self.refused, dict(self.events))

    def kinds(self, account: str, delivery_id: UUID) -> list[EventKind]:
        return [event.kind for event in self.events[account] if event.delivery_id == delivery_id]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
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


def mail(recipient: str) -> Outgoing:
    return Outgoing(
        uuid4(), "acme", "transactional", Address(recipient), Address("shop@example.org"), "Subject",
        datetime.now(UTC), text="Hello.",
    )  # fmt: skip


@dataclass
class Bench:
    """A lab, a receiver and the two accounts that send to the one and verify for the other."""

    url: str
    ready: dict[str, Any]
    process: subprocess.Popen[bytes]
    receiver: Receiver
    postmark: PostmarkProvider
    sendgrid: SendGridProvider

    def counts(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/lab/counts", trust_env=False).json()
        return found

    def received(self) -> dict[str, int]:
        found: dict[str, int] = httpx.get(f"{self.url}/lab/received", trust_env=False).json()
        return found

    def wait_for_counts(self, fact: Callable[[dict[str, Any]], bool], seconds: float = 20.0) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while not fact(counts := self.counts()):
            assert time.monotonic() < end, counts
            time.sleep(0.02)
        return counts


def accounts(url: str, public_key: str) -> tuple[PostmarkProvider, SendGridProvider]:
    postmark = PostmarkProvider(
        "acme-postmark",
        PostmarkOptions(
            server_token=Secret("pm-token"), base_url=url, webhook_username="hooks",
            webhook_passwords=(Secret("hook-pw-51"),),
        ),
    )  # fmt: skip
    sendgrid = SendGridProvider(
        "acme-sendgrid",
        SendGridOptions(api_key=Secret("sg-key"), base_url=url, webhook_public_keys=(public_key,)),
    )
    return postmark, sendgrid


@contextmanager
def bench(*arguments: str) -> Iterator[Bench]:
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        url = f"http://127.0.0.1:{receiver.port}/webhooks"
        process, ready = stack.enter_context(lab_process("--webhooks", url, *arguments))
        postmark, sendgrid = accounts(ready["http_url"], ready["sendgrid_public_key"])
        stack.callback(postmark.close)
        stack.callback(sendgrid.close)
        receiver.accounts = {"acme-postmark": postmark, "acme-sendgrid": sendgrid}
        yield Bench(ready["http_url"], ready, process, receiver, postmark, sendgrid)


@pytest.fixture
def lab() -> Iterator[Bench]:
    with bench() as found:
        yield found


def send(provider: Provider, *mails: Outgoing, seconds: float = 20.0) -> list[OutcomeClass]:
    return [outcome.kind for outcome in provider.send(mails, deadline=monotonic() + seconds)]


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_mails_are_accepted_counted_once_and_their_events_come_back_to_them(lab: Bench, name: str) -> None:
    provider: Provider = getattr(lab, name)
    mails = [mail(f"sunny.{number}@example.com") for number in range(12)]
    outcomes = provider.send(mails, deadline=monotonic() + 20)
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}
    assert lab.received() == {str(one.delivery_id): 1 for one in mails}

    def told() -> bool:
        return all(K.DELIVERED in lab.receiver.kinds(provider.account, one.delivery_id) for one in mails)

    lab.receiver.wait_for(told)
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    for event in lab.receiver.events[provider.account]:
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None
    assert lab.receiver.refused == 0
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert (counts["accepted"], counts["deliveries"], counts["repeated"]) == (12, 12, 0)
    assert counts["accounts"] == {provider.account: 12}


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT),
        ("slow@example.com", K.DEFERRED, None),
        ("complains@example.com", K.COMPLAINED, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Bench, name: str, recipient: str, expected: EventKind, bounce_class: BounceClass | None
) -> None:
    provider: Provider = getattr(lab, name)
    one = mail(recipient)
    assert send(provider, one) == [O.ACCEPTED]
    lab.receiver.wait_for(lambda: expected in lab.receiver.kinds(provider.account, one.delivery_id))
    (event,) = [event for event in lab.receiver.events[provider.account] if event.kind is expected]
    assert event.recipient == recipient
    if bounce_class is not None:
        assert event.bounce_class is bounce_class


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
@pytest.mark.parametrize(
    ("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.example", O.TRANSIENT)]
)
def test_a_refusal_meets_the_first_attempt_only(lab: Bench, name: str, recipient: str, first: OutcomeClass) -> None:
    provider: Provider = getattr(lab, name)
    one = mail(recipient)
    (outcome,) = provider.send([one], deadline=monotonic() + 20)
    assert outcome.kind is first
    assert (outcome.retry_after is not None) == (first is O.THROTTLED)
    assert lab.counts()["accepted"] == 0
    assert send(provider, one) == [O.ACCEPTED]
    assert lab.received() == {str(one.delivery_id): 1}


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_a_lost_answer_is_uncertain_although_the_mail_was_accepted(lab: Bench, name: str) -> None:
    provider: Provider = getattr(lab, name)
    one, other = mail("silence@x.example"), mail("sunny@x.example")
    assert send(provider, one) == [O.UNCERTAIN]
    assert lab.received() == {str(one.delivery_id): 1}
    # evidence: the mail's own events tell that it was sent
    lab.receiver.wait_for(lambda: K.DELIVERED in lab.receiver.kinds(provider.account, one.delivery_id))
    assert send(provider, other) == [O.ACCEPTED]


def test_a_lost_answer_makes_every_mail_of_the_batch_uncertain(lab: Bench) -> None:
    mails = [mail("sunny@x.example"), mail("silence@x.example")]
    assert send(lab.postmark, *mails) == [O.UNCERTAIN, O.UNCERTAIN]
    assert lab.received() == {str(one.delivery_id): 1 for one in mails}


def test_postmark_refuses_a_recipient_that_bounced_hard_before(lab: Bench) -> None:
    assert send(lab.postmark, mail("bounce@x.example"), mail("sunny@x.example")) == [O.ACCEPTED, O.ACCEPTED]
    assert send(lab.postmark, mail("bounce@x.example"), mail("sunny@x.example")) == [O.SUPPRESSED, O.ACCEPTED]
    assert send(lab.postmark, mail("bounce@x.example")) == [O.SUPPRESSED]
    assert send(lab.postmark, mail("suppressed@x.example")) == [O.SUPPRESSED]


def test_sendgrid_accepts_and_drops_a_recipient_on_its_list(lab: Bench) -> None:
    one = mail("suppressed@x.example")
    assert send(lab.sendgrid, one) == [O.ACCEPTED]
    lab.receiver.wait_for(lambda: K.REJECTED in lab.receiver.kinds("acme-sendgrid", one.delivery_id))


def test_one_mail_that_a_batch_cannot_carry_is_rejected_alone(lab: Bench) -> None:
    copies = tuple(Address(f"c{number}@example.com") for number in range(60))
    bad = Outgoing(
        uuid4(), "acme", "transactional", Address("a@x.example"), Address("s@example.org"), "S",
        datetime.now(UTC), text="x", cc=copies,
    )  # fmt: skip
    assert send(lab.postmark, mail("sunny@x.example"), bad) == [O.ACCEPTED, O.REJECTED]
    refused = Outgoing(
        uuid4(), "acme", "transactional", Address("a@x.example"), Address("s@example.org"), "S",
        datetime.now(UTC), text="x", options={"postmark": {"Tag": "two"}},
    )  # fmt: skip
    outcomes = lab.postmark.send([refused, mail("sunny@x.example")], deadline=monotonic() + 20)
    assert [outcome.kind for outcome in outcomes] == [O.REJECTED, O.ACCEPTED]
    assert outcomes[0].reason == "option_conflict"


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_wrong_credentials_are_misconfigured_and_nothing_is_accepted(lab: Bench, name: str) -> None:
    provider: Provider
    if name == "postmark":
        provider = PostmarkProvider("p", PostmarkOptions(server_token=Secret("other"), base_url=lab.url))
    else:
        provider = SendGridProvider("s", SendGridOptions(api_key=Secret("other"), base_url=lab.url))
    assert send(provider, mail("sunny@x.example"), mail("sunny@x.example")) == [O.MISCONFIGURED] * 2
    provider.close()
    assert lab.counts()["accepted"] == 0


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_a_duplicated_event_keeps_its_identity(lab: Bench, name: str) -> None:
    provider: Provider = getattr(lab, name)
    assert send(provider, mail("twice@x.example"), mail("sunny@x.example")) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(
        event.provider_event_id for event in lab.receiver.events[provider.account] if event.kind is K.DELIVERED
    )
    assert sorted(seen.values()) == [1, 2]


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_late_events_come_in_the_wrong_order_with_the_right_times(name: str) -> None:
    with bench("--open-rate", "1", "--event-delay", "0.2") as lab:
        provider: Provider = getattr(lab, name)
        one = mail("late@x.example")
        assert send(provider, one) == [O.ACCEPTED]
        lab.receiver.wait_for(lambda: K.DELIVERED in lab.receiver.kinds(provider.account, one.delivery_id))
        events = [event for event in lab.receiver.events[provider.account] if event.kind in (K.OPENED, K.DELIVERED)]
        assert [event.kind for event in events] == [K.OPENED, K.DELIVERED]
        assert events[0].occurred_at is not None and events[1].occurred_at is not None
        assert events[0].occurred_at >= events[1].occurred_at


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_a_webhook_that_is_not_acknowledged_is_posted_again(lab: Bench, name: str) -> None:
    provider: Provider = getattr(lab, name)
    lab.receiver.status = lambda account, attempt: 503 if attempt == 1 else 200
    one = mail("sunny@x.example")
    assert send(provider, one) == [O.ACCEPTED]
    if name == "postmark":
        lab.receiver.wait_for(lambda: max(lab.receiver.bodies.values(), default=0) >= 2)
    lab.receiver.wait_for(lambda: K.DELIVERED in lab.receiver.kinds(provider.account, one.delivery_id))
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert counts["webhooks_posted"] > counts["webhooks_acknowledged"]


def test_a_403_stops_a_webhook_as_postmark_does(lab: Bench) -> None:
    lab.receiver.status = lambda account, attempt: 403
    assert send(lab.postmark, mail("sunny@x.example")) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_refused"] > 0 and counts["webhooks_pending"] == 0)
    assert counts["webhooks_acknowledged"] == 0


def test_paused_webhooks_are_held_back_and_come_later(lab: Bench) -> None:
    httpx.post(f"{lab.url}/lab/pause", trust_env=False)
    one = mail("bounce@x.example")
    assert send(lab.postmark, one) == [O.ACCEPTED]
    assert lab.counts()["webhooks_pending"] > 0
    assert lab.counts()["webhooks_posted"] == 0
    httpx.post(f"{lab.url}/lab/resume", trust_env=False)
    lab.receiver.wait_for(lambda: K.BOUNCED in lab.receiver.kinds("acme-postmark", one.delivery_id))


def test_a_forged_webhook_is_refused(lab: Bench) -> None:
    assert send(lab.sendgrid, mail("sunny@x.example")) == [O.ACCEPTED]
    lab.receiver.wait_for(lambda: bool(lab.receiver.events["acme-sendgrid"]))
    body = next(iter(lab.receiver.bodies))
    forged = {"x-twilio-email-event-webhook-signature": "MAUCAQECAQE=", "x-twilio-email-event-webhook-timestamp": "1"}
    url = f"http://127.0.0.1:{lab.receiver.port}/webhooks/acme-sendgrid"
    assert httpx.post(url, content=body, headers=forged, trust_env=False).status_code == 401


def test_the_smtp_server_counts_in_the_same_book() -> None:
    import smtplib

    with bench("--smtp-port", "0", "--smtp-account", "acme-smtp") as lab:
        with smtplib.SMTP("127.0.0.1", lab.ready["smtp_port"], timeout=10) as connection:
            text = "Subject: S\r\nX-Mailglass-Id: the-id\r\n\r\nHello.\r\n"
            connection.sendmail("s@example.org", ["ada@example.com"], text)
        assert lab.received() == {"the-id": 1}
        assert lab.counts()["accounts"] == {"acme-smtp": 1}


def test_a_lab_that_was_killed_goes_on_with_what_it_accepted(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    one = mail("bounce@x.example")
    with lab_process("--state-file", state) as (process, ready):
        postmark, _ = accounts(ready["http_url"], ready["sendgrid_public_key"])
        assert send(postmark, one) == [O.ACCEPTED]
        postmark.close()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with lab_process("--state-file", state) as (_, ready):
        postmark, sendgrid = accounts(ready["http_url"], ready["sendgrid_public_key"])
        assert send(postmark, mail("bounce@x.example")) == [O.SUPPRESSED]
        assert send(sendgrid, one) == [O.ACCEPTED]
        postmark.close()
        sendgrid.close()
        counts = httpx.get(ready["http_url"] + "/lab/counts", trust_env=False).json()
        assert (counts["accepted"], counts["deliveries"], counts["repeated"]) == (2, 1, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_promptly_even_with_webhooks_that_nobody_takes(number: signal.Signals) -> None:
    with bench() as lab:
        lab.receiver.status = lambda account, attempt: 500
        assert send(lab.postmark, *[mail(f"sunny.{n}@x.example") for n in range(20)]) == [O.ACCEPTED] * 20
        lab.process.send_signal(number)
        assert lab.process.wait(5) == 0


def test_it_ends_when_its_standard_input_closes() -> None:
    with lab_process() as (process, _):
        assert process.stdin
        process.stdin.close()
        assert process.wait(5) == 0


def test_no_secret_stands_in_its_arguments_and_a_missing_one_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mailglass.testing.lab", "--postmark-token", "env:LAB_NOT_SET"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "LAB_NOT_SET" in done.stderr and "--postmark-token" in done.stderr
    with lab_process() as (process, _):
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        assert not any(secret in arguments for secret in SECRETS.values())
