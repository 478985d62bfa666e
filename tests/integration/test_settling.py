"""What may have been sent is asked about again or searched for, and never sent a second time for want of a look."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from mailglass import clock
from mailglass.engine import settler as settling
from mailglass.engine.settler import Settler
from mailglass.ledger import leases, searches, webhooks
from mailglass.ledger.events import project
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.leases import Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.settlement import Settlement, settle
from mailglass.ledger.statements import statements
from mailglass.ledger.suppressions import suppressions_of
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.outcomes import EXPIRED, Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy
from mailglass.providers.search import ABSENT, UNKNOWN, SearchResult, SearchTarget, taken
from mailglass.settings import Route
from mailglass.testing.provider import FixedAccounts
from tests.settling import LANE, SETTINGS, Desk, Died, Says, takes

# searching


def test_a_worker_whose_clock_is_hours_behind_searches_until_the_ledgers_now(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.uncertain()
    desk.turn()
    behind = clock.now() - timedelta(hours=6)
    monkeypatch.setattr(clock, "now", lambda: behind)
    desk.settler.run()
    (target,) = desk.main.targets
    assert target.sent_before > behind + timedelta(hours=6) > target.sent_after


def test_mail_that_the_provider_has_is_sent_with_its_id_and_never_again(desk: Desk) -> None:
    desk.main.says = takes
    (delivery_id,) = desk.uncertain()
    report = desk.settler.run()
    assert (report.claimed, report.found, report.settled) == (1, 1, 1)
    delivery = desk.delivery(delivery_id)
    assert (delivery.status, delivery.provider_message_id) == (Status.SENT, f"p-{delivery_id}")
    assert desk.told(delivery_id)[-2:] == [("queued", None), ("settled", "search_evidence")]
    assert replace(project(desk.timeline(delivery_id)), status_id=None) == delivery.facts
    assert not desk.settler.waiting()
    desk.end_holds()
    assert desk.settler.sweep() == []
    desk.work()
    assert len(desk.main.sent) == 1


def test_a_search_knows_whom_and_when(desk: Desk) -> None:
    (delivery_id,) = desk.uncertain()
    desk.settler.run()
    (target,) = desk.main.targets
    assert (target.delivery_id, target.recipient, target.provider_message_id) == (
        delivery_id,
        "u0@example.com",
        None,
    )
    attempt = desk.timeline(delivery_id)[-1].occurred_at
    # the whole of the lease in which the call was made, and what clocks differ by
    assert (attempt - target.sent_after).total_seconds() >= SETTINGS.engine.lease
    assert target.sent_before > attempt


def test_mail_sent_long_before_it_was_noticed_is_searched_for_from_then_on(desk: Desk) -> None:
    delivery_id = desk.sending()
    # everything stood still for a night
    desk.rows("UPDATE mailglass.deliveries SET scheduled_at = now() - interval '9 hours'")
    desk.settler.sweep()
    desk.settler.run()
    (target,) = desk.main.targets
    (row,) = desk.rows("SELECT scheduled_at FROM mailglass.deliveries")
    assert (target.delivery_id, target.sent_after < row.scheduled_at) == (delivery_id, True)


def test_found_mails_fate_is_learnt_as_from_a_webhook(desk: Desk) -> None:
    def bounced(item: SearchTarget) -> SearchResult:
        event = ProviderEvent(
            EventKind.BOUNCED,
            "e-1",
            delivery_id=item.delivery_id,
            recipient=item.recipient,
            bounce_class=BounceClass.HARD,
        )
        foreign = replace(event, provider_event_id="e-2", delivery_id=uuid4())
        return taken(item.delivery_id, "p-1", [event, foreign])

    desk.main.says = bounced
    (delivery_id,) = desk.uncertain()
    desk.settler.run()
    delivery = desk.delivery(delivery_id)
    assert (delivery.status, delivery.outcome, delivery.facts.bounce_class) == (Status.SENT, "bounced", "hard")
    assert [entry.reason for entry in suppressions_of(desk.ledger, "acme", Address("u0@example.com"))]
    assert len(desk.rows("SELECT 1 FROM mailglass.events WHERE source = 'provider'")) == 2
    desk.post(delivery_id)
    assert desk.told(delivery_id).count(("settled", "search_evidence")) == 1


@pytest.mark.parametrize(
    "says",
    [
        lambda item: UNKNOWN,
        lambda item: ABSENT,
        lambda item: taken(uuid4(), "somebody else's"),
        lambda item: SearchResult(takes(item).kind, None, "whose?"),
    ],
)
def test_mail_not_found_under_its_own_id_waits_for_its_hold(desk: Desk, says: Says) -> None:
    desk.main.says = says
    (delivery_id,) = desk.uncertain()
    report = desk.settler.run()
    assert (report.claimed, report.settled, report.resumed) == (1, 0, 0)
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN
    assert desk.told(delivery_id)[-1] == ("attempted", "answer_lost")


def test_a_provider_that_fails_in_its_search_leaves_everything_open(desk: Desk) -> None:
    def breaks(item: SearchTarget) -> SearchResult:
        raise RuntimeError(item.recipient)

    desk.main.says = breaks
    ids = desk.uncertain(3)
    assert desk.settler.run().claimed == 3
    assert {desk.delivery(key).status for key in ids} == {Status.UNCERTAIN}


def test_a_finding_that_is_none_sinks_no_other(desk: Desk) -> None:
    ids = desk.uncertain(2)
    desk.main.says = lambda item: takes(item) if item.delivery_id == ids[1] else None  # type: ignore[return-value]
    assert desk.settler.run().settled == 1
    assert [desk.delivery(key).status for key in ids] == [Status.UNCERTAIN, Status.SENT]


def test_a_provider_that_answers_nothing_is_not_pressed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SIZE", 2)
    desk.uncertain(6)
    settler = desk.settler
    first = settler.run()
    assert (first.claimed, first.more, settler.waiting()) == (2, False, False)
    assert (settler.run().claimed, len(desk.main.targets)) == (0, 2)
    monkeypatch.setattr(settling, "PAUSE", 0.0)
    rested, desk.main.says = desk.settler, takes
    again = rested.run()
    assert (again.settled, again.more, rested.waiting()) == (2, True, True)


def test_a_room_that_fails_as_it_is_opened_keeps_no_lease_from_being_taken_back(desk: Desk) -> None:
    class Broken(FixedAccounts):
        def open(self, name: str) -> Any:
            if name == "other":
                raise OSError("no such file")
            return super().open(name)

    delivery_id = desk.sending()
    accounts = Broken(desk.settings, {"main": desk.main, "other": desk.other})
    assert Settler(desk.settings, desk.ledger, accounts).sweep() == [(LANE, "uncertain")]
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN


def test_a_finding_that_the_ledger_cannot_keep_sinks_no_other(desk: Desk) -> None:
    ids = desk.uncertain(2)
    desk.main.says = lambda item: taken(item.delivery_id, "x" * 5000 if item.delivery_id == ids[0] else "p")
    desk.settler.run()
    assert [desk.delivery(key).status for key in ids] == [Status.UNCERTAIN, Status.SENT]


def test_accounts_without_a_search_are_not_looked_at(desk: Desk) -> None:
    desk.main.searchable = False
    desk.uncertain()
    assert not desk.settler.waiting()
    assert desk.settler.run().claimed == 0
    assert desk.main.targets == []


def test_the_first_look_waits_until_the_provider_can_know(desk: Desk) -> None:
    desk.main.search_lag = 30.0
    desk.uncertain()
    assert not desk.settler.waiting()
    desk.rows("UPDATE mailglass.deliveries SET search_at = now() - interval '31 s'")
    assert desk.settler.waiting()


def test_each_delivery_has_its_turn_and_the_next_one_later(desk: Desk) -> None:
    ids = desk.uncertain(50)
    desk.main.says = lambda item: ABSENT
    first = desk.settler.run()
    assert (first.claimed, first.more) == (20, True)
    assert (desk.settler.run().claimed, desk.settler.run().claimed) == (20, 10)
    assert not desk.settler.waiting()
    assert sorted(item.delivery_id for item in desk.main.targets) == sorted(ids)
    (row,) = desk.rows("SELECT min(search_at - now()) AS wait FROM mailglass.deliveries")
    assert 0 < row.wait.total_seconds() < 12


def test_the_last_look_is_shortly_before_the_hold_ends(desk: Desk) -> None:
    desk.uncertain()
    desk.rows("UPDATE mailglass.deliveries SET lease_expires_at = now() + interval '100 s'")
    # uncertain for longer than the hold has left
    desk.rows("ALTER TABLE mailglass.events DISABLE TRIGGER events_append_only")
    desk.rows("UPDATE mailglass.events SET recorded_at = recorded_at - interval '500 s'")
    desk.rows("ALTER TABLE mailglass.events ENABLE TRIGGER events_append_only")
    desk.settler.run()
    (row,) = desk.rows("SELECT lease_expires_at - search_at AS before FROM mailglass.deliveries")
    assert 20 < row.before.total_seconds() < 40


def test_two_workers_do_not_look_for_the_same_deliveries(desk: Desk, database_url: str) -> None:
    ids = desk.uncertain(8)
    params: dict[str, Any] = {"account": "main", "lag": 0.0, "size": 5, "budget": 10.0}
    with psycopg.connect(database_url, row_factory=namedtuple_row) as other:
        # not committed yet
        theirs = [row.id for row in other.execute(statements()["claim_searches"], params).fetchall()]
        ours: list[UUID] = []
        claiming = threading.Thread(
            target=lambda: ours.extend(item.id for item in searches.claim(desk.ledger, **params))
        )
        claiming.start()
        claiming.join(60)
        waits = claiming.is_alive()
        other.commit()
    claiming.join(60)
    assert not waits
    assert (len(theirs), len(ours)) == (5, 3)
    assert sorted(theirs + ours) == sorted(ids)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("searches_due", {"accounts": "{main}", "lags": "{30}"}),
        ("claim_searches", {"account": "main", "lag": 30.0, "size": 20, "budget": 15.0}),
    ],
)
def test_account_with_a_turn_is_found_without_walking_over_other_deliveries(
    desk: Desk, direct_url: str, name: str, params: dict[str, Any]
) -> None:
    with psycopg.connect(direct_url, options="-c enable_seqscan=off") as connection:
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {statements()[name]}", params).fetchall())
    assert "deliveries_search" in plan
    assert "Seq Scan" not in plan


def test_no_index_holds_what_every_mark_changes(desk: Desk) -> None:
    # what it changes may then be written beside the row as it was, and into no index
    changed = re.findall(r"(\w+) =", statements()["mark"].partition("SET ")[2].partition("FROM ")[0])
    assert changed == ["status", "attempts", "account", "provider"]
    found = [row.indexdef for row in desk.rows("SELECT indexdef FROM pg_indexes WHERE tablename = 'deliveries'")]
    assert found
    assert not [text for text in found for column in changed if re.search(rf"\b{column}\b", text)]


def test_while_it_is_looked_for_the_hold_does_not_end(desk: Desk) -> None:
    (delivery_id,) = desk.uncertain()

    def while_searching(item: SearchTarget) -> SearchResult:
        assert desk.settler.sweep() == []
        return takes(item)

    desk.main.says = while_searching
    desk.rows("UPDATE mailglass.deliveries SET lease_expires_at = now() + interval '300 ms'")
    taken = searches.claim(desk.ledger, "main", lag=0.0, size=5, budget=500.0)
    (row,) = desk.rows("SELECT lease_expires_at - now() AS hold FROM mailglass.deliveries")
    assert [item.id for item in taken] == [delivery_id]
    assert row.hold.total_seconds() > 300
    desk.turn()
    desk.settler.run()
    assert desk.delivery(delivery_id).status is Status.SENT


def test_mail_found_after_it_was_queued_again_is_not_sent_again(desk: Desk) -> None:
    (delivery_id,) = desk.uncertain()

    def meanwhile(item: SearchTarget) -> SearchResult:
        # as if the look had taken longer than its time
        desk.end_holds()
        assert desk.settler.sweep() == [(LANE, "resent")]
        return takes(item)

    desk.main.says = meanwhile
    assert desk.settler.run().settled == 1
    assert desk.delivery(delivery_id).status is Status.SENT
    assert lanes_due(desk.ledger) == []


def test_held_mail_is_settled_by_a_search_that_was_under_way(desk: Desk) -> None:
    policy = StreamPolicy(uncertain=UncertainPolicy.HOLD)
    desk.settings = replace(SETTINGS, streams={**DEFAULT_POLICIES, Stream.TRANSACTIONAL: policy})
    (delivery_id,) = desk.uncertain()

    def meanwhile(item: SearchTarget) -> SearchResult:
        desk.end_holds()
        assert desk.settler.sweep() == [(LANE, "held")]
        return takes(item)

    desk.main.says = meanwhile
    desk.settler.run()
    assert desk.delivery(delivery_id).status is Status.SENT
    assert not desk.settler.waiting()


def test_evidence_settles_what_a_person_has_queued_again(desk: Desk) -> None:
    (delivery_id,) = desk.uncertain()
    assert settle(desk.ledger, [delivery_id], Settlement.RESEND) == {delivery_id: LANE}
    desk.post(delivery_id)
    assert desk.delivery(delivery_id).status is Status.SENT
    assert lanes_due(desk.ledger) == []


def test_evidence_overtakes_a_worker_that_has_not_sent_yet(desk: Desk) -> None:
    (delivery_id,) = desk.uncertain()
    desk.end_holds()
    assert desk.settler.sweep() == [(LANE, "resent")]
    token = uuid4()
    assert [claimed.id for claimed in leases.claim(desk.ledger, LANE, token, 10, 60)] == [delivery_id]
    desk.post(delivery_id)
    assert desk.delivery(delivery_id).status is Status.SENT
    assert leases.mark(desk.ledger, token, [delivery_id], "main", "scripted") == {}
    waiting = Verdict(delivery_id, Status.QUEUED, None, "rate_limited", delay=0.0, counted=False)
    assert leases.record(desk.ledger, token, [waiting]) == set()
    desk.work()
    assert len(desk.main.sent) == 1
    assert replace(project(desk.timeline(delivery_id)), status_id=None) == desk.delivery(delivery_id).facts


@pytest.mark.parametrize("last", [Outcome(OutcomeClass.REJECTED), Outcome(OutcomeClass.SUPPRESSED), EXPIRED])
def test_evidence_of_an_attempt_that_seemed_to_fail_outweighs_the_end_of_the_next_one(
    desk: Desk, last: Outcome
) -> None:
    (delivery_id,) = desk.queue()
    desk.main.script = lambda mail: Outcome(OutcomeClass.TRANSIENT, reason="http_500")
    desk.work()

    def told_meanwhile(mail: Outgoing) -> Outcome:
        desk.post(delivery_id)
        return last

    desk.main.script = told_meanwhile
    desk.settings = replace(desk.settings, routes=(Route(("main",)),))
    desk.rows("DELETE FROM mailglass.breakers")
    desk.work()
    assert desk.settler.sweep() == [(LANE, "settled")]
    assert desk.delivery(delivery_id).status is Status.SENT


@pytest.mark.parametrize("kind", [OutcomeClass.TRANSIENT, OutcomeClass.THROTTLED, OutcomeClass.MISCONFIGURED])
def test_evidence_that_comes_during_an_attempt_that_fails_is_not_forgotten(desk: Desk, kind: OutcomeClass) -> None:
    (delivery_id,) = desk.uncertain()
    desk.end_holds()
    desk.settler.sweep()

    def told_meanwhile(mail: Outgoing) -> Outcome:
        desk.post(delivery_id)
        return Outcome(kind, reason="because")

    desk.main.script = told_meanwhile
    desk.settings = replace(desk.settings, routes=(Route(("main",)),))
    desk.work()
    assert desk.settler.sweep() == [(LANE, "settled")]
    assert desk.delivery(delivery_id).status is Status.SENT
    assert replace(project(desk.timeline(delivery_id)), status_id=None) == desk.delivery(delivery_id).facts


def test_nothing_proves_that_a_delivery_was_sent_that_nobody_attempted(desk: Desk) -> None:
    (delivery_id,) = desk.queue()
    leases.claim(desk.ledger, LANE, uuid4(), 10, 60)
    desk.post(delivery_id)
    assert desk.delivery(delivery_id).status is Status.CLAIMED


@pytest.mark.parametrize("line", ["match", "append", "project"])
def test_a_process_that_dies_between_finding_and_writing_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    desk.main.says = takes
    (delivery_id,) = desk.uncertain()
    real = getattr(webhooks, line)

    def die(*args: Any) -> Any:
        if line == "append":
            real(*args)
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(webhooks, line, die)
        with pytest.raises(Died):
            desk.settler.run()
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN
    desk.turn()
    desk.settler.run()
    assert desk.delivery(delivery_id).status is Status.SENT
    assert desk.told(delivery_id)[-2:] == [("queued", None), ("settled", "search_evidence")]
    assert len(desk.main.sent) == 1


def test_evidence_that_was_appended_before_the_process_died_outweighs_the_policy(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any) -> Any:
        raise Died

    desk.main.says = takes
    (delivery_id,) = desk.uncertain()
    with monkeypatch.context() as dying:
        dying.setattr(webhooks, "project", die)
        with pytest.raises(Died):
            desk.settler.run()
    desk.end_holds()
    assert desk.settler.sweep() == [(LANE, "settled")]
    assert desk.delivery(delivery_id).status is Status.SENT


@pytest.mark.parametrize("order", ["webhook first", "search first", "webhook within", "at once"])
def test_a_webhook_at_the_same_moment_settles_it_once(desk: Desk, order: str) -> None:
    (delivery_id,) = desk.uncertain()

    def within(item: SearchTarget) -> SearchResult:
        if order == "webhook within":
            desk.post(delivery_id)
        return takes(item)

    desk.main.says = within
    if order == "webhook first":
        desk.post(delivery_id)
        assert not desk.settler.waiting()
    elif order == "at once":
        posting = threading.Thread(target=desk.post, args=(delivery_id,))
        posting.start()
        desk.settler.run()
        posting.join(60)
    else:
        desk.settler.run()
    if order == "search first":
        desk.post(delivery_id)
    delivery = desk.delivery(delivery_id)
    assert delivery.status is Status.SENT
    assert [kind for kind, _ in desk.told(delivery_id)].count("settled") == 1
    assert delivery.outcome == "delivered" or order == "search first"
