"""The task `mailglass.suppressions.sync` in a real worker, and the commands `mailglass suppressions`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy

from mailglass.cli import run
from mailglass.doorbell import SUPPRESSIONS
from mailglass.errors import ConfigError
from mailglass.ledger import audit
from mailglass.ledger.database import Database
from mailglass.ledger.suppressions import Suppression, suppress, suppressions_of
from mailglass.mail.addresses import Address
from mailglass.providers.registry import Accounts
from mailglass.providers.suppression_list import ListedAddress, SuppressionList
from mailglass.settings import AccountSettings, Settings, SyncMode, configure, load_settings
from mailglass_beat.schedule import SCHEDULE
from mailglass_workers import tasks
from tests.listed import ENVIRON, lab_of_lists

ADDRESS = "gone@listed.example"


@pytest.fixture
def lab(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, AccountSettings]]:
    """The cluster with two more accounts, whose providers' lists are the lab's: Postmark pulls, Mailgun does both."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    with lab_of_lists() as accounts:
        config = cluster.directory / "mailglass.toml"
        tables = [
            _table("postmark", {**accounts["postmark"].options, "tenant": "acme"}),
            _table("mailgun", {**accounts["mailgun"].options, "tenant": "acme", "suppressions": "both"}),
        ]
        config.write_text(config.read_text() + "".join(tables))
        configure(load_settings())
        yield accounts


def _table(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"provider": name, **values}.items()]
    return f"\n[accounts.{name}]\n" + "\n".join(lines) + "\n"


@pytest.fixture
def lists(lab: Mapping[str, AccountSettings]) -> Iterator[Mapping[str, SuppressionList]]:
    accounts = Accounts(Settings(accounts=dict(lab)), ENVIRON)
    found = {name: accounts.open(name).suppression_list() for name in ("postmark", "mailgun")}
    yield {name: listed for name, listed in found.items() if listed is not None}
    accounts.close()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def old(ledger: Database, *entries: Suppression) -> None:
    """Entries that were made some minutes ago."""
    suppress(ledger, entries)
    for row in ledger.query(sqlalchemy.text("SELECT id FROM mailglass.suppressions")):
        earlier = type(row.id)(int=row.id.int - (600_000 << 80))
        ledger.query(sqlalchemy.text(f"UPDATE mailglass.suppressions SET id = '{earlier}' WHERE id = '{row.id}'"))


def reasons(ledger: Database, address: str = ADDRESS, tenant: str = "acme") -> list[tuple[str, str | None]]:
    return [(entry.reason, entry.account) for entry in suppressions_of(ledger, tenant, Address(address))]


def test_a_worker_brings_every_accounts_list_into_step(
    cluster: Any, lists: Any, ledger: Database, wait_for: Callable[..., None]
) -> None:
    lists["postmark"].push([ListedAddress(ADDRESS, "manual")])
    old(ledger, Suppression("acme", "ours@listed.example", "hard_bounce", "webhook", account="relay"))
    cluster.worker("-c", "1")
    cluster.runtime.doorbell.ring_task(SUPPRESSIONS)
    wait_for(lambda: reasons(ledger) and lists["mailgun"].pull(None)[0])
    assert reasons(ledger) == [("manual", "postmark")]
    assert [entry.address for entry in lists["mailgun"].pull(None)[0]] == ["ours@listed.example"]


def test_the_task_without_an_account_rings_for_each_and_names_no_address(cluster: Any, lab: Any) -> None:
    tasks.sync_suppressions()
    waiting = [json.loads(message.body)[0] for message in cluster.rings.take()]
    assert sorted(waiting) == [["mailgun"], ["nowhere"], ["postmark"], ["relay"]]
    tasks.sync_suppressions()
    assert cluster.rings.count() == 0, "each account has one pending ring"
    assert SCHEDULE["suppressions"]["task"] == SUPPRESSIONS


def test_sync_says_what_it_did(lists: Any, lab: Any, ledger: Database, capsys: pytest.CaptureFixture[str]) -> None:
    lists["postmark"].push([ListedAddress(ADDRESS, "manual")])
    old(ledger, Suppression("acme", "ours@listed.example", "manual", "manual"))
    assert run(["suppressions", "sync", "--dry-run", "--json"]) == 0
    planned = {item["account"]: item for item in json.loads(capsys.readouterr().out)["accounts"]}
    assert (planned["postmark"]["new"], planned["mailgun"]["pushed"], planned["relay"]["status"]) == (1, 1, "no_list")
    assert reasons(ledger) == []
    assert run(["suppressions", "sync", "postmark", "mailgun"]) == 0
    said = capsys.readouterr()
    assert "complete" in said.out and "postmark: 1 read, 1 new, 0 offered" in said.err
    assert ADDRESS not in said.out + said.err
    assert reasons(ledger) == [("manual", "postmark")]
    assert [entry.address for entry in lists["mailgun"].pull(None)[0]] == ["ours@listed.example"]


