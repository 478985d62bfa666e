"""The commands over the ledger: `db`, `deliveries`, `web`."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass.cli import run
from mailglass.ids import uuid7
from mailglass.ledger import audit, deliveries, leases, schema
from mailglass.ledger.database import Database, close_databases, get_database
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.routing import Lane
from mailglass.runtime import close_runtime

LANE = Lane("mailglass", "acme", "transactional")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Point the environment at a database, with nothing else configured."""
    monkeypatch.chdir(tmp_path)

    def point(url: str) -> None:
        monkeypatch.setenv("MAILGLASS_DATABASE_URL", url)

    yield point
    close_databases()


@pytest.fixture
def ledger(database_url: str, configured: Callable[[str], None]) -> Iterator[Database]:
    configured(database_url)
    database = Database(database_url)
    yield database
    database.dispose()
    close_runtime()
    close_databases()


def queue(ledger: Database, count: int = 1, lane: Lane = LANE) -> list[UUID]:
    body = json.dumps({"v": 1, "subject": "s", "text": "t"})
    items = [Item(uuid7(), lane, uuid7(), body, Address(f"ada{n}@example.com")) for n in range(count)]
    return [recorded.id for recorded in submit(ledger.run, items)]


def hold(ledger: Database, count: int, lane: Lane = LANE) -> list[UUID]:
    ids, token = queue(ledger, count, lane), uuid4()
    leases.claim(ledger, lane, token, count, 60)
    leases.record(ledger, token, [Verdict(key, Status.HELD, EngineEvent.HELD, "no_route") for key in ids])
    return ids


