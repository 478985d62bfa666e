"""Webhooks of every room through all of mailglass: kept, understood, matched, projected, whatever their order."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases, webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.events import EngineEvent, Projection, project
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.providers.base import Provider, WebhookRequest
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Settings, WebhookSettings
from mailglass.testing.provider import FixedAccounts
from mailglass.testing.provider_suite import Declaration, Feature
from mailglass.testing.provider_suite.mails import DELIVERY, RECIPIENT
from mailglass.webhooks import ingress, process, reconcile
from tests.rooms import ROOMS, Brevo

EACH = pytest.mark.parametrize(
    "room", [room for room in ROOMS.values() if not {Feature.WEBHOOKS, Feature.CORRELATION} & set(room.lacks)]
)
LANE = Lane("mailglass", "acme", "transactional")
BEHIND_PROXIES = WebhookSettings(trusted_proxies=("10.0.0.0/8",))


class Site:
    """One room's account, on a ledger of its own."""

    def __init__(self, ledger: Database, room: type[Declaration]) -> None:
        self.ledger = ledger
        self.room = room()
        self.provider: Provider = self.room.build(self.room.at(9))
        name = self.provider.name
        self.settings = Settings(accounts={"main": AccountSettings("main", name)}, webhooks=BEHIND_PROXIES)
        self.accounts = FixedAccounts(self.settings, {"main": self.provider})
        # made once: many a signature holds the time
        self.requests = [webhook.request() for webhook in self.room.webhooks()]

    def post(self, *requests: WebhookRequest) -> list[int]:
        return self.post_to(*((request, None) for request in requests))

    def post_to(self, *requests: tuple[WebhookRequest, str | None]) -> list[int]:
        context = ingress.IngressContext(self.settings, self.ledger, self.accounts, lambda task: None)
        posted = [ingress.IncomingWebhook("main", request, tenant) for request, tenant in requests]
        return [answer.status for answer in ingress.handle_all(posted, context)]

    def work(self) -> process.WebhookReport:
        return process.run(self.settings, self.ledger, self.accounts, after_claim=lambda more: None)

    def deliver(self, delivery_id: UUID = DELIVERY) -> None:
        """The delivery that the samples are about, accepted by the account."""
        body, token = json.dumps({"v": 1, "subject": "s", "text": "t"}), uuid4()
        submit(self.ledger.run, [Item(delivery_id, LANE, uuid7(), body, Address(RECIPIENT))])
        leases.claim(self.ledger, LANE, token, 1, 60)
        leases.mark(self.ledger, token, [delivery_id], "main", self.provider.name)
        sent = Verdict(delivery_id, Status.SENT, EngineEvent.ATTEMPTED, outcome="accepted")
        leases.record(self.ledger, token, [sent])

    def facts(self) -> Projection:
        """What is known of it, but for what depends on when we heard of it."""
        delivery = deliveries.get(self.ledger, DELIVERY)
        assert replace(project(deliveries.timeline(self.ledger, DELIVERY)), status_id=None) == delivery.facts
        return replace(delivery.facts, sent_at=None)

    def events(self) -> set[UUID]:
        timeline = deliveries.timeline(self.ledger, DELIVERY)
        return {event.id for event in timeline if event.source.value == "provider"}

    def forget(self) -> None:
        """Begin again, with an empty ledger."""
        for table in ("webhook_events", "orphans", "deliveries", "messages", "suppressions"):
            self.ledger.query(sqlalchemy.text(f"DELETE FROM mailglass.{table}"))
        self.ledger.query(sqlalchemy.text("ALTER TABLE mailglass.events DISABLE TRIGGER USER"))
        self.ledger.query(sqlalchemy.text("DELETE FROM mailglass.events"))
        self.ledger.query(sqlalchemy.text("ALTER TABLE mailglass.events ENABLE TRIGGER USER"))


@pytest.fixture
def site(database_url: str, room: type[Declaration]) -> Iterator[Site]:
    database = Database(database_url)
    site = Site(database, room)
    yield site
    site.provider.close()
    database.dispose()


def told(site: Site) -> tuple[Projection, set[UUID]]:
    """What the samples say, each once and in their order, of a delivery that is there."""
    site.deliver()
    assert site.post(*site.requests) == [200] * len(site.requests)
    report = site.work()
    assert (report.dead, report.orphans) == (0, 0)
    facts, events = site.facts(), site.events()
    assert events
    return facts, events


@EACH
def test_webhooks_that_came_before_their_delivery_are_linked_and_say_the_same(site: Site) -> None:
    facts, events = told(site)
    site.forget()
    site.post(*site.requests)
    assert site.work().orphans == len(events)
    site.deliver()
    reconcile.run(site.ledger)
    assert (site.facts(), site.events()) == (facts, events)
    (left,) = site.ledger.query(sqlalchemy.text("SELECT count(*) AS count FROM mailglass.orphans"))
    assert left.count == 0


