"""Mailjet and SparkPost against the lab: sent to over HTTP, and listened to as mailglass would."""

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
from dataclasses import dataclass, field
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
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.providers.base import WebhookRequest as Request
from mailglass.providers.mailjet import MailjetOptions, MailjetProvider
from mailglass.providers.sparkpost import SparkPostOptions, SparkPostProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret

SECRETS = {
    "LAB_PW": "pw", "MJ_KEY": "mj-key-88", "MJ_SEC": "mj-sec-88", "MJ_PW": "mj-pw-88", "ONE": "1",
    "SP_KEY": "sp-key-88", "SP_PW": "sp-pw-88", "SP_TOKEN": "sp-token-88", "SP_VALUE": "sp-value-88",
}  # fmt: skip
ARGUMENTS = [
    "--calm", "--watch-stdin", "--event-delay", "0.02", "--webhook-password", "env:LAB_PW",
    "--account", "acme-mj=mailjet", "--secret", "acme-mj.key=env:MJ_KEY", "--secret", "acme-mj.secret=env:MJ_SEC",
    "--secret", "acme-mj.password=env:MJ_PW",
    "--account", "acme-mj1=mailjet", "--secret", "acme-mj1.version=env:ONE",
    "--account", "acme-sp=sparkpost", "--secret", "acme-sp.key=env:SP_KEY", "--secret", "acme-sp.password=env:SP_PW",
    "--account", "acme-sp-token=sparkpost", "--secret", "acme-sp-token.token=env:SP_TOKEN",
    "--account", "acme-sp-header=sparkpost", "--secret", "acme-sp-header.header_value=env:SP_VALUE",
]  # fmt: skip
K, O = EventKind, OutcomeClass  # noqa: E741
NAMES = pytest.mark.parametrize("name", ["acme-mj", "acme-sp"])


@dataclass
class Bench:
    """A lab, the accounts that send to it, and an endpoint that verifies what it posts."""

    url: str = ""
    providers: dict[str, Provider] = field(default_factory=dict)
    events: list[tuple[str, ProviderEvent]] = field(default_factory=list)
    requests: list[tuple[str, Request]] = field(default_factory=list)
    status: Callable[[str], int] = lambda account: 200
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, account: str, request: Request) -> int:
        provider = self.providers[account]
        with self.changed:
            try:
                provider.verify(request)
            except SignatureError:
                self.refused += 1
                return 401
            finally:
                self.changed.notify_all()
            self.requests.append((account, request))
            if (status := self.status(account)) == 200:
                self.events += [(account, event) for event in provider.normalise(request.body, request.headers)]
            return status

    def kinds(self, delivery_id: UUID) -> list[EventKind]:
        return [event.kind for _, event in self.events if event.delivery_id == delivery_id]

    def wait_for(self, fact: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(fact, 20), (self.refused, self.events)

    def counts(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/lab/counts", trust_env=False).json()
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
            self.send_response(bench.take(self.path.rpartition("/")[2], Request(headers, body)))
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


def mailjet(url: str, name: str = "acme-mj", password: str = "mj-pw-88", **more: Any) -> MailjetProvider:
    given = {"api_key": Secret("mj-key-88"), "secret_key": Secret("mj-sec-88"), **more}
    return MailjetProvider(
        name,
        MailjetOptions(
            base_url=f"{url}/{name}", webhook_username="lab", webhook_passwords=(Secret(password),), **given
        ),
    )


def sparkpost(url: str, name: str = "acme-sp", **more: Any) -> SparkPostProvider:
    given = {"api_key": Secret("sp-key-88"), **more}
    if name == "acme-sp":
        given = {"webhook_username": "lab", "webhook_passwords": (Secret("sp-pw-88"),), **given}
    return SparkPostProvider(name, SparkPostOptions(base_url=f"{url}/{name}", **given))


@pytest.fixture
def lab() -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = Bench()
        port = stack.enter_context(endpoint(bench))
        ready = stack.enter_context(lab_process("--webhooks", f"http://127.0.0.1:{port}/webhooks"))
        bench.url = ready["http_url"]
        opened: list[Provider] = [
            mailjet(bench.url),
            mailjet(bench.url, "acme-mj1", "lab-webhook-password"),
            sparkpost(bench.url),
            sparkpost(bench.url, "acme-sp-token", webhook_tokens=(Secret("sp-token-88"),)),
            sparkpost(bench.url, "acme-sp-header", webhook_header_values=(Secret("sp-value-88"),)),
        ]
        bench.providers = {provider.account: provider for provider in opened}
        for provider in opened:
            stack.callback(provider.close)
        yield bench


def mail(recipient: str, **more: Any) -> Outgoing:
    return Outgoing(
        uuid4(), "acme", "transactional", Address(recipient), Address("shop@example.org", "Müller"), "Grüße",
        datetime.now(UTC), text="Hello, 世界.", **more,
    )  # fmt: skip


def send(provider: Provider, *mails: Outgoing) -> list[OutcomeClass]:
    return [outcome.kind for outcome in provider.send(mails, deadline=monotonic() + 20)]


@pytest.mark.parametrize("name", ["acme-mj", "acme-mj1", "acme-sp", "acme-sp-token", "acme-sp-header"])
def test_mails_are_accepted_once_and_their_events_come_back_to_them(lab: Bench, name: str) -> None:
    provider = lab.providers[name]
    files = (Attachment("a ü.bin", bytes(range(256)) * 50), Attachment("logo.png", b"png", "image/png", "logo"))
    copies = (Address("copy@example.org"),)
    mails = [mail(f"sunny.{number}@example.com", attachments=files, html="<p>é</p>", cc=copies) for number in range(12)]
    outcomes = provider.send(mails, deadline=monotonic() + 20)
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}
    received = httpx.get(f"{lab.url}/lab/received", trust_env=False).json()
    assert received == {str(one.delivery_id): 1 for one in mails}
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(one.delivery_id) for one in mails))
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    for account, event in lab.events:
        assert account == name
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None and event.recipient is not None
    assert lab.refused == 0


