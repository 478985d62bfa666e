"""Pausing accounts and lanes, and what the commands for it say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from mailglass import Message, deliver, deliver_many, tenant
from mailglass.cli import run
from mailglass.ledger import audit, deliveries
from mailglass.ledger.breakers import breakers, trip
from mailglass.ledger.database import Database
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.pauses import account_states, pauses, unpaused
from mailglass.routing import Lane
from mailglass.runtime import close_runtime, get_runtime
from mailglass.settings import configure, load_settings

LANE = Lane("mailglass", "acme", "transactional")
BULK = Lane("mailglass", "acme", "bulk")
CONFIG = """
default_from = "shop@example.com"

[accounts.first]
provider = "null"

[accounts.second]
provider = "null"

[[routes]]
tenant = "both"
accounts = ["first", "second"]

[[routes]]
accounts = ["first"]

[[limits]]
scope = "account"
key = "first"
rate = "100/s"
"""

Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def ledger(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Database]:
    config = tmp_path / "mailglass.toml"
    config.write_text(CONFIG, encoding="utf-8")
    for name, value in (("DATABASE_URL", database_url), ("BROKER_URL", broker_url), ("CONFIG", str(config))):
        monkeypatch.setenv(f"MAILGLASS_{name}", value)
    configure(load_settings())
    yield get_runtime().database
    close_runtime()


@pytest.fixture
def command(ledger: Database, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = run([*arguments, "--format", "json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    return call


def queue(owner: str, count: int, stream: str = "transactional") -> None:
    with tenant(owner):
        deliver_many(
            Message(to=f"u{number}@example.com", subject="s", text="t", stream=stream) for number in range(count)
        )


def step(lane: Lane) -> int:
    return get_runtime().engine.run(lane).claimed


def execute(ledger: Database, statement: str) -> None:
    ledger.query(sqlalchemy.text(statement))


def rows(ledger: Database, columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in ledger.query(sqlalchemy.text(f"SELECT DISTINCT {columns} FROM mailglass.deliveries"))]


def test_a_paused_tenants_mail_is_not_claimed_and_goes_when_it_is_resumed(ledger: Database, command: Command) -> None:
    assert command("pause", "--tenant", "acme") == (
        0,
        {"schema_version": 1, "tenant": "acme", "stream": None, "paused": True},
    )
    queue("acme", 3)
    queue("acme", 2, "bulk")
    queue("globex", 1)
    assert [step(lane) for lane in (LANE, BULK, Lane("mailglass", "globex", "transactional"))] == [0, 0, 1]
    assert rows(ledger, "attempts, last_error, status") == [(0, None, "queued"), (1, None, "sent")]
    assert list(unpaused(pauses(ledger), lanes_due(ledger))) == []
    assert command("resume", "--tenant", "acme")[1]["resumed"] is True
    assert [step(LANE), step(BULK)] == [3, 2]
    assert deliveries.counts(ledger)["acme"] == {"sent": 5}


def test_stream_of_a_tenant_is_paused_apart(ledger: Database, command: Command) -> None:
    command("pause", "--tenant", "acme", "--stream", "bulk")
    queue("acme", 1)
    queue("acme", 1, "bulk")
    assert [step(LANE), step(BULK)] == [1, 0]
    assert command("resume", "--tenant", "acme")[1]["resumed"] is False
    assert step(BULK) == 0
    assert command("resume", "--tenant", "acme", "--stream", "bulk")[1]["resumed"] is True
    assert step(BULK) == 1


def test_a_caller_that_sends_in_its_own_process_heeds_a_pause(ledger: Database, command: Command) -> None:
    command("pause", "--tenant", "acme")
    with tenant("acme"):
        assert deliver(Message(to="ada@example.com", subject="s", text="t")).status is Status.QUEUED


def test_a_pause_longer_than_a_mail_may_age_loses_nothing(ledger: Database, command: Command) -> None:
    queue("acme", 2)
    execute(ledger, "UPDATE mailglass.deliveries SET scheduled_at = now() - interval '50 hours'")
    command("pause", "--tenant", "acme")
    execute(ledger, "UPDATE mailglass.pauses SET paused_at = now() - interval '49 hours'")
    command("resume", "--tenant", "acme")
    ((hours,),) = rows(ledger, "round(extract(epoch FROM now() - scheduled_at) / 3600)")
    assert hours == 1
    step(LANE)
    assert deliveries.counts(ledger)["acme"] == {"sent": 2}


def test_a_paused_accounts_mail_goes_to_the_next_account_of_its_route_or_waits(
    ledger: Database, command: Command
) -> None:
    command("accounts", "pause", "first")
    queue("acme", 2)
    queue("both", 2)
    step(LANE)
    step(Lane("mailglass", "both", "transactional"))
    assert sorted(rows(ledger, "tenant_id, status, account, attempts, last_error")) == [
        ("acme", "queued", None, 0, "account_unavailable"),
        ("both", "sent", "second", 1, None),
    ]
    assert step(LANE) == 0
    assert command("accounts", "resume", "first")[1]["resumed"] is True
    assert step(LANE) == 2
    assert deliveries.counts(ledger)["acme"] == {"sent": 2}


def test_a_breaker_that_opens_or_closes_leaves_a_pause_as_it_is(ledger: Database, command: Command) -> None:
    command("accounts", "pause", "first")
    trip(ledger, "first", "transient")
    assert breakers(ledger, ["first"])["first"].reason == "paused"
    command("accounts", "close-breaker", "first")
    assert breakers(ledger, ["first"])["first"].reason == "paused"
    command("accounts", "resume", "first")
    assert breakers(ledger, ["first"]) == {}


def test_closing_a_breaker_by_hand_lets_the_waiting_mail_go(ledger: Database, command: Command) -> None:
    trip(ledger, "first", "misconfigured", error="http_401")
    queue("acme", 3)
    step(LANE)
    assert step(LANE) == 0
    assert command("accounts", "close-breaker", "first")[1]["closed"] is True
    assert step(LANE) == 3
    assert deliveries.counts(ledger)["acme"] == {"sent": 3}


def test_released_mail_tries_its_account_at_once_and_the_waiting_mail_follows(
    ledger: Database, command: Command
) -> None:
    queue("acme", 3)
    execute(ledger, "UPDATE mailglass.deliveries SET status = 'claimed', due_at = NULL")
    execute(ledger, "UPDATE mailglass.deliveries SET status = 'held', account = 'first', last_error = 'http_401'")
    for _ in range(3):
        trip(ledger, "first", "misconfigured")
        execute(ledger, "UPDATE mailglass.breakers SET open_until = now()")
    trip(ledger, "first", "misconfigured")
    queue("acme", 2)
    step(LANE)
    assert deliveries.counts(ledger)["acme"] == {"held": 3, "queued": 2}
    command("deliveries", "release", "--tenant", "acme", "--status", "held", "--yes")
    # one tries the account; the other two that were released wait for its answer a moment, the rest is due with it
    step(LANE)
    assert breakers(ledger, ["first"]) == {}
    while step(LANE):
        pass
    assert breakers(ledger, ["first"]) == {}
    assert deliveries.counts(ledger)["acme"] == {"sent": 5}


def test_the_list_says_what_stands_against_each_account(ledger: Database, command: Command) -> None:
    trip(ledger, "first", "misconfigured", error="http_401")
    queue("acme", 3)
    step(LANE)
    command("accounts", "pause", "second", "--as", "ada")
    code, answer = command("accounts", "list")
    first, second = answer["accounts"]
    assert code == 0
    assert (first["breaker"], first["last_error"], first["waiting"]) == ("misconfigured", "http_401", 3)
    assert (first["limits"], second["limits"]) == (["100 in 1 s, burst 200"], [])
    assert (second["breaker"], second["paused_by"], second["waiting"]) == (None, "ada", 0)
    assert command("accounts", "show", "first")[1]["account"] == first


def test_an_unknown_account_is_refused_by_name(ledger: Database, command: Command) -> None:
    assert command("accounts", "pause", "third")[0] == 1


def test_pauses_are_in_the_audit_and_a_second_one_changes_nothing(ledger: Database, command: Command) -> None:
    command("pause", "--tenant", "acme", "--as", "ada")
    assert command("pause", "--tenant", "acme", "--as", "bob")[1]["paused"] is False
    command("accounts", "pause", "first", "--as", "ada")
    command("accounts", "resume", "first", "--as", "ada")
    command("accounts", "close-breaker", "first", "--as", "ada")
    command("resume", "--tenant", "acme", "--as", "ada")
    entries = [(entry.actor, entry.action, entry.tenant) for entry in audit.entries(ledger)]
    assert entries == [
        ("ada", "lanes.resume", "acme"),
        ("ada", "accounts.close_breaker", None),
        ("ada", "accounts.resume", None),
        ("ada", "accounts.pause", None),
        ("ada", "lanes.pause", "acme"),
    ]
    assert account_states(ledger, ["first"])[0].paused_at is None