@EACH
def test_webhooks_in_any_order_and_posted_again_say_the_same(site: Site) -> None:
    facts, events = told(site)
    shuffler = random.Random(4711)
    for _ in range(4):
        site.forget()
        site.deliver()
        queue = [*site.requests, *shuffler.choices(site.requests, k=3)]
        shuffler.shuffle(queue)
        for request in queue:
            assert site.post(request) == [200]
            if shuffler.random() < 0.5:
                site.work()
        site.work()
        assert (site.facts(), site.events()) == (facts, events)


@EACH
def test_a_webhook_that_is_played_again_is_kept_once(site: Site) -> None:
    site.post(*site.requests, *site.requests)
    rows = site.ledger.query(sqlalchemy.text("SELECT dedupe_key FROM mailglass.webhook_events"))
    assert len(rows) <= len(site.requests)
    before = len(rows)
    site.work()
    site.post(*site.requests)
    assert len(site.ledger.query(sqlalchemy.text("SELECT id FROM mailglass.webhook_events"))) == before
    assert site.work().claimed == 0


@EACH
def test_a_webhook_with_a_poisoned_one_beside_it_is_understood(site: Site) -> None:
    facts, events = told(site)
    site.forget()
    site.deliver()
    for number, body in enumerate((b"\xff\xfe", b"", b'{"half":')):
        webhooks.store(site.ledger, "main", site.provider.name, f"poison-{number}", body, {})
    assert site.post(*site.requests) == [200] * len(site.requests)
    report = site.work()
    assert (report.claimed, report.orphans) == (3 + len(site.requests), 0)
    assert (site.facts(), site.events()) == (facts, events)


@EACH
def test_a_forged_webhook_is_refused_and_not_kept(site: Site) -> None:
    for request in site.requests:
        bare: Mapping[str, Any] = dict.fromkeys(request.headers, "x")
        if site.room.proof_headers:
            assert site.post(replace(request, headers=bare)) == [401]
    assert site.ledger.query(sqlalchemy.text("SELECT id FROM mailglass.webhook_events")) == []


class BrevoFromItsNetworks(Brevo):
    options: ClassVar[Mapping[str, Any]] = {**Brevo.options, "webhook_networks": ["198.51.100.0/24"]}


@pytest.mark.parametrize("room", [BrevoFromItsNetworks])
@pytest.mark.parametrize(
    ("forwarded", "status"),
    [("198.51.100.7", 200), ("198.51.100.7, 10.1.1.1", 200), ("198.51.100.7, 192.0.2.1", 401), ("", 401)],
)
def test_an_allow_list_is_asked_about_whom_trusted_proxies_vouch_for(site: Site, forwarded: str, status: int) -> None:
    request = site.requests[0]
    headers = {**request.headers, "x-forwarded-for": forwarded}
    assert site.post(replace(request, headers=headers, remote_addr="10.0.0.1")) == [status]
    assert site.post(replace(request, headers=headers, remote_addr="192.0.2.1")) == [401]


@pytest.mark.parametrize("room", [room for room in ROOMS.values() if Feature.WEBHOOKS not in room.lacks])
@pytest.mark.parametrize("together", [True, False])
def test_a_shared_accounts_webhook_is_kept_once_for_each_tenants_url(site: Site, together: bool) -> None:
    requests = [(request, tenant) for request in site.requests for tenant in (None, "acme", "news")] * 2
    random.Random(4).shuffle(requests)
    groups = [requests] if together else [[request] for request in requests]
    assert {status for group in groups for status in site.post_to(*group)} == {200}
    rows = site.ledger.query(sqlalchemy.text("SELECT tenant_id, body FROM mailglass.webhook_events"))
    bodies = {request.body for request in site.requests}
    found = sorted((row.tenant_id or "", bytes(row.body)) for row in rows)
    assert found == sorted((tenant, body) for tenant in ("", "acme", "news") for body in bodies)


@EACH
def test_a_tenant_learns_of_its_mail_after_the_webhook_was_posted_to_another_tenants_url(site: Site) -> None:
    site.deliver()
    for tenant in ("news", LANE.tenant):
        site.post_to(*((request, tenant) for request in site.requests))
    site.work()
    assert [event for event in deliveries.timeline(site.ledger, DELIVERY) if event.source == "provider"]
    orphans = site.ledger.query(sqlalchemy.text("SELECT DISTINCT event ->> 'tenant' AS tenant FROM mailglass.orphans"))
    assert {row.tenant for row in orphans} == {"news"}
