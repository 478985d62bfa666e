"""`mailglass deliveries uncertain` and `settle`: a person's word on what may have been sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass.cli import database, run
from mailglass.ids import uuid7
from mailglass.ledger import audit, deliveries, leases
from mailglass.ledger.database import Database
from mailglass.ledger.events import EngineEvent, Source, project
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Doubt, Status
from mailglass.ledger.settlement import Settlement
from mailglass.ledger.settlement import settle as settle_in_ledger
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.routing import Lane

LANE = Lane("mailglass", "acme", "bulk")
THEIRS = Lane("mailglass", "globex", "transactional")
Command = Callable[..., tuple[int, Any]]


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


def stand(
    ledger: Database,
    status: Status,
    reason: str,
    count: int = 1,
    lane: Lane = LANE,
    account: str = "main",
    doubt: Doubt | None = None,
) -> list[UUID]:
    """Deliveries that were attempted once and stand there."""
    content = json.dumps({"v": 1, "subject": "s", "text": "t"})
    items = [Item(uuid7(), lane, uuid7(), content, Address(f"ada{number}@example.com")) for number in range(count)]
    ids, token = [recorded.id for recorded in submit(ledger.run, items)], uuid4()
    leases.claim_these(ledger, ids, token, 60)
    leases.mark(ledger, token, ids, account, "scripted")
    leases.record(
        ledger, token, [Verdict(key, status, EngineEvent.ATTEMPTED, reason, delay=600, doubt=doubt) for key in ids]
    )
    return ids


def statuses(ledger: Database, ids: list[UUID]) -> list[str]:
    found = deliveries.states(ledger, ids)
    return [found[key][0].value for key in ids]


def test_mail_that_may_have_been_sent_is_listed_oldest_first_with_its_holds_end(
    ledger: Database, mailglass: Command
) -> None:
    (lost,) = stand(ledger, Status.UNCERTAIN, "answer_lost")
    (held,) = stand(ledger, Status.HELD, "no_evidence", lane=THEIRS, account="other", doubt=Doubt.OPEN)
    stand(ledger, Status.HELD, "account_misconfigured")
    code, found = mailglass("uncertain")
    assert code == 0
    assert [item["id"] for item in found["deliveries"]] == [str(lost), str(held)]
    first, second = found["deliveries"]
    assert (first["status"], first["account"], first["last_error"]) == ("uncertain", "main", "answer_lost")
    assert first["hold_until"] and first["search_from"]
    assert (second["status"], second["hold_until"], second["search_from"]) == ("held", None, None)
    assert [item["id"] for item in mailglass("uncertain", "--tenant", "acme")[1]["deliveries"]] == [str(lost)]
    assert [item["id"] for item in mailglass("uncertain", "--account", "other")[1]["deliveries"]] == [str(held)]


def test_people_see_a_table(ledger: Database, capsys: pytest.CaptureFixture[str]) -> None:
    (lost,) = stand(ledger, Status.UNCERTAIN, "answer_lost")
    assert run(["deliveries", "uncertain"]) == 0
    out = capsys.readouterr().out
    assert str(lost) in out and "HOLD ENDS" in out
    assert run(["deliveries", "settle", "--status", "uncertain", "--sent"]) == 0
    captured = capsys.readouterr()
    assert (captured.out.strip(), "1 would be settled" in captured.err) == (str(lost), True)
    assert run(["deliveries", "settle", "--status", "uncertain", "--sent", "--yes"]) == 0
    assert capsys.readouterr().out.strip() == "1 settled."


@pytest.mark.parametrize(
    ("how", "before", "after", "kind"),
    [
        ("--sent", Status.UNCERTAIN, "sent", "settled"),
        ("--sent", Status.HELD, "sent", "settled"),
        ("--resend", Status.UNCERTAIN, "queued", "resent"),
        ("--resend", Status.HELD, "queued", "resent"),
        ("--give-up", Status.UNCERTAIN, "failed", "failed"),
        ("--give-up", Status.HELD, "failed", "failed"),
        ("--sent", Status.QUEUED, "sent", "settled"),
        ("--resend", Status.QUEUED, "queued", "resent"),
        ("--give-up", Status.QUEUED, "failed", "failed"),
    ],
)
def test_a_person_settles_a_delivery_and_the_audit_knows_who(
    ledger: Database, mailglass: Command, how: str, before: Status, after: str, kind: str
) -> None:
    (key,) = stand(ledger, before, "no_evidence", doubt=Doubt.ASKED)
    code, dry = mailglass("settle", key, how)
    assert (code, dry["dry_run"], dry["unsettled"], dry["settled"]) == (0, True, [str(key)], [])
    assert statuses(ledger, [key]) == [before.value]
    assert audit.entries(ledger) == []
    code, done = mailglass("settle", key, how, "--yes", "--as", "grace")
    assert (code, done["settled"], done["left"]) == (0, [str(key)], [])
    assert statuses(ledger, [key]) == [after]
    timeline = deliveries.timeline(ledger, key)
    assert (timeline[-1].kind, timeline[-1].source, timeline[-1].reason) == (kind, Source.OPERATOR, "settled_by_hand")
    assert replace(project(timeline), status_id=None) == deliveries.get(ledger, key).facts
    (entry,) = audit.entries(ledger)
    assert (entry.actor, entry.tenant, entry.detail) == ("grace", "acme", {"ids": [str(key)], "count": 1})
    assert entry.action == f"deliveries.settle.{how.removeprefix('--').replace('-', '_')}"
    lanes = lanes_due(ledger)
    assert lanes == ([LANE] if after == "queued" else [])
    (row,) = ledger.query(sqlalchemy.text("SELECT lease_expires_at, search_at, attempts FROM mailglass.deliveries"))
    assert (row.lease_expires_at, row.search_at, row.attempts) == (None, None, 0 if after == "queued" else 1)
    settled = deliveries.get(ledger, key)
    assert (settled.in_doubt, settled.ask_again) == (after != "sent", False)


@pytest.mark.parametrize("status", [Status.SENT, Status.QUEUED, Status.FAILED, Status.SUPPRESSED])
def test_settled_mail_is_left_alone(ledger: Database, mailglass: Command, status: Status) -> None:
    (key,) = stand(ledger, status, "because")
    unknown = uuid4()
    code, done = mailglass("settle", key, unknown, "--resend", "--yes")
    assert (code, done["settled"], done["left"]) == (1, [], [str(key), str(unknown)])
    assert statuses(ledger, [key]) == [status.value]


def test_mail_held_for_another_reason_was_not_sent(ledger: Database, mailglass: Command) -> None:
    (key,) = stand(ledger, Status.HELD, "account_misconfigured")
    assert mailglass("settle", key, "--sent", "--yes")[0] == 1
    assert mailglass("settle", "--status", "held", "--sent", "--yes")[1]["moved"] == 0
    assert settle_in_ledger(ledger, [key], Settlement.SENT) == {}
    assert statuses(ledger, [key]) == ["held"]


def test_a_filter_settles_batch_by_batch_just_what_it_names(
    ledger: Database, mailglass: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BATCH", 4)
    ours = stand(ledger, Status.UNCERTAIN, "answer_lost", count=10)
    theirs = stand(ledger, Status.UNCERTAIN, "answer_lost", lane=THEIRS)
    held = stand(ledger, Status.HELD, "no_evidence", doubt=Doubt.OPEN)
    command = ("settle", "--status", "uncertain", "--tenant", "acme", "--account", "main", "--stream", "bulk", "--sent")
    code, dry = mailglass(*command)
    assert (code, dry["dry_run"], dry["found"], dry["moved"]) == (0, True, 10, 0)
    code, done = mailglass(*command, "--yes")
    assert (code, done["found"], done["moved"]) == (0, 10, 10)
    assert set(statuses(ledger, ours)) == {"sent"}
    assert statuses(ledger, [*theirs, *held]) == ["uncertain", "held"]
    assert sum(entry.detail["count"] for entry in audit.entries(ledger)) == 10
    assert mailglass(*command, "--yes")[1]["moved"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sent",),
        (str(uuid4()),),
        (str(uuid4()), "--status", "held", "--sent"),
        (str(uuid4()), "--tenant", "acme", "--sent"),
    ],
)
def test_a_command_that_is_not_clear_changes_nothing(arguments: tuple[str, ...]) -> None:
    assert run(["deliveries", "settle", *arguments]) == 64


def test_settling_again_after_a_lost_answer_says_what_was_settled(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = stand(ledger, Status.UNCERTAIN, "answer_lost", count=2)
    answers = []
    real = ledger.run

    def twice(name: str, params: Any = None) -> Any:
        answers.append(real(name, params))
        return real(name, params)

    monkeypatch.setattr(ledger, "run", twice)
    assert set(settle_in_ledger(ledger, keys, Settlement.RESEND)) == set(keys)
    assert len(answers) == 1
    kinds = [event.kind for event in deliveries.timeline(ledger, keys[0])]
    assert kinds.count("resent") == 1
