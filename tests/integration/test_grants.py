"""Grants: each kind of process runs with what `mailglass db grants` prints, and with nothing more."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy

from mailglass import Message, cancel_many, clock, deliver_later, deliver_many, release_many, suppressions
from mailglass.cli import run
from mailglass.engine import Engine
from mailglass.engine.settler import Settler
from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases, schema, webhooks
from mailglass.ledger.database import Database
from mailglass.ledger.grants import Role, grants, sql, statements_of
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.statements import statements
from mailglass.mail.events import EventKind, ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.routing import Lane
from mailglass.runtime import close_runtime
from mailglass.settings import AccountSettings, Route, Secret, Settings, configure
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted
from mailglass.webhooks import process

LANE = Lane("mailglass", "default", "transactional")
_numbers = count()


@pytest.fixture
def owner(direct_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(direct_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def grantee(owner: psycopg.Connection, request: pytest.FixtureRequest) -> Iterator[str]:
    """A role that may do nothing yet, with a name that must be quoted."""
    name = f'Mail "{uuid4().hex}'
    quoted = psycopg.sql.Identifier(name)
    owner.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(quoted))
    yield name
    owner.execute(psycopg.sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(quoted))


@pytest.fixture
def grantee_url(grantee: str, direct_url: str, servers: Any) -> str:
    """The URL by which the role reaches the ledger."""
    parts = urlsplit(direct_url)
    return servers.reach(urlunsplit(parts._replace(netloc=f"{quote(grantee)}:pw@{parts.hostname}:{parts.port}")))


def granted(owner: psycopg.Connection, role: Role, name: str, grantee_url: str) -> Database:
    for line in sql(role, name):
        owner.execute(line)
    return Database(grantee_url)


_VERBS = {
    "SELECT": "(FROM|JOIN|USING|INTO|UPDATE)",
    "INSERT": "INTO",
    "UPDATE": "(UPDATE|INTO)",
    "DELETE": "DELETE FROM",
}


def explained(connection: psycopg.Connection, name: str) -> bool:
    """Whether the role may run a statement: its privileges are looked at before it is explained."""
    statement = statements()[name]
    names = list(dict.fromkeys(part.partition(")s")[0] for part in statement.split("%(")[1:]))
    for number, parameter in enumerate(names, 1):
        statement = statement.replace(f"%({parameter})s", f"${number}")
    prepared = f"p{next(_numbers)}"
    try:
        connection.execute(f"PREPARE {prepared} AS {statement}")
    except psycopg.errors.IndeterminateDatatype:
        return True
    try:
        arguments = f"({', '.join(['NULL'] * len(names))})" if names else ""
        connection.execute(f"EXPLAIN EXECUTE {prepared}{arguments}")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


@pytest.mark.parametrize("role", [Role.PRODUCER, Role.WORKER, Role.WEB, Role.SUPPRESSIONS])
def test_a_role_is_granted_what_its_statements_need_and_no_more(
    owner: psycopg.Connection, grantee: str, role: Role
) -> None:
    for line in sql(role, grantee):
        owner.execute(line)
    quoted = '"' + grantee.replace('"', '""') + '"'
    owner.execute(f"SET ROLE {quoted}")
    names = statements_of(role)
    assert [name for name in names if not explained(owner, name)] == []
    inner = {"rate_limits", "rate_lessons", "schema_version", "schema_support"}
    for table, privileges in grants(role).items():
        for privilege in privileges if table not in inner else ():
            if not any(re.search(rf"{_VERBS[privilege]} mailglass\.{table}\b", statements()[name]) for name in names):
                # a function of the schema needs it, which is not explained
                continue
            owner.execute("RESET ROLE")
            owner.execute(f"REVOKE {privilege} ON mailglass.{table} FROM {quoted}")
            owner.execute(f"SET ROLE {quoted}")
            touching = [name for name in names if f"mailglass.{table}" in statements()[name]]
            assert not all(explained(owner, name) for name in touching), (table, privilege)
            owner.execute("RESET ROLE")
            owner.execute(f"GRANT {privilege} ON mailglass.{table} TO {quoted}")
    owner.execute("RESET ROLE")


def message(number: int) -> Message:
    return Message(to=f"u{number}@example.com", subject="Receipt", text="Thank you.", from_="shop@example.com")


class Posting(ScriptedProvider):
    def normalise(self, body: bytes, headers: object) -> list[ProviderEvent]:
        return [ProviderEvent(EventKind.BOUNCED, "e1", delivery_id=uuid7(), recipient="u0@example.com")]


@pytest.fixture
def site(database_url: str) -> Iterator[Settings]:
    settings = Settings(
        database_url=Secret(database_url, "test"),
        accounts={"main": AccountSettings("main", "null")},
        routes=(Route(("main",)),),
    )
    yield settings
    configure(None)
    close_runtime()


def test_a_producer_records_looks_cancels_and_releases(
    owner: psycopg.Connection, grantee: str, grantee_url: str, site: Settings
) -> None:
    database = granted(owner, Role.PRODUCER, grantee, grantee_url)
    close_runtime()
    configure(Settings(database_url=Secret(grantee_url, "test"), accounts=site.accounts, routes=site.routes))
    result = deliver_later.delay(message(1))
    assert deliver_many(message(number) for number in range(2, 5)).counts == {"queued": 3}
    assert result.state == "queued"
    assert result.cancel()
    owner.execute(
        "UPDATE mailglass.deliveries SET due_at = NULL, status = 'held' WHERE status = 'queued'"
        " AND recipient = 'u2@example.com'"
    )
    assert release_many(status="held") == 1
    assert cancel_many(status="queued").canceled == 3
    schema.check(grantee_url)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        psycopg.connect(grantee_url).execute("SELECT content FROM mailglass.messages")
    database.dispose()


def test_a_worker_sends_sweeps_settles_and_processes_webhooks(
    owner: psycopg.Connection, grantee: str, grantee_url: str, site: Settings
) -> None:
    close_runtime()
    configure(site)
    ids = [result.ids[0] for result in deliver_many(message(number) for number in range(4))]
    database = granted(owner, Role.WORKER, grantee, grantee_url)
    provider = Posting(account="main")
    answers = iter(
        (
            Outcome(OutcomeClass.SUPPRESSED, hard_bounce=True),
            Outcome(OutcomeClass.UNCERTAIN),
            Outcome(OutcomeClass.MISCONFIGURED),
        )
    )
    provider.script = lambda mail: next(answers, accepted(mail))
    accounts = FixedAccounts(site, {"main": provider})
    Engine(site, database, accounts).run(LANE)
    leases.claim(database, LANE, uuid4(), 10, -1)
    Settler(site, database, accounts).sweep()
    Settler(site, database, accounts).run()
    webhooks.store(database, "main", "scripted", "w1", b"{}", {})
    process.run(site, database, accounts, after_claim=lambda more: None)
    assert {state.status for state in deliveries.states(database, ids).values()} >= {Status.SUPPRESSED}
    schema.check(grantee_url)
    for forbidden in (
        "DELETE FROM mailglass.events",
        "DELETE FROM mailglass.deliveries",
        "CREATE TABLE mailglass.x ()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            psycopg.connect(grantee_url).execute(forbidden)
    database.dispose()


def test_a_web_process_keeps_webhooks_and_sees_no_mail(
    owner: psycopg.Connection, grantee: str, grantee_url: str
) -> None:
    database = granted(owner, Role.WEB, grantee, grantee_url)
    webhooks.store(database, "main", "scripted", "w1", b"{}", {})
    assert database.run("ring", {"names": ["mailglass.webhooks.process"], "ring_timeout": 5.0})
    schema.check(grantee_url)
    for table in ("deliveries", "messages", "events", "suppressions"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            psycopg.connect(grantee_url).execute(f"SELECT * FROM mailglass.{table}")
    database.dispose()


def test_an_application_edits_the_suppression_list_and_sees_no_mail(
    owner: psycopg.Connection, grantee: str, grantee_url: str, site: Settings
) -> None:
    granted(owner, Role.SUPPRESSIONS, grantee, grantee_url).dispose()
    close_runtime()
    configure(Settings(database_url=Secret(grantee_url, "test"), accounts=site.accounts))
    assert suppressions.add(["ada@example.com", "example.org"], tenant="acme") == 2
    file = io.StringIO("email\nbob@example.com\n")
    assert suppressions.import_csv(file, tenant="acme", reason="manual", dry_run=True).added == 1
    assert [entry.reason for entry in suppressions.check("ada@example.com", tenant="acme")] == ["manual"]
    assert suppressions.count(tenant="acme") == len(list(suppressions.search(tenant="acme"))) == 2
    assert suppressions.remove("ada@example.com", tenant="acme").is_whole
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        psycopg.connect(grantee_url).execute("SELECT * FROM mailglass.deliveries")


def test_a_reader_counts_the_backlog_and_sees_no_address(
    owner: psycopg.Connection, grantee: str, grantee_url: str, site: Settings
) -> None:
    configure(site)
    deliver_many(message(number) for number in range(3))
    database = granted(owner, Role.READER, grantee, grantee_url)
    assert deliveries.counts(database) == {"default": {"queued": 3}}
    waiting = sqlalchemy.text("SELECT count(*) FROM mailglass.deliveries WHERE status = 'queued' AND due_at <= :now")
    assert database.query(waiting.bindparams(now=clock.now() + timedelta(minutes=1)))[0][0] == 3
    for column in ("recipient", "recipient_name", "idempotency_key", "provider_message_id"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            psycopg.connect(grantee_url).execute(f"SELECT {column} FROM mailglass.deliveries")
    database.dispose()


@pytest.mark.parametrize("role", list(Role))
def test_the_command_prints_sql_for_a_named_role(role: Role, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "grants", role.value, "--to", 'app "1"']) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == sql(role, 'app "1"')
    assert 'TO "app ""1""";' in out
    assert run(["db", "grants", role.value, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sql"] == sql(role, f"mailglass_{role}")
