"""The engine against a real ledger: what becomes of a delivery, whatever the provider answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy

from mailglass import clock
from mailglass.engine import Engine
from mailglass.errors import LedgerUnavailableError
from mailglass.ids import uuid7
from mailglass.ledger import deliveries, leases
from mailglass.ledger.database import Database
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.submit import Item, submit
from mailglass.ledger.suppressions import Suppression, suppress, suppressions_of
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy
from mailglass.rendering.templates import forget
from mailglass.routing import Lane
from mailglass.settings import AccountSettings, EngineSettings, Route, Settings
from mailglass.testing.provider import FixedAccounts, ScriptedProvider, accepted

LANE = Lane("mailglass", "acme", "transactional")
SETTINGS = Settings(
    accounts={"main": AccountSettings("main", "scripted", Address("shop@example.com"))},
    routes=(Route(("main",)),),
)


@pytest.fixture
def ledger(database_url: str) -> Database:
    return Database(database_url)


def engine(ledger: Database, provider: ScriptedProvider, settings: Settings = SETTINGS) -> Engine:
    return Engine(settings, ledger, FixedAccounts(settings, {"main": provider}))


def queue(ledger: Database, count: int = 1, *, lane: Lane = LANE, content: dict | None = None, **options) -> list[UUID]:
    body = json.dumps(content or {"v": 1, "subject": "Receipt", "text": "Thank you."})
    items = [
        Item(id=uuid7(), lane=lane, message_id=uuid7(), content=body, recipient=Address(f"u{i}@example.com"), **options)
        for i in range(count)
    ]
    return [recorded.id for recorded in submit(ledger.run, items)]


def statuses(ledger: Database, ids: list[UUID]) -> list[str]:
    found = deliveries.states(ledger, ids)
    return [found[delivery_id][0].value for delivery_id in ids]


def execute(ledger: Database, sql: str, **params) -> None:
    ledger.query(sqlalchemy.text(sql).bindparams(**params))


def answers(outcome: Outcome) -> Callable[[Outgoing], Outcome]:
    return lambda mail: outcome


def test_an_accepted_delivery_is_sent_and_keeps_the_providers_id(ledger: Database) -> None:
    ids = queue(ledger, 3)
    provider = ScriptedProvider()
    report = engine(ledger, provider).run(LANE)
    assert report.moved == {Status.SENT: 3}
    delivery = deliveries.get(ledger, ids[0])
    assert (delivery.status, delivery.account, delivery.provider) == (Status.SENT, "main", "scripted")
    assert delivery.provider_message_id == f"scripted-{ids[0]}"
    assert delivery.attempts == 1
    assert delivery.facts.sent_at is not None
    assert [(event.kind, event.outcome) for event in deliveries.timeline(ledger, ids[0])] == [
        ("queued", None),
        ("attempted", "accepted"),
    ]
    assert provider.sent[0].sender == Address("shop@example.com")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (OutcomeClass.THROTTLED, Status.QUEUED),
        (OutcomeClass.TRANSIENT, Status.QUEUED),
        (OutcomeClass.QUOTA, Status.QUEUED),
        (OutcomeClass.MISCONFIGURED, Status.HELD),
        (OutcomeClass.REJECTED, Status.FAILED),
        (OutcomeClass.SUPPRESSED, Status.SUPPRESSED),
        (OutcomeClass.UNCERTAIN, Status.UNCERTAIN),
    ],
)
def test_each_outcome_class_has_its_one_consequence(ledger: Database, outcome: OutcomeClass, status: Status) -> None:
    (delivery_id,) = queue(ledger)
    engine(ledger, ScriptedProvider(answers(Outcome(outcome, reason="because", status=422)))).run(LANE)
    delivery = deliveries.get(ledger, delivery_id)
    assert delivery.status is status
    assert delivery.last_error == "because"
    event = deliveries.timeline(ledger, delivery_id)[-1]
    assert (event.outcome, event.status, event.status_code, event.account) == (outcome.value, status, 422, "main")


def test_throttling_is_not_counted_as_an_attempt_and_waits_as_long_as_asked(ledger: Database) -> None:
    (delivery_id,) = queue(ledger)
    engine(ledger, ScriptedProvider(answers(Outcome(OutcomeClass.THROTTLED, retry_after=100)))).run(LANE)
    delivery = deliveries.get(ledger, delivery_id)
    assert delivery.attempts == 0
    assert delivery.due_at is not None
    assert timedelta(seconds=95) < delivery.due_at - delivery.created_at < timedelta(seconds=130)


def test_mail_that_cannot_be_encoded_is_tried_again_until_its_attempts_are_used_up(ledger: Database) -> None:
    policy = StreamPolicy(max_attempts=3, backoff_base=0.001, backoff_max=0.002)
    settings = replace(SETTINGS, streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy})
    (delivery_id,) = queue(ledger)
    provider = ScriptedProvider(answers(Outcome(OutcomeClass.TRANSIENT, reason="encode_failed")))
    worker = engine(ledger, provider, settings)
    while deliveries.get(ledger, delivery_id).status is Status.QUEUED:
        worker.run(LANE)
    delivery = deliveries.get(ledger, delivery_id)
    assert (delivery.status, delivery.attempts, delivery.last_error) == (
        Status.FAILED,
        3,
        "attempts_exhausted:encode_failed",
    )
    assert [event.status for event in deliveries.timeline(ledger, delivery_id)] == [
        Status.QUEUED,
        Status.QUEUED,
        Status.QUEUED,
        Status.FAILED,
    ]


def test_a_mail_that_succeeds_on_its_third_attempt_shows_no_final_state_in_between(ledger: Database) -> None:
    policy = StreamPolicy(backoff_base=0.001, backoff_max=0.002)
    settings = replace(SETTINGS, streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy})
    (delivery_id,) = queue(ledger)
    tries = iter([Outcome(OutcomeClass.TRANSIENT), Outcome(OutcomeClass.TRANSIENT), Outcome(OutcomeClass.ACCEPTED)])
    worker = engine(ledger, ScriptedProvider(lambda mail: next(tries)), settings)
    while deliveries.get(ledger, delivery_id).status is Status.QUEUED:
        worker.run(LANE)
    assert [event.status for event in deliveries.timeline(ledger, delivery_id)] == [
        Status.QUEUED,
        Status.QUEUED,
        Status.QUEUED,
        Status.SENT,
    ]


def test_an_exception_that_escapes_a_provider_makes_its_mails_uncertain_and_never_lost(ledger: Database) -> None:
    ids = queue(ledger, 2)
    engine(ledger, ScriptedProvider(lambda mail: RuntimeError("boom"))).run(LANE)
    assert statuses(ledger, ids) == ["uncertain", "uncertain"]
    assert deliveries.get(ledger, ids[0]).last_error == "provider_error:RuntimeError"


def test_more_urgent_deliveries_are_sent_first(ledger: Database) -> None:
    low = queue(ledger, 2, priority=0)
    high = queue(ledger, 2, priority=9)
    normal = queue(ledger, 2)
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert [mail.delivery_id for mail in provider.sent] == [*high, *normal, *low]


def test_a_delivery_is_not_claimed_before_it_is_due(ledger: Database) -> None:
    queue(ledger, delay=600, priority=9)
    now = queue(ledger)
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert [mail.delivery_id for mail in provider.sent] == now


def test_an_expired_delivery_fails_without_being_sent(ledger: Database) -> None:
    (delivery_id,) = queue(ledger, lifetime=0.0)
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert provider.sent == []
    assert deliveries.get(ledger, delivery_id).last_error == "expired"


def test_mail_that_expires_before_its_retry_is_not_sent_again(ledger: Database) -> None:
    (delivery_id,) = queue(ledger, lifetime=600)
    provider = ScriptedProvider(answers(Outcome(OutcomeClass.TRANSIENT, reason="http_503")))
    worker = engine(ledger, provider)
    worker.run(LANE)
    assert statuses(ledger, [delivery_id]) == ["queued"]
    execute(ledger, "UPDATE mailglass.deliveries SET due_at = now(), expires_at = now()")
    worker.run(LANE)
    delivery = deliveries.get(ledger, delivery_id)
    assert (delivery.status, delivery.last_error) == (Status.FAILED, "expired")
    assert len(provider.sent) == 1
    assert [event.status for event in deliveries.timeline(ledger, delivery_id)].count(Status.FAILED) == 1


def test_an_attempt_is_an_event_that_tells_all_but_the_content(ledger: Database) -> None:
    content = {"v": 1, "subject": "Receipt 4711", "text": "Thank you, Ada."}
    (delivery_id,) = queue(ledger, content=content)
    script = {1: (451, "4.7.1", "smtp_451"), 2: (250, "2.0.0", None)}
    numbers = iter(script)

    def answer(mail: Outgoing) -> Outcome:
        number = next(numbers)
        status, enhanced, reason = script[number]
        kind = OutcomeClass.TRANSIENT if number == 1 else OutcomeClass.ACCEPTED
        return Outcome(kind, reason=reason, status=status, enhanced_status=enhanced)

    worker = engine(ledger, ScriptedProvider(answer))
    worker.run(LANE)
    execute(ledger, "UPDATE mailglass.deliveries SET due_at = now()")
    worker.run(LANE)
    attempts = [event for event in deliveries.timeline(ledger, delivery_id) if event.kind == "attempted"]
    assert [
        (event.attempt, event.outcome, event.reason, event.status_code, event.enhanced_status, event.account)
        for event in attempts
    ] == [(0, "transient", "smtp_451", 451, "4.7.1", "main"), (1, "accepted", None, 250, "2.0.0", "main")]
    assert all(event.duration_ms is not None and event.duration_ms >= 0 for event in attempts)
    rows = ledger.query(sqlalchemy.text("SELECT CAST(e AS text) AS row FROM mailglass.events e"))
    assert not any(word in row.row for row in rows for word in ("4711", "Ada", "u0@", "example.com"))


def test_a_recipient_suppressed_after_queueing_is_not_sent_to(ledger: Database) -> None:
    (delivery_id,) = queue(ledger)
    suppress(ledger, [Suppression("acme", "u0@example.com", "hard_bounce", "webhook")])
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert provider.sent == []
    assert statuses(ledger, [delivery_id]) == ["suppressed"]


def test_a_recipient_refused_for_good_is_put_on_the_suppression_list(ledger: Database) -> None:
    queue(ledger)
    outcome = Outcome(OutcomeClass.REJECTED, reason="smtp_550", enhanced_status="5.1.1", hard_bounce=True)
    engine(ledger, ScriptedProvider(answers(outcome))).run(LANE)
    (entry,) = suppressions_of(ledger, "acme", Address("u0@example.com"))
    assert (entry.reason, entry.source, entry.account) == ("hard_bounce", "attempt", "main")


def test_a_recipient_refused_for_a_while_is_suppressed_for_that_while(ledger: Database) -> None:
    queue(ledger)
    outcome = Outcome(OutcomeClass.SUPPRESSED, reason="mandrill_soft-bounce", suppressed_for=3600.0)
    engine(ledger, ScriptedProvider(answers(outcome))).run(LANE)
    (entry,) = suppressions_of(ledger, "acme", Address("u0@example.com"))
    assert entry.created_at is not None and entry.expires_at is not None
    assert 3500 < (entry.expires_at - entry.created_at).total_seconds() < 3700
    suppress(ledger, [Suppression("acme", "u0@example.com", "hard_bounce", "webhook")])
    (entry,) = suppressions_of(ledger, "acme", Address("u0@example.com"))
    assert (entry.reason, entry.expires_at) == ("hard_bounce", None)


def test_suppressed_copies_are_dropped_with_an_event_and_the_mail_still_goes(ledger: Database) -> None:
    suppress(ledger, [Suppression("acme", "gone@example.com", "manual", "manual")])
    content = {
        "v": 1,
        "subject": "s",
        "text": "t",
        "cc": [["", "Gone@example.com"], ["", "here@example.com"]],
        "bcc": [["", "gone@example.com"]],
    }
    (delivery_id,) = queue(ledger, content=content)
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert provider.sent[0].cc == (Address("here@example.com"),)
    assert provider.sent[0].bcc == ()
    assert [event.kind for event in deliveries.timeline(ledger, delivery_id)] == ["queued", "copy_dropped", "attempted"]


def test_mail_beyond_the_tasks_time_is_given_back_unsent(ledger: Database) -> None:
    ids = queue(ledger, 6)
    provider = ScriptedProvider(batch_size=2)
    report = engine(ledger, provider).run(LANE, should_stop=lambda: len(provider.sent) >= 2)
    assert len(provider.sent) == 2
    assert report.moved == {Status.SENT: 2, Status.QUEUED: 4}
    assert report.more
    assert sorted(statuses(ledger, ids)) == ["queued"] * 4 + ["sent"] * 2
    assert all(deliveries.get(ledger, delivery_id).attempts <= 1 for delivery_id in ids)


def test_a_send_never_starts_near_the_end_of_the_lease(ledger: Database) -> None:
    ids = queue(ledger, 2)
    settings = replace(SETTINGS, engine=EngineSettings(lease=10, task_budget=10, send_margin=10))
    provider = ScriptedProvider()
    engine(ledger, provider, settings).run(LANE)
    assert provider.sent == []
    assert statuses(ledger, ids) == ["queued", "queued"]


def test_the_full_claim_is_told_before_anything_is_sent(ledger: Database) -> None:
    queue(ledger, 3)
    settings = replace(SETTINGS, engine=EngineSettings(claim_size=2))
    provider = ScriptedProvider()
    told: list[tuple[bool, int]] = []
    worker = engine(ledger, provider, settings)
    for _ in range(2):
        worker.run(LANE, after_claim=lambda full: told.append((full, len(provider.sent))))
    assert told == [(True, 0), (False, 2)]


def test_a_claim_whose_worker_died_is_queued_again(ledger: Database) -> None:
    (delivery_id,) = queue(ledger)
    leases.claim(ledger, LANE, uuid4(), 10, lease=0.0)
    assert leases.sweep(ledger, DEFAULT_POLICIES) == [(LANE, "released")]
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert [mail.delivery_id for mail in provider.sent] == [delivery_id]


def test_a_send_whose_worker_died_is_uncertain_and_not_sent_again_while_evidence_is_awaited(ledger: Database) -> None:
    (delivery_id,) = queue(ledger)
    token = uuid4()
    leases.claim(ledger, LANE, token, 10, lease=60)
    leases.mark(ledger, token, [delivery_id], "main", "scripted")
    execute(ledger, "UPDATE mailglass.deliveries SET lease_expires_at = now()")
    assert leases.sweep(ledger, DEFAULT_POLICIES) == [(LANE, "uncertain")]
    assert leases.sweep(ledger, DEFAULT_POLICIES) == []
    assert lanes_due(ledger) == []
    assert statuses(ledger, [delivery_id]) == ["uncertain"]


@pytest.mark.parametrize(("policy", "status"), [("resend", "queued"), ("hold", "held")])
def test_an_uncertain_delivery_without_evidence_follows_its_streams_policy(
    ledger: Database, policy: str, status: str
) -> None:
    (delivery_id,) = queue(ledger)
    streams = {**DEFAULT_POLICIES, Stream.TRANSACTIONAL: StreamPolicy(uncertain=UncertainPolicy(policy))}
    settings = replace(SETTINGS, streams=streams)
    engine(ledger, ScriptedProvider(answers(Outcome(OutcomeClass.UNCERTAIN))), settings).run(LANE)
    assert leases.sweep(ledger, streams) == []
    execute(ledger, "UPDATE mailglass.deliveries SET lease_expires_at = now()")
    leases.sweep(ledger, streams)
    assert statuses(ledger, [delivery_id]) == [status]


def test_a_worker_whose_lease_was_taken_away_records_nothing_and_sends_nothing_more(ledger: Database) -> None:
    ids = queue(ledger, 4)

    def lose_the_lease(mail: Outgoing) -> Outcome:
        execute(
            ledger,
            "UPDATE mailglass.deliveries SET lease_token = :other WHERE lease_token IS NOT NULL",
            other=uuid4(),
        )
        return accepted(mail)

    provider = ScriptedProvider(lose_the_lease, batch_size=2)
    report = engine(ledger, provider).run(LANE)
    assert [mail.delivery_id for mail in provider.sent] == ids[:2]
    assert report.moved == {}
    assert statuses(ledger, ids) == ["sending", "sending", "claimed", "claimed"]
    assert [event.kind for event in deliveries.timeline(ledger, ids[0])] == ["queued"]


def test_two_workers_on_one_lane_never_claim_the_same_delivery(ledger: Database) -> None:
    queue(ledger, 30)
    first = leases.claim(ledger, LANE, uuid4(), 20, lease=60)
    second = leases.claim(ledger, LANE, uuid4(), 20, lease=60)
    assert len(first) == 20
    assert len(second) == 10
    assert not {claimed.id for claimed in first} & {claimed.id for claimed in second}


def test_an_answer_is_recorded_once_the_database_is_back(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    (delivery_id,) = queue(ledger)
    record, failures = leases.record, iter([True, True, False])

    def flaky(*args, **kwargs):
        if args[2] and next(failures):
            raise LedgerUnavailableError("the database cannot be reached")
        return record(*args, **kwargs)

    monkeypatch.setattr(leases, "record", flaky)
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert len(provider.sent) == 1
    assert statuses(ledger, [delivery_id]) == ["sent"]


def test_a_mark_that_cannot_be_confirmed_sends_nothing_and_gives_back(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (delivery_id,) = queue(ledger)
    mark = leases.mark

    def marked_but_unheard(*args):
        mark(*args)
        raise LedgerUnavailableError("the database cannot be reached")

    monkeypatch.setattr(leases, "mark", marked_but_unheard)
    provider = ScriptedProvider()
    with pytest.raises(LedgerUnavailableError):
        engine(ledger, provider).run(LANE)
    assert provider.sent == []
    delivery = deliveries.get(ledger, delivery_id)
    assert (delivery.status, delivery.attempts) == (Status.QUEUED, 0)


def test_lanes_due_names_each_lane_with_due_work_once(ledger: Database) -> None:
    other = Lane("mailglass.bulk", "globex", "bulk")
    queue(ledger, 3)
    queue(ledger, 2, lane=other, priority=0)
    queue(ledger, 2, lane=Lane("mailglass", "later", "bulk"), delay=60)
    assert lanes_due(ledger) == [LANE, other]


@pytest.fixture
def shop_mails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an application's module with templated mails, as a worker would import it."""
    name = f"shop_mails_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "from mailglass import Mailable\n"
        "class Receipt(Mailable):\n"
        "    subject = 'Receipt {{ number }}'\n"
        "    html = '<p>Order <b>{{ number }}</b></p>'\n"
        "class Broken(Mailable):\n"
        "    subject = 'Receipt'\n"
        "    html = '{{ missing.thing }}'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def templated(module: str, name: str, **context: object) -> dict:
    return {"v": 1, "mailable": {"class": f"{module}:{name}", "context": context}}


