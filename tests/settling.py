"""A ledger with deliveries in doubt, and accounts whose providers can be searched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass.engine import Engine
from mailglass.engine.settler import Settler
from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases, webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.deliveries import Delivery
from mailglass.ledger.events import Event
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.mail.events import EventKind, ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.search import UNKNOWN, SearchResult, SearchTarget, taken
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted
from mailglass.webhooks import process

LANE = Lane("mailglass", "acme", "transactional")
SETTINGS = Settings(
    accounts={name: AccountSettings(name, "scripted", Address("shop@example.com")) for name in ("main", "other")},
    routes=(Route(("main", "other")),),
)
Says = Callable[[SearchTarget], SearchResult]


class Searched(ScriptedProvider):
    """A provider whose search answers as the test says, once for each delivery that is searched for."""

    searchable = True
    search_lag = 0.0

    def __init__(self, says: Says = lambda item: UNKNOWN, account: str = "main") -> None:
        super().__init__(account=account)
        self.says = says
        self.targets: list[SearchTarget] = []

    def find(self, targets: Sequence[SearchTarget], *, deadline: float) -> list[SearchResult]:
        self.targets += targets
        return [self.says(item) for item in targets]

    def normalise(self, body: bytes, headers: Any) -> list[ProviderEvent]:
        """Posts the ids of deliveries that were taken."""
        return [
            ProviderEvent(EventKind.DELIVERED, f"w-{name}", delivery_id=UUID(name), recipient="u0@example.com")
            for name in json.loads(body)
        ]


def takes(item: SearchTarget) -> SearchResult:
    return taken(item.delivery_id, f"p-{item.delivery_id}")


@dataclass
class Desk:
    """A ledger of the test's own with two accounts, and what one does with it."""

    ledger: Database
    main: Searched
    other: ScriptedProvider
    settings: Settings = SETTINGS

    @property
    def accounts(self) -> FixedAccounts:
        return FixedAccounts(self.settings, {"main": self.main, "other": self.other})

    @property
    def settler(self) -> Settler:
        return Settler(self.settings, self.ledger, self.accounts)

    def work(self) -> None:
        """Let what waits be due, and let an engine do its work."""
        self.rows("UPDATE mailglass.deliveries SET due_at = now() WHERE due_at IS NOT NULL")
        Engine(self.settings, self.ledger, self.accounts).run(LANE)

    def queue(self, count: int = 1, **options: Any) -> list[UUID]:
        content = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})
        items = [
            Item(uuid7(), LANE, uuid7(), content, Address(f"u{number}@example.com"), **options)
            for number in range(count)
        ]
        return [recorded.id for recorded in submit(self.ledger.run, items)]

    def uncertain(self, count: int = 1) -> list[UUID]:
        """Deliveries whose answer was lost."""
        ids = self.queue(count)
        self.main.script = lambda mail: Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
        Engine(self.settings, self.ledger, self.accounts).run(LANE)
        self.main.script = accepted
        assert {self.delivery(key).status for key in ids} == {Status.UNCERTAIN}
        return ids

    def sending(self, **options: Any) -> UUID:
        """A delivery whose worker died in the middle of a call."""
        (delivery_id,) = self.queue(**options)
        token = uuid4()
        leases.claim(self.ledger, LANE, token, 10, lease=60)
        leases.mark(self.ledger, token, [delivery_id], "main", "scripted")
        self.rows("UPDATE mailglass.deliveries SET lease_expires_at = now()")
        return delivery_id

    def turn(self) -> None:
        """Let everybody have their turn to be searched for."""
        self.rows("UPDATE mailglass.deliveries SET search_at = now() WHERE search_at IS NOT NULL")

    def end_holds(self) -> None:
        self.rows("UPDATE mailglass.deliveries SET lease_expires_at = now() WHERE lease_expires_at IS NOT NULL")

    def post(self, delivery_id: UUID) -> None:
        """A webhook that says that the mail was taken."""
        body = json.dumps([str(delivery_id)]).encode()
        webhooks.store(self.ledger, "main", "scripted", uuid4().hex, body, {})
        process.run(self.settings, self.ledger, self.accounts, after_claim=lambda more: None)

    def delivery(self, delivery_id: UUID) -> Delivery:
        return deliveries.get(self.ledger, delivery_id)

    def timeline(self, delivery_id: UUID) -> list[Event]:
        return deliveries.timeline(self.ledger, delivery_id)

    def told(self, delivery_id: UUID) -> list[tuple[str, str | None]]:
        return [(event.kind, event.reason) for event in self.timeline(delivery_id)]

    def rows(self, sql: str, **params: Any) -> list[Any]:
        return self.ledger.query(sqlalchemy.text(sql).bindparams(**params))


class Died(SystemExit):
    """Stands for the end of the process."""


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    database = Database(database_url)
    yield Desk(database, Searched(), ScriptedProvider(account="other"))
    database.dispose()
