"""Mailgun and Mandrill against the lab: sent to over HTTP, and listened to as mailglass would."""

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
from mailglass.providers.mailgun import MailgunOptions, MailgunProvider
from mailglass.providers.mandrill import MandrillOptions, MandrillProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret

SECRETS = {"LAB_PW": "pw", "MG_KEY": "mg-key-77", "MG_SIGN": "mg-sign-77", "MD_KEY": "md-key-77", "MD_SIGN": "md-77"}
ARGUMENTS = [
    "--calm", "--watch-stdin", "--event-delay", "0.02", "--webhook-password", "env:LAB_PW",
    "--account", "acme-mg=mailgun", "--secret", "acme-mg.key=env:MG_KEY", "--secret", "acme-mg.signing_key=env:MG_SIGN",
    "--account", "acme-md=mandrill", "--secret", "acme-md.key=env:MD_KEY", "--secret",
    "acme-md.webhook_key=env:MD_SIGN",
]  # fmt: skip
K, O = EventKind, OutcomeClass  # noqa: E741
NAMES = pytest.mark.parametrize("name", ["mailgun", "mandrill"])


@dataclass
class Bench:
    """A lab, the two accounts that send to it, and an endpoint that verifies what it posts."""

    url: str = ""
    providers: dict[str, Provider] = field(default_factory=dict)
    events: list[tuple[str, ProviderEvent]] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, Request]] = field(default_factory=list)
    status: Callable[[str], int] = lambda account: 200
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, account: str, request: Request) -> int:
        provider = {provider.account: provider for provider in self.providers.values()}[account]
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
                self.keys[provider.delivery_key(request) or ""] += 1
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


def mailgun(url: str, key: str = "mg-key-77", **more: Any) -> MailgunProvider:
    signing = (Secret("mg-sign-77"),)
    options = MailgunOptions(
        api_key=Secret(key), domain="mg.example.org", base_url=f"{url}/acme-mg", webhook_signing_keys=signing, **more
    )
    return MailgunProvider("acme-mg", options)


def mandrill(url: str, webhook_url: str, key: str = "md-key-77") -> MandrillProvider:
    options = MandrillOptions(
        api_key=Secret(key), base_url=f"{url}/acme-md", webhook_keys=(Secret("md-77"),), webhook_url=webhook_url
    )
    return MandrillProvider("acme-md", options)


@pytest.fixture
def lab() -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = Bench()
        port = stack.enter_context(endpoint(bench))
        ready = stack.enter_context(lab_process("--webhooks", f"http://127.0.0.1:{port}/webhooks"))
        bench.url = ready["http_url"]
        webhook_url = ready["accounts"]["acme-md"]["webhook_url"]
        bench.providers = {"mailgun": mailgun(bench.url), "mandrill": mandrill(bench.url, webhook_url)}
        for provider in bench.providers.values():
            stack.callback(provider.close)
        yield bench


def mail(recipient: str, **more: Any) -> Outgoing:
    return Outgoing(
        uuid4(), "acme", "transactional", Address(recipient), Address("shop@example.org", "Müller"), "Grüße",
        datetime.now(UTC), text="Hello, 世界.", **more,
    )  # fmt: skip


def send(provider: Provider, *mails: Outgoing) -> list[OutcomeClass]:
    return [outcome.kind for outcome in provider.send(mails, deadline=monotonic() + 20)]


@NAMES
def test_mails_are_accepted_once_and_their_events_come_back_to_them(lab: Bench, name: str) -> None:
    provider = lab.providers[name]
    files = (Attachment("a ü.bin", bytes(range(256)) * 50), Attachment("logo.png", b"png", "image/png", "logo"))
    mails = [mail(f"sunny.{number}@example.com", attachments=files, html="<p>é</p>") for number in range(12)]
    outcomes = provider.send(mails, deadline=monotonic() + 20)
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}
    received = httpx.get(f"{lab.url}/lab/received", trust_env=False).json()
    assert received == {str(one.delivery_id): 1 for one in mails}
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(one.delivery_id) for one in mails))
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    for account, event in lab.events:
        assert account == provider.account
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None and event.recipient is not None
    assert lab.refused == 0


