"""Poison stays alone: what cannot be sent is the verdict of its own delivery, whatever was claimed with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.engine import Engine
from mailglass.errors import MessageError
from mailglass.ids import uuid7
from mailglass.ledger import deliveries
from mailglass.ledger.database import Database
from mailglass.ledger.submit import Item, submit
from mailglass.mail.addresses import Address
from mailglass.mail.message import Message
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.rendering.templates import forget
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, EngineSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted

LANE = Lane("mailglass", "acme", "transactional")
SETTINGS = Settings(
    accounts={"main": AccountSettings("main", "scripted", Address("shop@example.com"))},
    routes=(Route(("main",)),),
)
GOOD = json.dumps({"v": 1, "subject": "Receipt", "text": "Thank you."})
FILE = {"filename": "a.pdf", "content_type": "application/pdf", "content_id": "", "content": "AAAA"}
MODULE = """
from mailglass.mail.mailable import Mailable

class Profile(Mailable):
    subject = "Profile"
    html = "<style>b { color: red }</style>{{ bio | safe }}"
"""


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def stored(**fields: Any) -> str:
    return json.dumps({"v": 1, "subject": "s", "text": "t", **fields})


def mailable(bio: str) -> str:
    return json.dumps({"v": 1, "mailable": {"class": "poison_app:Profile", "context": {"bio": bio}}})


CONTENTS: dict[str, tuple[str, str]] = {
    "lists too deep for css-inline": (mailable("<ol><li>" * 9000), "template_failed:refused"),
    "formatting too deep for css-inline": (mailable("<b>" * 10_000), "template_failed:refused"),
    "tables too deep for css-inline": (mailable("<table><tr><td>" * 3000), "template_failed:refused"),
    "formatting opened again in every paragraph": (
        mailable("<p>" + "".join(f"<b a{number}>" for number in range(200)) + "</p>" + "<p>x</p>" * 20_000),
        "template_failed:refused",
    ),
    "more style rules than elements can bear": (
        mailable("<style>" + "".join(f"i{{a{number}:1}}" for number in range(3000)) + "</style>" + "<i></i>" * 3000),
        "template_failed:refused",
    ),
    "a mailable without its class": (json.dumps({"v": 1, "mailable": {"context": {}}}), "template_failed:rendering"),
    "options too deep to read": (GOOD[:-1] + f', "options": {{"x": {nested(2500)}}}}}', "content_refused"),
    "an attachment that is refused": (stored(attachments=[FILE | {"content_type": "no type"}]), "content_refused"),
    "an attachment without content": (stored(attachments=[{"filename": "a.pdf"}]), "content_refused"),
    "a sender without an address": (stored(**{"from": ["shop"]}), "content_refused"),
    "copies of no shape": (stored(cc=[5]), "content_refused"),
    "tags of lists": (stored(tags=[["a"]]), "content_refused"),
    "no subject": (json.dumps({"v": 1, "text": "t"}), "content_refused"),
    "no mapping": ("[]", "content_refused"),
}


@pytest.fixture
def ledger(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An application whose mailable shows what users wrote."""
    (tmp_path / "poison_app.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    forget()
    sys.modules.pop("poison_app", None)


def engine(ledger: Database, provider: ScriptedProvider, settings: Settings = SETTINGS) -> Engine:
    return Engine(settings, ledger, FixedAccounts(settings, {"main": provider}))


def queue(ledger: Database, *contents: str, lane: Lane = LANE) -> list[UUID]:
    items = [
        Item(
            id=uuid7(),
            lane=lane,
            message_id=uuid7(),
            content=content,
            recipient=Address(f"u{number}@example.com"),
            frozen='"mailable"' not in content,
        )
        for number, content in enumerate(contents)
    ]
    return [recorded.id for recorded in submit(ledger.run, items)]


def states(ledger: Database, ids: list[UUID]) -> list[tuple[str, str | None]]:
    found: Mapping[UUID, Any] = deliveries.states(ledger, ids)
    return [(found[key].status.value, found[key].last_error) for key in ids]


@pytest.mark.parametrize("kind", CONTENTS)
def test_stored_content_that_cannot_be_sent_is_held_alone(ledger: Database, app: None, kind: str) -> None:
    content, reason = CONTENTS[kind]
    for position in (0, 2, 4):
        contents = [GOOD] * 4
        contents.insert(position, content)
        ids = queue(ledger, *contents)
        provider = ScriptedProvider()
        engine(ledger, provider).run(LANE)
        poison = ids.pop(position)
        assert states(ledger, [poison]) == [("held", reason)]
        assert states(ledger, ids) == [("sent", None)] * 4
        assert sorted(mail.delivery_id for mail in provider.sent) == ids


def test_poison_sent_in_the_callers_process_is_its_verdict(ledger: Database) -> None:
    (key,) = queue(ledger, stored(attachments=[FILE | {"content_type": "no type"}]))
    engine(ledger, ScriptedProvider()).run_these(LANE, [key])
    assert states(ledger, [key]) == [("held", "content_refused")]


@pytest.mark.parametrize("room", ["assign", "admit", "_without_blocked_copies"])
def test_an_error_of_ours_about_a_mail_is_the_verdict_of_that_mail(
    ledger: Database, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    ids = queue(ledger, *[GOOD] * 5)
    worker = engine(ledger, provider := ScriptedProvider())
    owner: Any = {"assign": worker._selector, "admit": worker._admission}.get(room, worker)
    original: Callable[..., Any] = getattr(owner, room)

    def failing(lane: Lane, value: Any, *args: Any) -> Any:
        batches = value.by_account if room == "admit" else value
        items = value if room == "assign" else [item for batch in batches for item in batch.deliveries]
        if any(item.delivery.id == ids[3] for item in items):
            raise MemoryError
        return original(lane, value, *args)

    monkeypatch.setattr(owner, room, failing)
    rung: list[bool] = []
    worker.run(LANE, after_claim=rung.append)
    poison = ids.pop(3)
    assert states(ledger, [poison]) == [("held", "unexpected_error")]
    assert states(ledger, ids) == [("sent", None)] * 4
    assert len(provider.sent) == 4
    assert rung == [False]


class Panic(BaseException):
    """Stands for what a library written in Rust raises where its code fails (PyO3's PanicException)."""


def failing(error: type[BaseException]) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    return fail


PLACES = {
    "the module of a mailable": ("mailglass.rendering.content.import_module", ("queued", "mailable_not_installed")),
    "a template": ("jinja2.Template.render", ("held", "template_failed:rendering")),
    "the inliner": ("mailglass.rendering.content._inliner", ("held", "template_failed:stylesheet")),
    "the text": ("mailglass.rendering.text.html_to_text", ("held", "template_failed:rendering")),
}


@pytest.mark.parametrize("error", [Panic, SystemExit, KeyboardInterrupt, RecursionError])
@pytest.mark.parametrize("place", PLACES)
def test_code_that_raises_more_than_an_exception_fails_one_mail(
    ledger: Database, app: None, monkeypatch: pytest.MonkeyPatch, place: str, error: type[BaseException]
) -> None:
    ids = queue(ledger, GOOD, mailable("one"), GOOD)
    target, verdict = PLACES[place]
    monkeypatch.setattr(target, failing(error))
    # as in a slot of a worker, where no signal is handled
    with ThreadPoolExecutor(1) as slot:
        slot.submit(engine(ledger, ScriptedProvider()).run, LANE).result(60)
    assert states(ledger, ids) == [("sent", None), verdict, ("sent", None)]


@pytest.mark.parametrize("error", [Panic, SystemExit, RecursionError])
def test_a_call_that_raises_more_than_an_exception_leaves_its_mails_in_doubt_at_once(
    ledger: Database, error: type[BaseException]
) -> None:
    ids = queue(ledger, GOOD, GOOD)
    provider = ScriptedProvider()
    provider.script = failing(error)
    with ThreadPoolExecutor(1) as slot:
        slot.submit(engine(ledger, provider).run, LANE).result(60)
    assert states(ledger, ids) == [("uncertain", f"provider_error:{error.__name__}")] * 2


@pytest.mark.parametrize("answer", [None, 5, (), iter([]), {}])
def test_an_answer_that_is_no_list_leaves_its_mails_in_doubt_at_once(
    ledger: Database, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    ids = queue(ledger, GOOD, GOOD)
    provider = ScriptedProvider()
    monkeypatch.setattr(provider, "send", lambda mails, deadline: answer)
    engine(ledger, provider).run(LANE)
    assert states(ledger, ids) == [("uncertain", "provider_error:wrong_count")] * 2


GARBAGE: list[Any] = [None, True, -1, 3.5, float("nan"), 10**400, "x", "\x00", b"x", [], (), [1], (None,), {}, object()]
FIELDS = ("provider_message_id", "reason", "status", "enhanced_status", "retry_after", "suppressed_for", "copies")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(OutcomeClass),
    wrong=st.dictionaries(st.sampled_from((*FIELDS, "hard_bounce", "refusal")), st.sampled_from(GARBAGE), min_size=1),
    bounced=st.booleans(),
)
def test_an_outcome_with_values_of_no_sense_costs_the_other_mails_of_its_call_nothing(
    ledger: Database, database_url: str, kind: OutcomeClass, wrong: dict[str, Any], bounced: bool
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM mailglass.suppressions")
        connection.execute("DELETE FROM mailglass.breakers")
    ids = queue(ledger, GOOD, GOOD, GOOD)

    def script(mail: Outgoing) -> Outcome:
        if mail.delivery_id != ids[1]:
            return accepted(mail)
        return Outcome(kind, **{"hard_bounce": bounced, "reason": "told", **wrong})

    engine(ledger, ScriptedProvider(script)).run_these(LANE, ids)
    first, second, third = states(ledger, ids)
    assert (first, third) == (("sent", None), ("sent", None))
    assert second[0] != "sending"
    assert second[0] == "sent" or kind is not OutcomeClass.ACCEPTED


def test_a_signal_is_no_failure_of_the_mail_that_is_rendered_meanwhile(
    ledger: Database, app: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = queue(ledger, mailable("one"))
    monkeypatch.setattr("jinja2.Template.render", failing(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        engine(ledger, ScriptedProvider()).run_these(LANE, ids)
    assert states(ledger, ids) == [("claimed", None)]


def test_a_batch_that_meets_an_error_is_reported_once(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = queue(ledger, *[GOOD] * 5)
    worker = engine(ledger, ScriptedProvider())
    original = worker._selector.assign

    def failing(lane: Lane, ready: Any, *args: Any) -> Any:
        if any(item.delivery.id == ids[3] for item in ready):
            raise MemoryError
        return original(lane, ready, *args)

    monkeypatch.setattr(worker._selector, "assign", failing)
    told: list[Mapping[str, Any]] = []

    def collect(event: str, fields: Mapping[str, Any]) -> None:
        if event == "mailglass.dispatch.batch":
            told.append(fields)

    unsubscribe = telemetry.subscribe(collect)
    try:
        report = worker.run(LANE)
    finally:
        unsubscribe()
    assert [(fields["claimed"], fields["sent"], fields["held"]) for fields in told] == [(5, 4, 1)]
    assert (report.claimed, report.attempted) == (5, 4)


def test_an_error_that_comes_after_the_slice_is_over_is_found_all_the_same(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = queue(ledger, *[GOOD] * 5)
    late = engine(ledger, ScriptedProvider(), replace(SETTINGS, engine=EngineSettings(slice=0.0)))
    original = late._selector.assign

    def failing(lane: Lane, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if any(item.delivery.id == ids[3] for item in batch):
            raise MemoryError
        return original(lane, batch, *args, **kwargs)

    monkeypatch.setattr(late._selector, "assign", failing)
    late.run(LANE)
    assert states(ledger, ids)[3] == ("held", "unexpected_error")
    engine(ledger, provider := ScriptedProvider()).run(LANE)
    assert len(provider.sent) == 4


def test_rendered_content_that_the_ledger_refuses_is_held_alone(
    ledger: Database, app: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = queue(ledger, mailable("one"), mailable("refused"), mailable("two"))
    written = json.dumps
    # what the database takes for no JSON
    monkeypatch.setattr(
        "mailglass.engine.prepare.json.dumps",
        lambda value, **options: "{" if "refused" in str(value) else written(value, **options),
    )
    engine(ledger, ScriptedProvider()).run(LANE)
    assert states(ledger, ids) == [("sent", None), ("held", "template_failed:refused"), ("sent", None)]


def test_options_that_nest_too_deep_are_refused_where_the_message_is_built() -> None:
    deep: Any = 1
    for _ in range(986):
        deep = [deep]
    with pytest.raises(MessageError, match="provider_options: nested deeper than 32 levels"):
        Message(to="ada@example.com", subject="s", text="t", provider_options={"sendgrid": {"x": deep}})
    shared: Any = {}
    for _ in range(25):
        shared = {"a": shared}
    Message(to="ada@example.com", subject="s", text="t", provider_options={"sendgrid": shared})
