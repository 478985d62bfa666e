"""The mailbox of a test: the real path of a mail without a worker, in a transaction that leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg.rows import namedtuple_row
from sqlalchemy.orm import Session

import mailglass.web
from mailglass import (
    DeliveryError,
    DeliveryResult,
    IdempotencyError,
    Mailable,
    Message,
    SuppressedError,
    cancel_many,
    deliver,
    deliver_later,
    deliver_many,
    tenant,
)
from mailglass.errors import LedgerError
from mailglass.ledger import deliveries
from mailglass.ledger.database import Database, sqlalchemy_url
from mailglass.ledger.suppressions import suppressions_of
from mailglass.mail.addresses import Address
from mailglass.routing import RouteContext, Tenancy
from mailglass.settings import configure
from mailglass.testing import Mailbox, OutboxError, mailbox
from mailglass.testing.advance import HISTORY, MOVED
from tests.plugin import plugin_options


class Receipt(Mailable):
    subject = "Receipt {{ number }}"
    html = "<p>Thank you.</p>"


def message(to: Any = "ada@example.com", **fields: Any) -> Message:
    return Message(**{"to": to, "subject": "Receipt 1001", "text": "Thank you.", **fields})


def later(to: str = "ada@example.com", **options: Any) -> DeliveryResult:
    result = deliver_later.apply_async((message(to),), **options)
    assert isinstance(result, DeliveryResult)
    return result


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    configure(None)
    yield
    configure(None)


@pytest.fixture
def box(database_url: str) -> Iterator[Mailbox]:
    with mailbox(database_url=database_url) as opened:
        yield opened


def stored(url: str) -> int:
    database = Database(url)
    try:
        return sum(sum(counts.values()) for counts in deliveries.counts(database).values())
    finally:
        database.dispose()


# --- sending


def test_mail_is_recorded_claimed_and_sent_as_by_a_worker(box: Mailbox) -> None:
    result = deliver_later.delay(Receipt(to="ada@example.com", context={"number": 4711}))
    assert isinstance(result, DeliveryResult)
    assert result.state == "queued"
    box.assert_nothing_sent()
    (mail,) = box.deliver()
    assert mail == box.assert_sent(to="ada@example.com", subject="Receipt 4711", mailable=Receipt, count=1)
    assert (result.state, result.get(timeout=1).provider, box.deliver()) == ("sent", "mailbox", [])
    events = [(event.kind, event.outcome) for event in deliveries.timeline(box.runtime.database, result.id)]
    assert events == [("queued", None), ("attempted", "accepted")]


def test_every_way_to_send_ends_in_the_mailbox(box: Mailbox) -> None:
    assert deliver(message("now@example.com")).status == "sent"
    with tenant("acme"):
        deliver_many(message(f"u{number}@example.com") for number in range(600))
    later("later@example.com", countdown=60)
    assert len(box.deliver()) == 600
    assert cancel_many(recipient="later@example.com").canceled == 1
    deliver_later.delay(message(idempotency_key="order-1001"))
    with pytest.raises(IdempotencyError):
        deliver_later.delay(message("b@example.com", idempotency_key="order-1001"))


def test_an_application_with_the_endpoints_lifespan_starts_in_the_mailbox(box: Mailbox) -> None:
    with TestClient(FastAPI(lifespan=mailglass.web.app.lifespan)):
        later("ada@example.com")


def test_time_that_passes_brings_what_is_due_and_ends_what_expires(box: Mailbox) -> None:
    due, expires = later("due@example.com", countdown=7200), later("late@example.com", countdown=7000, expires=7100)
    assert box.deliver() == []
    box.advance(hours=2)
    assert [mail.to.email for mail in box.deliver()] == ["due@example.com"]
    assert (due.state, expires.state, expires.delivery.last_error) == ("sent", "failed", "expired")


def test_answers_of_the_provider_have_their_consequences(box: Mailbox) -> None:
    box.answer_next("transient", reason="http_503")
    result = later()
    assert (box.deliver(), result.state, result.delivery.last_error) == ([], "queued", "http_503")
    box.advance(hours=1)
    assert (len(box.deliver()), result.state) == (1, "sent")
    box.answer_next("uncertain")
    doubtful = later("bob@example.com")
    assert (box.deliver(), doubtful.state) == ([], "uncertain")
    box.advance(minutes=11)
    assert (len(box.deliver()), doubtful.state) == (1, "sent")
    box.answer_next("rejected", reason="http_422")
    with pytest.raises(DeliveryError, match="http_422"):
        deliver(message("eve@example.com"))


def test_guard_of_the_environment_does_not_keep_mail_from_a_test(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILGLASS_ALLOW", "*@allowed.example")
    with mailbox(database_url=database_url) as box:
        later()
        assert len(box.deliver()) == 1


class Kept(Tenancy):
    """An application that keeps its accounts."""

    def resolve_route(self, context: RouteContext) -> list[str]:
        return ["kept"]

    def resolve_account(self, name: str) -> None:
        raise AssertionError("the mailbox opens no account")


def test_mail_of_an_account_that_the_application_keeps_is_sent(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "mailglass.toml").write_text(f'tenancy = "{__name__}:Kept"\n', encoding="utf-8")
    configure(None)
    with mailbox(database_url=database_url) as box:
        later()
        assert [mail.account for mail in box.deliver()] == ["kept"]


# --- webhooks


def test_simulated_events_are_projected_and_suppress(box: Mailbox) -> None:
    result = later()
    with pytest.raises(OutboxError, match="call deliver"):
        box.simulate("delivered", result)
    box.deliver()
    assert box.simulate("delivered").outcome == "delivered"
    assert box.simulate("opened", machine=True).facts.opened_at is None
    assert box.simulate("opened").facts.opened_at is not None
    assert box.simulate("bounced", bounce_class="soft").facts.bounce_class == "soft"
    assert suppressions_of(box.runtime.database, "default", Address("ada@example.com")) == []
    assert box.simulate("bounced", result).facts.bounce_class == "hard"
    with pytest.raises(SuppressedError):
        later()
    later("bob@example.com")
    (mail,) = box.deliver()
    with pytest.raises(OutboxError, match="2 mails were sent"):
        box.simulate("complained")
    assert box.simulate("complained", mail).outcome == "complained"
    with pytest.raises(SuppressedError):
        later("bob@example.com")
    box.suppress("eve@example.com")
    with pytest.raises(SuppressedError):
        later("eve@example.com")


def test_evidence_of_a_webhook_settles_what_may_have_been_sent(box: Mailbox) -> None:
    box.answer_next("uncertain")
    result = later()
    box.deliver()
    assert box.simulate("delivered", result).status == "sent"


# --- nothing is left


def test_tests_leave_nothing_and_see_nothing_of_others(database_url: str) -> None:
    database = Database(database_url)
    for _ in range(2):
        with mailbox(database_url=database_url) as box:
            deliver(message())
            later("bob@example.com")
            box.deliver()
            assert sum(deliveries.counts(box.runtime.database)["default"].values()) == 2
        assert stored(database_url) == 0
    database.dispose()


def test_deliveries_that_stood_before_are_not_sent(database_url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with mailbox(database_url=database_url) as box, Session(engine) as session:
        deliver_later.delay(message("left@example.com"), session=session)
        session.commit()
        assert [mail.to.email for mail in box.deliver()] == ["left@example.com"]
    assert stored(database_url) == 1
    with mailbox(database_url=database_url) as box:
        later("bob@example.com")
        assert [mail.to.email for mail in box.deliver()] == ["bob@example.com"]
        box.advance(days=30)
        assert box.deliver() == []
    engine.dispose()


def test_refused_statement_leaves_the_others_as_they_are(box: Mailbox) -> None:
    result = later()
    with pytest.raises(LedgerError):
        box.runtime.database.query(sqlalchemy.text("SELECT no_such_column FROM mailglass.deliveries"))
    with pytest.raises(LedgerError):
        box.runtime.database.run("delivery", {"id": "no id"})
    assert (len(box.deliver()), result.state) == (1, "sent")


# --- connections of the tests' own


def test_a_mail_in_the_tests_own_transaction_is_sent_and_rolls_back_with_it(database_url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        outer = connection.begin()
        with mailbox(connection) as box, Session(connection, join_transaction_mode="create_savepoint") as session:
            deliver_later.delay(message(), session=session)
            session.commit()
            deliver_later.delay(message("undone@example.com"), session=session)
            session.rollback()
            later("own@example.com")
            assert {mail.to.email for mail in box.deliver()} == {"ada@example.com", "own@example.com"}
            assert box.simulate("delivered", box.sent[0]).outcome == "delivered"
        outer.rollback()
    engine.dispose()
    assert stored(database_url) == 0


def test_a_connection_of_psycopg_serves_as_the_ledger(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        with mailbox(connection) as box:
            deliver_later.delay(message(), session=connection)
            assert len(box.deliver()) == 1
        connection.rollback()
    assert stored(database_url) == 0


def test_a_connection_that_cannot_serve_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as own:
        with pytest.raises(OutboxError, match="in no transaction"), mailbox(own):
            pass
        with own.transaction(), mailbox(own):
            later()
            raise psycopg.Rollback
    assert stored(database_url) == 0
    with (
        sqlalchemy.create_engine("sqlite://").connect() as other,
        pytest.raises(OutboxError, match="psycopg 3"),
        mailbox(other),
    ):
        pass
    empty = database_url.rpartition("/")[0] + "/postgres"
    with pytest.raises(OutboxError, match="mailglass db upgrade"), mailbox(database_url=empty):
        pass
    with pytest.raises(OutboxError, match="cannot connect"), mailbox(database_url="postgresql://127.0.0.1:1/none"):
        pass


# --- time


def test_all_moments_of_the_schema_are_known_as_moved_or_history(database_url: str) -> None:
    with psycopg.connect(database_url, row_factory=namedtuple_row) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'mailglass' AND data_type = 'timestamp with time zone' "
            "AND table_name NOT IN ('schema_version', 'schema_support')"
        ).fetchall()
    found = {(row.table_name, row.column_name) for row in rows}
    known = [(table, column) for part in (MOVED, HISTORY) for table, columns in part.items() for column in columns]
    assert sorted(known) == sorted(found)


# --- frameworks


# the tests of a project, to which DATABASE is added
DJANGO_TESTS = """
import unittest
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS=["mailglass.integrations.django"],
    USE_TZ=True,
    DATABASES={"default": DATABASE},
)
django.setup()
from django.core import mail
from django.db import connection, transaction
from django.test import TestCase, override_settings
from django.test.utils import setup_test_environment
from mailglass import Message, deliver_later
from mailglass.testing import mailbox, outbox

