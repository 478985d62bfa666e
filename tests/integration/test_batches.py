"""`deliver_many`: answers, duplicates, a database that is lost on the way, memory. `cancel_many`, `release_many`."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from sqlalchemy.orm import Session

from mailglass import (
    Attachment,
    BatchFailedError,
    BatchResults,
    CancelCounts,
    CancelOutcome,
    IdempotencyError,
    ItemOutcome,
    LedgerError,
    LedgerUnavailableError,
    Message,
    MessageError,
    cancel_many,
    deliver_later,
    deliver_many,
    deliver_many_or_raise,
    release_many,
    tenant,
)
from mailglass.ledger import deliveries, leases
from mailglass.ledger.database import Database, sqlalchemy_url
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Doubt, Status
from mailglass.routing import Lane


def message(to: object = "ada@example.com", **fields: Any) -> Message:
    return Message(to=to, subject="Receipt 1001", text="Thank you.", **fields)


def keyed(count: int) -> Iterator[Message]:
    return (message(f"u{number}@example.com", idempotency_key=f"order-{number}") for number in range(count))


def outcomes(results: Any) -> Counter[str]:
    return Counter(result.outcome.value for result in results)


@pytest.fixture
def cut(cluster, postgres, until) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Cut the database off, and let it be reached again."""
    url = sqlalchemy.make_url(cluster.environment["MAILGLASS_DATABASE_URL"])
    name = sql.Identifier(url.database or "")

    def away() -> None:
        postgres.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        kill = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}")
        postgres.execute(kill.format(sql.Literal(url.database)))

    def back() -> None:
        postgres.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        # a pooler has refused logins, and goes on for a moment
        assert until(reached)

    def reached() -> bool:
        with suppress(psycopg.Error), psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"]) as connection:
            connection.execute("SELECT 1")
            return True
        return False

    yield away, back
    back()


def test_a_batch_that_loses_the_database_tells_what_was_recorded_and_what_nobody_knows(cluster, cut) -> None:
    away, back = cut
    read = 0

    def messages() -> Iterator[Message]:
        nonlocal read
        for read, given in enumerate(keyed(1700), 1):
            if read == 1200:
                away()
            yield given

    with pytest.raises(BatchFailedError) as caught:
        deliver_many(messages())
    error = caught.value
    assert (error.type, error.retryable) == ("partial_failure", True)
    assert "idempotency_key" in str(error)
    assert isinstance(error.__cause__, LedgerUnavailableError)
    assert outcomes(error.results) == {"queued": 1000, "unknown": 500}
    assert [result.outcome for result in error.results[998:1002]] == ["queued", "queued", "unknown", "unknown"]
    # no more was read than is answered
    assert read == len(error.results)
    back()
    assert outcomes(deliver_many(keyed(1700))) == {"duplicate": 1000, "queued": 700}


def test_unknown_result_may_have_been_recorded_and_its_ids_tell(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = Database.run, []

    def answer_lost(self: Database, name: str, params: Any = None) -> Any:
        rows = run(self, name, params)
        calls.append(name)
        if calls.count("submit") == 2:
            raise LedgerUnavailableError("the database cannot be reached")
        return rows

    with monkeypatch.context() as lossy:
        lossy.setattr(Database, "run", answer_lost)
        with pytest.raises(BatchFailedError) as caught:
            deliver_many(keyed(600))
    unknown = caught.value.results[500]
    assert unknown.outcome is ItemOutcome.UNKNOWN
    assert deliveries.get(cluster.runtime.database, unknown.ids[0]).recipient == "u500@example.com"
    again = deliver_many(keyed(600))
    assert outcomes(again) == {"duplicate": 600}
    assert again[500].ids == unknown.ids


def test_a_database_that_is_lost_before_anything_was_recorded_is_the_same_error_as_for_one_message(
    cluster, cut
) -> None:
    away, _ = cut
    away()
    with pytest.raises(LedgerUnavailableError):
        deliver_many(keyed(3))


def test_a_statement_that_is_refused_has_recorded_nothing_of_its_messages(cluster) -> None:
    cluster.runtime.database.query(
        sqlalchemy.text("ALTER TABLE mailglass.deliveries ADD CHECK (recipient <> 'u700@example.com')")
    )
    with pytest.raises(BatchFailedError) as caught:
        deliver_many(keyed(1200))
    error = caught.value
    assert not error.retryable
    assert outcomes(error.results) == {"queued": 500, "invalid": 500}
    assert isinstance(error.results[700].error, LedgerError)
    assert "u700" not in str(error)
    assert deliveries.counts(cluster.runtime.database) == {"default": {"queued": 500}}


def test_in_the_callers_own_transaction_its_own_error_passes(cluster, cut) -> None:
    away, _ = cut
    engine = sqlalchemy.create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))

    def messages() -> Iterator[Message]:
        for number, given in enumerate(keyed(600)):
            if number == 500:
                away()
            yield given

    with pytest.raises(sqlalchemy.exc.DBAPIError), Session(engine) as session, session.begin():
        deliver_many(messages(), session=session)
    engine.dispose()