def test_a_mailable_is_rendered_before_its_first_attempt_and_every_attempt_says_the_same(
    ledger: Database, shop_mails: str
) -> None:
    policy = StreamPolicy(backoff_base=0.001, backoff_max=0.002)
    settings = replace(SETTINGS, streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy})
    (delivery_id,) = queue(ledger, content=templated(shop_mails, "Receipt", number=1001), frozen=False)
    tries = iter([Outcome(OutcomeClass.TRANSIENT), Outcome(OutcomeClass.ACCEPTED)])
    provider = ScriptedProvider(lambda mail: next(tries))
    worker = engine(ledger, provider, settings)
    while deliveries.get(ledger, delivery_id).status is Status.QUEUED:
        worker.run(LANE)
    first, second = provider.sent
    assert first == second
    assert (first.subject, first.html) == ("Receipt 1001", "<p>Order <b>1001</b></p>")
    assert first.text is not None
    assert "Order 1001" in first.text


def test_a_template_that_fails_holds_its_mail_for_a_person_and_the_others_of_its_batch_go(
    ledger: Database, shop_mails: str
) -> None:
    (broken,) = queue(ledger, content=templated(shop_mails, "Broken"), frozen=False)
    (empty,) = queue(ledger, content=templated(shop_mails, "Receipt"), frozen=False)
    (good,) = queue(ledger, content=templated(shop_mails, "Receipt", number=7), frozen=False)
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert statuses(ledger, [broken, empty, good]) == ["held", "held", "sent"]
    assert deliveries.get(ledger, broken).last_error == "template_failed:undefined"


