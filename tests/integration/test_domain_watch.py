"""The task `mailglass.domains.check`: kept results, events of a change, and `mailglass domains`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.name
import jsonschema
import pytest
import sqlalchemy

from mailglass import telemetry
from mailglass.cli import run
from mailglass.domains import watch
from mailglass.doorbell import DOMAINS
from mailglass.ledger import domains as ledger
from mailglass.settings import configure, load_settings
from mailglass.testing.dns_server import DNSServer
from mailglass_beat.schedule import SCHEDULE
from mailglass_workers import tasks
from tests.domain_zones import DOMAIN, good

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "domains.json").read_text("utf-8"))
DMARC = f"_dmarc.{DOMAIN}"


@pytest.fixture
def server() -> Iterator[DNSServer]:
    with DNSServer(good()) as running:
        yield running


@pytest.fixture
def watched(cluster: Any, server: DNSServer) -> Any:
    """The cluster, whose one sending domain is served by the test's server."""
    path = Path(cluster.environment["MAILGLASS_CONFIG"])
    path.write_text(
        f"""{path.read_text("utf-8")}
[accounts.relay.dns]
domains = ["{DOMAIN}"]
dkim_selectors = ["s1"]
return_path = "{DOMAIN}"

[domains]
resolver = "{server.address}"
""",
        encoding="utf-8",
    )
    configure(load_settings())
    return cluster


@pytest.fixture
def events() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    told: list[tuple[str, dict[str, Any]]] = []
    end = telemetry.subscribe(
        lambda event, fields: told.append((event, dict(fields))) if event.startswith("mailglass.domain.") else None
    )
    yield told
    end()


def due(cluster: Any) -> None:
    cluster.runtime.database.query(sqlalchemy.text("UPDATE mailglass.domains SET due_at = now()"))


def kept(cluster: Any) -> ledger.WatchedDomain:
    return ledger.known(cluster.runtime.database, [DOMAIN])[DOMAIN]


def test_a_domain_that_gets_worse_and_better_is_kept_and_told(
    watched: Any, server: DNSServer, events: list[tuple[str, dict[str, Any]]]
) -> None:
    tasks.check_domains()
    first = kept(watched)
    assert (first.status, first.summary["fail"]) == ("info", 0)
    assert events == []
    record = server.zone.pop(dns.name.from_text(DMARC))
    due(watched)
    tasks.check_domains()
    worse = kept(watched)
    assert worse.status == "fail"
    assert worse.statuses["dmarc.record"] == "fail"
    assert worse.since is not None and first.since is not None and worse.since > first.since
    ((event, fields),) = events
    assert (event, fields["domain"], fields["status"]) == ("mailglass.domain.worse", DOMAIN, "fail")
    assert "dmarc.record" in str(fields["reason"])
    due(watched)
    tasks.check_domains()
    assert kept(watched).since == worse.since
    assert len(events) == 1, "nothing has changed"
    server.zone[dns.name.from_text(DMARC)] = record
    due(watched)
    tasks.check_domains()
    assert [event for event, _ in events] == ["mailglass.domain.worse", "mailglass.domain.better"]
    assert kept(watched).status == "info"


def test_a_resolver_that_is_away_makes_no_domain_worse(
    watched: Any, server: DNSServer, events: list[tuple[str, dict[str, Any]]]
) -> None:
    tasks.check_domains()
    before = kept(watched)
    server.servfail |= set(server.zone)
    due(watched)
    tasks.check_domains()
    after = kept(watched)
    assert (after.status, after.since, events) == (before.status, before.since, [])
    assert after.checked_at is not None and before.checked_at is not None and after.checked_at > before.checked_at


def test_a_domain_is_checked_again_after_an_hour_or_a_little_later(watched: Any, server: DNSServer) -> None:
    tasks.check_domains()
    count = len(server.queries)
    tasks.check_domains()
    assert len(server.queries) == count
    item = kept(watched)
    assert item.due_at is not None and item.checked_at is not None
    assert 3600 <= (item.due_at - item.checked_at).total_seconds() <= 4200
    (entry,) = [entry for entry in SCHEDULE.values() if entry["task"] == DOMAINS]
    assert entry["schedule"].total_seconds() < 3600


def test_a_claim_whose_process_died_is_checked_by_another_one(watched: Any, server: DNSServer) -> None:
    from uuid import uuid4

    late = uuid4()
    assert list(ledger.claim(watched.runtime.database, [DOMAIN], late, 5, 300)) == [DOMAIN]
    tasks.check_domains()
    assert server.queries == [], "somebody has it"
    due(watched)
    tasks.check_domains()
    assert kept(watched).status == "info"
    saved = ledger.save(
        watched.runtime.database,
        DOMAIN,
        late,
        status="fail",
        statuses={"spf.record": "fail"},
        summary={},
        again_after=1,
    )
    assert not saved
    assert kept(watched).status == "info"


def test_domain_that_left_the_settings_is_forgotten_after_a_month(watched: Any) -> None:
    for name, days in (("old.example", 31), ("new.example", 1)):
        watched.runtime.database.query(
            sqlalchemy.text(
                "INSERT INTO mailglass.domains (domain, token, due_at) VALUES"
                f" ('{name}', gen_random_uuid(), now() - interval '{days} days')"
            )
        )
    tasks.check_domains()
    left = ledger.known(watched.runtime.database, [DOMAIN, "old.example", "new.example"])
    assert set(left) == {DOMAIN, "new.example"}


def test_many_domains_are_checked_a_few_at_a_time(watched: Any, server: DNSServer) -> None:
    path = Path(watched.environment["MAILGLASS_CONFIG"])
    many = [f"d{number}.example" for number in range(watch.BATCH + 2)]
    path.write_text(path.read_text("utf-8").replace(f'["{DOMAIN}"]', json.dumps(many)), encoding="utf-8")
    configure(load_settings())
    tasks.check_domains()
    assert watched.rings.count() == 1
    assert (
        sum(item.checked_at is not None for item in ledger.known(watched.runtime.database, many).values())
        == watch.BATCH
    )
    tasks.check_domains()
    assert {item.status for item in ledger.known(watched.runtime.database, many).values()} == {"fail"}


def test_a_watch_that_is_off_asks_nothing(watched: Any, server: DNSServer) -> None:
    path = Path(watched.environment["MAILGLASS_CONFIG"])
    path.write_text(path.read_text("utf-8") + "watch = false\n", encoding="utf-8")
    configure(load_settings())
    tasks.check_domains()
    assert server.queries == []


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_checks_what_is_due_when_the_task_is_rung(watched: Any, pool: str, until: Any) -> None:
    watched.worker("-c", "2", "-P", pool)
    watched.runtime.doorbell.ring_task(DOMAINS)
    assert until(
        lambda: DOMAIN in ledger.known(watched.runtime.database, [DOMAIN]) and kept(watched).status == "info", 60
    )


def test_domains_are_listed_with_since_when(watched: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["domains"]) == 0
    assert "not checked yet" in capsys.readouterr().out
    tasks.check_domains()
    assert run(["domains", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(SCHEMA).validate(said)
    (item,) = said["domains"]
    assert (item["domain"], item["status"], item["summary"]["fail"]) == (DOMAIN, "info", 0)
    assert item["since"] and item["checked_at"]
    assert run(["domains"]) == 0
    assert DOMAIN in capsys.readouterr().out