@NAMES
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT),
        ("slow@example.com", K.DEFERRED, BounceClass.SOFT),
        ("complains@example.com", K.COMPLAINED, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Bench, name: str, recipient: str, expected: EventKind, bounce_class: BounceClass | None
) -> None:
    one = mail(recipient)
    assert send(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: expected in lab.kinds(one.delivery_id))
    (event,) = [event for _, event in lab.events if event.kind is expected]
    assert (event.recipient, event.bounce_class) == (recipient, bounce_class)


@NAMES
@pytest.mark.parametrize(("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.y.z", O.TRANSIENT)])
def test_a_refusal_meets_the_first_attempt_only(lab: Bench, name: str, recipient: str, first: OutcomeClass) -> None:
    one = mail(recipient)
    (outcome,) = lab.providers[name].send([one], deadline=monotonic() + 20)
    assert outcome.kind is first
    assert (outcome.retry_after is not None) == (first is O.THROTTLED)
    assert send(lab.providers[name], one) == [O.ACCEPTED]
    assert lab.counts()["accepted"] == 1


@NAMES
def test_a_lost_answer_is_uncertain_and_settled_by_its_events(lab: Bench, name: str) -> None:
    one = mail("silence@x.example")
    assert send(lab.providers[name], one, mail("sunny@x.example")) == [O.UNCERTAIN, O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))


@NAMES
def test_one_mail_that_is_refused_leaves_its_neighbours_alone(lab: Bench, name: str) -> None:
    poisoned = mail("sunny@x.example", headers=(("X-A", "1"), ("x-a", "2")))
    outcomes = lab.providers[name].send(
        [mail("sunny.1@x.example"), poisoned, mail("sunny.2@x.example")], deadline=monotonic() + 20
    )
    assert [outcome.kind for outcome in outcomes] == [O.ACCEPTED, O.REJECTED, O.ACCEPTED]
    assert outcomes[1].reason == "unsupported_repeated_headers"


def test_mailgun_accepts_and_drops_a_recipient_on_its_list_where_mandrill_refuses_it(lab: Bench) -> None:
    one = mail("suppressed@x.example")
    assert send(lab.providers["mailgun"], one) == [O.ACCEPTED]
    lab.wait_for(lambda: K.REJECTED in lab.kinds(one.delivery_id))
    assert send(lab.providers["mandrill"], one) == [O.SUPPRESSED]


def test_wrong_credentials_and_wrong_addresses_are_misconfigured(lab: Bench) -> None:
    wrong: list[Provider] = [
        mailgun(lab.url, "other"),
        mandrill(lab.url, "https://hooks.example.org", "other"),
        MailgunProvider(
            "mg", MailgunOptions(api_key=Secret("k"), domain="mg.example.org", base_url=f"{lab.url}/acme-mg/typo")
        ),
    ]
    for provider in wrong:
        assert send(provider, mail("sunny@x.example")) == [O.MISCONFIGURED]
        provider.close()
    assert lab.counts()["accepted"] == 0


@NAMES
def test_a_duplicated_event_keeps_its_identity(lab: Bench, name: str) -> None:
    assert send(lab.providers[name], mail("twice@x.example"), mail("sunny@x.example")) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(event.provider_event_id for _, event in lab.events if event.kind is K.DELIVERED)
    assert sorted(seen.values()) == [1, 2]


@NAMES
def test_a_webhook_that_is_not_acknowledged_is_posted_again(lab: Bench, name: str) -> None:
    answers = iter([503, 500])
    lab.status = lambda account: next(answers, 200)
    one = mail("sunny@x.example")
    assert send(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))
    assert lab.refused == 0


def test_mailgun_signs_every_try_anew_and_stops_at_406(lab: Bench) -> None:
    answers = iter([503])
    lab.status = lambda account: next(answers, 406)
    assert send(lab.providers["mailgun"], mail("sunny@x.example")) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert (counts["webhooks_refused"], counts["webhooks_posted"]) == (2, 3)
    keys = [lab.providers["mailgun"].delivery_key(request) for _, request in lab.requests]
    assert len(set(keys)) == 3


