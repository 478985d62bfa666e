"""Deliveries in Django's own transaction on PostgreSQL, and after its commit where the ledger is elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextlib import suppress as suppress_error
from typing import Any

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import setup_test_environment, teardown_test_environment

from mailglass import LedgerUnavailableError, Message, SessionError, SuppressedError, deliver_later, deliver_many
from mailglass.errors import ConfigError, LedgerError
from mailglass.integrations.django import EmailBackend, backend, session
from mailglass.ledger import schema
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.settings import configure, get_settings
from tests.django_project import database, project, shop
from tests.integration.test_django_send_mail import message, sent

__all__ = ["shop"]
OPTIONS = {
    "plain": {},
    "without server-side cursors": {"DISABLE_SERVER_SIDE_CURSORS": True},
    "server-side binding": {"OPTIONS": {"server_side_binding": True}},
    "prepared statements": {"OPTIONS": {"prepare_threshold": 0}},
    "pool": {"OPTIONS": {"pool": {"min_size": 1, "max_size": 2}}},
    "persistent": {"CONN_MAX_AGE": 60},
    "serializable": {"OPTIONS": {"isolation_level": 4}},
    "in another time zone": {"TIME_ZONE": "Asia/Tokyo"},
}


def send(*to: str) -> int:
    return message(to=list(to or ("ada@example.com",))).send()


def later(to: str = "bob@example.com") -> Any:
    return deliver_later.delay(Message(to=to, subject="Receipt", text="Thank you."), session=session())


def recipients(cluster: Any) -> list[str]:
    return [delivery.recipient for delivery in sent(cluster)]


class Rollback(Exception):
    """Ends a transaction."""


@contextmanager
def rolled_back(using: str | None = None) -> Iterator[None]:
    """A transaction, or a savepoint within one, that an error ends."""
    with suppress_error(Rollback), transaction.atomic(using=using):
        yield
        raise Rollback


@pytest.fixture(params=OPTIONS)
def configured(cluster: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A project whose default database is the ledger's, with options of Django's connection."""
    url = cluster.environment["MAILGLASS_DATABASE_URL"]
    with project({"default": database(url, **OPTIONS[request.param])}) as holder:
        yield holder


def test_mails_commit_with_djangos_transaction_on_its_connection(configured: Any, cluster: Any) -> None:
    with transaction.atomic():
        send()
        later()
        assert recipients(cluster) == []
        assert cluster.rings.count() == 0
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM mailglass.deliveries WHERE status = 'queued'")
            assert cursor.fetchone() == (2,)
    assert recipients(cluster) == ["ada@example.com", "bob@example.com"]
    assert cluster.rings.count() == 1


def test_mails_roll_back_with_djangos_transaction_and_nobody_is_rung(configured: Any, cluster: Any) -> None:
    with rolled_back():
        send()
        later()
    assert recipients(cluster) == []
    assert cluster.rings.count() == 0


def test_a_savepoint_takes_back_its_own_mails_alone(shop: Any, cluster: Any) -> None:
    with transaction.atomic():
        send("a@example.com")
        with rolled_back():
            send("b@example.com")
            later("c@example.com")
        later("d@example.com")
    assert recipients(cluster) == ["a@example.com", "d@example.com"]


def test_mails_outside_a_transaction_are_recorded_and_rung_at_once(configured: Any, cluster: Any) -> None:
    send()
    later()
    assert recipients(cluster) == ["ada@example.com", "bob@example.com"]
    assert cluster.rings.count() == 1


def test_the_first_statement_of_a_connection_may_be_a_mail(shop: Any, cluster: Any) -> None:
    assert connection.connection is None
    with transaction.atomic():
        later()
    connection.close()
    assert connection.connection is None
    later("carol@example.com")
    assert recipients(cluster) == ["bob@example.com", "carol@example.com"]


def test_many_messages_join_the_transaction_too(shop: Any, cluster: Any) -> None:
    with rolled_back():
        deliver_many([Message(to="ada@example.com", subject="News", text="Hello.")], session=session())
    assert recipients(cluster) == []


