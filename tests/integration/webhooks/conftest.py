"""A desk for tests of webhooks: deliveries as an engine leaves them, webhooks as the ingress keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass.errors import WebhookBodyError
from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases, webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Delivery
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import suppressions_of
from mailglass.mail.addresses import Address
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts
from mailglass.webhooks import process
from mailglass.webhooks.process import WebhookReport


@dataclass(frozen=True)
class NotesOptions:
    """No options."""


class NotesProvider(Provider):
    """Posts arrays of our own events as JSON."""

    name = "notes"
    Options = NotesOptions

    def __init__(self, account: str = "main") -> None:
        super().__init__(account, NotesOptions())

    def send(self, mails: Any, *, deadline: float) -> list[Outcome]:
        raise AssertionError("nothing is sent here")

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        try:
            items = json.loads(body)
        except ValueError:
            raise WebhookBodyError("not JSON") from None
        return [_read(item) for item in items]


def _read(item: dict[str, Any]) -> ProviderEvent:
    values = dict(item)
    if values.pop("explode", None):
        raise RuntimeError("a bug in a provider's room")
    if isinstance(values.get("occurred_at"), str):
        values["occurred_at"] = datetime.fromisoformat(values["occurred_at"])
    if isinstance(values.get("delivery_id"), str):
        values["delivery_id"] = UUID(values["delivery_id"])
    return ProviderEvent(**values)


class Desk:
    """A ledger of the test's own, and what one does with it. Accounts are `main` and `other`."""

    NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    LANE = Lane("mailglass", "acme", "transactional")
    BULK = Lane("mailglass", "acme", "bulk")
    SETTINGS = Settings(
        accounts={name: AccountSettings(name, "notes", Address("shop@example.com")) for name in ("main", "other")},
        routes=(Route(("main",)),),
    )
    NotesProvider = NotesProvider

    def __init__(self, ledger: Database) -> None:
        self.ledger = ledger
        self.token = uuid4()

    def event(
        self, kind: str, delivery_id: UUID | None = None, at: datetime | None = NOON, **values: Any
    ) -> dict[str, Any]:
        """One event as `NotesProvider` posts it; its identity is what it says."""
        item = {"kind": kind, "occurred_at": at and at.isoformat(), "delivery_id": delivery_id and str(delivery_id)}
        item |= values
        return {"provider_event_id": json.dumps(item, sort_keys=True)} | item

    def accounts(self, settings: Settings = SETTINGS, **providers: Provider) -> Accounts:
        return FixedAccounts(settings, {name: NotesProvider(name) for name in settings.accounts} | providers)

    def post(self, *events: dict[str, Any], account: str = "main", body: bytes | None = None) -> UUID:
        """Keep a webhook, as the ingress does."""
        content = json.dumps(events).encode() if body is None else body
        assert webhooks.store(self.ledger, account, "notes", uuid4().hex, content, {})
        return self.rows("SELECT id FROM mailglass.webhook_events ORDER BY id DESC LIMIT 1")[0].id

    def work(self, settings: Settings = SETTINGS, **providers: Provider) -> WebhookReport:
        """Process one batch."""
        accounts = self.accounts(settings, **providers)
        return process.run(settings, self.ledger, accounts, after_claim=lambda more: None)

    def tell(self, *events: dict[str, Any], account: str = "main") -> WebhookReport:
        """Keep a webhook and process it."""
        self.post(*events, account=account)
        return self.work()

    def queue(self, count: int = 1, lane: Lane = LANE, recipient: str = "u{}@example.com") -> list[UUID]:
        body = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})
        items = [
            Item(id=uuid7(), lane=lane, message_id=uuid7(), content=body, recipient=Address(recipient.format(number)))
            for number in range(count)
        ]
        return [recorded.id for recorded in submit(self.ledger.run, items)]

    def start_sending(self, lane: Lane = LANE, account: str = "main") -> list[UUID]:
        claimed = [delivery.id for delivery in leases.claim(self.ledger, lane, self.token, 100, lease=60)]
        leases.mark(self.ledger, self.token, claimed, account, "notes")
        return claimed

    def record(self, ids: list[UUID], status: Status, provider_id: str = "p-{}", **options: Any) -> None:
        accepted = status is Status.SENT
        verdicts = [
            Verdict(
                key,
                status,
                EngineEvent.ATTEMPTED,
                outcome="accepted" if accepted else status.value,
                provider_message_id=provider_id.format(number) if accepted else None,
                **options,
            )
            for number, key in enumerate(ids)
        ]
        assert leases.record(self.ledger, self.token, verdicts) == set(ids)

    def sent(
        self,
        count: int = 1,
        lane: Lane = LANE,
        account: str = "main",
        provider_id: str = "p-{}",
        recipient: str = "u{}@example.com",
    ) -> list[UUID]:
        """Deliveries that the account's provider accepted as `p-0`, `p-1`, ..."""
        ids = self.queue(count, lane, recipient)
        assert sorted(self.start_sending(lane, account)) == sorted(ids)
        self.record(ids, Status.SENT, provider_id)
        return ids

    def uncertain(self, delay: float = 600.0, status: Status = Status.UNCERTAIN) -> UUID:
        """A delivery whose answer was lost, or that waits for a person."""
        (delivery_id,) = self.queue()
        self.start_sending()
        self.record([delivery_id], status, delay=delay)
        return delivery_id

    def delivery(self, delivery_id: UUID) -> Delivery:
        return deliveries.get(self.ledger, delivery_id)

    def kinds(self, delivery_id: UUID) -> list[str]:
        return [item.kind for item in deliveries.timeline(self.ledger, delivery_id)]

    def rows(self, sql: str, **params: Any) -> list[Any]:
        return self.ledger.query(sqlalchemy.text(sql).bindparams(**params))

    def end_leases(self) -> None:
        """Let every lease end now."""
        self.rows("UPDATE mailglass.webhook_events SET lease_expires_at = now() WHERE status = 'received'")
        self.rows("UPDATE mailglass.deliveries SET lease_expires_at = now() WHERE lease_expires_at IS NOT NULL")

    def stands(self, webhook_id: UUID) -> tuple[str, str | None]:
        """A stored webhook's status and reason."""
        (row,) = self.rows("SELECT status, reason FROM mailglass.webhook_events WHERE id = :id", id=webhook_id)
        return row.status, row.reason

    def reasons(self, email: str = "u0@example.com", tenant: str = "acme") -> list[tuple[str, str, str]]:
        """Scope, stream and reason of what stands in the way of an address."""
        found = suppressions_of(self.ledger, tenant, Address(email))
        return [(entry.scope.value, entry.stream, entry.reason) for entry in found]


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    database = Database(database_url)
    yield Desk(database)
    database.dispose()