setup_test_environment()
MESSAGE = Message(to="ada@example.com", subject="Receipt", text="Thank you.")

class ShopTest(TestCase):
    def send(self):
        with transaction.atomic():
            return deliver_later.delay(MESSAGE, session=connection.connection)

    def test_mailbox(self):
        with mailbox(connection) as box:
            result = self.send()
            box.deliver()
            box.assert_sent(to="ada@example.com", count=1)
            self.assertEqual(box.simulate("bounced", result).outcome, "bounced")

    def test_mailbox_again(self):
        with mailbox(connection) as box:
            self.assertEqual(box.deliver(), [])
            self.send()
            self.assertEqual(len(box.deliver()), 1)

    def test_outbox_asks_no_database(self):
        connection.ensure_connection()
        with outbox() as box, self.assertNumQueries(0):
            deliver_later.delay(MESSAGE, session=connection.connection)
            box.assert_sent(count=1)

    def test_mail_outbox_goes_on(self):
        with outbox() as box:
            mail.send_mail("Subject", "Text", "a@example.com", ["b@example.com"])
            self.assertEqual(len(mail.outbox), 1)
            box.assert_nothing_sent()

    @override_settings(EMAIL_BACKEND="mailglass.integrations.django.EmailBackend")
    def test_backend_is_caught(self):
        for caught in (outbox(), mailbox(connection)):
            with caught as box, self.captureOnCommitCallbacks(execute=True):
                with transaction.atomic():
                    mail.send_mail("Reset", "Text", "a@example.com", ["b@example.com"])
                if hasattr(box, "deliver"):
                    box.deliver()
                box.assert_sent(to="b@example.com", subject="Reset", count=1)