def test_a_refused_statement_leaves_the_callers_transaction_usable(shop: Any, cluster: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE mailglass.deliveries ADD CONSTRAINT no_eve CHECK (recipient <> 'eve@example.com')")
    with transaction.atomic():
        with pytest.raises(LedgerError):
            send("eve@example.com")
        assert EmailBackend(fail_silently=True).send_messages([message(to=["eve@example.com"])]) == 0
        send("ada@example.com")
    assert recipients(cluster) == ["ada@example.com"]


@pytest.mark.parametrize("place", ["autocommit", "transaction"])
def test_a_call_of_several_statements_records_all_of_its_mails_or_none(
    shop: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(backend, "CHUNK", 1)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE mailglass.deliveries ADD CONSTRAINT no_ada CHECK (recipient <> 'ada@example.com')")
    mails = [message(to=[name]) for name in ("bob@example.com", "ada@example.com")]
    with transaction.atomic() if place == "transaction" else nullcontext(), pytest.raises(LedgerError):
        mail.get_connection().send_messages(mails)
    # nothing was recorded that whoever sends them again would send twice
    assert recipients(cluster) == []
    assert mail.get_connection().send_messages(mails[:1]) == 1
    assert recipients(cluster) == ["bob@example.com"]


def test_a_broken_transaction_takes_no_mail(shop: Any, cluster: Any) -> None:
    with transaction.atomic():
        with suppress_error(IntegrityError), transaction.atomic(savepoint=False):
            raise IntegrityError
        with pytest.raises(TransactionManagementError):
            send()
    assert recipients(cluster) == []


def test_a_suppressed_recipient_is_recorded_within_the_transaction(shop: Any, cluster: Any) -> None:
    suppress(cluster.runtime.database, [Suppression("default", "ada@example.com", "manual", "manual")])
    with transaction.atomic():
        with pytest.raises(SuppressedError):
            send()
        send("bob@example.com")
    assert [(item.recipient, item.status) for item in sent(cluster)] == [
        ("ada@example.com", "suppressed"),
        ("bob@example.com", "queued"),
    ]


def test_each_thread_joins_its_own_transaction(shop: Any, cluster: Any) -> None:
    def another() -> None:
        send("other@example.com")
        connections.close_all()

    with rolled_back():
        send()
        thread = threading.Thread(target=another)
        thread.start()
        thread.join(60)
    assert recipients(cluster) == ["other@example.com"]


def test_with_autocommit_off_the_commit_is_the_callers_and_the_pump_rings(shop: Any, cluster: Any) -> None:
    transaction.set_autocommit(False)
    later()
    transaction.rollback()
    later("carol@example.com")
    transaction.commit()
    transaction.set_autocommit(True)
    assert recipients(cluster) == ["carol@example.com"]
    assert cluster.rings.count() == 0


@pytest.fixture
def sqlite(cluster: Any, tmp_path: Any) -> Iterator[Any]:
    """A project whose own database is SQLite, and the ledger elsewhere."""
    with project({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "shop.db"}}) as holder:
        yield holder


@pytest.fixture
def elsewhere(cluster: Any, empty_database_url: str) -> Iterator[Any]:
    """A project whose own database is another PostgreSQL database, without a ledger."""
    with project({"default": database(empty_database_url)}) as holder:
        yield holder


@pytest.fixture(params=["sqlite", "elsewhere"])
def apart(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_mails_are_recorded_after_the_commit_where_the_ledger_is_elsewhere(apart: Any, cluster: Any) -> None:
    with transaction.atomic():
        made = message()
        assert made.send() == 1
        assert (recipients(cluster), made.anymail_status.status) == ([], None)
    assert (recipients(cluster), made.anymail_status.status) == (["ada@example.com"], {"queued"})
    assert cluster.rings.count() == 1
    with rolled_back():
        send("bob@example.com")
    send("carol@example.com")
    assert recipients(cluster) == ["ada@example.com", "carol@example.com"]


def test_a_session_that_cannot_be_joined_is_an_error_with_the_remedy(apart: Any, cluster: Any) -> None:
    with pytest.raises((ConfigError, SessionError), match=r"on_commit|session="):
        later()
    ours = [item.id for item in run_checks(databases=["default"]) if str(item.id).startswith("mailglass")]
    assert ours == ["mailglass.I002"]
    assert recipients(cluster) == []


def test_a_ledger_that_is_lost_after_the_commit_raises_there_unless_silent(
    sqlite: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    configure(None)
    with pytest.raises(LedgerUnavailableError), transaction.atomic():
        send()
    with transaction.atomic():
        EmailBackend(fail_silently=True).send_messages([message()])


def test_a_project_without_a_database_sends_at_once(cluster: Any) -> None:
    with project({}):
        assert send() == 1
    assert recipients(cluster) == ["ada@example.com"]


@pytest.fixture
def derived(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A project where only DATABASES names the ledger's database, by another alias than Django's default."""
    url = cluster.environment["MAILGLASS_DATABASE_URL"]
    monkeypatch.delenv("MAILGLASS_DATABASE_URL")
    monkeypatch.delenv("MAILGLASS_CONFIG")
    monkeypatch.setenv("BROKER", cluster.environment["MAILGLASS_BROKER_URL"])
    own = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    document = {
        "database": "mail",
        "broker_url": "env:BROKER",
        "default_from": "shop@example.com",
        "pooler": cluster.environment.get("MAILGLASS_POOLER", "none"),
        "accounts": {"nowhere": {"provider": "null"}},
        "routes": [{"accounts": ["nowhere"]}],
    }
    with project({"default": own, "mail": database(url)}, MAILGLASS=document) as holder:
        yield holder


def test_the_named_database_is_the_ledgers_and_its_transaction_is_joined(derived: Any, cluster: Any) -> None:
    with rolled_back(using="mail"):
        send()
    with rolled_back():
        later()
    assert recipients(cluster) == ["bob@example.com"]


def test_a_database_that_djangos_test_runner_exchanges_is_followed(
    derived: Any, cluster: Any, empty_database_url: str
) -> None:
    send()
    other = database(empty_database_url)
    # as create_test_db does
    for place in (derived.DATABASES["mail"], connections["mail"].settings_dict):
        place["NAME"] = other["NAME"]
    connections["mail"].close()
    with pytest.raises(LedgerError, match="mailglass db upgrade"):
        send("bob@example.com")
    (missing,) = [item for item in run_checks(databases=["mail"]) if str(item.id).startswith("mailglass")]
    assert (missing.id, "mailglass db upgrade" in str(missing.hint)) == ("mailglass.W003", True)
    assert other["NAME"] in get_settings().database_url.reveal()
    if not cluster.environment.get("MAILGLASS_POOLER"):
        schema.upgrade(empty_database_url)
        send("carol@example.com")
    assert recipients(cluster) == ["ada@example.com"]


def test_a_test_database_with_the_ledger_is_copied_and_dropped(derived: Any, cluster: Any) -> None:
    if cluster.environment.get("MAILGLASS_POOLER"):
        pytest.skip("a pooler serves the databases that it knows")
    creation, own = connections["mail"].creation, derived.DATABASES["mail"]["NAME"]
    creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        call_command("mailglass", "db", "upgrade")
        send()
        assert run_checks(databases=["mail"]) == []
        creation.clone_test_db("1", verbosity=0, autoclobber=True)
        creation.destroy_test_db(verbosity=0, suffix="1")
        send("bob@example.com")
    finally:
        creation.destroy_test_db(own, verbosity=0)
    assert recipients(cluster) == []


def test_djangos_own_test_outbox_goes_on_working(shop: Any, cluster: Any) -> None:
    setup_test_environment()
    try:
        mail.send_mail("Hello", "Hello.", None, ["ada@example.com"])
        assert [made.subject for made in mail.outbox] == ["Hello"]
    finally:
        teardown_test_environment()
    assert recipients(cluster) == []