def test_an_error_of_the_iterable_passes_and_what_was_recorded_stays(cluster) -> None:
    def messages() -> Iterator[Message]:
        yield from keyed(750)
        raise RuntimeError("the application's own")

    with pytest.raises(RuntimeError, match="own"):
        deliver_many(messages())
    assert deliveries.counts(cluster.runtime.database) == {"default": {"queued": 500}}


def test_a_batch_is_one_statement_for_every_five_hundred(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = Database.run, []

    def counted(self: Database, name: str, params: Any = None) -> Any:
        calls.append(name)
        return run(self, name, params)

    monkeypatch.setattr(Database, "run", counted)
    deliver_many(message(f"u{number}@example.com") for number in range(1200))
    assert [name for name in calls if name != "ring"] == ["submit"] * 3


@pytest.mark.parametrize(
    ("given", "statements"),
    [
        ([message([f"u{n}@example.com" for n in range(50)]) for _ in range(11)], 2),
        ([message(attachments=[Attachment("a.bin", bytes(4 * 1024 * 1024))]) for _ in range(3)], 2),
        (["no message"] * 501 + [message()], 1),
    ],
    ids=["many recipients", "large attachments", "many invalid"],
)
def test_statement_records_a_bounded_number_and_size_of_deliveries(
    cluster, monkeypatch: pytest.MonkeyPatch, given: list, statements: int
) -> None:
    run, calls = Database.run, []

    def counted(self: Database, name: str, params: Any = None) -> Any:
        calls.append(name)
        return run(self, name, params)

    monkeypatch.setattr(Database, "run", counted)
    assert len(deliver_many(given)) == len(given)
    assert len([name for name in calls if name.startswith("submit")]) == statements


def test_each_message_belongs_to_the_tenant_that_is_in_scope_when_it_is_read(cluster) -> None:
    def messages() -> Iterator[Message]:
        for name in ("acme", "globex", "acme"):
            with tenant(name):
                yield message()

    deliver_many(messages())
    assert deliveries.counts(cluster.runtime.database) == {"acme": {"queued": 2}, "globex": {"queued": 1}}


def test_memory_stays_flat_however_many_messages_there_are(cluster) -> None:
    def peak(count: int) -> tuple[int, BatchResults]:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        results = deliver_many(message(f"u{number}@example.com") for number in range(count))
        return tracemalloc.get_traced_memory()[1] - before, results

    deliver_many([message()])
    tracemalloc.start()
    try:
        few, _ = peak(2_000)
        many, results = peak(20_000)
    finally:
        tracemalloc.stop()
    assert outcomes(results) == {"queued": 20_000}
    # answers take some 25 bytes a message; what else is held is one chunk
    assert many - few < 18_000 * 60


def test_an_invalid_message_is_not_kept_by_its_answer(cluster) -> None:
    results = deliver_many([message(), "no message", message(["a@example.com", "b@example.com"], idempotency_key="k")])
    assert [result.outcome for result in results] == ["queued", "invalid", "invalid"]
    assert [type(result.error) for result in results[1:]] == [MessageError, MessageError]
    assert all(result.error.__traceback__ is None for result in results[1:])


def test_a_key_twice_in_one_batch_is_one_delivery(cluster) -> None:
    twice = message(idempotency_key="order-1")
    results = deliver_many([twice, twice, message("other@example.com", idempotency_key="order-1")])
    assert [result.outcome for result in results] == ["queued", "duplicate", "invalid"]
    assert results[0].ids == results[1].ids
    assert isinstance(results[2].error, IdempotencyError)
    assert deliveries.counts(cluster.runtime.database) == {"default": {"queued": 1}}


@pytest.mark.parametrize(
    "other",
    [
        {"to": "other@example.com"},
        {"stream": "bulk"},
        {"tags": ["spring"]},
        {"from_": "else@example.com"},
        {"headers": {"X-Order": "2"}},
        {"metadata": {"order": "2"}},
    ],
)
def test_a_different_message_under_the_same_key_is_an_error_and_sends_nothing(cluster, other: dict) -> None:
    first = deliver_later.delay(message(idempotency_key="order-1"))
    with pytest.raises(IdempotencyError) as caught:
        deliver_later.delay(message(**{"to": "ada@example.com", **other}, idempotency_key="order-1"))
    assert first.id in str(caught.value)
    assert len(deliveries.find(cluster.runtime.database)) == 1


def test_the_first_delivery_stands_for_its_key_also_once_it_was_sent_or_canceled(cluster, wait_for) -> None:
    with tenant("null"):
        sent = deliver_later.delay(message(idempotency_key="order-1"))
        wait_for(lambda: cluster.runtime.engine.run(Lane("mailglass", "null", "transactional")) and sent.ready())
        again = deliver_later.delay(message(idempotency_key="order-1"))
    assert (again.id, again.state) == (sent.id, "sent")
    canceled = deliver_later.delay(message(idempotency_key="order-2"))
    assert canceled.cancel()
    assert deliver_later.delay(message(idempotency_key="order-2")).state == "canceled"


def test_a_batch_that_queued_nothing_new_rings_nobody(cluster) -> None:
    deliver_many(keyed(3), countdown=60)
    assert outcomes(deliver_many(keyed(3))) == {"duplicate": 3}
    assert cluster.rings.count() == 0


def test_a_batch_is_scheduled_as_one_message_is(cluster) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    results = deliver_many([message()], send_at=later, expires=later + timedelta(hours=1), priority=2)
    delivery = deliveries.get(cluster.runtime.database, results[0].ids[0])
    assert abs(delivery.due_at - later) < timedelta(seconds=5)
    assert abs(delivery.expires_at - later - timedelta(hours=1)) < timedelta(seconds=5)
    assert delivery.priority == 2
    assert cluster.rings.count() == 0
    with pytest.raises(MessageError, match="one of eta, send_at and countdown"):
        deliver_many([message()], send_at=later, countdown=5)
    with pytest.raises(MessageError, match="past"):
        deliver_many([message()], expires=datetime.now(UTC) - timedelta(seconds=1))


def test_send_at_is_another_word_for_eta(cluster) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    due = deliver_later.apply_async((message(),), send_at=later).delivery.due_at
    assert abs(due - later) < timedelta(seconds=5)
    with pytest.raises(MessageError):
        deliver_later.apply_async((message(),), send_at=later, eta=later)


def test_expired_mail_is_never_sent(cluster, outside) -> None:
    result = deliver_later.apply_async((message(),), expires=3600)
    cluster.runtime.database.query(sqlalchemy.text("UPDATE mailglass.deliveries SET expires_at = now()"))
    cluster.runtime.engine.run(Lane("mailglass", "default", "transactional"))
    assert (result.state, result.delivery.last_error) == ("failed", "expired")
    assert not outside.received


def test_a_claimed_delivery_can_no_longer_be_canceled(cluster) -> None:
    result = deliver_later.delay(message())
    leases.claim(cluster.runtime.database, Lane("mailglass", "default", "transactional"), uuid4(), 1, 60)
    assert result.cancel() is CancelOutcome.LEFT
    assert result.state == "claimed"


def test_mail_in_doubt_is_not_canceled_because_it_may_have_been_sent(cluster) -> None:
    result = deliver_later.delay(message())
    cluster.runtime.database.query(sqlalchemy.text("UPDATE mailglass.deliveries SET in_doubt = true"))
    assert result.cancel() is CancelOutcome.IN_DOUBT
    assert result.state == "queued"


def test_a_group_is_taken_back_at_once(cluster) -> None:
    group = deliver_later.delay(message(["a@example.com", "b@example.com"]))
    assert group[0].cancel()
    assert group.cancel() == CancelCounts(1)
    assert set(group.states.values()) == {"canceled"}


def test_or_raise_counts_suppressed_and_invalid_as_failed_and_duplicates_not(cluster) -> None:
    assert outcomes(deliver_many_or_raise(keyed(2))) == {"queued": 2}
    assert outcomes(deliver_many_or_raise(keyed(2))) == {"duplicate": 2}
    with pytest.raises(BatchFailedError) as caught:
        deliver_many_or_raise([*keyed(2), "no message"])
    assert caught.value.type == "partial_failure"
    assert outcomes(caught.value.results) == {"duplicate": 2, "invalid": 1}


def test_many_are_canceled_by_filter_and_only_the_tenants_own(cluster) -> None:
    deliver_many(message(f"u{number}@example.com", stream="bulk") for number in range(7))
    receipt = deliver_later.delay(message())
    with tenant("null"):
        theirs = deliver_later.delay(message(stream="bulk"))
        assert cancel_many(stream="transactional") == CancelCounts(0)
    assert cancel_many(stream="bulk", recipient="U3@example.com") == CancelCounts(1)
    assert cancel_many(stream="bulk") == CancelCounts(6)
    assert not cancel_many(stream="bulk")
    assert (receipt.state, theirs.state) == ("queued", "queued")
    assert cancel_many(tenant="null", status="queued") == CancelCounts(1)
    assert cancel_many(created_before=datetime(2020, 1, 1, tzinfo=UTC)) == CancelCounts(0)
    group = deliver_later.delay(message(["a@example.com", "b@example.com"]))
    assert cancel_many(group=group) == CancelCounts(2)


def test_cancellation_counts_mail_that_may_have_been_sent_apart(cluster) -> None:
    ids = [result.ids[0] for result in deliver_many(message(f"u{number}@example.com") for number in range(4))]
    token = uuid4()
    leases.claim_these(cluster.runtime.database, ids[:2], token, 60)
    leases.mark(cluster.runtime.database, token, ids[:2], "main", "null")
    lost = [Verdict(ids[0], Status.UNCERTAIN, None), Verdict(ids[1], Status.HELD, None, doubt=Doubt.OPEN)]
    leases.record(cluster.runtime.database, token, lost)
    assert cancel_many(in_doubt=True) == CancelCounts(0, 2)
    assert cancel_many(status="queued") == CancelCounts(2, 0)
    assert cancel_many(stream="transactional") == CancelCounts(0, 2)


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({}, "filters"),
        ({"streams": "bulk"}, "streams"),
        ({"stream": "news"}, "stream"),
        ({"status": "sent"}, "status"),
        ({"created_before": datetime(2030, 1, 1)}, "created_before"),  # noqa: DTZ001
        ({"group": "no id"}, "group"),
        ({"account": 7}, "account"),
        ({"stream": "bulk", "recipient": None}, "recipient"),
    ],
)
def test_a_filter_without_sense_cancels_nothing(cluster, filters: dict, field: str) -> None:
    result = deliver_later.delay(message(stream="bulk"))
    with pytest.raises(MessageError) as caught:
        cancel_many(**filters)
    assert caught.value.field == field
    assert result.state == "queued"