@NAMES
def test_a_webhook_of_another_account_is_refused(lab: Bench, name: str) -> None:
    assert send(lab.providers[name], mail("sunny@x.example")) == [O.ACCEPTED]
    lab.wait_for(lambda: bool(lab.requests))
    stranger: Provider = (
        MailgunProvider("x", MailgunOptions(api_key=Secret("k"), domain="x.y", webhook_signing_keys=(Secret("s"),)))
        if name == "mailgun"
        else mandrill(lab.url, "https://elsewhere.example.org/webhooks/acme-md")
    )
    for _, request in lab.requests:
        lab.providers[name].verify(request)
        with pytest.raises(SignatureError):
            stranger.verify(request)
    stranger.close()


# --- suppression lists


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


def test_mailguns_three_lists_are_filled_read_page_by_page_and_emptied_as_one(lab: Bench) -> None:
    provider = lab.providers["mailgun"]
    lists = provider.suppression_list()
    assert lists is not None and pulled(provider) == []
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    reasons = ["hard_bounce", "complaint", "unsubscribe", "manual", "provider"]
    entries = [ListedAddress(f"a+{number:04}@example.com", reasons[number % 5], moment) for number in range(4000)]
    assert lists.push(entries) == [True] * 4000
    found = pulled(provider)
    assert sorted(entry.address for entry in found) == [entry.address for entry in entries]
    assert {entry.created_at for entry in found} == {moment}
    assert Counter((entry.reason, entry.origin) for entry in found) == {
        ("hard_bounce", "bounces"): 800, ("provider", "bounces"): 800, ("manual", "bounces"): 800,
        ("unsubscribe", "unsubscribes"): 800, ("complaint", "complaints"): 800,
    }  # fmt: skip
    assert lists.remove([entry.address for entry in entries[:5]] + ["nobody@example.com"]) == [True] * 6
    assert len(pulled(provider)) == 3995


def test_one_address_that_mailgun_refuses_sinks_no_other_entry(lab: Bench) -> None:
    lists = lab.providers["mailgun"].suppression_list()
    assert lists is not None
    entries = [ListedAddress(f"a{number}@example.com", "complaint") for number in range(9)]
    entries[4] = ListedAddress("no address", "complaint")
    assert lists.push(entries) == [True] * 4 + [False] + [True] * 4
    assert len(pulled(lab.providers["mailgun"])) == 8


def test_mandrills_list_is_filled_read_and_emptied(lab: Bench) -> None:
    provider = lab.providers["mandrill"]
    lists = provider.suppression_list()
    assert lists is not None and pulled(provider) == []
    entries = [ListedAddress("a@example.com", "hard_bounce"), ListedAddress("none", "manual")]
    assert lists.push(entries) == [True, False]
    (entry,) = pulled(provider)
    assert (entry.address, entry.reason) == ("a@example.com", "hard_bounce")
    assert entry.created_at is not None and entry.created_at.tzinfo is UTC
    assert send(provider, mail("a@example.com")) == [O.SUPPRESSED]
    assert lists.remove(["a@example.com", "b@example.com", "none"]) == [True, True, False]
    assert pulled(provider) == []


def test_a_list_that_cannot_be_had_is_an_error_that_names_the_remedy(lab: Bench) -> None:
    wrong: list[Provider] = [mailgun(lab.url, "other"), mandrill(lab.url, "https://hooks.example.org", "other")]
    for provider in wrong:
        lists = provider.suppression_list()
        assert lists is not None
        calls: list[Callable[[], object]] = [
            lambda lists=lists: lists.pull(None),
            lambda lists=lists: lists.push([ListedAddress("ada@example.com", "manual")]),
            lambda lists=lists: lists.remove(["ada@example.com"]),
        ]
        for call in calls:
            with pytest.raises(ProviderCallError, match=r"acme-m[gd]: .*credentials") as caught:
                call()
            assert (caught.value.status, caught.value.retryable) == (401, False)
            assert "ada" not in str(caught.value)
        provider.close()


def test_a_list_at_a_server_that_is_gone_may_be_had_later() -> None:
    provider = mailgun("http://127.0.0.1:1")
    with pytest.raises(ProviderCallError) as caught:
        provider.suppression_list().pull(None)
    assert (caught.value.status, caught.value.retryable) == (None, True)
    provider.close()
