"""Which delivery an event speaks of, and what becomes of events that came before it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailglass.ledger import leases, webhooks
from mailglass.ledger.lifecycle import Status
from mailglass.webhooks import reconcile


def test_an_event_without_our_id_is_matched_by_the_accounts_own_message_id(desk: Any) -> None:
    ids = desk.sent(3)
    desk.tell(desk.event("delivered", provider_message_id="p-1"))
    assert [desk.delivery(key).outcome for key in ids] == [None, "delivered", None]


def test_deliveries_that_share_a_message_id_are_told_apart_by_the_recipient(desk: Any) -> None:
    ids = desk.sent(5, provider_id="batch")
    report = desk.tell(
        desk.event("delivered", provider_message_id="batch", recipient="U3@example.com"),
        desk.event("bounced", provider_message_id="batch", recipient="stranger@example.com"),
        desk.event("opened", provider_message_id="batch"),
    )
    assert [desk.delivery(key).outcome for key in ids] == [None, None, None, "delivered", None]
    assert (report.matched, report.orphans) == (1, 2)


def test_our_id_from_an_account_that_never_attempted_the_delivery_says_nothing(desk: Any) -> None:
    (delivery_id,) = desk.sent(account="main")
    report = desk.tell(
        desk.event("complained", delivery_id, recipient="u0@example.com"),
        desk.event("bounced", provider_message_id="p-0", bounce_class="hard", recipient="u0@example.com"),
        account="other",
    )
    assert desk.kinds(delivery_id) == ["queued", "attempted"]
    assert desk.delivery(delivery_id).outcome is None
    assert desk.reasons() == []
    assert report.orphans == 2
    assert reconcile.run(desk.ledger) is False
    assert desk.kinds(delivery_id) == ["queued", "attempted"]
    assert desk.rows("SELECT count(*) AS count FROM mailglass.orphans")[0][0] == 2


def test_an_account_that_attempted_the_delivery_earlier_is_still_heard(desk: Any) -> None:
    (delivery_id,) = desk.queue()
    desk.start_sending(account="other")
    desk.record([delivery_id], Status.QUEUED, delay=0.0)
    desk.start_sending(account="main")
    desk.record([delivery_id], Status.SENT)
    desk.tell(desk.event("deferred", delivery_id, provider_message_id="elsewhere"), account="other")
    delivery = desk.delivery(delivery_id)
    assert (delivery.outcome, delivery.provider_message_id, delivery.account) == ("deferred", "p-0", "main")


def test_an_orphan_is_kept_with_all_it_says_and_linked_once_its_delivery_is_known(desk: Any) -> None:
    (delivery_id,) = desk.queue()
    desk.start_sending()
    key = desk.post(
        desk.event(
            "bounced",
            provider_message_id="p-0",
            recipient="U0@example.com",
            bounce_class="hard",
            status="5.1.1",
            reject_reason="invalid",
            click_hash="ab",
            machine=True,
        ),
    )
    assert desk.work().orphans == 1
    assert desk.stands(key) == ("processed", "orphaned")
    assert desk.reasons() == []
    desk.record([delivery_id], Status.SENT)
    assert reconcile.run(desk.ledger) is False
    assert desk.delivery(delivery_id).outcome == "bounced"
    assert desk.reasons() == [("address", "", "hard_bounce")]
    (row,) = desk.rows("SELECT * FROM mailglass.events WHERE source = 'provider'")
    assert (row.occurred_at, row.enhanced_status, row.click_hash, row.machine, row.webhook_event_id) == (
        desk.NOON,
        "5.1.1",
        "ab",
        True,
        key,
    )
    assert desk.rows("SELECT * FROM mailglass.orphans") == []


def test_an_event_that_names_no_delivery_is_counted_and_not_kept(desk: Any) -> None:
    key = desk.post(desk.event("unknown"))
    report = desk.work()
    assert (report.unmatched, report.orphans) == (1, 0)
    assert desk.stands(key) == ("processed", "unmatched")
    assert desk.rows("SELECT * FROM mailglass.orphans") == []


def test_a_delivery_that_becomes_known_while_its_orphan_is_being_kept_is_linked_at_once(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (delivery_id,) = desk.queue()
    desk.start_sending()
    keep = webhooks.keep_orphans

    def keep_late(*args: Any) -> None:
        # the dispatch records the id, and looks for orphans, just before this one is there
        desk.record([delivery_id], Status.SENT)
        assert not leases.orphans_waiting(desk.ledger, ["p-0"])
        keep(*args)

    monkeypatch.setattr(webhooks, "keep_orphans", keep_late)
    report = desk.tell(desk.event("delivered", provider_message_id="p-0"))
    assert (report.orphans, report.matched) == (0, 1)
    assert desk.delivery(delivery_id).outcome == "delivered"
    assert desk.rows("SELECT * FROM mailglass.orphans") == []


def test_orphans_that_cannot_be_linked_do_not_stand_in_the_way_of_others(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PAGE", 2)
    (delivery_id,) = desk.queue()
    ambiguous = [
        desk.event("delivered", at=desk.NOON + timedelta(seconds=n), provider_message_id="batch") for n in range(5)
    ]
    desk.tell(*ambiguous, desk.event("opened", at=desk.NOON + timedelta(seconds=9), provider_message_id="p-0"))
    desk.start_sending()
    desk.record([delivery_id], Status.SENT)
    desk.sent(2, provider_id="batch")
    assert reconcile.run(desk.ledger) is False
    assert desk.delivery(delivery_id).facts.opened_at == desk.NOON + timedelta(seconds=9)
    assert len(desk.rows("SELECT * FROM mailglass.orphans")) == 5


def test_reconciling_says_when_time_ran_out(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "BUDGET", 0.0)
    assert reconcile.run(desk.ledger) is True
