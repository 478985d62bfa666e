"""When a mail is due and when it expires: moments stay as they were given, durations count from the call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy
from sqlalchemy.engine import Connection

from mailglass import ItemOutcome, Message, MessageError, clock, deliver_later, deliver_many
from mailglass.ledger import deliveries
from mailglass.ledger.database import sqlalchemy_url
from mailglass.ledger.deliveries import Delivery


def message(to: object = "ada@example.com") -> Message:
    return Message(to=to, subject="Receipt 1001", text="Thank you.")


@pytest.fixture
def old_transaction(cluster) -> Iterator[Connection]:
    """A transaction of the application's that began before."""
    engine = sqlalchemy.create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT now()"))
        connection.execute(sqlalchemy.text("SELECT pg_sleep(0.1)"))
        yield connection
    engine.dispose()


def recorded(connection: Connection, result) -> sqlalchemy.Row:
    """The delivery as its own transaction sees it, with the moment at which it was read."""
    query = (
        "SELECT due_at, scheduled_at, expires_at, clock_timestamp() AS read_at FROM mailglass.deliveries WHERE id = :id"
    )
    return connection.execute(sqlalchemy.text(query), {"id": result.id}).one()


def test_a_moment_stays_as_it_was_given_in_an_old_transaction(cluster, old_transaction: Connection) -> None:
    eta = datetime.now(timezone(timedelta(hours=3))) + timedelta(hours=1)
    expires = datetime.now(UTC) + timedelta(hours=2)
    for to in ("ada@example.com", ["grace@example.com", "linus@example.com"]):
        given = {"eta": eta, "expires": expires}
        result = deliver_later.apply_async((message(to),), {"session": old_transaction}, **given)
        found = recorded(old_transaction, result if isinstance(to, str) else result[1])
        assert (found.due_at, found.scheduled_at, found.expires_at) == (eta, eta, expires)


def test_a_duration_counts_from_the_call_in_an_old_transaction(cluster, old_transaction: Connection) -> None:
    for to in ("ada@example.com", ["grace@example.com", "linus@example.com"]):
        given = {"countdown": 1, "expires": 5}
        before = datetime.now(UTC)
        result = deliver_later.apply_async((message(to),), {"session": old_transaction}, **given)
        found = recorded(old_transaction, result if isinstance(to, str) else result[1])
        assert before <= found.due_at - timedelta(seconds=1) <= found.read_at
        assert before <= found.expires_at - timedelta(seconds=5) <= found.read_at
        told = (
            "SELECT bool_and(occurred_at >= created_at) FROM mailglass.events e"
            " JOIN mailglass.deliveries d ON d.id = e.delivery_id"
        )
        assert old_transaction.execute(sqlalchemy.text(told)).scalar_one()


def test_a_duration_counts_from_the_call_however_slow_the_messages_come(cluster) -> None:
    read: list[datetime] = []

    def slow() -> Iterator[Message]:
        yield message("first@example.com")
        time.sleep(0.1)
        read.append(datetime.now(UTC))
        yield message("second@example.com")

    before = datetime.now(UTC)
    results = deliver_many(slow(), countdown=600, expires=3600)
    for result in results:
        found = _read(cluster, result.ids[0])
        assert before <= found.due_at - timedelta(seconds=600) <= read[0]
        assert before <= found.expires_at - timedelta(seconds=3600) <= read[0]


def test_immediate_mail_is_due_when_it_is_recorded(cluster) -> None:
    before = datetime.now(UTC)
    found = deliver_later.delay(message()).delivery
    assert before <= found.due_at <= datetime.now(UTC)


@pytest.mark.parametrize("skew", [timedelta(hours=-5), timedelta(hours=5)])
def test_a_producers_wrong_clock_moves_nothing(cluster, monkeypatch: pytest.MonkeyPatch, skew: timedelta) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + skew)
    eta, expires = now + timedelta(hours=1), now + timedelta(hours=2)
    absolute = deliver_later.apply_async((message(),), eta=eta, expires=expires).delivery
    assert (absolute.due_at, absolute.expires_at) == (eta, expires)
    relative = deliver_later.apply_async((message(),), countdown=60, expires=120).delivery
    after = datetime.now(UTC)
    assert now <= relative.due_at - timedelta(seconds=60) <= after
    assert now <= relative.expires_at - timedelta(seconds=120) <= after
    with pytest.raises(MessageError, match="past"):
        deliver_later.apply_async((message(),), expires=now - timedelta(seconds=1))


def test_a_moment_that_has_passed_is_due_at_once_and_its_age_counts_from_the_call(cluster) -> None:
    before = datetime.now(UTC)
    found = deliver_later.apply_async((message(),), eta=before - timedelta(days=30)).delivery
    assert before <= found.due_at <= datetime.now(UTC)
    assert cluster.rings.count() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"countdown": 600, "expires": timedelta(seconds=300)},
        {"eta": timedelta(seconds=600), "expires": 300},
        {"eta": timedelta(seconds=600), "expires": timedelta(seconds=600)},
        {"expires": timedelta(seconds=-1)},
    ],
)
@pytest.mark.parametrize("to", ["ada@example.com", ["ada@example.com", "grace@example.com"]])
def test_a_mail_that_would_end_before_it_is_due_is_refused_and_not_recorded(cluster, options: dict, to: object) -> None:
    now = datetime.now(UTC)
    given = {name: now + value if isinstance(value, timedelta) else value for name, value in options.items()}
    with pytest.raises(MessageError) as caught:
        deliver_later.apply_async((message(to),), **given)
    assert caught.value.field == "expires"
    with pytest.raises(MessageError):
        deliver_many([message(to), message()], **given)
    assert deliveries.find(cluster.runtime.database) == []


def test_a_moment_that_passes_while_messages_are_read_refuses_the_later_ones_alone(
    cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailglass.outbound.deliver_many.CHUNK", 1)
    expires = datetime.now(UTC) + timedelta(seconds=4)

    def slow() -> Iterator[Message]:
        yield message("early@example.com")
        time.sleep(max((expires - datetime.now(UTC)).total_seconds(), 0) + 0.1)
        yield message("late@example.com")

    early, late = deliver_many(slow(), expires=expires)
    assert (early.outcome, late.outcome) == (ItemOutcome.QUEUED, ItemOutcome.INVALID)
    assert isinstance(late.error, MessageError)


def test_a_repeated_call_finds_its_delivery_after_its_moment_has_passed(cluster) -> None:
    given = Message(to="ada@example.com", subject="Receipt", text="Thanks.", idempotency_key="order-1")
    expires = datetime.now(UTC) + timedelta(seconds=1)
    first = deliver_later.apply_async((given,), expires=expires)
    time.sleep(max((expires - datetime.now(UTC)).total_seconds(), 0) + 0.1)
    assert deliver_later.apply_async((given,), expires=expires).id == first.id


def _read(cluster, delivery_id) -> Delivery:
    return deliveries.get(cluster.runtime.database, delivery_id)
