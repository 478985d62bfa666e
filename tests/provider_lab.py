"""The lab for a test: its process, the accounts that send to it, and an endpoint that takes its webhooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx

from mailglass.clock import monotonic
from mailglass.errors import SignatureError
from mailglass.mail.addresses import Address
from mailglass.mail.events import EventKind, ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.providers.suppression_list import ListedAddress

PATIENCE = 90.0


@dataclass(frozen=True)
class LabProcess:
    """A running lab.

    Attributes:
        ready: what it said when it was ready: `http_url`, `smtp_port`, `sendgrid_public_key`, `accounts`.
    """

    process: subprocess.Popen[bytes]
    ready: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.ready["http_url"])

    def counts(self) -> dict[str, Any]:
        return self._get("counts")

    def received(self) -> dict[str, int]:
        """Return how often each delivery was accepted."""
        return self._get("received")

    def _get(self, what: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/lab/{what}", trust_env=False).json()
        return found

    def wait_for_counts(self, fact: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while not fact(counts := self.counts()):
            assert time.monotonic() < end, counts
            time.sleep(0.02)
        return counts


@contextmanager
def lab_process(*arguments: str, secrets: Mapping[str, str] | None = None) -> Iterator[LabProcess]:
    """Run `python -m mailglass.testing.lab`, calm, and end it.

    Args:
        arguments: in addition to those that every test wants.
        secrets: environment variables that the arguments refer to.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mailglass.testing.lab", "--calm", "--watch-stdin", "--event-delay", "0.02", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(secrets or {})},
    )
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        assert line, "the lab did not start"
        yield LabProcess(process, json.loads(line))
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.stdout.close()


class Posted(NamedTuple):
    """A webhook as it came in.

    Attributes:
        number: the how manieth request of all it is, from 1.
        tries: how often these bytes have come, from 1.
    """

    account: str
    request: WebhookRequest
    number: int
    tries: int


@dataclass
class WebhookEndpoint:
    """Takes webhooks as mailglass does, and answers as it is told.

    Attributes:
        accounts: by name.
        status: the answer to a request that was proved; its events are read where that is 200.
        requests: those that were proved.
        refused: how many were not.
    """

    accounts: Mapping[str, Provider] = field(default_factory=dict)
    status: Callable[[Posted], int] = lambda posted: 200
    events: list[tuple[str, ProviderEvent]] = field(default_factory=list)
    requests: list[Posted] = field(default_factory=list)
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    _tries: Counter[bytes] = field(default_factory=Counter)

    def take(self, account: str, request: WebhookRequest) -> int:
        provider = self.accounts[account]
        with self.changed:
            try:
                provider.verify(request)
            except SignatureError:
                self.refused += 1
                return 401
            finally:
                self.changed.notify_all()
            self._tries[request.body] += 1
            posted = Posted(account, request, len(self.requests) + 1, self._tries[request.body])
            self.requests.append(posted)
            if (status := self.status(posted)) == 200:
                kept = {name: request.headers[name] for name in provider.signed_headers if name in request.headers}
                provider.on_webhook(request.body, kept)
                self.events += [(account, event) for event in provider.normalise(request.body, kept)]
            return status

    def about(self, delivery_id: UUID) -> list[ProviderEvent]:
        return [event for _, event in self.events if event.delivery_id == delivery_id]

    def kinds(self, delivery_id: UUID) -> list[EventKind]:
        return [event.kind for event in self.about(delivery_id)]

    def wait_for(self, fact: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(fact, PATIENCE), (self.refused, self.events)


@contextmanager
def listening(endpoint: WebhookEndpoint) -> Iterator[str]:
    """Serve an endpoint on loopback; the URL is the one below which each account's webhooks are taken."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = WebhookRequest(headers, body, remote_addr=self.client_address[0])
            self.send_response(endpoint.take(self.path.rpartition("/")[2], request))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/webhooks"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


@dataclass
class Lab(WebhookEndpoint):
    """A lab, the accounts that send to it, and the endpoint that it posts to.

    Attributes:
        providers: the accounts, by any name.
        webhooks: the endpoint's URL.
    """

    process: LabProcess = field(init=False)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    webhooks: str = ""

    @property
    def url(self) -> str:
        return self.process.url

    def counts(self) -> dict[str, Any]:
        return self.process.counts()

    def received(self) -> dict[str, int]:
        return self.process.received()

    def wait_for_counts(self, fact: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return self.process.wait_for_counts(fact)


@contextmanager
def provider_lab(
    *arguments: str, secrets: Mapping[str, str], accounts: Callable[[dict[str, Any]], Mapping[str, Provider]]
) -> Iterator[Lab]:
    """Run a lab whose webhooks are listened to.

    Args:
        arguments: of the lab.
        secrets: environment variables that the arguments refer to.
        accounts: opens the accounts, from what the lab said when it was ready.
    """
    with ExitStack() as stack:
        lab = Lab()
        lab.webhooks = stack.enter_context(listening(lab))
        lab.process = stack.enter_context(lab_process("--webhooks", lab.webhooks, *arguments, secrets=secrets))
        lab.providers = accounts(lab.process.ready)
        lab.accounts = {provider.account: provider for provider in lab.providers.values()}
        for provider in lab.providers.values():
            stack.callback(provider.close)
        yield lab


def mail(recipient: str, **more: Any) -> Outgoing:
    plain: dict[str, Any] = {
        "text": "Hello, 世界.",
        "sender": Address("shop@example.org", "Müller"),
        "subject": "Grüße",
    }
    return Outgoing(
        delivery_id=uuid4(),
        tenant="acme",
        recipient=Address(recipient, "Ada, Größe"),
        created_at=datetime.now(UTC),
        **{"stream": "transactional", **plain, **more},
    )


def send(provider: Provider, *mails: Outgoing) -> list[Outcome]:
    return provider.send(mails, deadline=monotonic() + PATIENCE)


def attempt(provider: Provider, *mails: Outgoing) -> list[OutcomeClass]:
    """Send, and return the kinds of the outcomes."""
    return [outcome.kind for outcome in send(provider, *mails)]


def pulled(provider: Provider) -> list[ListedAddress]:
    """Return a provider's suppression list, read to its end."""
    lists = provider.suppression_list()
    assert lists is not None
    found, cursor = lists.pull(None)
    for _ in range(50):
        if cursor is None:
            return found
        page, cursor = lists.pull(cursor)
        found += page
    raise AssertionError("the pages do not end")
