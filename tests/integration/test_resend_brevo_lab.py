"""Resend and Brevo against the lab: sent to over HTTP, asked again after a lost answer, and listened to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mailglass.clock import monotonic
from mailglass.errors import ProviderCallError, SignatureError
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.providers.base import WebhookRequest as Request
from mailglass.providers.brevo import BrevoOptions, BrevoProvider
from mailglass.providers.resend import ResendOptions, ResendProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret

SECRETS = {"LAB_PW": "pw", "RE_KEY": "re-key-77", "BR_KEY": "br-key-77", "BR_PW": "br-pw-77"}
ARGUMENTS = [
    "--calm", "--watch-stdin", "--event-delay", "0.02", "--webhook-password", "env:LAB_PW",
    "--account", "acme-re=resend", "--secret", "acme-re.key=env:RE_KEY",
    "--account", "acme-br=brevo", "--secret", "acme-br.key=env:BR_KEY", "--secret", "acme-br.password=env:BR_PW",
]  # fmt: skip
K, O = EventKind, OutcomeClass  # noqa: E741
NAMES = pytest.mark.parametrize("name", ["resend", "brevo"])


@dataclass
class Bench:
    """A lab, the accounts that send to it, and an endpoint that verifies what it posts."""

    url: str = ""
    providers: dict[str, Provider] = field(default_factory=dict)
    events: list[ProviderEvent] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    status: Callable[[int], int] = lambda attempt: 200
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, account: str, request: Request) -> int:
        provider = next(provider for provider in self.providers.values() if provider.account == account)
        with self.changed:
            try:
                provider.verify(request)
            except SignatureError:
                self.refused += 1
                return 401
            finally:
                self.changed.notify_all()
            self.requests.append(request)
            if (status := self.status(len(self.requests))) == 200:
                self.events += provider.normalise(request.body, request.headers)
            return status

    def of(self, delivery_id: UUID) -> list[ProviderEvent]:
        return [event for event in self.events if event.delivery_id == delivery_id]

    def kinds(self, delivery_id: UUID) -> list[EventKind]:
        return [event.kind for event in self.of(delivery_id)]

    def wait_for(self, fact: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(fact, 20), (self.refused, self.events)

    def counts(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/lab/counts", trust_env=False).json()
        return found

    def received(self) -> dict[str, int]:
        found: dict[str, int] = httpx.get(f"{self.url}/lab/received", trust_env=False).json()
        return found

    def wait_for_counts(self, fact: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + 20
        while not fact(counts := self.counts()):
            assert time.monotonic() < end, counts
            time.sleep(0.02)
        return counts


@contextmanager
def endpoint(bench: Bench) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(headers, body, remote_addr=self.client_address[0])
            self.send_response(bench.take(self.path.rpartition("/")[2], request))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
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


def resend(url: str, secret: str, key: str = "re-key-77", **more: Any) -> ResendProvider:
    options = ResendOptions(
        api_key=Secret(key), base_url=f"{url}/acme-re", webhook_secrets=(Secret("whsec_AAAA"), Secret(secret)), **more
    )
    return ResendProvider("acme-re", options)


def brevo(url: str, key: str = "br-key-77", **more: Any) -> BrevoProvider:
    options = BrevoOptions(
        api_key=Secret(key), base_url=f"{url}/acme-br", webhook_username="lab",
        webhook_passwords=(Secret("older"), Secret("br-pw-77")), webhook_networks=("127.0.0.0/8",),
        blocked_senders=("shop@example.org",), **more,
    )  # fmt: skip
    return BrevoProvider("acme-br", options)


@pytest.fixture
def lab() -> Iterator[Bench]:
    bench = Bench()
    with ExitStack() as stack:
        port = stack.enter_context(endpoint(bench))
        ready = stack.enter_context(lab_process("--webhooks", f"http://127.0.0.1:{port}/webhooks"))
        bench.url = ready["http_url"]
        secret = ready["accounts"]["acme-re"]["webhook_secret"]
        bench.providers = {
            "resend": resend(bench.url, secret),
            "batch": resend(bench.url, secret, batch=True),
            "brevo": brevo(bench.url),
        }
        for provider in bench.providers.values():
            stack.callback(provider.close)
        yield bench


def mail(recipient: str, **more: Any) -> Outgoing:
    plain = Outgoing(
        uuid4(), "acme", "transactional", Address(recipient, "Ada, Größe"), Address("shop@example.org"), "Subject",
        datetime.now(UTC), text="Hello.",
    )  # fmt: skip
    return replace(plain, **more)


def send(provider: Provider, *mails: Outgoing) -> list[Outcome]:
    return provider.send(mails, deadline=monotonic() + 20)


def kinds(outcomes: list[Outcome]) -> list[OutcomeClass]:
    return [outcome.kind for outcome in outcomes]


@pytest.mark.parametrize("name", ["resend", "batch", "brevo"])
def test_mails_are_accepted_counted_once_and_their_events_come_back_to_them(lab: Bench, name: str) -> None:
    mails = [mail(f"sunny.{number}@example.com") for number in range(12)]
    outcomes = send(lab.providers[name], *mails)
    assert set(kinds(outcomes)) == {O.ACCEPTED}
    assert lab.received() == {str(one.delivery_id): 1 for one in mails}
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(one.delivery_id) for one in mails))
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    assert len(set(ids.values())) == len(mails)
    for event in lab.events:
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None
    assert lab.refused == 0


@NAMES
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT),
        ("slow@example.com", K.DEFERRED, None),
        ("complains@example.com", K.COMPLAINED, None),
        ("suppressed@example.com", K.REJECTED, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Bench, name: str, recipient: str, expected: EventKind, bounce_class: BounceClass | None
) -> None:
    one = mail(recipient)
    assert kinds(send(lab.providers[name], one)) == [O.ACCEPTED]
    lab.wait_for(lambda: expected in lab.kinds(one.delivery_id))
    (event,) = (event for event in lab.of(one.delivery_id) if event.kind is expected)
    assert (event.recipient, event.bounce_class) == (recipient, bounce_class)


@NAMES
@pytest.mark.parametrize(
    ("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.example", O.TRANSIENT)]
)
def test_a_refusal_meets_the_first_attempt_only(lab: Bench, name: str, recipient: str, first: OutcomeClass) -> None:
    one = mail(recipient)
    (outcome,) = send(lab.providers[name], one)
    assert (outcome.kind, outcome.retry_after is not None) == (first, first is O.THROTTLED)
    assert lab.counts()["accepted"] == 0
    assert kinds(send(lab.providers[name], one)) == [O.ACCEPTED]
    assert lab.received() == {str(one.delivery_id): 1}


@NAMES
def test_a_mail_whose_answer_was_lost_is_asked_again_and_not_sent_again(lab: Bench, name: str) -> None:
    provider = lab.providers[name]
    assert provider.idempotent
    one = mail("silence@x.example")
    assert kinds(send(provider, one)) == [O.UNCERTAIN]
    (outcome,) = send(provider, one)
    # Resend answers as the first time, Brevo says only that it had the request before: that is settled by its webhook
    assert outcome.kind is (O.ACCEPTED if name == "resend" else O.UNCERTAIN)
    assert (outcome.provider_message_id is not None) == (name == "resend")
    assert lab.received() == {str(one.delivery_id): 1}
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))


def test_resend_answers_a_repeated_mail_with_the_same_id_and_refuses_another_under_its_key(lab: Bench) -> None:
    provider = lab.providers["resend"]
    one = mail("sunny@x.example")
    (first,), (again,) = send(provider, one), send(provider, one)
    assert first == again
    (changed,) = send(provider, replace(one, subject="Another"))
    assert (changed.kind, changed.reason) == (O.REJECTED, "resend_invalid_idempotent_request")
    assert lab.received() == {str(one.delivery_id): 1}


def test_a_batch_whose_answer_was_lost_is_one_request_again_only_as_a_whole(lab: Bench) -> None:
    provider = lab.providers["batch"]
    mails = [mail("sunny@x.example"), mail("silence@x.example")]
    assert kinds(send(provider, *mails)) == [O.UNCERTAIN, O.UNCERTAIN]
    assert kinds(send(provider, *mails)) == [O.ACCEPTED, O.ACCEPTED]
    assert set(lab.received().values()) == {1}
    # why such an account is not idempotent: one of them alone is another request
    assert not provider.idempotent
    assert kinds(send(provider, mails[0])) == [O.ACCEPTED]
    assert lab.received()[str(mails[0].delivery_id)] == 2


def test_one_poisoned_mail_of_a_batch_is_rejected_alone(lab: Bench) -> None:
    poisoned = mail("ada@x.example", text=None, html="")
    with_file = mail("sunny@x.example", attachments=(Attachment("a.txt", b"x", "text/plain"),))
    good = [mail("sunny@x.example") for _ in range(3)]
    outcomes = send(lab.providers["batch"], good[0], poisoned, good[1], with_file, good[2])
    assert kinds(outcomes) == [O.ACCEPTED, O.REJECTED, O.ACCEPTED, O.ACCEPTED, O.ACCEPTED]
    assert outcomes[1].reason == "resend_validation_error"
    assert lab.received() == {str(one.delivery_id): 1 for one in (*good, with_file)}


def test_brevo_refuses_by_name_what_it_cannot_carry_and_sends_the_rest(lab: Bench) -> None:
    inline = mail("a@x.example", attachments=(Attachment("a.png", b"x", "image/png", "logo"),))
    outcomes = send(lab.providers["brevo"], inline, mail("sunny@x.example"))
    assert kinds(outcomes) == [O.REJECTED, O.ACCEPTED]
    assert outcomes[0].reason == "unsupported_inline_images"


@NAMES
def test_wrong_credentials_are_misconfigured_and_nothing_is_accepted(lab: Bench, name: str) -> None:
    provider: Provider = resend(lab.url, "whsec_AAAA", "other") if name == "resend" else brevo(lab.url, "other")
    assert kinds(send(provider, mail("sunny@x.example"), mail("sunny@x.example"))) == [O.MISCONFIGURED] * 2
    suppressions = provider.suppression_list()
    assert suppressions is not None
    with pytest.raises(ProviderCallError) as caught:
        suppressions.pull(None)
    assert caught.value.status in (401, 403) and not caught.value.retryable
    provider.close()
    assert lab.counts()["accepted"] == 0


@NAMES
def test_a_duplicated_event_keeps_its_identity(lab: Bench, name: str) -> None:
    provider = lab.providers[name]
    assert kinds(send(provider, mail("twice@x.example"), mail("sunny@x.example"))) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(event.provider_event_id for event in lab.events if event.kind is K.DELIVERED)
    assert sorted(seen.values()) == [1, 2]


def test_a_webhook_that_resend_posts_again_keeps_its_id(lab: Bench) -> None:
    provider = lab.providers["resend"]
    lab.status = lambda attempt: 503 if attempt == 1 else 200
    assert kinds(send(provider, mail("sunny@x.example"))) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert counts["webhooks_posted"] == counts["webhooks_acknowledged"] + 1
    keys = Counter(provider.delivery_key(request) for request in lab.requests)
    assert sorted(keys.values())[-2:] == [1, 2]


@pytest.mark.parametrize(("status", "dropped"), [(429, False), (503, True), (500, True), (401, True)])
def test_brevo_posts_again_after_a_429_and_drops_the_event_after_anything_else(
    lab: Bench, status: int, dropped: bool
) -> None:
    provider = lab.providers["brevo"]
    lab.status = lambda attempt: status if attempt == 1 else 200
    one = mail("sunny@x.example")
    assert kinds(send(provider, one)) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert counts["webhooks_refused"] == int(dropped)
    assert (K.QUEUED in lab.kinds(one.delivery_id)) is not dropped


def test_a_forged_webhook_is_refused(lab: Bench) -> None:
    assert kinds(send(lab.providers["resend"], mail("sunny@x.example"))) == [O.ACCEPTED]
    lab.wait_for(lambda: len(lab.requests) > 0)
    request = lab.requests[0]
    forged = request.body.replace(b"email.", b"e-mail.")
    with pytest.raises(SignatureError):
        lab.providers["resend"].verify(Request(request.headers, forged))


@NAMES
def test_who_bounced_or_complained_is_pulled_from_the_providers_list(lab: Bench, name: str) -> None:
    provider = lab.providers[name]
    suppressions = provider.suppression_list()
    assert suppressions is not None
    assert suppressions.pull(None) == ([], None)
    assert kinds(send(provider, mail("bounce@x.example"), mail("complains@x.example"))) == [O.ACCEPTED] * 2
    entries, cursor = suppressions.pull(None)
    assert cursor is None
    found = {entry.address: entry.reason for entry in entries}
    assert found == {"bounce@x.example": "hard_bounce", "complains@x.example": "complaint"}
    assert all(entry.created_at is not None and entry.origin for entry in entries)
    assert suppressions.remove(["bounce@x.example", "stranger+a/b@x.example"]) == [True, True]
    assert [entry.address for entry in suppressions.pull(None)[0]] == ["complains@x.example"]


@NAMES
def test_a_list_is_pulled_page_by_page_and_each_entry_once(lab: Bench, name: str) -> None:
    suppressions = lab.providers[name].suppression_list()
    assert suppressions is not None
    pushed = [ListedAddress(f"p{number:03}@x.example", "manual") for number in range(205)]
    assert suppressions.push(pushed) == [True] * 205
    pages, cursor = 0, None
    seen: list[str] = []
    while pages < 10:
        entries, cursor = suppressions.pull(cursor)
        seen += [entry.address for entry in entries]
        pages += 1
        if cursor is None:
            break
    assert (pages, seen) == (3, [entry.address for entry in pushed])


@NAMES
def test_of_a_push_only_the_address_that_is_none_fails(lab: Bench, name: str) -> None:
    suppressions = lab.providers[name].suppression_list()
    assert suppressions is not None
    entries = [ListedAddress(address, "hard_bounce") for address in ("a@x.example", "nobody", "b@x.example")]
    assert suppressions.push(entries) == [True, False, True]
    assert [entry.address for entry in suppressions.pull(None)[0]] == ["a@x.example", "b@x.example"]


def test_without_a_sender_to_block_nothing_is_pushed_to_brevo(lab: Bench) -> None:
    provider = BrevoProvider("acme-br", BrevoOptions(api_key=Secret("br-key-77"), base_url=f"{lab.url}/acme-br"))
    suppressions = provider.suppression_list()
    assert suppressions.push([ListedAddress("a@x.example", "manual")]) == [False]
    assert suppressions.pull(None) == ([], None)
    provider.close()


@NAMES
def test_a_provider_that_does_not_answer_may_be_asked_again(unused_port: int, name: str) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    provider: Provider = resend(url, "whsec_AAAA") if name == "resend" else brevo(url)
    suppressions = provider.suppression_list()
    assert suppressions is not None
    entry = ListedAddress("ada@x.example", "manual")
    for ask in (
        lambda: suppressions.pull(None),
        lambda: suppressions.push([entry]),
        lambda: suppressions.remove(["a@b"]),
    ):
        with pytest.raises(ProviderCallError) as caught:
            ask()
        assert caught.value.retryable and caught.value.status is None
        assert "ada" not in str(caught.value)
    provider.close()
