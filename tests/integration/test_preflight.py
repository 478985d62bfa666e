"""`mailglass preflight`: every check passes on a deployment that works, and names what does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import sqlalchemy

from mailglass import Message, __version__, clock, deliver_later, tenant
from mailglass.cli import run as command
from mailglass.ledger import schema
from mailglass.ledger.database import Database, sqlalchemy_url
from mailglass.preflight import ledger as ledger_checks
from mailglass.preflight.findings import Finding, Status, passed
from mailglass.preflight.run import run
from mailglass.preflight.surroundings import Surroundings, Worker
from mailglass.settings import configure, get_settings, load_settings

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "preflight.json"


def surroundings(**changes: Any) -> Surroundings:
    return Surroundings(get_settings(), **{"timeout": 1.0, **changes})


def by_id(findings: Sequence[Finding]) -> dict[str, Finding]:
    return {finding.id: finding for finding in findings}


def execute(url: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Run the command for programs."""

    def run_command(*options: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = command(["preflight", "--timeout", "1", "--format", "json", *options])
        printed = json.loads(capsys.readouterr().out)
        jsonschema.validate(printed, json.loads(SCHEMA.read_text(encoding="utf-8")))
        return code, printed

    return run_command


def test_a_working_deployment_passes_every_check(
    cluster: Any, printed: Callable[..., tuple[int, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.worker()
    cluster.beat()
    code, report = printed("--online", "--wait", "30")
    found = {finding["id"]: finding for finding in report["findings"]}
    assert (code, report["ok"], report["schema_version"]) == (0, True, 1), report
    assert found["accounts.relay"]["observed"].endswith("the provider accepts the credentials")
    assert found["queues.mailglass"]["observed"] == "consumed by 1 of 1 workers"
    assert found["workers.versions"]["observed"] == f"workers run {__version__}, this is {__version__}"
    assert report["summary"]["pass"] == len(report["findings"])
    assert command(["preflight", "--timeout", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"mailglass preflight: pass={len(lines) - 1} warn=0 fail=0 cannot_check=0"


def test_no_worker_and_no_beat_fail_with_the_commands_that_start_them(
    cluster: Any, printed: Callable[..., tuple[int, Any]]
) -> None:
    code, report = printed()
    failed = {item["id"]: item["remedy"] for item in report["findings"] if item["status"] == "fail"}
    assert code == 1
    assert set(failed) == {"workers", "beat"}
    assert "celery -A mailglass worker" in failed["workers"]
    assert "celery -A mailglass beat" in failed["beat"]


def test_an_unreachable_database_fails_once_and_leaves_the_rest_unchecked(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", f"postgresql://app:s3cret@127.0.0.1:{unused_port}/mail")
    configure(load_settings())
    report = run(surroundings())
    found = by_id(report.findings)
    assert found["database"].status is Status.FAIL
    assert str(unused_port) in found["database"].observed
    unchecked = {"database.triggers", "database.connections", "clocks", "beat", "work"}
    assert {key for key, finding in found.items() if finding.status is Status.CANNOT_CHECK} == unchecked
    assert not report.ok
    assert "s3cret" not in str(report)


def test_an_unreachable_broker_fails_once_and_shows_no_password(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("MAILGLASS_BROKER_URL", f"redis://:s3cret@127.0.0.1:{unused_port}/0")
    configure(load_settings())
    report = run(surroundings(timeout=0.5))
    found = by_id(report.findings)
    assert found["broker"].status is Status.FAIL
    assert {found[key].status for key in ("broker.eviction", "workers", "workers.versions")} == {Status.CANNOT_CHECK}
    assert "s3cret" not in str(report)


@pytest.mark.parametrize("state", ["DISABLE TRIGGER", "DROP TRIGGER"])
def test_a_trigger_that_is_off_or_gone_fails_by_name(cluster: Any, direct_url: str, state: str) -> None:
    execute(
        direct_url,
        "DROP TRIGGER deliveries_lifecycle ON mailglass.deliveries"
        if state == "DROP TRIGGER"
        else "ALTER TABLE mailglass.deliveries DISABLE TRIGGER deliveries_lifecycle",
    )
    (finding,) = ledger_checks.triggers_stand(surroundings())
    assert finding.status is Status.FAIL
    assert "deliveries_lifecycle" in finding.observed


def test_the_known_triggers_are_those_of_the_schema(database_url: str) -> None:
    assert {row.name for row in Database(database_url).run("ledger_triggers")} == schema.TRIGGERS


def test_an_old_schema_fails_with_the_upgrade(cluster: Any, empty_database_url: str) -> None:
    schema.upgrade(empty_database_url, "0019")
    old = load_settings({"MAILGLASS_DATABASE_URL": empty_database_url})
    configure(replace(get_settings(), database_url=old.database_url))
    (finding,) = ledger_checks.schema_is_migrated(surroundings())
    assert (finding.status, finding.remedy) == (Status.FAIL, "Run `mailglass db upgrade`")


def test_more_slots_than_connections_fail(cluster: Any) -> None:
    around = surroundings()
    around.__dict__["workers"] = [Worker("celery@many", frozenset({"mailglass"}), 100_000)]
    (finding,) = ledger_checks.connections_suffice(around)
    assert finding.status is Status.FAIL
    assert "the workers may open 100001" in finding.observed


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, Status.PASS), (30, Status.WARN), (-30, Status.WARN), (3600, Status.FAIL)]
)
def test_a_clock_that_is_wrong_is_noticed_in_both_directions(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, seconds: int, status: Status
) -> None:
    real = clock.now
    monkeypatch.setattr("mailglass.clock.now", lambda: real() + timedelta(seconds=seconds))
    (finding,) = ledger_checks.clocks_agree(surroundings())
    assert finding.status is status


def test_mail_that_is_due_and_not_sent_is_named_by_its_lane_unless_it_is_paused(cluster: Any, direct_url: str) -> None:
    with tenant("acme"):
        deliver_later.delay(Message(to="ada@example.com", subject="Hi", text="Hi"))
    execute(direct_url, "UPDATE mailglass.deliveries SET due_at = now() - interval '1 hour'")
    first, _ = ledger_checks.nothing_is_stuck(surroundings())
    assert (first.id, first.status) == ("work.lanes", Status.WARN)
    assert "mailglass/acme/transactional for 60" in first.observed
    assert "ada@" not in str(first)
    assert command(["pause", "--tenant", "acme", "--as", "ops"]) == 0
    first, _ = ledger_checks.nothing_is_stuck(surroundings())
    assert first.status is Status.PASS


def test_a_missing_secret_fails_for_its_account_alone(cluster: Any) -> None:
    settings = get_settings()
    broken = replace(settings.accounts["nowhere"], name="broken", provider="postmark", options={"token": "env:NO_SUCH"})
    configure(replace(settings, accounts={**settings.accounts, "broken": broken}))
    found = by_id(run(surroundings()).findings)
    assert found["accounts.broken"].status is Status.FAIL
    assert found["accounts.relay"].status is Status.PASS


def test_a_refused_login_fails_only_online(cluster: Any, unused_port: int) -> None:
    settings = get_settings()
    options = {**settings.accounts["relay"].options, "port": unused_port}
    gone = replace(settings.accounts["relay"], options=options)
    configure(replace(settings, accounts={"relay": gone}))
    offline, online = (by_id(run(surroundings(online=asked)).findings) for asked in (False, True))
    assert offline["accounts.relay"].status is Status.PASS
    assert online["accounts.relay"].status is Status.CANNOT_CHECK
    assert "connect_failed" in online["accounts.relay"].observed


def test_a_check_that_breaks_is_a_finding_and_the_next_one_is_made(cluster: Any) -> None:
    def breaks(around: Surroundings) -> Any:
        raise RuntimeError("postgresql://app:s3cret@host")
        yield

    report = run(surroundings(), checks=[("first", breaks), ("second", lambda around: iter([passed("second", "")]))])
    assert [(finding.id, finding.status) for finding in report.findings] == [
        ("first", Status.CANNOT_CHECK),
        ("second", Status.PASS),
    ]
    assert "s3cret" not in str(report)
    assert not report.ok
