"""What an application calls: recorded first, rung after, answered from the ledger."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult
from sqlalchemy.orm import Session

from mailglass import (
    ANY_TENANT,
    Address,
    DeliveryError,
    DeliveryGroup,
    DeliveryNotFoundError,
    IdempotencyError,
    ItemOutcome,
    Message,
    MessageError,
    RouteError,
    SuppressedError,
    deliver,
    deliver_later,
    deliver_many,
    deliver_many_or_raise,
    telemetry,
    tenant,
)
from mailglass.errors import BatchFailedError, LedgerUnavailableError, RateLimitError, RateLimitType, TenantError
from mailglass.ledger import deliveries
from mailglass.ledger.database import sqlalchemy_url
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.limits import Grant
from mailglass.settings import configure, load_settings
from mailglass.testing.lab.weather import Weather


def message(to: object = "ada@example.com", **fields: object) -> Message:
    return Message(to=to, subject="Receipt 1001", text="Thank you.", **fields)


def rings(cluster) -> int:
    """Messages that wait in the broker."""
    return cluster.rings.count()


def test_a_message_is_recorded_and_its_lane_is_rung_once(cluster) -> None:
    first, second = deliver_later.delay(message()), deliver_later.delay(message("grace@example.com"))
    assert isinstance(first, AsyncResult)
    assert first.state == "queued"
    assert first.delivery.tenant == "default"
    assert not first.ready()
    assert rings(cluster) == 1
    assert first.id != second.id


def test_ring_through_the_broker_holds_a_lane_and_no_address(cluster) -> None:
    deliver_later.delay(message("very.private@example.com"))
    (ring,) = cluster.rings.take()
    told = repr((ring.body, ring.headers, ring.properties))
    assert "private" not in told
    assert "mailglass/default/transactional" in told


def test_celerys_manners_land_in_the_ledger(cluster) -> None:
    result = deliver_later.apply_async((message(),), countdown=600, priority=9, expires=3600)
    delivery = result.delivery
    assert delivery.priority == 9
    assert delivery.due_at - delivery.created_at == timedelta(seconds=600)
    assert delivery.expires_at - delivery.created_at == timedelta(seconds=3600)
    assert rings(cluster) == 0
    eta = datetime.now(UTC) + timedelta(hours=1)
    due = deliver_later.apply_async((message(),), eta=eta).delivery.due_at
    assert abs(due - eta) < timedelta(seconds=5)


def test_a_signature_delivers_as_any_celery_signature_does(cluster) -> None:
    result = deliver_later.s(message()).set(priority=8).apply_async()
    assert result.delivery.priority == 8
    assert deliver_later.signature((message(),), countdown=5).delay().delivery.due_at is not None


@pytest.mark.parametrize(
    "options",
    [
        {"eta": datetime(2030, 1, 1)},  # noqa: DTZ001
        {"priority": 10},
        {"expires": -1},
        {"expires": 60, "countdown": 60},
        {"task_id": "order-17"},
        {"countdown": 1, "eta": datetime.now(UTC)},
    ],
)
def test_an_option_without_sense_is_refused_by_name(cluster, options: dict) -> None:
    with pytest.raises(MessageError):
        deliver_later.apply_async((message(),), **options)


def test_an_option_that_means_nothing_to_a_delivery_is_refused(cluster) -> None:
    with pytest.raises(TypeError, match="queue"):
        deliver_later.apply_async((message(),), queue="fast")


def test_anything_but_a_message_is_refused(cluster) -> None:
    with pytest.raises(MessageError, match="must be a Message or a Mailable"):
        deliver_later.delay({"to": "ada@example.com"})


def test_a_message_to_three_people_is_three_deliveries_in_one_group(cluster) -> None:
    group = deliver_later.delay(message(["a@example.com", "b@example.com", "c@example.com"]))
    assert len(group) == 3
    found = deliveries.find(cluster.runtime.database, group=UUID(group.id))
    assert {delivery.recipient for delivery in found} == {"a@example.com", "b@example.com", "c@example.com"}
    assert set(group.states.values()) == {"queued"}
    contents = cluster.runtime.database.query(sqlalchemy.text("SELECT count(*) FROM mailglass.messages"))
    assert contents[0][0] == 1


def test_get_waits_for_the_provider_and_gives_up_in_time(cluster) -> None:
    result = deliver_later.delay(message())
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.1)
    with tenant("null"):
        sent = deliver_later.delay(message())
        cluster.runtime.engine.run(lanes_due(cluster.runtime.database)[-1])
        assert sent.get(timeout=60).status is Status.SENT
    assert sent.ready()
    assert sent.successful()


def test_get_raises_what_was_recorded(cluster) -> None:
    result = deliver_later.delay(message())
    assert result.cancel()
    assert result.ready()
    assert result.failed()
    with pytest.raises(DeliveryError) as caught:
        result.get(timeout=60)
    assert caught.value.status == "canceled"
    assert result.get(timeout=60, propagate=False).status is Status.CANCELED


def held(cluster, reason: str = "template_failed:undefined", **fields: object):
    """The result of a delivery that waits for a person."""
    result = deliver_later.delay(message(**fields))
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"], autocommit=True) as connection:
        for status in ("claimed", "held"):
            connection.execute(
                "UPDATE mailglass.deliveries SET status = %s, due_at = NULL, last_error = %s", (status, reason)
            )
    return result


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("to", ["ada@example.com", ["ada@example.com", "grace@example.com"]])
def test_get_raises_the_reason_of_what_is_held_at_once(cluster, timeout: float | None, to: object) -> None:
    result = held(cluster, to=to)
    with pytest.raises(DeliveryError, match="template_failed:undefined") as caught:
        result.get(timeout=timeout)
    assert (caught.value.status, caught.value.reason) == ("held", "template_failed:undefined")
    shown = result.get(timeout=timeout, propagate=False)
    assert {delivery.status for delivery in (shown if isinstance(to, list) else [shown])} == {Status.HELD}
    assert not result.ready()


def test_get_waits_on_for_what_is_held_if_asked_to(cluster) -> None:
    result = held(cluster)
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.1, wait_if_held=True)
    assert result.cancel()
    with pytest.raises(DeliveryError, match="canceled"):
        result.get(timeout=60, wait_if_held=True)


def test_a_delivery_is_found_by_its_own_tenant_and_by_nobody_elses(cluster) -> None:
    with tenant("acme"):
        single, group = deliver_later.delay(message()), deliver_later.delay(message(["a@example.com", "b@example.com"]))
    assert single.state == "queued", "the call's own result stays the call's tenant's"
    assert group.state == "queued"
    foreign = deliver_later.AsyncResult(single.id)
    for look in (lambda: foreign.state, lambda: foreign.get(timeout=60), foreign.cancel, foreign.revoke):
        with pytest.raises(DeliveryNotFoundError, match="of this tenant"):
            look()
    assert DeliveryGroup(group.id, [deliver_later.AsyncResult(each.id) for each in group]).states == {}
    assert deliver_later.AsyncResult(single.id, tenant="acme").state == "queued"
    assert pickle.loads(pickle.dumps(single)).state == "queued"
    with tenant("acme"):
        assert deliver_later.AsyncResult(single.id).state == "queued"
    anybodys = deliver_later.AsyncResult(single.id, tenant=ANY_TENANT)
    assert pickle.loads(pickle.dumps(anybodys)).delivery.tenant == "acme"
    assert anybodys.cancel()


@pytest.mark.parametrize(
    ("entry", "type"),
    [
        (Suppression("default", "ada@example.com", "hard_bounce", "webhook"), "address"),
        (Suppression("*", "ada@example.com", "complaint", "webhook"), "address"),
        (Suppression("default", "example.com", "manual", "manual", scope="domain"), "domain"),
        (
            Suppression("default", "ada@example.com", "unsubscribe", "webhook", "address_stream", "transactional"),
            "address_stream",
        ),
    ],
)
def test_a_suppressed_recipient_is_refused_with_the_scope_and_recorded(cluster, entry: Suppression, type: str) -> None:
    from dataclasses import replace

    from mailglass.errors import SuppressionType

    suppress(cluster.runtime.database, [replace(entry, scope=SuppressionType(entry.scope))])
    with pytest.raises(SuppressedError) as caught:
        deliver_later.delay(message("Ada@Example.com"))
    assert caught.value.type == type
    assert "ada" not in str(caught.value).lower()
    delivery = deliveries.get(cluster.runtime.database, caught.value.delivery_id)
    assert delivery.status is Status.SUPPRESSED
    assert rings(cluster) == 0


@pytest.mark.parametrize(
    "entry",
    [
        Suppression("acme", "ada@example.com", "hard_bounce", "webhook"),
        Suppression("default", "ada@example.com", "manual", "manual", expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
        Suppression("default", "example.org", "manual", "manual"),
    ],
)
def test_another_tenants_and_an_expired_entry_stand_in_nobodys_way(cluster, entry: Suppression) -> None:
    suppress(cluster.runtime.database, [entry])
    assert deliver_later.delay(message()).state == "queued"


def test_the_same_idempotency_key_again_returns_the_first_delivery(cluster) -> None:
    first = deliver_later.delay(message(idempotency_key="order-1"))
    again = deliver_later.delay(message(idempotency_key="order-1"))
    assert again.id == first.id
    with tenant("acme"):
        assert deliver_later.delay(message(idempotency_key="order-1")).id != first.id
    with pytest.raises(IdempotencyError):
        deliver_later.delay(message("other@example.com", idempotency_key="order-1"))
    assert len(deliveries.find(cluster.runtime.database)) == 2


def test_a_call_that_celery_makes_again_finds_what_it_recorded(cluster) -> None:
    for to in ("ada@example.com", ["grace@example.com", "linus@example.com"]):
        task_id = str(uuid4())
        first = deliver_later.apply_async((message(to),), task_id=task_id)
        again = deliver_later.apply_async((message(to),), task_id=task_id)
        assert again.id == first.id
    assert [result.id for result in again] == [result.id for result in first]
    assert {result.delivery.group_id for result in again} == {UUID(again.id)}
    assert deliveries.counts(cluster.runtime.database) == {"default": {"queued": 3}}


def test_another_message_under_the_same_task_id_is_refused_and_not_swallowed(cluster) -> None:
    task_id = str(uuid4())
    deliver_later.apply_async((message(),), task_id=task_id)
    with pytest.raises(IdempotencyError, match=f"this id as delivery {task_id}: use a new one"):
        deliver_later.apply_async((message("grace@example.com"),), task_id=task_id)
    with tenant("acme"), pytest.raises(IdempotencyError):
        deliver_later.apply_async((message(),), task_id=task_id)
    earlier = deliver_later.delay(message())
    with pytest.raises(IdempotencyError):
        deliver_later.apply_async((message(),), task_id=earlier.id)


@pytest.mark.parametrize(
    "several", [["grace@example.com", "linus@example.com"], ["ada@example.com", "linus@example.com"]]
)
def test_another_call_under_the_same_task_id_leaves_no_row_and_shares_no_content(cluster, several: list[str]) -> None:
    task_id = str(uuid4())
    first = deliver_later.apply_async((message(["ada@example.com", "grace@example.com"]),), task_id=task_id)
    before = rows_of(cluster)
    other = Message(to=["ada@example.com", "grace@example.com"], subject="Other", text="Other words.")
    for scope in ("default", "acme"):
        with tenant(scope), pytest.raises(IdempotencyError):
            deliver_later.apply_async((message(several),), task_id=task_id)
        with tenant(scope), pytest.raises(IdempotencyError):
            deliver_later.apply_async((other,), task_id=task_id)
        with tenant(scope), pytest.raises(IdempotencyError):
            deliver_later.apply_async((message(several),), task_id=first[1].id)
    assert rows_of(cluster) == before


def test_of_two_calls_at_once_under_one_task_id_one_is_recorded_whole_and_the_other_not_at_all(cluster) -> None:
    """Two transactions overlap: the second waits for the first, and neither adds to the other."""
    task_id = str(uuid4())
    engine = sqlalchemy.create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))
    refused: list[BaseException] = []

    def second() -> None:
        try:
            deliver_later.apply_async(
                (message(["ada@example.com", "linus@example.com", "x@example.com"]),), task_id=task_id
            )
        except IdempotencyError as error:
            refused.append(error)

    with engine.begin() as connection:
        group = deliver_later.apply_async(
            (message(["ada@example.com", "grace@example.com"]),), {"session": connection}, task_id=task_id
        )
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
    waiting.join(60)
    assert len(refused) == 1
    assert {str(delivery.id) for delivery in deliveries.find(cluster.runtime.database)} == {each.id for each in group}
    engine.dispose()


def test_the_database_refuses_a_delivery_on_the_content_of_another_call_or_tenant(cluster) -> None:
    deliver_later.delay(message())
    group = deliver_later.delay(message(["grace@example.com", "linus@example.com"]))
    add = (
        "INSERT INTO mailglass.deliveries (id, tenant_id, group_id, message_id, stream, queue, status, recipient,"
        " recipient_domain) SELECT gen_random_uuid(), {}, {}, message_id, stream, queue, status, 'x@example.com',"
        " 'example.com' FROM mailglass.deliveries WHERE group_id IS {} NULL LIMIT 1"
    )
    wrong = [
        add.format("tenant_id", "NULL", ""),
        add.format("'acme'", "group_id", "NOT"),
        add.format("tenant_id", "gen_random_uuid()", "NOT"),
        f"UPDATE mailglass.deliveries SET message_id = '{group.id}' WHERE group_id IS NULL",
        "UPDATE mailglass.deliveries SET tenant_id = 'acme'",
    ]
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"], autocommit=True) as connection:
        for statement in wrong:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(statement)
            assert caught.value.sqlstate == "45A03", statement


def rows_of(cluster) -> list[object]:
    """All that a call could have added: deliveries, contents and events."""
    return [
        sorted(cluster.runtime.database.query(sqlalchemy.text(f"SELECT id FROM mailglass.{table}")))
        for table in ("deliveries", "messages", "events")
    ]


def test_two_equal_messages_sent_on_purpose_are_two_deliveries(cluster) -> None:
    assert deliver_later.delay(message()).id != deliver_later.delay(message()).id


def test_with_the_callers_session_the_delivery_commits_and_rings_with_it(cluster) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))
    with Session(engine) as session, session.begin():
        result = deliver_later.delay(message(), session=session)
        with session.begin_nested():
            deliver_later.delay(message(), session=session)
        assert deliveries.find(cluster.runtime.database) == []
        assert rings(cluster) == 0
    assert result.state == "queued"
    assert rings(cluster) == 1
    engine.dispose()


def test_with_the_callers_session_a_rollback_leaves_nothing(cluster) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))
    with Session(engine) as session:
        deliver_later.delay(message(), session=session)
        group = deliver_later.delay(message(["grace@example.com", "linus@example.com"]), session=session)
        session.rollback()
    assert not group.ready(), "nothing is ready that is not there"
    assert deliveries.find(cluster.runtime.database) == []
    engine.dispose()


def test_with_the_callers_connection_it_commits_and_rings_soon(cluster, wait_for) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))
    with engine.begin() as connection:
        deliver_later.delay(message(), session=connection)
        assert rings(cluster) == 0
    wait_for(lambda: rings(cluster) == 1)
    engine.dispose()


def test_a_session_of_the_wrong_kind_names_the_remedy(cluster) -> None:
    with pytest.raises(TypeError, match="adelay"):
        deliver_later.delay(message(), session=object())


def test_deliver_many_answers_in_input_order_and_one_bad_message_stops_no_other(cluster) -> None:
    suppress(cluster.runtime.database, [Suppression("default", "gone@example.com", "hard_bounce", "webhook")])

    def messages():
        for number in range(1200):
            if number == 700:
                yield "not a message"
            elif number == 3:
                yield message("gone@example.com")
            else:
                yield message(f"u{number}@example.com")

    results = deliver_many(messages())
    assert len(results) == 1200
    assert results[3].outcome is ItemOutcome.SUPPRESSED
    assert results[700].outcome is ItemOutcome.INVALID
    assert all(result.outcome is ItemOutcome.QUEUED for n, result in enumerate(results) if n not in (3, 700))
    assert deliveries.get(cluster.runtime.database, results[42].ids[0]).recipient == "u42@example.com"
    assert rings(cluster) == 1


def test_deliver_many_or_raise_tells_partial_from_total_failure(cluster) -> None:
    with pytest.raises(BatchFailedError) as partial:
        deliver_many_or_raise([message(), "no message"])
    assert partial.value.type == "partial_failure"
    with pytest.raises(BatchFailedError) as total:
        deliver_many_or_raise(["no message"])
    assert total.value.type == "all_failed"


def test_deliver_sends_in_this_process_by_the_same_path(cluster, outside) -> None:
    delivery = deliver(message())
    assert delivery.status is Status.SENT
    assert outside.received == {str(delivery.id): 1}
    assert [event.kind for event in deliveries.timeline(cluster.runtime.database, delivery.id)] == [
        "queued",
        "attempted",
    ]


def test_deliver_raises_what_was_recorded(cluster, outside) -> None:
    outside.weather = lambda recipient: Weather.HARD_BOUNCE
    with pytest.raises(DeliveryError) as caught:
        deliver(message())
    assert caught.value.reason == "smtp_550"
    with pytest.raises(SuppressedError):
        deliver(message())


def test_no_tenant_in_scope_is_an_error_where_there_is_no_default(cluster) -> None:
    configure(load_settings({**cluster.environment, "MAILGLASS_DEFAULT_TENANT": ""}))
    with pytest.raises(TenantError, match="default_tenant"):
        deliver_later.delay(message())


def test_a_tenant_without_a_route_is_an_error_and_never_a_fallback(cluster, tmp_path: Path) -> None:
    config = tmp_path / "narrow.toml"
    config.write_text(
        'default_from = "a@example.com"\n[accounts.a]\nprovider = "null"\n[[routes]]\ntenant = "acme"\naccounts = ["a"]'
    )
    configure(load_settings({**cluster.environment, "MAILGLASS_CONFIG": str(config)}))
    with pytest.raises(RouteError, match="routes"):
        deliver_later.delay(message())


def test_a_database_that_cannot_be_reached_is_one_clear_error(cluster) -> None:
    configure(load_settings({**cluster.environment, "MAILGLASS_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}))
    with pytest.raises(LedgerUnavailableError) as caught:
        deliver_later.delay(message())
    assert caught.value.retryable


def test_calls_with_the_broker_down_succeed_and_hardly_ever_try_it(cluster, broker, monkeypatch) -> None:
    doorbell, tries = cluster.runtime.doorbell, []
    ring_chunk = doorbell._ring_chunk
    monkeypatch.setattr(doorbell, "_ring_chunk", lambda *given: [tries.append(1), ring_chunk(*given)][1])
    broker.stop()
    try:
        with tenant("null"):
            results = [deliver_later.delay(message()) for _ in range(300)]
        assert len({result.id for result in results}) == 300
        # pauses of one, two, four, eight and then ten seconds lie between two tries
        assert 1 <= len(tries) < 30
    finally:
        broker.start()


def test_importing_mailglass_imports_neither_database_nor_provider() -> None:
    code = (
        "import sys, mailglass;"
        "bad = {'sqlalchemy', 'psycopg', 'httpx', 'celery', 'jinja2', 'redis'} & set(sys.modules);"
        "assert not bad, bad;"
        "assert not [m for m in sys.modules if m.startswith('mailglass.providers.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_applications_own_celery_app_stays_current_and_keeps_its_shared_tasks() -> None:
    code = """