class Said:
    """What a command wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        data = json.loads(self.out)
        assert data.pop("schema_version") == 1
        return data


@pytest.fixture
def mailglass(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def command(*arguments: Any) -> Said:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return command


def test_db_upgrade_makes_the_schema_and_may_be_run_again(
    configured: Callable[[str], None], empty_database_url: str, mailglass: Callable[..., Said]
) -> None:
    configured(empty_database_url)
    assert mailglass("db", "current").out == "none\n"
    assert mailglass("db", "current", "--json").json == {"revision": None, "head": schema.HEAD}
    refused = mailglass("db", "check")
    assert (refused.code, refused.out) == (1, "")
    assert "mailglass db upgrade" in refused.err
    waited = mailglass("db", "wait", "--timeout", "0")
    assert (waited.code, waited.out) == (1, "")
    assert "mailglass db upgrade" in waited.err
    first = mailglass("db", "upgrade", "--format", "json")
    assert first.json == {"before": None, "revision": schema.HEAD, "head": schema.HEAD}
    (entry,) = audit.entries(get_database(empty_database_url))
    assert (entry.action, entry.detail["filter"]) == ("db.upgrade", {"to": schema.HEAD})
    again = mailglass("db", "upgrade")
    assert (again.code, again.out) == (0, f"The schema is at revision {schema.HEAD} already.\n")
    assert mailglass("db", "current").out == f"{schema.HEAD}\n"
    assert mailglass("db", "check").code == 0
    assert mailglass("db", "check", "--json").json["ok"] is True
    assert mailglass("db", "wait", "--json").json == {"ok": True, "revision": schema.HEAD, "head": schema.HEAD}


def test_without_a_database_the_command_says_what_to_set(
    mailglass: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["db", "check"], ["deliveries", "list"], ["web"]):
        said = mailglass(*command)
        assert (said.code, said.out) == (1, "")
        assert "MAILGLASS_DATABASE_URL" in said.err


def test_an_unreachable_database_is_an_error_without_a_traceback(
    configured: Callable[[str], None], unused_port: int, mailglass: Callable[..., Said]
) -> None:
    configured(f"postgresql://nobody@127.0.0.1:{unused_port}/nowhere")
    for command in (["db", "check"], ["deliveries", "counts"]):
        said = mailglass(*command)
        assert said.code == 1
        assert said.err.startswith("mailglass: ")


def test_a_delivery_is_shown_with_its_timeline_and_without_its_recipient(
    ledger: Database, mailglass: Callable[..., Said]
) -> None:
    (key,) = hold(ledger, 1)
    said = mailglass("deliveries", "show", key)
    assert said.code == 0
    assert re.search(r"^status +held$", said.out, re.MULTILINE)
    assert re.search(r"engine +held +status=held reason=no_route", said.out)
    assert "ada" not in said.out
    assert "ada0@example.com" in mailglass("deliveries", "show", key, "--show-recipient").out
    data = mailglass("deliveries", "show", key, "--json").json
    assert (data["delivery"]["id"], data["delivery"]["status"]) == (str(key), "held")
    assert [event["kind"] for event in data["timeline"]] == ["queued", "held"]
    assert "example.com" not in json.dumps(data)
    shown = mailglass("deliveries", "show", key, "--json", "--show-recipient").json
    assert shown["delivery"]["recipient"] == "ada0@example.com"


def test_a_delivery_that_is_not_there_is_an_error(ledger: Database, mailglass: Callable[..., Said]) -> None:
    said = mailglass("deliveries", "show", uuid4())
    assert said.code == 1
    assert "no delivery" in said.err
    assert mailglass("deliveries", "show", "17").code == 64


def test_an_upgrade_on_a_newer_schema_does_nothing_or_says_to_upgrade_mailglass(
    ledger: Database, mailglass: Callable[..., Said]
) -> None:
    def stand(revision: str, oldest: str) -> None:
        ledger.query(sqlalchemy.text(f"UPDATE mailglass.schema_version SET version_num = '{revision}'"))
        ledger.query(sqlalchemy.text(f"UPDATE mailglass.schema_support SET oldest_code = '{oldest}'"))

    stand("9999", "0005")
    said = mailglass("db", "upgrade")
    assert (said.code, said.err) == (0, "")
    assert "revision 9999, newer than this version's" in said.out
    stand("9999", "9999")
    said = mailglass("db", "upgrade")
    assert said.code == 1
    assert said.err.count("\n") == 1 and "upgrade mailglass" in said.err


def test_deliveries_are_listed_newest_first_by_filter(ledger: Database, mailglass: Callable[..., Said]) -> None:
    ids = queue(ledger, 3)
    held = hold(ledger, 1, Lane("mailglass", "globex", "bulk"))

    def listed(*options: Any) -> list[str]:
        found = mailglass("deliveries", "list", "--json", *options).json["deliveries"]
        return [item["id"] for item in found]

    assert listed() == [str(key) for key in [*held, *ids[::-1]]]
    assert listed("--tenant", "acme", "--limit", 2) == [str(key) for key in ids[:0:-1]]
    assert listed("--status", "held") == listed("--stream", "bulk") == [str(held[0])]
    table = mailglass("deliveries", "list", "--tenant", "globex").out.splitlines()
    assert table[0].split() == [
        "ID",
        "CREATED",
        "TENANT",
        "STREAM",
        "STATUS",
        "IN",
        "DOUBT",
        "OUTCOME",
        "ATTEMPTS",
        "LAST",
        "ERROR",
    ]
    assert len(table) == 2
    assert "ada" not in "".join(table)
    assert "ada0@example.com" in mailglass("deliveries", "list", "--tenant", "globex", "--show-recipient").out


def test_deliveries_are_counted(ledger: Database, mailglass: Callable[..., Said]) -> None:
    queue(ledger, 2)
    hold(ledger, 1, Lane("mailglass", "globex", "bulk"))
    assert mailglass("deliveries", "counts", "--json").json["counts"] == {"acme": {"queued": 2}, "globex": {"held": 1}}
    assert mailglass("deliveries", "counts").out.splitlines()[1:] == [
        "acme    queued  2",
        "globex  held    1",
    ]


def test_canceling_leaves_other_tenants_and_what_is_under_way_alone(
    ledger: Database, mailglass: Callable[..., Said]
) -> None:
    mine, under_way = queue(ledger, 2)
    (theirs,) = queue(ledger, 1, Lane("mailglass", "globex", "bulk"))
    ledger.query(
        sqlalchemy.text("UPDATE mailglass.deliveries SET status = 'claimed' WHERE id = :id").bindparams(id=under_way)
    )
    assert mailglass("deliveries", "cancel", mine).code == 64
    said = mailglass("deliveries", "cancel", mine, theirs, under_way, "--tenant", "acme", "--json")
    assert said.code == 1
    assert said.json == {"canceled": [str(mine)], "left": [str(theirs), str(under_way)], "in_doubt": []}
    assert deliveries.get(ledger, mine).status is Status.CANCELED
    assert deliveries.get(ledger, theirs).status is Status.QUEUED


def test_releasing_first_says_what_it_would_do(ledger: Database, mailglass: Callable[..., Said]) -> None:
    held, queued = hold(ledger, 1)[0], queue(ledger)[0]
    dry = mailglass("deliveries", "release", held, queued)
    assert (dry.code, dry.out) == (0, f"{held}\n")
    assert "1 would be released" in dry.err
    assert "is queued, not held" in dry.err
    assert deliveries.get(ledger, held).status is Status.HELD
    assert mailglass("deliveries", "release", held, "--yes").out == "1 released.\n"
    assert deliveries.get(ledger, held).status is Status.QUEUED


def test_all_held_deliveries_of_one_tenant_are_released(
    ledger: Database, mailglass: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailglass.cli.database.BATCH", 2)
    mine = hold(ledger, 5)
    (theirs,) = hold(ledger, 1, Lane("mailglass", "globex", "bulk"))
    command = ["deliveries", "release", "--status", "held", "--tenant", "acme"]
    dry = mailglass(*command)
    assert dry.out.split() == [str(key) for key in sorted(mine)]
    assert "5 would be released" in dry.err
    done = mailglass(*command, "--yes")
    assert done.out == "5 released.\n"
    assert done.err.splitlines() == ["2 of 5 released", "4 of 5 released", "5 of 5 released"]
    assert deliveries.get(ledger, theirs).status is Status.HELD
    assert deliveries.counts(ledger)["acme"] == {"queued": 5}


@pytest.mark.parametrize(
    "arguments", [[], ["--status", "held"], ["--tenant", "acme"], [uuid4(), "--status", "held", "--tenant", "acme"]]
)
def test_release_asks_for_ids_or_for_one_tenants_held(
    ledger: Database, mailglass: Callable[..., Said], arguments: list[Any]
) -> None:
    assert mailglass("deliveries", "release", *arguments).code == 64


def test_released_mail_is_rung(
    ledger: Database, broker_url: str, mailglass: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailglass.doorbell import Doorbell

    monkeypatch.setenv("MAILGLASS_BROKER_URL", broker_url)
    rung: list[Lane] = []
    monkeypatch.setattr(Doorbell, "ring", lambda self, lanes: rung.extend(lanes))
    (held,) = hold(ledger, 1)
    mailglass("deliveries", "release", held, "--yes")
    assert rung == [LANE]


# --- mailglass web ---


def web(directory: Path, database: dict[str, str], *options: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAILGLASS_")}
    (directory / "mailglass.toml").write_text('[accounts.main]\nprovider = "null"\n', encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-c", "from mailglass.cli import main; main()", "web", "--port", "0", *options],
        env=environment | database,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_web_serves_until_it_is_told_to_stop(database_environment: dict[str, str], tmp_path: Path) -> None:
    process = web(tmp_path, database_environment)
    try:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("GET", "/readyz")
            assert connection.getresponse().read() == b"ready\n"
            connection.request("POST", "/webhooks/main?password=secret", b"ada@example.com")
            assert connection.getresponse().status == 401
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"POST /webhooks/main HTTP/1.1\r\nX: " + b"y" * 500_000)
            assert connection.recv(100).startswith(b"HTTP/1.1 431")
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
        assert process.returncode in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
    assert '"event": "mailglass.webhook.refused"' in rest
    assert "secret" not in rest
    assert "ada" not in rest


def test_web_refuses_a_schema_it_does_not_know(empty_database_url: str, servers: Any, tmp_path: Path) -> None:
    process = web(tmp_path, servers.environment(empty_database_url))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "run `mailglass db upgrade`" in err
    assert "Traceback" not in err


def test_web_without_its_extra_names_it(mailglass: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mailglass.cli.web", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = mailglass("web")
    assert said.code == 1
    assert 'pip install "mailglass[web]"' in said.err
