"""`mailglass.suppressions`: what programs read and change, and files in and out."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import psycopg
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from mailglass import ANY_TENANT, MessageError, TenantError, clock, suppressions, tenant
from mailglass.errors import LedgerUnavailableError
from mailglass.ledger import audit, suppression_list, suppression_sync
from mailglass.ledger.database import Database, sqlalchemy_url
from mailglass.ledger.suppressions import Suppression, suppress, suppressed_already
from mailglass.runtime import close_runtime
from mailglass.settings import AccountSettings, Secret, Settings, configure
from tests.commands import Command

HEADING = "EmailAddress,SuppressionReason,CreatedAt\n"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "suppressions.json").read_text("utf-8"))


@pytest.fixture
def mailglass(mailglass: Command) -> Command:
    """Run a command, and hold what it prints against its schema."""

    def command(*arguments: object) -> tuple[int, Any]:
        status, printed = mailglass(*arguments)
        if printed is not None:
            jsonschema.validate(printed, SCHEMA, format_checker=jsonschema.FormatChecker())
        return status, printed

    return command


@pytest.fixture
def site(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Database]:
    monkeypatch.chdir(tmp_path)
    configure(Settings(database_url=Secret(database_url, "test"), accounts={"main": AccountSettings("main", "null")}))
    database = Database(database_url)
    yield database
    database.dispose()
    close_runtime()
    configure(None)


def values(**filters: object) -> list[str]:
    return [entry.value for entry in suppressions.search(**{"tenant": "acme", **filters})]  # type: ignore[arg-type]


def test_added_entries_are_found_by_each_filter(site: Database) -> None:
    tomorrow = clock.now() + timedelta(days=1)
    suppressions.add(["ada@example.com", "Bücher.example"], tenant="acme")
    suppressions.add("bob@example.com", tenant="acme", stream="bulk", reason="unsubscribe")
    suppressions.add("cy@example.org", tenant="acme", expires_at=tomorrow, reason="hard_bounce")
    suppressions.add("dee@example.com", tenant="globex")
    assert values() == ["ada@example.com", "xn--bcher-kva.example", "bob@example.com", "cy@example.org"]
    assert values(scope="domain") == ["xn--bcher-kva.example"]
    assert values(reason="unsubscribe") == values(stream="bulk") == ["bob@example.com"]
    assert values(domain="example.com") == ["ada@example.com", "bob@example.com"]
    assert values(domain="bücher.example") == ["xn--bcher-kva.example"]
    assert values(expires_before=tomorrow + timedelta(seconds=1)) == ["cy@example.org"]
    assert values(created_after=tomorrow) == values(live=False) == values(account="main") == []
    assert values(tenant=ANY_TENANT, source="manual", created_before=tomorrow)[-1] == "dee@example.com"
    assert suppressions.count(tenant="acme") == 4
    with tenant("globex"):
        assert suppressions.count() == 1
        assert [entry.value for entry in suppressions.check("dee@example.com")] == ["dee@example.com"]


def test_pages_and_limits_return_each_entry_once_in_order(site: Database) -> None:
    everybody = [f"u{number}@example.com" for number in range(suppression_list.PAGE + 7)]
    assert suppressions.add(everybody, tenant="acme") == len(everybody)
    assert values() == everybody
    half = list(suppressions.search(tenant="acme", limit=400))
    rest = list(suppressions.search(tenant="acme", after=half[-1].id))
    assert [entry.value for entry in half + rest] == everybody
    assert values(limit=0) == []
    newest = suppression_list.newest(site, suppression_list.Filter(tenant="acme"), size=3)
    assert [entry.value for entry in newest] == everybody[:-4:-1]
    found = suppressions.get(str(half[0].id))
    assert found is not None
    assert found.value == everybody[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"reason": "unknown"},
        {"nothing": 1},
        {"created_after": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"stream": "letters"},
        {"domain": "ada@example.com"},
        {"live": "yes"},
        {"limit": -1},
        {"after": "7"},
    ],
)
def test_wrong_filters_are_named(site: Database, arguments: dict[str, object]) -> None:
    with pytest.raises(MessageError) as raised:
        suppressions.search(tenant="acme", **arguments)  # type: ignore[arg-type]
    assert raised.value.field == next(iter(arguments))


def test_wrong_values_are_refused_without_being_repeated(site: Database) -> None:
    for value in ("no one@example.com", "-", 42, ("a", "b", "c")):
        with pytest.raises(MessageError) as raised:
            suppressions.add(value, tenant="acme")  # type: ignore[arg-type]
        assert "no one" not in str(raised.value)
    with pytest.raises(MessageError, match="stream"):
        suppressions.add("example.com", tenant="acme", stream="bulk")
    with pytest.raises(MessageError, match="expires_at"):
        suppressions.add("ada@example.com", tenant="acme", expires_at=clock.now())
    with pytest.raises(MessageError, match="reason"):
        suppressions.add("ada@example.com", tenant="acme", reason="because")
    with pytest.raises(TenantError):
        suppressions.add("ada@example.com", tenant="?")
    assert suppressions.count(tenant=ANY_TENANT) == 0


def test_a_wrong_value_in_a_list_adds_none_of_it(site: Database) -> None:
    with pytest.raises(MessageError):
        suppressions.add(["ada@example.com", "no one@x"], tenant="acme")
    assert values() == []


def test_changes_in_the_callers_transaction_stand_with_its_commit_only(site: Database, database_url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with Session(engine) as session:
        assert suppressions.add("ada@example.com", tenant="acme", session=session) == 1
        assert suppressions.check("ada@example.com", tenant="acme", session=session)
        assert suppressions.count(tenant="acme", session=session) == 1
        assert values() == []
        session.rollback()
    assert values() == []
    with psycopg.connect(database_url) as connection:
        file = io.StringIO(HEADING + "ada@example.com,HardBounce,2026-01-02T00:00:00Z\n")
        assert suppressions.import_csv(file, tenant="acme", session=connection).added == 1
        assert values() == []
    assert values() == ["ada@example.com"]
    with Session(engine) as session:
        assert suppressions.remove("ada@example.com", tenant="acme", session=session).removed == 1
        assert list(suppressions.search(tenant="acme", session=session)) == []
        with pytest.raises(MessageError, match="at"):
            suppressions.remove("ada@example.com", tenant="acme", at=["main"], session=session)
        session.commit()
    assert values() == []
    engine.dispose()


@pytest.mark.parametrize("source", ["sync", "webhook"])
def test_a_removal_is_undone_by_newer_facts_only(site: Database, source: str) -> None:
    before, after = clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=1)

    def learn(moment: datetime | None) -> None:
        entry = Suppression("acme", "ada@example.com", "hard_bounce", source, account="main", created_at=moment)
        if source == "sync":
            assert suppression_sync.unmirrored(site, [entry]) == suppression_sync.mirror(site, [entry])
        else:
            suppress(site, [entry])

    learn(before)
    assert values() == ["ada@example.com"]
    assert suppressions.remove("ada@example.com", tenant="acme").is_whole
    learn(before)
    assert values() == []
    if source == "sync":
        learn(None)
        assert values() == []
    learn(after)
    assert values() == ["ada@example.com"]


def test_a_person_adds_again_what_was_removed(site: Database) -> None:
    for _ in range(2):
        assert suppressions.add("ada@example.com", tenant="acme") == 1
        assert suppressions.remove("ada@example.com", tenant="acme").removed == 1


def test_domains_are_removed_by_name_and_complaints_by_force_only(site: Database) -> None:
    suppressions.add(["example.com"], tenant="acme")
    assert suppressions.remove("Example.COM", tenant="acme").removed == 1
    suppressions.add("ada@example.com", tenant="acme", reason="complaint")
    assert suppressions.remove("ada@example.com", tenant="acme").kept == 1
    assert suppressions.remove("ada@example.com", tenant="acme", force=True).is_whole


def test_an_export_is_imported_as_it_was(site: Database, tmp_path: Path) -> None:
    later = datetime(2099, 1, 1, tzinfo=UTC)
    suppressions.add(["ada@example.com", "example.net"], tenant="acme")
    suppressions.add("bob@example.com", tenant="acme", stream="bulk", reason="unsubscribe")
    suppressions.add("cy@example.com", tenant="acme", reason="complaint")
    suppressions.add("dee@example.com", tenant="acme", reason="hard_bounce", expires_at=later)
    suppressions.add("eve@example.com", tenant="globex")

    def kept() -> set[tuple[object, ...]]:
        return {
            (entry.value, entry.scope, entry.stream, entry.reason, entry.expires_at, entry.created_at)
            for entry in suppressions.search(tenant="acme")
        }

    before, file = kept(), tmp_path / "list.csv"
    assert suppressions.export_csv(file, tenant="acme") == 5
    assert file.stat().st_mode & 0o077 == 0
    site.query(sqlalchemy.text("TRUNCATE mailglass.suppressions"))
    report = suppressions.import_csv(file, tenant="acme")
    assert (report.read, report.added, report.refused, report.line) == (5, 5, {}, 6)
    assert kept() == before
    assert suppressions.import_csv(file, tenant="acme").added == 0


def test_a_failed_export_leaves_the_file_as_it_was(
    site: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "list.csv"
    file.write_text("before")

    def lost(*given: object) -> None:
        raise LedgerUnavailableError("away")

    monkeypatch.setattr(suppression_list, "entry_of", lost)
    suppressions.add("ada@example.com", tenant="acme")
    with pytest.raises(LedgerUnavailableError):
        suppressions.export_csv(file, tenant="acme")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_refused_lines_are_named_and_the_others_imported(site: Database) -> None:
    lines = [
        "ada@example.com,HardBounce,2026-01-02T00:00:00Z",
        "no one@example.com,HardBounce,",
        "example.org,HardBounce,",
        '"open,HardBounce,',
        "bob@example.com,because,",
        "cy@example.com,SpamComplaint,yesterday",
        "dee@example.com,SpamComplaint,2999-01-01T00:00:00Z",
        "eve@example.com,ManualSuppression,",
    ]
    report = suppressions.import_csv(io.StringIO(HEADING + "\n".join(lines)), tenant="acme")
    assert values() == ["ada@example.com", "eve@example.com"]
    assert report.refused_lines == [
        (3, "not_an_address"),
        (4, "not_an_address"),
        (5, "quote_not_closed"),
        (6, "unknown_reason"),
        (7, "unreadable_created_at"),
        (8, "created_in_the_future"),
    ]
    assert sum(report.refused.values()) == 6


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wrong=st.lists(st.text(max_size=30).filter(lambda text: '"' not in text), max_size=8), seed=st.integers())
def test_wrong_lines_anywhere_cost_no_good_one(site: Database, wrong: list[str], seed: int) -> None:
    site.query(sqlalchemy.text("TRUNCATE mailglass.suppressions"))
    good = [f"u{number}@example.com,HardBounce," for number in range(20)]
    lines = [*good, *(text.replace("\n", " ").replace("\r", " ") for text in wrong)]
    random.Random(seed).shuffle(lines)
    suppressions.import_csv(io.StringIO(HEADING + "\n".join(lines), newline=""), tenant="acme")
    assert {line.split(",")[0] for line in good} <= set(values())


def test_a_dry_run_counts_what_the_import_then_writes(site: Database) -> None:
    suppressions.add("ada@example.com", tenant="acme")
    suppressions.add("bob@example.com", tenant="acme")
    suppressions.remove("bob@example.com", tenant="acme")
    body = HEADING + "".join(
        f"{name}@example.com,{reason},2020-01-01T00:00:00Z\n"
        for name, reason in (("ada", "HardBounce"), ("ada", "SpamComplaint"), ("bob", "HardBounce"), ("cy", "Bounce"))
    )
    expected = suppressions.import_csv(io.StringIO(body), tenant="acme", dry_run=True).added
    assert values() == ["ada@example.com"]
    assert suppressions.import_csv(io.StringIO(body), tenant="acme").added == expected == 2


def test_unsubscriptions_without_a_stream_leave_transactional_mail(site: Database) -> None:
    suppressions.import_csv(io.StringIO("address,tags,created_at\nada@example.com,*,\n"), tenant="acme")
    assert sorted(entry.stream for entry in suppressions.check("ada@example.com", tenant="acme")) == [
        "bulk",
        "operational",
    ]


def test_a_file_that_says_no_reason_needs_one(site: Database) -> None:
    for body in ("email,created\nada@example.com,1767323045\n", "ada@example.com\n"):
        with pytest.raises(MessageError, match="reason"):
            suppressions.import_csv(io.StringIO(body), tenant="acme")
        assert suppressions.import_csv(io.StringIO(body), tenant="acme", reason="hard_bounce", dry_run=True).added == 1
    with pytest.raises(MessageError, match="columns"):
        suppressions.import_csv(io.StringIO("Name,Town\nAda,London\n"), tenant="acme", reason="manual")
    assert suppressions.import_csv(io.StringIO(""), tenant="acme").read == 0


def test_an_import_goes_on_at_a_line(site: Database) -> None:
    body = HEADING + "ada@example.com,Bounce,\nbob@example.com,Bounce,\n"
    assert suppressions.import_csv(io.StringIO(body), tenant="acme", from_line=3).added == 1
    assert values() == ["bob@example.com"]


def test_commands_list_show_export_and_import(site: Database, mailglass: Command, tmp_path: Path) -> None:
    file, refused = tmp_path / "in.csv", tmp_path / "refused.csv"
    file.write_text(HEADING + "ada@example.com,HardBounce,\nno one,HardBounce,\nbob@example.com,SpamComplaint,\n")
    command = ("suppressions", "import", file, "--tenant", "acme")
    assert mailglass(*command, "--dry-run")[1]["added"] == 2
    assert suppressions.count(tenant="acme") == 0
    status, report = mailglass(*command, "--refused", refused, "--as", "ops")
    assert (status, report["added"], report["refused_lines"]) == (1, 2, [{"line": 3, "reason": "not_an_address"}])
    assert refused.read_text() == "line,reason\n3,not_an_address\n"
    listed = mailglass("suppressions", "list", "--tenant", "acme", "--limit", "1")[1]["entries"]
    assert [entry["value"] for entry in listed] == ["bob@example.com"]
    older = mailglass("suppressions", "list", "--older-than", listed[0]["id"])[1]["entries"]
    assert [entry["value"] for entry in older] == ["ada@example.com"]
    assert mailglass("suppressions", "show", listed[0]["id"])[1]["entries"] == listed
    assert mailglass("suppressions", "show", "Ada@example.com", "--tenant", "acme")[1]["entries"] == older
    assert mailglass("suppressions", "show", "example.com")[0] == 1
    out = tmp_path / "out.csv"
    assert mailglass("suppressions", "export", out, "--reason", "complaint")[1]["exported"] == 1
    assert out.read_text().splitlines()[1].startswith("bob@example.com,address,,acme,complaint,import,")
    assert mailglass("suppressions", "list", "--tenant", "?")[0] == 64
    stored = site.query(sqlalchemy.text("SELECT CAST(a.* AS text) FROM mailglass.audit a"))
    assert "example.com" not in str(stored)
    assert [entry.action for entry in audit.entries(site)] == ["suppressions.import"] * 2


def test_files_that_cannot_be_used_are_a_usage_error(site: Database, mailglass: Command, tmp_path: Path) -> None:
    assert mailglass("suppressions", "import", tmp_path / "none.csv", "--tenant", "acme")[0] == 64
    assert mailglass("suppressions", "import", tmp_path, "--tenant", "acme")[0] == 64
    assert mailglass("suppressions", "export", tmp_path / "none" / "list.csv")[0] == 64


def test_a_wave_of_bounces_is_undone_in_one_audited_step(site: Database, mailglass: Command) -> None:
    suppressions.add([f"u{number}@outlook.com" for number in range(3)], tenant="acme", reason="hard_bounce")
    suppressions.add("ada@outlook.com", tenant="acme", reason="complaint")
    suppressions.add(["bob@outlook.com", "outlook.com"], tenant="acme")
    suppressions.add("cy@example.com", tenant="acme", reason="hard_bounce")
    command = ("suppressions", "undo", "--reason", "hard_bounce", "--domain", "outlook.com")
    assert mailglass(*command)[1]["removed"] == 3
    assert suppressions.count(tenant="acme") == 7
    assert mailglass(*command, "--yes", "--as", "ops")[1]["removed"] == 3
    assert values() == ["ada@outlook.com", "bob@outlook.com", "outlook.com", "cy@example.com"]
    done, intended = audit.entries(site)[:2]
    assert done.detail == {**intended.detail, "count": 3}
    assert (done.actor, done.detail["filter"]) == ("ops", {"reason": "hard_bounce", "domain": "outlook.com"})
    old = Suppression("acme", "u1@outlook.com", "hard_bounce", "sync", created_at=clock.now() - timedelta(hours=1))
    assert suppression_sync.mirror(site, [old]) == 0


def test_complaints_stay_in_a_removal_by_filter_unless_forced(site: Database) -> None:
    suppressions.add("ada@example.com", tenant="acme", reason="complaint")
    counts = suppressions.remove_many(tenant="acme", domain="example.com")
    assert (counts.found, counts.removed, counts.kept) == (1, 0, 1)
    assert suppressions.remove_many(tenant="acme", domain="example.com", force=True).removed == 1
    with pytest.raises(MessageError, match="filters"):
        suppressions.remove_many(tenant="acme")


_HOURS = st.sampled_from([-2, -1, 1, 2])
_FACTS = st.lists(
    st.tuples(_HOURS, st.sampled_from(["hard_bounce", "complaint"]), st.sampled_from([None, 1, 30])),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("source", ["sync", "webhook"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=_FACTS)
def test_facts_after_a_removal_count_whatever_older_ones_come_with_them(
    site: Database, source: str, facts: list[tuple[int, str, int | None]]
) -> None:
    address = f"{uuid4().hex}@example.com"
    suppressions.add(address, tenant="acme")
    suppressions.remove(address, tenant="acme")
    now = clock.now()
    entries = [
        Suppression(
            "acme",
            address,
            reason,
            source,
            account="main",
            expires_at=None if days is None or reason == "complaint" else now + timedelta(days=days),
            created_at=now + timedelta(hours=hours),
        )
        for hours, reason, days in facts
    ]
    if source == "sync":
        written = suppression_sync.mirror(site, entries)
    else:
        left = suppressed_already(site, entries)
        written = suppress(site, entries)
        assert left == len(entries) - written
    newer = [entry for entry in entries if entry.created_at is not None and entry.created_at > now]
    found = suppressions.check(address, tenant="acme")
    assert len(found) == written == bool(newer)
    if newer:
        assert (found[0].reason == "complaint") == any(entry.reason == "complaint" for entry in newer)