if __name__ == "__main__":
    unittest.main()
"""


def test_djangos_test_case_sees_its_own_mail_and_the_mailbox(database_url: str, tmp_path: Path) -> None:
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": info.get("dbname"),
        "USER": info.get("user"),
        "PASSWORD": info.get("password", ""),
        "HOST": info.get("host"),
        "PORT": str(info.get("port", "")),
    }
    (tmp_path / "test_shop.py").write_text(
        f"DATABASE = {database!r}\n{DJANGO_TESTS}",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, "test_shop.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Ran 5 tests" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    assert stored(database_url) == 0


@pytest.mark.parametrize("options", [("-p", "no:xdist"), ("-n", "2")])
def test_fixture_serves_a_project_without_any_server(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "test_shop.py").write_text(
        textwrap.dedent(
            """
            import pytest
            from mailglass import Message, SuppressedError, deliver_later

            @pytest.mark.parametrize("number", range(6))
            def test_a_bounce_suppresses_until_the_test_is_over(mailbox, number):
                message = Message(to="ada@example.com", subject="Receipt", text="Thank you.")
                result = deliver_later.delay(message)
                mailbox.deliver()
                mailbox.simulate("bounced", result)
                with pytest.raises(SuppressedError):
                    deliver_later.delay(message)
                assert len(mailbox.sent) == 1
            """
        ),
        encoding="utf-8",
    )
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin_options(), *options]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "6 passed" in done.stdout, done.stdout + done.stderr
