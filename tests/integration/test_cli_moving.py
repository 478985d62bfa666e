"""`mailglass deliveries cancel` and `release` by filter, and what the audit keeps of it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass import clock
from mailglass.cli import database, run
from mailglass.cli.actor import whoami
from mailglass.cli.deliveries import bulk
from mailglass.errors import LedgerError
from mailglass.ids import uuid7
from mailglass.ledger import audit, deliveries, leases, selection
from mailglass.ledger.audit import Actor
from mailglass.ledger.database import Database
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.filters import Selection
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.routing import Lane
from tests.commands import Command

BULK = Lane("mailglass", "acme", "bulk")
RECEIPTS = Lane("mailglass", "acme", "transactional")
THEIRS = Lane("mailglass", "globex", "bulk")


@pytest.fixture
def mailglass(deliveries_command: Command) -> Command:
    return deliveries_command


def queue(ledger: Database, count: int = 1, lane: Lane = BULK, **fields: Any) -> list[UUID]:
    body = json.dumps({"v": 1, "subject": "s", "text": "t"})
    items = [Item(uuid7(), lane, uuid7(), body, Address(f"ada{n}@example.com"), **fields) for n in range(count)]
    return [recorded.id for recorded in submit(ledger.run, items)]


def hold(ledger: Database, count: int = 1, lane: Lane = BULK, reason: str = "no_route") -> list[UUID]:
    ids, token = queue(ledger, count, lane), uuid4()
    leases.claim_these(ledger, ids, token, 60)
    leases.record(ledger, token, [Verdict(key, Status.HELD, EngineEvent.HELD, reason) for key in ids])
    return ids


def canceled(ledger: Database, chosen: Selection) -> set[UUID]:
    return set().union(*(step.canceled for step in selection.cancel(ledger, chosen)))


def statuses(ledger: Database, ids: list[UUID]) -> set[str]:
    return {state.status.value for state in deliveries.states(ledger, ids).values()}


def test_canceling_by_filter_first_counts_and_then_takes_back_just_those(ledger: Database, mailglass: Command) -> None:
    bulk, receipts, theirs = queue(ledger, 12), queue(ledger, 2, RECEIPTS), queue(ledger, 1, THEIRS)
    command = ("cancel", "--tenant", "acme", "--stream", "bulk")
    code, dry = mailglass(*command)
    assert code == 0
    assert (dry["dry_run"], dry["found"], dry["moved"]) == (True, 12, 0)
    assert dry["sample"] == [str(key) for key in sorted(bulk)[:10]]
    assert statuses(ledger, bulk) == {"queued"}
    code, done = mailglass(*command, "--yes")
    assert (code, done["dry_run"], done["found"], done["moved"]) == (0, False, 12, 12)
    assert statuses(ledger, bulk) == {"canceled"}
    assert statuses(ledger, receipts + theirs) == {"queued"}
    assert [event.kind for event in deliveries.timeline(ledger, bulk[0])] == ["queued", "canceled"]


def test_claimed_or_sending_mail_is_never_canceled(ledger: Database, mailglass: Command) -> None:
    claimed, sending, waiting = queue(ledger, 3)
    token = uuid4()
    leases.claim_these(ledger, [claimed, sending], token, 60)
    leases.mark(ledger, token, [sending], "main", "null")
    assert mailglass("cancel", "--tenant", "acme", "--stream", "bulk", "--yes")[1]["moved"] == 1
    assert [deliveries.get(ledger, key).status for key in (claimed, sending, waiting)] == [
        Status.CLAIMED,
        Status.SENDING,
        Status.CANCELED,
    ]


def test_mail_that_may_have_been_sent_is_not_canceled_and_the_command_says_so(
    ledger: Database, mailglass: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = queue(ledger, 3)
    doubted = sqlalchemy.text("UPDATE mailglass.deliveries SET in_doubt = true WHERE id = :id")
    ledger.query(doubted.bindparams(id=ids[0]))
    dry = mailglass("cancel", "--tenant", "acme", "--stream", "bulk")[1]
    assert (dry["found"], dry["in_doubt"], dry["sample"]) == (2, 1, [str(key) for key in sorted(ids[1:])])
    assert run(["deliveries", "cancel", str(ids[0]), "--tenant", "acme"]) == 1
    captured = capsys.readouterr()
    assert captured.out.strip() == "0 canceled."
    assert f"{ids[0]} may have been sent and cannot be canceled" in captured.err
    code, done = mailglass("cancel", *ids, "--tenant", "acme")
    assert (code, done["left"], done["in_doubt"]) == (1, [str(ids[0])], [str(ids[0])])
    assert audit.entries(ledger)[0].detail["left_in_doubt"] == 1
    with pytest.raises(LedgerError, match="45A02"):
        ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET status = 'canceled' WHERE status = 'queued'"))


def test_mail_claimed_between_look_and_cancel_is_left_to_its_worker(ledger: Database) -> None:
    ids = sorted(queue(ledger, 4))
    found, _ = selection.preview_cancel(ledger, Selection(tenant="acme", stream="bulk"))
    leases.claim_these(ledger, ids[:2], uuid4(), 60)
    assert (found.count, canceled(ledger, found.selection)) == (4, set(ids[2:]))


def test_a_selection_holds_nothing_that_is_recorded_later(ledger: Database) -> None:
    before = queue(ledger, 2)
    found, _ = selection.preview_cancel(ledger, Selection(tenant="acme", stream="bulk"))
    later = queue(ledger, 2)
    assert canceled(ledger, found.selection) == set(before)
    assert statuses(ledger, later) == {"queued"}


def test_interrupted_between_two_batches_the_same_command_goes_on_with_the_rest(
    ledger: Database, mailglass: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BATCH", 2)
    ids = queue(ledger, 5)
    command = ("cancel", "--tenant", "acme", "--stream", "bulk", "--yes")
    said: list[str] = []
    with monkeypatch.context() as interrupted:

        def note(text: str) -> None:
            said.append(text)
            if len(said) == 1:
                raise KeyboardInterrupt

        interrupted.setattr(bulk, "note", note)
        assert mailglass(*command) == (130, None)
    assert "goes on with the rest" in said[-1]
    assert deliveries.counts(ledger)["acme"] == {"canceled": 2, "queued": 3}
    assert mailglass(*command)[1]["moved"] == 3
    assert statuses(ledger, ids) == {"canceled"}


@pytest.mark.parametrize(
    ("options", "hits"),
    [
        (["--recipient", "ADA1@example.com"], [1]),
        (["--mailable", "shop.mails:News"], [3]),
        (["--status", "held"], [2]),
        (["--reason", "template_failed"], [2]),
        (["--due-after", (clock.now() + timedelta(hours=1)).isoformat()], [4]),
        (["--due-before", (clock.now() + timedelta(hours=1)).isoformat()], [0, 1, 3]),
        (["--before", "2020-01-01T00:00Z"], []),
        (["--after", "2020-01-01T00:00Z", "--stream", "bulk"], [0, 1, 2, 3, 4]),
    ],
)
def test_each_filter_narrows(ledger: Database, mailglass: Command, options: list[str], hits: list[int]) -> None:
    ids = [
        *queue(ledger, 2),
        *hold(ledger, 1, reason="template_failed:UndefinedError"),
        *queue(ledger, 1, mailable="shop.mails:News"),
        *queue(ledger, 1, delay=7200.0),
    ]
    found = mailglass("cancel", "--tenant", "acme", *options)[1]
    assert found["sample"] == [str(ids[number]) for number in hits]


def test_a_group_is_canceled_as_a_whole(ledger: Database, mailglass: Command) -> None:
    group = uuid7()
    ids, others = queue(ledger, 3, group_id=group), queue(ledger, 1)
    assert mailglass("cancel", "--tenant", "acme", "--group", group, "--yes")[1]["moved"] == 3
    assert statuses(ledger, ids) == {"canceled"}
    assert statuses(ledger, others) == {"queued"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel", "--tenant", "acme"],
        ["cancel", "--stream", "bulk"],
        ["cancel", uuid4(), "--tenant", "acme", "--stream", "bulk"],
        ["cancel", "--tenant", "acme", "--before", "yesterday"],
        ["cancel", "--tenant", "acme", "--before", "2030-01-01T00:00"],
        ["cancel", "--tenant", "acme", "--stream", "bulk", "--as", " "],
        ["release", "--reason", "no_route"],
        ["release", uuid4(), "--tenant", "acme"],
    ],
)
def test_a_command_that_does_not_say_what_is_refused(
    ledger: Database, mailglass: Command, arguments: list[Any]
) -> None:
    assert mailglass(*arguments)[0] == 64


def test_held_ones_are_released_by_their_reason_and_account(ledger: Database, mailglass: Command) -> None:
    broken, unrouted = hold(ledger, 3, reason="template_failed:UndefinedError"), hold(ledger, 2)
    command = ("release", "--tenant", "acme", "--reason", "template_failed")
    dry = mailglass(*command)[1]
    assert (dry["dry_run"], dry["found"]) == (True, 3)
    assert mailglass(*command, "--account", "main")[1]["found"] == 0
    assert mailglass(*command, "--yes")[1]["moved"] == 3
    assert statuses(ledger, broken) == {"queued"}
    assert statuses(ledger, unrouted) == {"held"}


def test_the_age_of_what_is_released_counts_from_then(ledger: Database, mailglass: Command) -> None:
    (key,) = hold(ledger)
    ledger.query(sqlalchemy.text("UPDATE mailglass.deliveries SET scheduled_at = now() - interval '30 days'"))
    assert mailglass("release", key, "--yes")[1]["released"] == [str(key)]
    (claimed,) = leases.claim(ledger, BULK, uuid4(), 1, 60)
    assert claimed.age < 60


def test_every_batch_is_in_the_audit_with_its_actor_and_count(
    ledger: Database, mailglass: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BATCH", 2)
    queue(ledger, 3)
    mailglass("cancel", "--tenant", "acme", "--stream", "bulk")
    assert audit.entries(ledger) == []
    mailglass("cancel", "--tenant", "acme", "--stream", "bulk", "--yes", "--as", "ops on call")
    entries = audit.entries(ledger)
    assert {(entry.actor, entry.action, entry.tenant) for entry in entries} == {
        ("ops on call", "deliveries.cancel", "acme")
    }
    assert [entry.detail["count"] for entry in entries] == [1, 2]
    assert all(entry.detail["filter"] == {"stream": "bulk"} for entry in entries)


def test_by_id_the_audit_names_the_ids_and_who_the_system_says_it_was(ledger: Database, mailglass: Command) -> None:
    (held,) = hold(ledger)
    mailglass("release", held, "--yes")
    mailglass("cancel", held, "--tenant", "acme")
    canceled, released = audit.entries(ledger)
    assert (released.action, canceled.action) == ("deliveries.release", "deliveries.cancel")
    assert released.detail == canceled.detail == {"ids": [str(held)], "count": 1}
    assert released.tenant == "acme"
    assert canceled.actor == whoami()


def test_the_audit_keeps_an_address_as_a_digest(ledger: Database, mailglass: Command) -> None:
    queue(ledger, 1)
    mailglass("cancel", "--tenant", "acme", "--recipient", "Ada0@example.com", "--yes")
    (entry,) = audit.entries(ledger)
    assert entry.detail == {"filter": {"recipient": audit.digest("ada0@EXAMPLE.com")}, "count": 1}
    stored = ledger.query(sqlalchemy.text("SELECT CAST(a.* AS text) FROM mailglass.audit a"))
    assert "example.com" not in stored[0][0]


def test_change_of_nothing_is_no_entry(ledger: Database, mailglass: Command) -> None:
    mailglass("cancel", uuid4(), "--tenant", "acme")
    mailglass("cancel", "--tenant", "acme", "--stream", "bulk", "--yes")
    assert audit.entries(ledger) == []


def test_a_statement_run_again_after_its_answer_was_lost_answers_the_same_and_is_recorded_once(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = hold(ledger, 2)
    run_once = ledger.run

    def twice(name: str, params: Any = None) -> Any:
        run_once(name, params)
        return run_once(name, params)

    monkeypatch.setattr(ledger, "run", twice)
    by = Actor("ops", ids)
    assert set(deliveries.release(ledger, ids, actor=by)) == set(ids)
    assert deliveries.cancel(ledger, ids, "acme", actor=by).canceled == set(ids)
    monkeypatch.undo()
    assert [entry.action for entry in audit.entries(ledger)] == ["deliveries.cancel", "deliveries.release"]


def test_an_intention_stands_without_a_count_and_an_outcome_with_one(ledger: Database) -> None:
    ids = [uuid7() for _ in range(audit.NAMED_IDS + 3)]
    audit.record(ledger, "ops", "webhooks.replay", None, ids)
    audit.record(ledger, "ops", "webhooks.replay", None, {"account": "main", "before": None}, 7)
    done, intended = audit.entries(ledger)
    assert done.detail == {"filter": {"account": "main"}, "count": 7}
    assert "count" not in intended.detail
    assert (len(intended.detail["ids"]), intended.detail["others"]) == (audit.NAMED_IDS, 3)