def test_sync_that_fails_exits_with_one_and_the_others_go_on(
    lab: Any, ledger: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mailglass.providers.mailgun.suppressions.MailgunSuppressions.pull", _broken)
    assert run(["suppressions", "sync", "mailgun", "postmark", "--json"]) == 1
    found = {item["account"]: item["status"] for item in json.loads(capsys.readouterr().out)["accounts"]}
    assert found == {"mailgun": "failed", "postmark": "complete"}


def _broken(self: object, cursor: str | None) -> Any:
    raise ValueError(f"about {ADDRESS}")


def test_removing_an_address_takes_it_off_the_lists_that_would_bring_it_back(
    lists: Any, ledger: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    for listed in lists.values():
        listed.push([ListedAddress(ADDRESS, "manual")])
    suppress(ledger, [Suppression("acme", ADDRESS, "hard_bounce", "webhook")])
    suppress(ledger, [Suppression("globex", ADDRESS, "hard_bounce", "webhook")])
    assert run(["suppressions", "remove", ADDRESS.upper(), "--tenant", "acme", "--as", "ops", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["removed"], found["accounts"]) == (1, {"mailgun": True})
    assert (reasons(ledger), len(reasons(ledger, tenant="globex"))) == ([], 1)
    assert lists["mailgun"].pull(None)[0] == []
    assert len(lists["postmark"].pull(None)[0]) == 1, "an account that only pulls is asked by name"
    assert run(["suppressions", "remove", ADDRESS, "--tenant", "acme", "--at", "postmark"]) == 0
    assert lists["postmark"].pull(None)[0] == []
    entries = audit.entries(ledger)
    assert {(entry.actor, entry.action) for entry in entries[-2:]} == {("ops", "suppressions.remove")}
    assert all(ADDRESS not in str(entry).lower() for entry in entries)


def test_a_complaint_is_removed_by_force_only(lists: Any, ledger: Database, capsys: pytest.CaptureFixture[str]) -> None:
    lists["mailgun"].push([ListedAddress(ADDRESS, "complaint")])
    suppress(ledger, [Suppression("acme", ADDRESS, "complaint", "webhook")])
    assert run(["suppressions", "remove", ADDRESS, "--tenant", "acme"]) == 1
    assert "--force" in capsys.readouterr().err
    assert reasons(ledger) == [("complaint", None)]
    assert run(["suppressions", "remove", ADDRESS, "--tenant", "acme", "--force"]) == 0
    assert reasons(ledger) == []


def test_entry_on_everybodys_list_is_still_in_the_way(
    lists: Any, ledger: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    suppress(ledger, [Suppression(tenant, ADDRESS, "manual", "manual") for tenant in ("acme", "*")])
    assert run(["suppressions", "remove", ADDRESS, "--tenant", "acme"]) == 1
    said = capsys.readouterr()
    assert "1 removed." in said.out and "everybody's list" in said.err
    assert run(["suppressions", "remove", ADDRESS, "--tenant", "*"]) == 0
    assert reasons(ledger) == []


@pytest.mark.parametrize("mode", [*SyncMode, None])
def test_every_mode_can_be_configured(mode: SyncMode | None, tmp_path: Any) -> None:
    line = "" if mode is None else f'suppressions = "{mode}"'
    file = tmp_path / "m.toml"
    file.write_text(f'[accounts.a]\nprovider = "null"\ntenant = "acme"\n{line}\n')
    assert load_settings({}, file).accounts["a"].suppressions is (mode or SyncMode.PULL)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('suppressions = "sometimes"', "Use one of pull, push, both, off"),
        ("suppressions = true", "Use one of pull, push, both, off"),
        ('suppressions = "push"', "tenant = NAME"),
    ],
)
def test_a_mode_that_cannot_be_is_named(lines: str, problem: str, tmp_path: Any) -> None:
    file = tmp_path / "m.toml"
    file.write_text(f'[accounts.a]\nprovider = "null"\n{lines}\n')
    with pytest.raises(ConfigError, match=r"accounts\.a\.suppressions") as error:
        load_settings({}, file)
    assert problem in str(error.value)
