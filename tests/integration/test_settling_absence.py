"""What absence proves, and accounts that are asked again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from mailglass.ledger import leases, webhooks
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy
from mailglass.providers.search import ABSENT, SearchResult, SearchTarget
from mailglass.routing import Lane
from mailglass.testing.provider import accepted
from tests.settling import LANE, SETTINGS, Desk, Died, takes

# absence


def test_absence_proves_what_the_account_says_it_proves(desk: Desk) -> None:
    desk.main.says = lambda item: ABSENT
    desk.main.absence_proves_after = 3600.0
    (delivery_id,) = desk.uncertain()
    assert desk.settler.run().resumed == 0
    desk.main.absence_proves_after = 0.0
    desk.turn()
    rung: list[Lane] = []
    assert desk.settler.run(rung.extend).resumed == 1
    assert rung == [LANE]
    delivery = desk.delivery(delivery_id)
    assert (delivery.status, delivery.last_error) == (Status.QUEUED, "not_found")
    assert desk.told(delivery_id)[-1] == ("released", "not_found")
    desk.work()
    assert desk.delivery(delivery_id).status is Status.SENT


def test_an_absent_delivery_whose_attempts_are_used_up_waits_for_a_person(desk: Desk) -> None:
    policy = StreamPolicy(max_attempts=1)
    desk.settings = replace(SETTINGS, streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy})
    desk.main.says = lambda item: ABSENT
    desk.main.absence_proves_after = 0.0
    (delivery_id,) = desk.uncertain()
    assert desk.settler.run().resumed == 0
    desk.end_holds()
    assert desk.settler.sweep() == [(LANE, "held")]
    assert desk.delivery(delivery_id).attempts == 1


def test_absence_does_not_outweigh_a_webhook(desk: Desk) -> None:
    desk.main.absence_proves_after = 0.0
    (delivery_id,) = desk.uncertain()

    def meanwhile(item: SearchTarget) -> SearchResult:
        desk.post(delivery_id)
        return ABSENT

    desk.main.says = meanwhile
    assert desk.settler.run().resumed == 0
    assert desk.delivery(delivery_id).status is Status.SENT


def test_absence_does_not_outweigh_a_webhook_that_was_only_appended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.main.absence_proves_after = 0.0
    (delivery_id,) = desk.uncertain()

    def die(*args: Any) -> Any:
        raise Died

    def meanwhile(item: SearchTarget) -> SearchResult:
        with monkeypatch.context() as dying:
            dying.setattr(webhooks, "project", die)
            with pytest.raises(Died):
                desk.post(delivery_id)
        return ABSENT

    desk.main.says = meanwhile
    assert desk.settler.run().resumed == 0
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN
    desk.end_holds()
    assert desk.settler.sweep() == [(LANE, "settled")]


def test_absence_says_nothing_of_a_later_attempt(desk: Desk) -> None:
    desk.main.absence_proves_after = 0.0
    (delivery_id,) = desk.uncertain()

    def meanwhile(item: SearchTarget) -> SearchResult:
        desk.end_holds()
        desk.settler.sweep()
        desk.main.script = lambda mail: Outcome(OutcomeClass.UNCERTAIN, reason="answer_lost")
        desk.work()
        return ABSENT

    desk.main.says = meanwhile
    assert desk.settler.run().resumed == 0
    delivery = desk.delivery(delivery_id)
    assert (delivery.status, delivery.attempts) == (Status.UNCERTAIN, 2)


# asking again


def test_a_worker_that_died_at_an_account_that_remembers_leaves_a_question_for_it(desk: Desk) -> None:
    desk.main.idempotent = True
    delivery_id = desk.sending()
    assert desk.settler.sweep() == [(LANE, "uncertain")]
    delivery = desk.delivery(delivery_id)
    assert (delivery.status, delivery.account, delivery.last_error) == (Status.QUEUED, "main", "asked_again")
    event = desk.timeline(delivery_id)[-1]
    assert (event.kind, event.status, event.reason, event.account) == (
        EngineEvent.UNCERTAIN,
        Status.QUEUED,
        "asked_again",
        "main",
    )
    desk.work()
    assert desk.delivery(delivery_id).status is Status.SENT
    assert (len(desk.main.sent), desk.other.sent) == (1, [])
    assert not desk.settler.waiting()


def test_the_question_is_the_mail_that_was_sent_before(desk: Desk) -> None:
    desk.main.idempotent = True
    first: list[Outgoing] = []

    def dies(mail: Outgoing) -> Outcome:
        first.append(mail)
        raise Died

    (delivery_id,) = desk.queue()
    desk.main.script = dies  # type: ignore[assignment]
    with pytest.raises(Died):
        desk.work()
    desk.end_holds()
    desk.settler.sweep()
    desk.main.script = accepted
    desk.work()
    assert desk.main.sent[-1] == first[0]
    assert desk.delivery(delivery_id).attempts == 2


@pytest.mark.parametrize(
    ("window", "age", "again"), [(None, 10**6, True), (900.0, 0, True), (900.0, 839, True), (900.0, 842, False)]
)
def test_only_what_the_provider_still_remembers_is_asked_about_again(
    desk: Desk, window: float | None, age: int, again: bool
) -> None:
    desk.main.idempotent, desk.main.idempotency_window = True, window
    delivery_id = desk.sending()
    desk.rows("UPDATE mailglass.deliveries SET scheduled_at = now() - make_interval(secs => :age)", age=age)
    desk.settler.sweep()
    assert desk.delivery(delivery_id).status is (Status.QUEUED if again else Status.UNCERTAIN)


def test_a_question_is_asked_no_more_often_than_the_stream_has_attempts(desk: Desk) -> None:
    desk.main.idempotent = True
    delivery_id = desk.sending()
    desk.rows("UPDATE mailglass.deliveries SET attempts = 8")
    desk.settler.sweep()
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN


def test_a_delivery_that_has_expired_is_not_asked_about_again(desk: Desk) -> None:
    desk.main.idempotent = True
    delivery_id = desk.sending()
    desk.rows("UPDATE mailglass.deliveries SET expires_at = now()")
    desk.settler.sweep()
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN


def test_mail_that_a_webhook_answered_is_not_asked_about_again(desk: Desk) -> None:
    desk.main.idempotent = True
    delivery_id = desk.sending()
    desk.post(delivery_id)
    assert desk.settler.sweep() == [(LANE, "uncertain")]
    assert desk.settler.sweep() == [(LANE, "settled")]
    assert desk.delivery(delivery_id).status is Status.SENT
    assert desk.main.sent == []


def test_at_an_account_that_remembers_nothing_it_is_uncertain_and_searched_for(desk: Desk) -> None:
    desk.main.says = takes
    delivery_id = desk.sending()
    assert desk.settler.sweep() == [(LANE, "uncertain")]
    assert (desk.delivery(delivery_id).status, desk.delivery(delivery_id).last_error) == (
        Status.UNCERTAIN,
        "worker_lost",
    )
    desk.settler.run()
    assert desk.delivery(delivery_id).status is Status.SENT
    assert desk.main.sent == []


def test_a_worker_that_comes_back_after_its_question_was_passed_on_records_nothing(desk: Desk) -> None:
    desk.main.idempotent = True
    (delivery_id,) = desk.queue()
    token = uuid4()
    leases.claim(desk.ledger, LANE, token, 10, lease=60)
    leases.mark(desk.ledger, token, [delivery_id], "main", "scripted")
    desk.end_holds()
    desk.settler.sweep()
    late = Verdict(delivery_id, Status.FAILED, EngineEvent.ATTEMPTED, outcome="rejected")
    assert leases.record(desk.ledger, token, [late]) == set()
    assert leases.mark(desk.ledger, token, [delivery_id], "main", "scripted") == {}
    desk.work()
    assert desk.delivery(delivery_id).status is Status.SENT