def test_once_its_template_is_mended_a_held_mail_is_released_and_sent(ledger: Database, shop_mails: str) -> None:
    (held,) = queue(ledger, content=templated(shop_mails, "Broken"), frozen=False)
    (expiring,) = queue(ledger, content=templated(shop_mails, "Broken"), frozen=False, lifetime=3600.0)
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert statuses(ledger, [held, expiring]) == ["held", "held"]
    execute(ledger, "UPDATE mailglass.deliveries SET expires_at = now() WHERE expires_at IS NOT NULL")
    import_module(shop_mails).Broken.html = "<p>mended</p>"
    forget()
    assert deliveries.release(ledger, [held, expiring]).keys() == {held, expiring}
    engine(ledger, provider).run(LANE)
    assert statuses(ledger, [held, expiring]) == ["sent", "failed"]
    assert [mail.html for mail in provider.sent] == ["<p>mended</p>"]


def test_of_two_workers_that_render_the_same_content_the_first_ones_stands(ledger: Database, shop_mails: str) -> None:
    queue(ledger, content=templated(shop_mails, "Receipt", number=7), frozen=False)
    (claimed,) = leases.claim(ledger, LANE, uuid4(), 1, lease=60)
    assert not claimed.frozen
    first = leases.freeze(ledger, {claimed.message_id: '{"subject": "first"}'})
    second = leases.freeze(ledger, {claimed.message_id: '{"subject": "second"}'})
    assert first == second == {claimed.message_id: '{"subject": "first"}'}


