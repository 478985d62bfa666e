"""Entries of the suppression list that meet an earlier one: which of them stands, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy

from mailglass.errors import SuppressionType
from mailglass.ids import uuid7
from mailglass.ledger import suppression_sync, webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.suppressions import Suppression, suppress, suppressions_of
from mailglass.ledger.webhooks import SubscriptionChange
from mailglass.mail.addresses import Address

ADA = Address("ada@example.com")
SOON = datetime.now(UTC) + timedelta(hours=1)
LATER = SOON + timedelta(days=30)
LEFT = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def entry(reason: str = "manual", expires: datetime | None = None, stream: str = "") -> Suppression:
    scope = SuppressionType.ADDRESS_STREAM if stream else SuppressionType.ADDRESS
    return Suppression("acme", ADA.key, reason, "manual", scope, stream, expires_at=expires)


def standing(ledger: Database) -> list[tuple[str, datetime | None]]:
    return [(found.reason, found.expires_at) for found in suppressions_of(ledger, "acme", ADA)]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("lesser", "greater"),
    [
        (entry("provider", SOON), entry("hard_bounce")),
        (entry("provider", SOON), entry("manual", LATER)),
        (entry("hard_bounce"), entry("complaint")),
    ],
)
def test_longer_entry_stands_in_whatever_order_it_comes(
    ledger: Database, lesser: Suppression, greater: Suppression, at_once: bool, order: int
) -> None:
    entries = [lesser, greater][::order]
    for batch in [entries] if at_once else [[one] for one in entries]:
        suppress(ledger, batch)
    assert standing(ledger) == [(greater.reason, greater.expires_at)]
    assert suppress(ledger, entries) == 0


@pytest.mark.parametrize("end", [SOON, datetime.now(UTC) - timedelta(hours=1)])
def test_unsubscription_outlasts_an_operators_entry(ledger: Database, end: datetime) -> None:
    suppress(ledger, [entry(expires=end, stream="bulk")])
    left = SubscriptionChange("acme", ADA.key, "bulk", "relay", LEFT)
    assert webhooks.unsubscribe(ledger, [left]) == 1
    assert webhooks.unsubscribe(ledger, [left]) == 0
    (found,) = suppressions_of(ledger, "acme", ADA)
    assert (found.reason, found.source, found.account, found.expires_at) == ("unsubscribe", "webhook", "relay", None)
    assert found.created_at == LEFT, "by the provider's clock, to be compared with a return"
    assert webhooks.resubscribe(ledger, [SubscriptionChange("acme", ADA.key, "bulk", "relay", LEFT)]) == 1


def test_an_operators_lasting_entry_outlives_leaving_and_coming_back(ledger: Database) -> None:
    suppress(ledger, [entry(stream="bulk")])
    change = SubscriptionChange("acme", ADA.key, "bulk", "relay", LEFT)
    assert webhooks.unsubscribe(ledger, [change]) == 0
    assert webhooks.resubscribe(ledger, [change]) == 0
    assert standing(ledger) == [("manual", None)]


def test_entry_with_an_end_is_offered_to_providers_once_it_lasts(ledger: Database) -> None:
    suppress(ledger, [entry("provider", SOON)])
    offered_by_now = uuid7()
    suppress(ledger, [entry("hard_bounce")])
    ((found,),) = ledger.query(sqlalchemy.text("SELECT id FROM mailglass.suppressions"))
    assert found > offered_by_now
    aged = type(found)(int=found.int - (600_000 << 80))
    ledger.query(sqlalchemy.text(f"UPDATE mailglass.suppressions SET id = '{aged}'"))
    before = type(found)(int=offered_by_now.int - (600_000 << 80))
    assert [item.reason for item in suppression_sync.pushable(ledger, "relay", "acme", before, 10)] == ["hard_bounce"]