from celery import Celery, current_app, shared_task
import mailglass
from mailglass import deliver_later, app
assert current_app._get_current_object() is not app
mine = Celery("mine", broker="memory://")
@shared_task
def add(a, b): return a + b
assert add.app is mine, add.app
assert current_app._get_current_object() is mine
assert deliver_later.app is app
assert "mailglass.deliver_later" not in mine.tasks
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_celery_finds_the_app_by_the_packages_name() -> None:
    from celery.app.utils import find_app

    assert isinstance(find_app("mailglass"), Celery)
    assert find_app("mailglass").main == "mailglass"


def test_no_result_shows_an_address(cluster) -> None:
    given = message("very.private@example.com")
    result = deliver_later.delay(given)
    assert "private" not in repr(result) + str(result) + repr(result.delivery) + repr(given)
    assert Address("very.private@example.com").email not in repr(Address("very.private@example.com"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("countdown", float("nan")),
        ("countdown", float("inf")),
        ("countdown", "soon"),
        ("expires", float("nan")),
        ("expires", "tomorrow"),
        ("eta", datetime(9999, 1, 1, tzinfo=UTC)),
        ("priority", 5.0),
    ],
)
def test_an_option_that_the_ledger_cannot_keep_is_refused_by_its_name(cluster, field: str, value: object) -> None:
    with pytest.raises(MessageError) as caught:
        deliver_later.apply_async((message(),), **{field: value})
    assert caught.value.field == field