def test_a_delivery_scheduled_far_ahead_is_not_too_old_when_its_time_comes(ledger: Database) -> None:
    (delivery_id,) = queue(ledger, delay=30 * 86400.0)
    execute(
        ledger,
        "UPDATE mailglass.deliveries SET due_at = now(), scheduled_at = now(), created_at = now() - interval '30 days'",
    )
    provider = ScriptedProvider()
    engine(ledger, provider).run(LANE)
    assert statuses(ledger, [delivery_id]) == ["sent"]
    assert (clock.now() - provider.sent[0].created_at) < timedelta(minutes=5)


class OneTag(ScriptedProvider):
    """A provider whose requests carry one tag."""

    def fitting(self, mail: Outgoing) -> Outgoing:
        return mail if len(mail.tags) <= 1 else replace(mail, tags=mail.tags[:1])


def test_label_that_a_request_does_not_carry_is_one_event_and_no_failure(ledger: Database) -> None:
    content = {"v": 1, "subject": "Receipt", "text": "Thank you.", "tags": ["one", "two"]}
    plain, tagged = queue(ledger)[0], queue(ledger, content=content)[0]
    provider = OneTag(answers(Outcome(OutcomeClass.TRANSIENT, reason="http_503")))
    engine(ledger, provider).run(LANE)
    execute(ledger, "UPDATE mailglass.deliveries SET due_at = now()")
    engine(ledger, OneTag()).run(LANE)
    assert statuses(ledger, [plain, tagged]) == ["sent", "sent"]
    found = ledger.query(
        sqlalchemy.text("SELECT delivery_id, reason, account FROM mailglass.events WHERE kind = 'left_out'")
    )
    assert [tuple(row) for row in found] == [(tagged, "tags", "main")]
    kept = ledger.query(sqlalchemy.text("SELECT content -> 'tags' AS tags FROM mailglass.messages ORDER BY id"))
    assert [row.tags for row in kept] == [None, ["one", "two"]]
