"""`mailglass webhooks`, `suppressions add|check|remove-domain` and `audit`: what is done by hand."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy

from mailglass import clock
from mailglass.cli import run
from mailglass.errors import SuppressionType
from mailglass.ids import uuid7
from mailglass.ledger import audit
from mailglass.ledger.database import Database
from mailglass.ledger.suppressions import Suppression, suppress, suppressions_of
from mailglass.mail.addresses import Address
from tests.commands import Command

ADA = Address("ada@example.com")


def keep(ledger: Database, status: str, account: str = "main", reason: str | None = None) -> UUID:
    key = uuid7()
    ledger.query(
        sqlalchemy.text(
            "INSERT INTO mailglass.webhook_events (id, account, provider, dedupe_key, body, headers, status, reason) "
            "VALUES (:id, :account, 'null', CAST(:id AS text), 'ada@example.com', '{}', :status, :reason)"
        ).bindparams(id=key, account=account, status=status, reason=reason)
    )
    return key


def standing(ledger: Database) -> dict[UUID, str]:
    return dict(ledger.query(sqlalchemy.text("SELECT id, status FROM mailglass.webhook_events")))


def test_webhooks_are_listed_by_filter_without_their_bodies(ledger: Database, mailglass: Command) -> None:
    dead = keep(ledger, "dead", reason="unreadable: not JSON")
    received = keep(ledger, "received", "other")
    found = mailglass("webhooks", "list")[1]["webhooks"]
    assert [item["id"] for item in found] == [str(dead), str(received)]
    assert "example.com" not in json.dumps(found)
    assert [item["id"] for item in mailglass("webhooks", "list", "--status", "dead")[1]["webhooks"]] == [str(dead)]
    assert [item["id"] for item in mailglass("webhooks", "list", "--reason", "unreadable")[1]["webhooks"]] == [
        str(dead)
    ]
    assert mailglass("webhooks", "list", "--account", "none")[1]["webhooks"] == []


def test_dead_webhooks_are_replayed_by_account_after_a_dry_run(ledger: Database, mailglass: Command) -> None:
    mine, theirs, done = keep(ledger, "dead"), keep(ledger, "dead", "other"), keep(ledger, "processed")
    assert mailglass("webhooks", "replay", "--account", "main")[1] == {
        "schema_version": 1,
        "dry_run": True,
        "found": 1,
        "sample": [str(mine)],
        "moved": 0,
    }
    assert audit.entries(ledger) == []
    assert mailglass("webhooks", "replay", "--account", "main", "--yes", "--as", "ops")[1]["moved"] == 1
    assert standing(ledger) == {mine: "received", theirs: "dead", done: "processed"}
    outcome, intention = audit.entries(ledger)
    assert (outcome.actor, outcome.action) == (intention.actor, intention.action) == ("ops", "webhooks.replay")
    assert outcome.detail == {**intention.detail, "count": 1} == {"filter": {"account": "main"}, "count": 1}


def test_by_id_only_dead_ones_are_replayed(ledger: Database, mailglass: Command) -> None:
    dead, done = keep(ledger, "dead"), keep(ledger, "processed")
    assert mailglass("webhooks", "replay", dead, done)[1]["moved"] == 1
    assert standing(ledger) == {dead: "received", done: "processed"}
    assert mailglass("webhooks", "replay")[0] == 64


def test_addresses_and_domains_are_added_by_hand_and_the_audit_holds_neither(
    ledger: Database, mailglass: Command
) -> None:
    command = ("suppressions", "add", "Ada@Example.com", "Bücher.example", "--tenant", "acme")
    assert mailglass(*command)[1]["added"] == 2
    assert mailglass(*command)[1]["added"] == 0
    assert mailglass("suppressions", "add", "eve@example.com", "--tenant", "acme", "--stream", "bulk")[0] == 0
    assert [entry.scope for entry in suppressions_of(ledger, "acme", ADA)] == [SuppressionType.ADDRESS]
    (domain,) = suppressions_of(ledger, "acme", Address("x@xn--bcher-kva.example"))
    assert (domain.scope, domain.reason, domain.source) == (SuppressionType.DOMAIN, "manual", "manual")
    assert [entry.stream for entry in suppressions_of(ledger, "acme", Address("eve@example.com"))] == ["bulk"]
    stored = ledger.query(sqlalchemy.text("SELECT CAST(a.* AS text) FROM mailglass.audit a"))
    assert len(stored) == 6
    assert not [row for (row,) in stored if "example" in row]
    assert audit.digest("ada@example.com") in "".join(row for (row,) in stored)


def test_many_are_read_from_standard_input(
    ledger: Database, mailglass: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a@example.com\n\n  b@example.com \n"))
    assert mailglass("suppressions", "add", "-", "--tenant", "*")[1] == {"schema_version": 1, "given": 2, "added": 2}
    assert suppressions_of(ledger, "any", Address("b@example.com"))


def test_unreadable_address_refuses_all_and_is_not_repeated(
    ledger: Database, mailglass: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["suppressions", "add", "ada@example.com", "very secret@", "--tenant", "acme"]) == 64
    assert "secret" not in capsys.readouterr().err
    assert mailglass("suppressions", "add", "example.com", "--tenant", "acme", "--stream", "bulk")[0] == 64
    assert suppressions_of(ledger, "acme", ADA) == []
    assert audit.entries(ledger) == []


def test_an_entry_may_end_by_itself(ledger: Database, mailglass: Command) -> None:
    end = clock.now() + timedelta(days=30)
    mailglass("suppressions", "add", "ada@example.com", "--tenant", "acme", "--expires", end.isoformat())
    (entry,) = suppressions_of(ledger, "acme", ADA)
    assert entry.expires_at == end
    assert (
        mailglass("suppressions", "add", "ada@example.com", "--tenant", "acme", "--expires", "2020-01-01T00:00Z")[0]
        == 64
    )


def test_impossible_tenant_adds_no_entry(ledger: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["suppressions", "add", "ada@example.com", "--tenant", "Acme Inc"]) != 0
    assert "tenant" in capsys.readouterr().err
    assert audit.entries(ledger) == []


def test_entries_in_the_way_of_an_address_are_told(ledger: Database, mailglass: Command) -> None:
    suppress(ledger, [Suppression("*", "ada@example.com", "complaint", "webhook", account="main")])
    mailglass("suppressions", "add", "example.com", "--tenant", "acme")
    entries = mailglass("suppressions", "check", "ADA@example.com", "--tenant", "acme")[1]["entries"]
    assert [(entry["scope"], entry["tenant"], entry["reason"]) for entry in entries] == [
        ("address", "*", "complaint"),
        ("domain", "acme", "manual"),
    ]
    assert mailglass("suppressions", "check", "bob@example.org", "--tenant", "acme")[1]["entries"] == []


def test_a_domain_is_taken_off_and_its_addresses_stay(ledger: Database, mailglass: Command) -> None:
    mailglass("suppressions", "add", "example.com", "ada@example.com", "--tenant", "acme")
    assert mailglass("suppressions", "remove-domain", "ada@example.com", "--tenant", "acme")[0] == 64
    assert mailglass("suppressions", "remove-domain", "EXAMPLE.com", "--tenant", "acme")[0] == 0
    assert mailglass("suppressions", "remove-domain", "example.com", "--tenant", "acme")[0] == 1
    assert [entry.scope for entry in suppressions_of(ledger, "acme", ADA)] == [SuppressionType.ADDRESS]


def test_the_audit_can_be_read(ledger: Database, mailglass: Command, capsys: pytest.CaptureFixture[str]) -> None:
    dead = keep(ledger, "dead")
    mailglass("webhooks", "replay", dead, "--as", "ops")
    entries = mailglass("audit")[1]["entries"]
    assert [entry["detail"].get("count") for entry in entries] == [1, None]
    assert run(["audit", "--limit", "1"]) == 0
    table = capsys.readouterr().out
    assert "ops" in table
    assert str(dead) in table