@NAMES
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class", "status"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD, "5.1.1"),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT, "5.2.2"),
        ("slow@example.com", K.DEFERRED, BounceClass.SOFT, None),
        ("complains@example.com", K.COMPLAINED, None, None),
        ("suppressed@example.com", K.REJECTED, None, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Bench, name: str, recipient: str, expected: EventKind, bounce_class: BounceClass | None, status: str | None
) -> None:
    one = mail(recipient)
    assert send(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: expected in lab.kinds(one.delivery_id))
    (event,) = [event for _, event in lab.events if event.kind is expected]
    assert (event.recipient, event.bounce_class) == (recipient, bounce_class)
    assert status is None or event.status == status


@NAMES
@pytest.mark.parametrize(("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.y.z", O.TRANSIENT)])
def test_a_refusal_meets_the_first_attempt_only(lab: Bench, name: str, recipient: str, first: OutcomeClass) -> None:
    one = mail(recipient)
    (outcome,) = lab.providers[name].send([one], deadline=monotonic() + 20)
    assert outcome.kind is first
    assert send(lab.providers[name], one) == [O.ACCEPTED]
    assert lab.counts()["accepted"] == 1


def test_a_lost_answer_leaves_all_mails_of_its_request_uncertain_and_events_settle_them(lab: Bench) -> None:
    one, other = mail("silence@x.example"), mail("sunny@x.example")
    assert send(lab.providers["acme-mj"], one, other) == [O.UNCERTAIN, O.UNCERTAIN]
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(each.delivery_id) for each in (one, other)))
    one = mail("silence@x.example")
    assert send(lab.providers["acme-sp"], one, mail("sunny@x.example")) == [O.UNCERTAIN, O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))


def test_one_message_that_mailjet_refuses_costs_no_other_of_its_batch(lab: Bench) -> None:
    poisoned = mail("no address")
    mails = [mail("sunny.1@x.example"), poisoned, mail("sunny.2@x.example")]
    outcomes = lab.providers["acme-mj"].send(mails, deadline=monotonic() + 20)
    assert [(outcome.kind, outcome.reason, outcome.status) for outcome in outcomes] == [
        (O.ACCEPTED, None, 400), (O.REJECTED, "mailjet_mj-0013", 400), (O.ACCEPTED, None, 400),
    ]  # fmt: skip
    assert lab.counts()["accepted"] == 2


def test_a_mailjet_account_in_its_sandbox_delivers_nothing(lab: Bench) -> None:
    provider = mailjet(lab.url, sandbox=True)
    assert send(provider, mail("sunny@x.example")) == [O.ACCEPTED]
    assert lab.counts()["accepted"] == 0
    provider.close()


def test_wrong_credentials_are_misconfigured(lab: Bench) -> None:
    wrong: list[Provider] = [
        mailjet(lab.url, secret_key=Secret("other")), mailjet(lab.url, api_key=Secret("other")),
        mailjet(f"{lab.url}/typo"), sparkpost(lab.url, api_key=Secret("other")),
    ]  # fmt: skip
    for provider in wrong:
        assert send(provider, mail("sunny@x.example"), mail("sunny@x.example")) == [O.MISCONFIGURED] * 2
        provider.close()
    assert lab.counts()["accepted"] == 0


