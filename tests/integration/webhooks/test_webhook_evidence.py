"""A provider's word settles what its answer left open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mailglass.engine import Engine
from mailglass.ledger import deliveries, leases
from mailglass.ledger.events import project
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.lifecycle import Status
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy
from mailglass.testing.provider import FixedAccounts, ScriptedProvider


@pytest.mark.parametrize("status", [Status.UNCERTAIN, Status.HELD])
def test_evidence_settles_a_delivery_that_waits_for_it(desk: Any, status: Status) -> None:
    delivery_id = desk.uncertain(status=status)
    report = desk.tell(desk.event("queued", delivery_id, provider_message_id="learnt"))
    delivery = desk.delivery(delivery_id)
    assert report.settled == 1
    assert (delivery.status, delivery.provider_message_id) == (Status.SENT, "learnt")
    assert delivery.facts.sent_at is not None
    assert desk.kinds(delivery_id)[-2:] == ["queued", "settled"]
    assert desk.tell(desk.event("delivered", delivery_id)).settled == 0
    assert desk.kinds(delivery_id).count("settled") == 1


def test_evidence_keeps_a_mail_from_being_sent_a_second_time(desk: Any) -> None:
    delivery_id = desk.uncertain(delay=0.0)
    assert leases.sweep(desk.ledger, DEFAULT_POLICIES) == [(desk.LANE, "resent")]
    desk.tell(desk.event("delivered", delivery_id))
    assert desk.delivery(delivery_id).status is Status.SENT
    assert lanes_due(desk.ledger) == []


@pytest.mark.parametrize("kind", ["rejected", "failed", "unsubscribed", "unknown"])
def test_event_that_proves_no_acceptance_settles_nothing(desk: Any, kind: str) -> None:
    delivery_id = desk.uncertain()
    desk.tell(desk.event(kind, delivery_id))
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN


@pytest.mark.parametrize("policy", list(UncertainPolicy))
def test_evidence_that_came_while_the_answer_was_still_awaited_settles_the_delivery_too(
    desk: Any, policy: UncertainPolicy
) -> None:
    (delivery_id,) = desk.queue()

    def posts_and_hangs_up(mail: Outgoing) -> Outcome:
        desk.tell(desk.event("queued", mail.delivery_id))
        return Outcome(OutcomeClass.UNCERTAIN, reason="read_timeout")

    provider = ScriptedProvider(posts_and_hangs_up)
    Engine(desk.SETTINGS, desk.ledger, FixedAccounts(desk.SETTINGS, {"main": provider})).run(desk.LANE)
    assert desk.delivery(delivery_id).status is Status.UNCERTAIN
    streams = {**DEFAULT_POLICIES, Stream.TRANSACTIONAL: StreamPolicy(uncertain=policy)}
    assert leases.sweep(desk.ledger, streams) == [(desk.LANE, "settled")]
    delivery = desk.delivery(delivery_id)
    assert delivery.status is Status.SENT
    assert replace(project(deliveries.timeline(desk.ledger, delivery_id)), status_id=None) == delivery.facts


def test_evidence_that_came_before_the_worker_died_settles_the_delivery_too(desk: Any) -> None:
    (delivery_id,) = desk.queue()
    desk.start_sending()
    desk.tell(desk.event("delivered", delivery_id))
    assert desk.delivery(delivery_id).status is Status.SENDING
    desk.end_leases()
    assert leases.sweep(desk.ledger, DEFAULT_POLICIES) == [(desk.LANE, "uncertain")]
    assert leases.sweep(desk.ledger, DEFAULT_POLICIES) == [(desk.LANE, "settled")]
    assert desk.delivery(delivery_id).status is Status.SENT