def test_held_ones_are_released_by_reason_and_rung(cluster) -> None:
    ledger = cluster.runtime.database
    ids = [result.ids[0] for result in deliver_many([message(), message("grace@example.com")])]
    cluster.rings.take()
    token = uuid4()
    leases.claim_these(ledger, ids, token, 60)
    leases.record(ledger, token, [Verdict(key, Status.HELD, EngineEvent.HELD, "template_failed:syntax") for key in ids])
    cluster.runtime.doorbell.answer(Lane("mailglass", "default", "transactional"))
    assert release_many(reason="no_route") == 0
    with pytest.raises(MessageError, match="status: must be held"):
        release_many(status="queued")
    assert release_many(reason="template_failed", status="held") == 2
    assert set(deliveries.counts(ledger)["default"]) == {"queued"}
    assert cluster.rings.count() == 1


def test_a_message_whose_error_nobody_foresaw_is_that_messages_answer_alone(cluster) -> None:
    class Broken(Message):
        def content(self) -> dict[str, Any]:
            raise RuntimeError("very.private@example.com")

    spoilt = message(to="spoilt@example.com")
    object.__setattr__(spoilt, "subject", "\ud800")
    strange = message(to="strange@example.com")
    object.__setattr__(strange, "metadata", {"key": object()})
    named = message(to="named@example.com")
    object.__setattr__(named.to[0], "name", "\ud800")
    given = [*keyed(4), Broken(to="b@example.com", subject="s", text="t"), spoilt, strange, named, *list(keyed(8))[4:]]
    results = deliver_many(given)
    assert [result.outcome.value for result in results] == ["queued"] * 4 + ["invalid"] * 4 + ["queued"] * 4
    for result in results[4:8]:
        assert "private" not in str(result.error)
        assert result.error.__context__ is None
    assert deliver_many([named])[0].outcome is ItemOutcome.INVALID