@NAMES
def test_a_duplicated_event_keeps_its_identity(lab: Bench, name: str) -> None:
    assert send(lab.providers[name], mail("twice@x.example"), mail("sunny@x.example")) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(event.provider_event_id for _, event in lab.events if event.kind is K.DELIVERED)
    assert sorted(seen.values()) == [1, 2]


@NAMES
def test_a_webhook_that_is_not_acknowledged_is_posted_again_as_the_same(lab: Bench, name: str) -> None:
    # none of these stops the provider
    answers = iter([503, 403, 406, 500])
    lab.status = lambda account: next(answers, 200)
    one = mail("sunny@x.example")
    assert send(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))
    assert lab.refused == 0
    keys = Counter((lab.providers[name].delivery_key(request) or request.body) for _, request in lab.requests)
    assert sum(keys.values()) == len(keys) + 4


@NAMES
def test_a_webhook_with_another_accounts_credentials_is_refused(lab: Bench, name: str) -> None:
    assert send(lab.providers[name], mail("sunny@x.example")) == [O.ACCEPTED]
    lab.wait_for(lambda: bool(lab.requests))
    strangers: list[Provider] = [mailjet(lab.url, password="x"), lab.providers["acme-sp-token"]]
    for _, request in lab.requests:
        for stranger in strangers:
            with pytest.raises(SignatureError):
                stranger.verify(request)
        for header in request.headers:
            if header == "authorization":
                continue
            lab.providers[name].verify(Request({**request.headers, header: "changed"}, request.body))
    strangers[0].close()


# --- SparkPost's suppression list


def pulled(provider: Provider) -> list[ListedAddress]:
    found: list[ListedAddress] = []
    lists, cursor = provider.suppression_list(), None
    assert lists is not None
    for _ in range(20):
        page, cursor = lists.pull(cursor)
        found += page
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


def test_the_list_is_filled_read_page_by_page_and_emptied(lab: Bench) -> None:
    provider = lab.providers["acme-sp"]
    lists = provider.suppression_list()
    assert lists is not None and pulled(provider) == []
    reasons = ["hard_bounce", "complaint", "unsubscribe", "manual", "provider"]
    entries = [ListedAddress(f"a+{number:04}@example.com", reasons[number % 5]) for number in range(2500)]
    assert lists.push(entries) == [True] * 2500
    found = pulled(provider)
    assert Counter((entry.reason, entry.origin) for entry in found) == {
        (reason, kind): 500
        for reason in reasons
        for kind in ("transactional", "non_transactional")
        if reason != "unsubscribe" or kind == "non_transactional"
    }
    assert {entry.address for entry in found} == {entry.address for entry in entries}
    assert all(entry.created_at is not None and entry.created_at.tzinfo is UTC for entry in found)
    assert lists.remove([entry.address for entry in entries[:5]] + ["nobody@example.com"]) == [True] * 6
    assert len(pulled(provider)) == len(found) - 9


def test_a_recipient_on_the_list_is_suppressed_for_the_mail_it_left(lab: Bench) -> None:
    provider = lab.providers["acme-sp"]
    lists = provider.suppression_list()
    assert lists is not None
    assert lists.push([ListedAddress("a@example.com", "unsubscribe"), ListedAddress("none", "manual")]) == [True, False]
    one = mail("a@example.com")
    assert send(provider, one) == [O.ACCEPTED]
    bulk = Outgoing(
        uuid4(), "acme", "bulk", one.recipient, one.sender, one.subject, one.created_at, text="News"
    )  # fmt: skip
    assert send(provider, bulk) == [O.SUPPRESSED]


def test_a_list_that_cannot_be_had_is_an_error_that_names_the_remedy(lab: Bench) -> None:
    provider = sparkpost(lab.url, api_key=Secret("other"))
    lists = provider.suppression_list()
    calls: list[Callable[[], object]] = [
        lambda: lists.pull(None),
        lambda: lists.push([ListedAddress("ada@example.com", "manual")]),
        lambda: lists.remove(["ada@example.com"]),
    ]
    for call in calls:
        with pytest.raises(ProviderCallError, match=r"acme-sp: .*credentials") as caught:
            call()
        assert (caught.value.status, caught.value.retryable) == (401, False)
        assert "ada" not in str(caught.value)
    provider.close()
