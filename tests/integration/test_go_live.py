"""`mailglass go-live`: seven lines, each with what proves it, and a fault of one section is no other's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest

from mailglass import Message, deliver, tenant
from mailglass.cli import run as command
from mailglass.go_live import SECTIONS, Site, Status, run
from mailglass.go_live.report import Answer
from mailglass.ids import uuid7
from mailglass.ledger import suppression_sync
from mailglass.preflight.surroundings import Worker
from mailglass.routing import Account, RouteContext, Tenancy
from mailglass.settings import LimitRule, Route, configure, get_settings, load_settings
from mailglass.testing.dns_server import DNSServer
from tests.domain_zones import good

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "go-live.json").read_text("utf-8"))
IDS = ["deliverability", "webhooks", "secrets", "queues", "routing", "suppressions", "telemetry"]
CHECKS = {check.id: check.run for check in SECTIONS}
DNS = """
[accounts.relay.dns]
dkim_selectors = ["s1"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[DNSServer]:
    with DNSServer(good()) as running:
        yield running


@pytest.fixture
def live(cluster: Any) -> Any:
    """The deployment, with the selectors of its sending domain."""
    config = cluster.directory / "mailglass.toml"
    config.write_text(config.read_text(encoding="utf-8") + DNS, encoding="utf-8")
    configure(load_settings())
    return cluster


@pytest.fixture
def printed(server: DNSServer, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Run the command for programs."""

    def run_command(*options: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = command(["go-live", "--resolver", server.address, "--format", "json", *options])
        report = json.loads(capsys.readouterr().out)
        jsonschema.validate(report, SCHEMA)
        return code, report

    return run_command


def site(**changes: Any) -> Site:
    """The deployment, with one worker that answers."""
    found = Site(get_settings(), **changes)
    vars(found)["workers"] = [Worker("celery@test", frozenset({"mailglass"}), 2)]
    return found


def answer(section: str, **changes: Any) -> Answer:
    return CHECKS[section](site(**changes))


def test_a_deployment_that_works_passes_six_sections_and_waits_for_one(
    live: Any, server: DNSServer, printed: Callable[..., tuple[int, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    live.worker()
    deliver(Message(to="ada@example.com", subject="Receipt", text="Thank you."))
    code, report = printed("--timeout", "5")
    found = {section["id"]: section["status"] for section in report["sections"]}
    assert list(found) == IDS
    assert found == {**dict.fromkeys(IDS[:-1], "pass"), "telemetry": "todo"}, report
    assert (code, report["ok"], report["summary"]) == (0, True, {"pass": 6, "fail": 0, "todo": 1})
    assert command(["go-live", "--resolver", server.address, "--timeout", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in lines if line.startswith("[")] == ["[pass]"] * 6 + ["[todo]"]
    assert lines[-1] == "mailglass go-live: pass=6 fail=0 todo=1"


def test_a_section_that_fails_is_named_and_the_exit_code_is_one(
    live: Any, printed: Callable[..., tuple[int, Any]]
) -> None:
    code, report = printed("--timeout", "0.2")
    failed = [section["id"] for section in report["sections"] if section["status"] == "fail"]
    assert (code, failed) == (1, ["queues"])


def test_a_resolver_that_is_no_address_is_wrong_usage(live: Any) -> None:
    assert command(["go-live", "--resolver", "nowhere.example"]) == 64


def test_a_directory_that_does_not_exist_is_wrong_usage(live: Any) -> None:
    assert command(["go-live", "--project", "/does/not/exist"]) == 64


def test_an_unreachable_ledger_leaves_what_needs_none_and_shows_no_password(
    live: Any, server: DNSServer, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", f"postgresql://app:s3cret@127.0.0.1:{unused_port}/mail")
    configure(load_settings())
    report = run(site(resolver=server.address))
    found = {section.id: section.answer.status for section in report.sections}
    assert found["deliverability"] is Status.PASS
    assert found["routing"] is found["suppressions"] is Status.FAIL
    assert "s3cret" not in str(report)


def test_a_domain_without_records_fails_and_names_its_checks(live: Any) -> None:
    with DNSServer({"example.org A": ["192.0.2.1"]}) as empty:
        found = answer("deliverability", resolver=empty.address)
    assert found.status is Status.FAIL
    assert "example.com fails" in found.observed
    assert "spf.record" in found.observed


def test_settings_without_a_sending_domain_fail(live: Any) -> None:
    configure(replace(get_settings(), accounts={}, default_from=None))
    assert answer("deliverability").status is Status.FAIL


UNWIRED = "from flask import Flask\n\napp = Flask(__name__)\n"
WIRED = "from mailglass.integrations.flask import Mailglass\n"


@pytest.mark.parametrize(
    ("source", "status"),
    [(UNWIRED, Status.FAIL), (f"{WIRED}{UNWIRED}Mailglass(app)\n", Status.PASS)],
    ids=["unwired", "wired"],
)
def test_source_of_the_application_decides_whether_webhooks_are_wired(
    live: Any, tmp_path: Path, source: str, status: Status
) -> None:
    project = tmp_path / "shop"
    project.mkdir()
    (project / "app.py").write_text(source, encoding="utf-8")
    assert answer("webhooks", project=project).status is status


def posting() -> None:
    """Let the account `shop` post webhooks."""
    settings = get_settings()
    account = replace(settings.accounts["relay"], name="shop", provider="postmark", options={})
    configure(replace(settings, accounts={"shop": account}, routes=(Route(("shop",)),)))


def test_without_source_webhooks_are_wired_once_one_has_come(live: Any) -> None:
    posting()
    found = answer("webhooks", project=None)
    assert (found.status, found.observed) == (Status.FAIL, "no webhook of shop has come yet")
    live.runtime.database.run("store_webhooks", webhook("shop"))
    found = answer("webhooks", project=None)
    assert (found.status, found.observed) == (Status.PASS, "webhooks of shop arrive")


def webhook(account: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"proof_ids": [], "proofs": [], "digests": []}
    return empty | {
        "ids": [uuid7()],
        "accounts": [account],
        "providers": ["postmark"],
        "tenants": [None],
        "dedupe_keys": ["1"],
        "bodies": [b"{}"],
        "headers": ["{}"],
    }


def test_a_secret_that_is_missing_fails_and_is_named(live: Any) -> None:
    settings = get_settings()
    options = {"server_token": "env:NOT_THERE"}
    account = replace(settings.accounts["relay"], name="shop", provider="postmark", options=options)
    configure(replace(settings, accounts={"shop": account}))
    found = answer("secrets")
    assert found.status is Status.FAIL
    assert "NOT_THERE" in found.observed


@pytest.mark.parametrize("limited", [False, True])
def test_a_provider_that_throttles_wants_a_limit_of_its_account(
    live: Any, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailglass.go_live.queues._ENOUGH", 2)
    deliver(Message(to="ada@example.com", subject="Receipt", text="Thank you."))
    execute(
        live,
        "INSERT INTO mailglass.events SELECT (jsonb_populate_record(e, jsonb_build_object("
        "'id', gen_random_uuid(), 'outcome', 'throttled'))).* FROM mailglass.events e WHERE duration_ms IS NOT NULL",
    )
    if limited:
        configure(replace(get_settings(), limits=(LimitRule.of("account", "10/s", "relay"),)))
    assert answer("queues").status is (Status.PASS if limited else Status.FAIL)


def execute(live: Any, statement: str) -> None:
    with psycopg.connect(live.environment["MAILGLASS_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def test_measured_latency_and_limit_of_an_account_are_shown(live: Any) -> None:
    deliver(Message(to="ada@example.com", subject="Receipt", text="Thank you."))
    configure(replace(get_settings(), limits=(LimitRule.of("account", "10/s"),)))
    (relay, nowhere) = answer("queues").details
    assert relay.startswith("relay: 95 % of 1 mails within ")
    assert relay.endswith("limit 10/s")
    assert nowhere.startswith("nowhere: no call is measured yet")


class Plans(Tenancy):
    """Knows acme alone."""

    def resolve_route(self, context: RouteContext) -> Route | None:
        """Answer a route for acme."""
        if context.tenant != "acme":
            raise LookupError
        return Route(("relay",), concurrency=7)


def test_every_known_tenant_is_shown_with_its_route_and_limits(live: Any) -> None:
    with tenant("globex"):
        deliver(Message(to="ada@example.com", subject="News", text="News.", stream="bulk"))
    rules = (LimitRule.of("tenant", "5000/h"), LimitRule.of("tenant", "2/s", "globex"))
    configure(replace(get_settings(), limits=rules))
    found = answer("routing")
    assert found.status is Status.PASS
    assert "globex on bulk: relay, queue mailglass, limit 2/s" in found.details
    assert "default on every stream: relay, queue mailglass, limit 5000/h" in found.details
    assert "null on every stream: nowhere, queue mailglass, limit 5000/h" in found.details


def test_a_hook_that_fails_for_a_tenant_fails_the_routing(live: Any) -> None:
    settings = replace(get_settings(), default_tenant="acme", tenancy=f"{__name__}:Plans")
    configure(settings)
    found = answer("routing")
    assert found.status is Status.FAIL
    assert "LookupError for tenant 'null'" in found.observed
    assert "acme on every stream: relay, queue mailglass, at most 7 at once, no limit of its own" in found.details


class Customers(Tenancy):
    """Keeps the account of one customer."""

    def resolve_account(self, name: str) -> Account | None:
        """Answer the customer's account."""
        return Account("postmark", {"server_token": "t"}, tenant="initech") if name == "own" else None

    def list_accounts(self) -> list[str]:
        """Name it."""
        return ["own"]


def test_accounts_that_the_application_keeps_are_looked_at_too(live: Any) -> None:
    configure(replace(get_settings(), tenancy=f"{__name__}:Customers"))
    assert answer("webhooks").observed == "no webhook of own has come yet"
    assert "own: its list is not kept in step (suppressions = off)" in answer("suppressions").details
    assert any(line.startswith("own: no call is measured") for line in answer("queues").details)
    assert any(line.startswith("initech on every stream") for line in answer("routing").details)


def test_a_list_whose_reading_failed_fails_the_suppressions(live: Any) -> None:
    posting()
    assert answer("suppressions").details == ("shop: pull, not read yet",)
    suppression_sync.save(live.runtime.database, "shop", suppression_sync.SyncState(last_error="http_401"))
    found = answer("suppressions")
    assert (found.status, found.observed) == (Status.FAIL, "shop: the last reading of its list failed (http_401)")


def test_a_section_that_breaks_fails_alone_and_quotes_nothing(
    live: Any, server: DNSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(site: Site) -> tuple[str, ...]:
        raise RuntimeError("redis://:s3cret@host/0")

    monkeypatch.setattr("mailglass.ledger.recent.suppressed", broken)
    report = run(site(resolver=server.address))
    assert [section.id for section in report.sections if section.answer.status is Status.FAIL] == ["suppressions"]
    assert "s3cret" not in str(report)
