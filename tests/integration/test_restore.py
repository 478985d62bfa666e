"""A ledger that is restored from a backup owes again what was sent since: held, searched for, released."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass.cli import run
from mailglass.engine import Engine
from mailglass.ids import uuid7
from mailglass.ledger import audit, deliveries, leases
from mailglass.ledger.database import Database, close_databases
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.providers.registry import Accounts
from mailglass.providers.search import ABSENT, UNKNOWN, SearchResult, SearchTarget, taken
from mailglass.routing import Lane
from mailglass.runtime import close_runtime
from mailglass.settings import AccountSettings, Route, Settings, configure
from mailglass.stack.postgres import PostgresServer, find_binaries
from mailglass.testing.provider import FixedAccounts, ScriptedProvider

LANE = Lane("mailglass", "acme", "transactional")
SETTINGS = Settings(
    accounts={"main": AccountSettings("main", "scripted", Address("shop@example.com"))}, routes=(Route(("main",)),)
)
CONTENT = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})
Command = Callable[..., tuple[int, Any]]


class Remembering(ScriptedProvider):
    """A provider whose search knows what it was given, and nothing of what is in `forgotten`."""

    searchable = True
    forgotten: frozenset[UUID] = frozenset()
    answers = True

    def find(self, targets: Sequence[SearchTarget], *, deadline: float) -> list[SearchResult]:
        known = {mail.delivery_id for mail in self.sent} - self.forgotten
        if not self.answers:
            return [UNKNOWN for _ in targets]
        return [taken(item.delivery_id, "p-1") if item.delivery_id in known else ABSENT for item in targets]


class Site:
    """One provider, and the databases that were and are the ledger."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.provider = Remembering(account="main")
        self.accounts = FixedAccounts(SETTINGS, {"main": self.provider})
        monkeypatch.setattr(Accounts, "open", lambda accounts, name: self.provider)

    def use(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
        monkeypatch.setenv("MAILGLASS_DATABASE_URL", url)
        configure(None)
        return Database(url)

    def queue(self, ledger: Database, count: int = 1, **fields: Any) -> list[UUID]:
        items = [Item(uuid7(), LANE, uuid7(), CONTENT, Address(f"u{n}@example.com"), **fields) for n in range(count)]
        return [recorded.id for recorded in submit(ledger.run, items)]

    def drain(self, ledger: Database) -> None:
        engine = Engine(SETTINGS, ledger, self.accounts)
        while engine.run(LANE).claimed:
            pass

    def times_sent(self, key: UUID) -> int:
        return [mail.delivery_id for mail in self.provider.sent].count(key)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    yield Site(monkeypatch)
    configure(None)
    close_runtime()
    close_databases()


@pytest.fixture
def ledger(site: Site, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    database = site.use(database_url, monkeypatch)
    yield database
    database.dispose()


@pytest.fixture
def mailglass(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; the exit code, and the JSON it printed."""

    def command(*arguments: Any) -> tuple[int, Any]:
        capsys.readouterr()
        code = run(["deliveries", *[str(argument) for argument in arguments], "--json"])
        out = capsys.readouterr().out
        assert "@example.com" not in out
        return code, json.loads(out) if out else None

    return command


def postgres_tool(name: str, *arguments: str) -> None:
    subprocess.run([str(find_binaries() / name), *arguments], check=True, capture_output=True, timeout=60)


def test_a_restored_ledger_sends_nothing_twice_that_its_provider_has(
    site: Site,
    ledger: Database,
    database_url: str,
    empty_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mailglass: Command,
) -> None:
    before = site.queue(ledger, 3)
    site.drain(ledger)
    owed = site.queue(ledger, 5)
    later = site.queue(ledger, delay=86400.0)
    backup = str(tmp_path / "backup.dump")
    postgres_tool("pg_dump", "--format=custom", f"--file={backup}", f"--dbname={database_url}")
    # what was sent after the backup, and what was still owed when the old database stopped
    unsent = owed[3:]
    for key in unsent:
        deliveries.cancel(ledger, [key], "acme")
    site.drain(ledger)
    postgres_tool("pg_restore", "--no-owner", f"--dbname={empty_database_url}", backup)
    restored = site.use(empty_database_url, monkeypatch)
    try:
        assert mailglass("hold", "--due-before", "2039-01-01T00:00Z")[1]["found"] == 6
        hold = ("hold", "--due-before", deliveries.get(restored, later[0]).due_at.isoformat())
        assert mailglass(*hold, "--yes")[1]["moved"] == 5
        site.drain(restored)
        assert [site.times_sent(key) for key in owed] == [1, 1, 1, 0, 0]
        code, searched = mailglass("search", "--account", "main", "--yes", "--as", "grace")
        assert (code, searched["found"], searched["absent"], searched["settled"]) == (0, 3, 2, 3)
        assert mailglass("release", "--tenant", "acme", "--reason", "restored", "--yes")[1]["moved"] == 2
        site.drain(restored)
        assert {site.times_sent(key) for key in (*before, *owed)} == {1}
        assert {state.status for state in deliveries.states(restored, owed).values()} == {Status.SENT}
        assert deliveries.get(restored, later[0]).status is Status.QUEUED
        assert deliveries.get(restored, owed[0]).account == "main"
        assert deliveries.timeline(restored, owed[0])[-1].reason == "search_evidence"
        assert [event.kind for event in deliveries.timeline(restored, owed[4])][-2:] == ["resent", "attempted"]
        actions = [entry.action for entry in audit.entries(restored)]
        assert actions == ["deliveries.release", "deliveries.settle.sent", "deliveries.hold"]
    finally:
        restored.dispose()


def test_mail_held_after_a_restore_is_not_canceled_because_it_may_have_been_sent(
    site: Site, ledger: Database, mailglass: Command
) -> None:
    ids = site.queue(ledger, 2)
    assert mailglass("hold", "--before", "2039-01-01T00:00Z", "--yes")[1]["moved"] == 2
    assert {deliveries.get(ledger, key).in_doubt for key in ids} == {True}
    code, answer = mailglass("cancel", *ids, "--tenant", "acme")
    assert (code, answer["canceled"], set(answer["in_doubt"])) == (1, [], {str(key) for key in ids})


def test_only_leases_that_are_over_are_held(site: Site, ledger: Database, mailglass: Command) -> None:
    live, dead, sending, queued = site.queue(ledger, 4)
    token = uuid4()
    leases.claim_these(ledger, [live], uuid4(), 60)
    leases.claim_these(ledger, [dead], uuid4(), -1)
    leases.claim_these(ledger, [sending], token, 60)
    leases.mark(ledger, token, [sending], "main", "scripted")
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET lease_expires_at = now() WHERE status = 'sending'"))
    assert mailglass("hold", "--stream", "transactional", "--yes")[1]["moved"] == 3
    states = deliveries.states(ledger, [live, dead, sending, queued])
    assert [states[key].status.value for key in (live, dead, sending, queued)] == ["claimed", "held", "held", "held"]


def test_a_search_that_was_not_answered_settles_nothing_and_says_so(
    site: Site, ledger: Database, mailglass: Command
) -> None:
    ids = site.queue(ledger, 25)
    mailglass("hold", "--stream", "transactional", "--yes")
    site.provider.answers = False
    code, answer = mailglass("search", "--account", "main", "--yes")
    assert (code, answer["searched"], answer["unknown"], answer["settled"]) == (1, 25, 25, 0)
    assert {state.status for state in deliveries.states(ledger, ids).values()} == {Status.HELD}


def test_a_search_first_only_says_what_it_found(site: Site, ledger: Database, mailglass: Command) -> None:
    (key,) = site.queue(ledger)
    mailglass("hold", "--stream", "transactional", "--yes")
    site.provider.find = lambda targets, deadline: [taken(item.delivery_id) for item in targets]  # type: ignore[method-assign]
    code, answer = mailglass("search", "--account", "main")
    assert (code, answer["dry_run"], answer["found"], answer["settled"], answer["sample"]) == (
        0,
        True,
        1,
        0,
        [str(key)],
    )
    assert deliveries.get(ledger, key).status is Status.HELD


def test_holding_everything_needs_a_filter(site: Site, ledger: Database) -> None:
    (key,) = site.queue(ledger)
    assert run(["deliveries", "hold", "--yes"]) != 0
    assert deliveries.get(ledger, key).status is Status.QUEUED


def test_the_runbook_names_commands_that_exist(postgres: PostgresServer) -> None:
    runbook = (Path(__file__).parents[2] / "docs" / "runbooks" / "restore.md").read_text(encoding="utf-8")
    lines = [line.strip().removeprefix("mailglass ") for line in runbook.splitlines() if "    mailglass " in line]
    assert len(lines) > 8
    for line in lines:
        words = [word for word in line.split()[:2] if word.isalpha()]
        assert run([*words, "--help"]) == 0
