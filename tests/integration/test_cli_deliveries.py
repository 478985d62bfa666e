"""`mailglass deliveries list`, `show --content` and `reschedule`."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass.cli import run
from mailglass.ids import uuid7
from mailglass.ledger import audit, deliveries, leases, selection
from mailglass.ledger.database import Database
from mailglass.ledger.filters import Selection
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.tables import deliveries as table
from mailglass.mail.addresses import Address
from mailglass.routing import Lane
from tests.commands import Command

LANE = Lane("mailglass", "acme", "bulk")
CONTENT = {"v": 1, "subject": "Receipt 1001", "text": "Thank you.\x1b[2J"}


@pytest.fixture
def mailglass(deliveries_command: Command) -> Command:
    return deliveries_command


def queue(ledger: Database, key: UUID | None = None, lane: Lane = LANE, to: str = "ada", **fields: Any) -> UUID:
    content = json.dumps(fields.pop("content", CONTENT))
    item = Item(key or uuid7(), lane, uuid7(), content, Address(f"{to}@example.com"), **fields)
    (recorded,) = submit(ledger.run, [item])
    return recorded.id


def execute(ledger: Database, sql: str, **params: Any) -> None:
    ledger.query(sqlalchemy.text(sql).bindparams(**params))


def listed(mailglass: Command, *options: Any) -> list[str]:
    return [item["id"] for item in mailglass("list", *options)[1]["deliveries"]]


def test_deliveries_are_listed_by_when_they_were_recorded_whatever_their_ids(
    ledger: Database, mailglass: Command
) -> None:
    first = queue(ledger, UUID("ffffffff-ffff-4fff-bfff-ffffffffffff"))
    second, third = queue(ledger), queue(ledger, UUID("00000000-0000-4000-8000-000000000000"))
    assert listed(mailglass) == [str(third), str(second), str(first)]
    assert listed(mailglass, "--limit", "2", "--behind", third) == [str(second), str(first)]
    assert listed(mailglass, "--limit", "2", "--behind", first) == []


def test_pages_hold_each_delivery_once_even_of_one_moment(ledger: Database, mailglass: Command) -> None:
    ids = {str(queue(ledger)) for _ in range(7)}
    execute(ledger, "UPDATE mailglass.deliveries SET created_at = now()")
    pages = [listed(mailglass, "--limit", "3")]
    while page := listed(mailglass, "--limit", "3", "--behind", pages[-1][-1]):
        pages.append(page)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {key for page in pages for key in page} == ids


def test_pages_follow_each_other_over_seconds_and_years(ledger: Database, mailglass: Command) -> None:
    ids = [str(queue(ledger, UUID(int=number << 64 | 0x4000 << 64))) for number in range(1, 13)]
    for number, key in enumerate(ids):
        # from half a minute ago to some twenty years ago
        aged = "UPDATE mailglass.deliveries SET created_at = now() - make_interval(mins => :age) WHERE id = :id"
        execute(ledger, aged, age=4**number, id=UUID(key))
    pages = [listed(mailglass, "--limit", "2")]
    while page := listed(mailglass, "--limit", "2", "--behind", pages[-1][-1]):
        pages.append(page)
    assert [key for page in pages for key in page] == ids
    assert listed(mailglass) == ids


@pytest.mark.parametrize("span", [(0, 1), (3, 7), (11, 12)])
def test_a_list_between_two_moments_holds_all_of_them(
    ledger: Database, mailglass: Command, span: tuple[int, int]
) -> None:
    ids = [queue(ledger) for _ in range(12)]
    moments = [datetime(2030 - number, 1, 1, tzinfo=UTC) for number in range(12)]
    for key, moment in zip(ids, moments, strict=True):
        execute(ledger, "UPDATE mailglass.deliveries SET created_at = :moment WHERE id = :id", moment=moment, id=key)
    first, behind = span
    between = {"created_after": moments[behind - 1], "created_before": moments[first] + timedelta(seconds=1)}
    assert [delivery.id for delivery in deliveries.find(ledger, **between)] == ids[first:behind]
    assert [delivery.id for delivery in deliveries.find(ledger, limit=1, **between)] == ids[first : first + 1]


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (("--recipient", "Grace@example.com"), "recipient = 'grace@example.com'"),
        (("--mailable", "shop.mails:Receipt"), "mailable = 'shop.mails:Receipt'"),
        (("--reason", "template_failed"), "last_error = 'template_failed:syntax'"),
        (("--account", "main"), "account = 'main'"),
        (("--outcome", "bounced"), "bounced_at = now(), delivered_at = now()"),
        (("--after", "2040-01-01T00:00Z"), "created_at = '2040-01-02T00:00Z'"),
        (("--before", "2020-01-01T00:00Z"), "created_at = '2019-01-02T00:00Z'"),
        (("--due-after", "2040-01-01T00:00Z"), "due_at = '2040-01-02T00:00Z'"),
        (("--in-doubt",), "in_doubt = true"),
        (("--stream", "operational"), "stream = 'operational'"),
        (("--tenant", "globex"), "tenant_id = 'globex'"),
    ],
)
def test_each_filter_of_cancel_narrows_the_list_too(
    ledger: Database, mailglass: Command, options: tuple[str, ...], change: str
) -> None:
    globex = change == "tenant_id = 'globex'"
    hit, other = queue(ledger, lane=Lane("mailglass", "globex", "bulk") if globex else LANE), queue(ledger)
    execute(ledger, f"UPDATE mailglass.deliveries SET {change} WHERE id = :id", id=hit)
    execute(
        ledger, "UPDATE mailglass.deliveries SET complained_at = now(), bounced_at = now() WHERE id = :id", id=other
    )
    assert listed(mailglass, *options) == [str(hit)]


def test_each_status_is_found_by_the_list(ledger: Database, mailglass: Command) -> None:
    ids = {status: queue(ledger) for status in Status}
    token = uuid4()
    for status, key in ids.items():
        if status is Status.CANCELED:
            deliveries.cancel(ledger, [key], "acme")
        elif status is not Status.QUEUED:
            leases.claim_these(ledger, [key], token, 60)
        if status in (Status.SENDING, Status.SENT, Status.FAILED, Status.UNCERTAIN):
            leases.mark(ledger, token, [key], "main", "null")
        if status not in (Status.QUEUED, Status.CLAIMED, Status.SENDING, Status.CANCELED):
            leases.record(ledger, token, [leases.Verdict(key, status, None, delay=60.0)])
    assert {status: listed(mailglass, "--status", status) for status in Status} == {
        status: [str(key)] for status, key in ids.items()
    }


def test_held_ones_are_found_without_a_walk_over_what_was_sent(ledger: Database) -> None:
    def buffers() -> int:
        held = Selection(tenant="acme").conditions(selection.RELEASABLE)
        query = sqlalchemy.select(table.c.id).where(*held).order_by(table.c.id).limit(5000)
        text = str(query.compile(ledger._engine, compile_kwargs={"literal_binds": True}))
        (plan,) = ledger.query(sqlalchemy.text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {text}"))
        return int(plan[0][0]["Plan"]["Shared Hit Blocks"]) + int(plan[0][0]["Plan"]["Shared Read Blocks"])

    held = queue(ledger)
    token = uuid4()
    leases.claim_these(ledger, [held], token, 60)
    leases.record(ledger, token, [leases.Verdict(held, Status.HELD, None, "no_route")])
    execute(
        ledger,
        "INSERT INTO mailglass.deliveries (id, tenant_id, message_id, stream, queue, status, recipient,"
        " recipient_domain, sent_at) SELECT gen_random_uuid(), 'acme', gen_random_uuid(), 'bulk', 'q', 'sent',"
        " 'ada@example.com', 'example.com', now() FROM generate_series(1, 20000)",
    )
    execute(ledger, "ANALYZE mailglass.deliveries")
    assert selection.preview(ledger, Selection(tenant="acme"), selection.RELEASABLE).sample == (held,)
    assert buffers() < 20


# what was said


@pytest.fixture
def allowed(tmp_path: Path) -> None:
    (tmp_path / "mailglass.toml").write_text("show_content = true\n", encoding="utf-8")


def test_a_refused_delivery_names_the_command_that_explains_its_refusal(
    ledger: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    key = queue(ledger)
    assert run(["deliveries", "show", str(key)]) == 0
    assert "--explain" not in capsys.readouterr().out
    execute(
        ledger,
        "INSERT INTO mailglass.events (id, delivery_id, tenant_id, kind, source, occurred_at, refusal, status_code,"
        " enhanced_status) VALUES (CAST(:id AS uuid), CAST(:key AS uuid), 'acme', 'attempted', 'engine', now(),"
        " 'sender_authentication/permanent/gmail', 550, '5.7.26')",
        id=str(uuid7()),
        key=str(key),
    )
    assert run(["deliveries", "show", str(key)]) == 0
    assert "mailglass mail-doctor --explain 5.7.26" in capsys.readouterr().out


def test_content_is_shown_to_nobody_unless_the_settings_allow_it(
    ledger: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    key = queue(ledger)
    assert run(["deliveries", "show", str(key), "--content"]) == 1
    captured = capsys.readouterr()
    assert "show_content = true" in captured.err
    assert "Thank you" not in captured.out + captured.err
    assert audit.entries(ledger) == []


def test_content_is_shown_without_files_or_terminal_codes_and_the_audit_knows_to_whom(
    ledger: Database, allowed: None, mailglass: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file = {"filename": "a.pdf", "content_type": "application/pdf", "content": base64.b64encode(b"12345").decode()}
    key = queue(ledger, content={**CONTENT, "attachments": [file]})
    assert run(["deliveries", "show", str(key), "--content", "--as", "grace"]) == 0
    out = capsys.readouterr().out
    assert "Receipt 1001" in out and "Thank you.\\x1b[2J" in out and "\x1b[2J" not in out
    assert file["content"] not in out
    (entry,) = audit.entries(ledger)
    assert (entry.actor, entry.action, entry.tenant) == ("grace", "deliveries.show_content", "acme")
    assert entry.detail["ids"] == [str(key)]
    shown = mailglass("show", key, "--content")[1]["content"]
    assert shown["attachments"] == [{"filename": "a.pdf", "content_type": "application/pdf", "bytes": 5}]
    assert "content" not in mailglass("show", key)[1]
    execute(ledger, "DELETE FROM mailglass.messages")
    assert mailglass("show", key, "--content")[1]["content"] is None


# rescheduling

LATER = (datetime.now(UTC) + timedelta(days=9)).replace(microsecond=0)


def test_queued_deliveries_are_rescheduled_after_a_dry_run_with_an_audit(ledger: Database, mailglass: Command) -> None:
    ids = [queue(ledger) for _ in range(3)]
    theirs = queue(ledger, lane=Lane("mailglass", "globex", "bulk"))
    command = ("reschedule", "--tenant", "acme", "--stream", "bulk", "--at", LATER.isoformat())
    code, dry = mailglass(*command)
    assert (code, dry["dry_run"], dry["found"], dry["moved"]) == (0, True, 3, 0)
    assert audit.entries(ledger) == []
    code, done = mailglass(*command, "--yes", "--as", "grace")
    assert (code, done["found"], done["moved"]) == (0, 3, 3)
    assert {deliveries.get(ledger, key).due_at for key in ids} == {LATER}
    assert deliveries.get(ledger, theirs).due_at < LATER
    assert deliveries.timeline(ledger, ids[0])[-1].kind == "rescheduled"
    (entry,) = audit.entries(ledger)
    assert (entry.actor, entry.action, entry.detail["count"]) == ("grace", "deliveries.reschedule", 3)
    assert entry.detail["filter"] == {"stream": "bulk", "to": str(LATER)}
    (row,) = ledger.query(
        sqlalchemy.text("SELECT DISTINCT scheduled_at FROM mailglass.deliveries WHERE tenant_id = 'acme'")
    )
    assert row.scheduled_at == LATER


def test_mail_that_does_not_wait_or_would_expire_or_is_in_doubt_is_not_rescheduled(
    ledger: Database, mailglass: Command
) -> None:
    claimed, expires, asked, free = (queue(ledger) for _ in range(4))
    leases.claim_these(ledger, [claimed], uuid4(), 60)
    execute(ledger, "UPDATE mailglass.deliveries SET expires_at = now() + interval '1 day' WHERE id = :id", id=expires)
    execute(ledger, "UPDATE mailglass.deliveries SET in_doubt = true, ask_again = true WHERE id = :id", id=asked)
    command = ("reschedule", claimed, expires, asked, free, "--tenant", "acme", "--at", LATER.isoformat(), "--yes")
    assert mailglass(*command)[1]["moved"] == 1
    assert [deliveries.get(ledger, key).due_at == LATER for key in (claimed, expires, asked, free)] == [
        False,
        False,
        False,
        True,
    ]


def test_deliveries_put_off_are_made_due_now(ledger: Database, mailglass: Command) -> None:
    key = queue(ledger, delay=3600.0)
    assert leases.claim(ledger, LANE, uuid4(), 10, 60) == []
    assert mailglass("reschedule", key, "--tenant", "acme", "--now", "--yes")[1]["moved"] == 1
    assert [delivery.id for delivery in leases.claim(ledger, LANE, uuid4(), 10, 60)] == [key]


def test_rescheduling_again_after_a_lost_answer_says_what_was_moved(ledger: Database) -> None:
    key, event = queue(ledger), uuid7()
    params = {
        "ids": f"{{{key.hex}}}",
        "event_ids": f"{{{event.hex}}}",
        "tenant": "acme",
        "moment": LATER,
        "actor": None,
        "audit_id": None,
        "detail": None,
    }
    assert [row.id for row in ledger.run("reschedule", params)] == [key]
    assert [row.id for row in ledger.run("reschedule", params)] == [key]


@pytest.mark.parametrize("when", [(), ("--now", "--at", LATER.isoformat()), ("--at", "2020-01-01T00:00Z")])
def test_a_reschedule_without_one_moment_to_come_changes_nothing(ledger: Database, when: tuple[str, ...]) -> None:
    key = queue(ledger)
    assert run(["deliveries", "reschedule", str(key), "--tenant", "acme", *when, "--yes"]) != 0
    assert deliveries.timeline(ledger, key)[-1].kind == "queued"