def test_a_key_is_free_again_after_a_rate_limit_refused_its_mail(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = cluster.runtime.limiter
    with monkeypatch.context() as limited:
        limited.setattr(
            limiter,
            "take",
            lambda requests, **_: [Grant(False, 3.0, RateLimitType.PER_ACCOUNT) for _ in requests],
        )
        with pytest.raises(RateLimitError):
            deliver(message(idempotency_key="order-1"))
    assert deliver(message(idempotency_key="order-1")).status is Status.SENT


def test_a_message_without_a_route_stops_no_other(cluster) -> None:
    settings = load_settings()
    configure(replace(settings, routes=(replace(settings.routes[-1], stream="transactional"),)))
    results = deliver_many([message(stream="bulk"), message()])
    assert [result.outcome for result in results] == [ItemOutcome.INVALID, ItemOutcome.QUEUED]
    assert isinstance(results[0].error, RouteError)


def test_a_broken_metric_does_not_decide_about_a_mail(cluster) -> None:
    def broken(event: str, fields: dict) -> None:
        raise RuntimeError("no metrics")

    end = telemetry.subscribe(broken)
    try:
        assert deliver(message()).status is Status.SENT
    finally:
        end()


def test_a_message_of_html_is_recorded_with_its_text(cluster) -> None:
    result = deliver_later.delay(Message(to="ada@example.com", subject="S", html="<style>p{}</style><p>Hello"))
    with psycopg.connect(cluster.environment["MAILGLASS_DATABASE_URL"], autocommit=True) as connection:
        found = connection.execute(
            "SELECT m.content ->> 'text' FROM mailglass.messages m JOIN mailglass.deliveries d ON d.message_id = m.id"
            " WHERE d.id = %s",
            [result.id],
        ).fetchone()
    assert found == ("Hello\n",)
