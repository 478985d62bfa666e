"""What events say about whom not to mail any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from mailglass.errors import SuppressionType
from mailglass.ledger.suppressions import Suppression, suppress, unsuppress
from mailglass.ledger.webhooks import IncomingEvent
from mailglass.webhooks.applying import apply

ADDRESS, STREAM = ("address", ""), ("address_stream", "bulk")


@pytest.mark.parametrize(
    ("kind", "bounce_class", "reject_reason", "entries"),
    [
        ("bounced", "hard", None, [(*ADDRESS, "hard_bounce")]),
        ("bounced", "soft", None, []),
        ("bounced", "undetermined", None, []),
        ("deferred", "hard", None, []),
        ("complained", None, None, [(*ADDRESS, "complaint")]),
        ("unsubscribed", None, None, [(*STREAM, "unsubscribe")]),
        ("rejected", None, "unsubscribed", [(*STREAM, "unsubscribe")]),
        ("rejected", None, "bounced", [(*ADDRESS, "provider")]),
        ("rejected", None, "spam", [(*ADDRESS, "provider")]),
        ("rejected", None, "invalid", [(*ADDRESS, "provider")]),
        ("rejected", "hard", "invalid", [(*ADDRESS, "hard_bounce")]),
        ("rejected", None, "blocked", []),
        ("rejected", None, "timed_out", []),
        ("rejected", None, "other", []),
        ("failed", None, None, []),
        ("delivered", None, None, []),
        ("unknown", None, None, []),
    ],
)
def test_event_says_whether_its_recipient_may_be_mailed_again(
    desk: Any, kind: str, bounce_class: str | None, reject_reason: str | None, entries: list[tuple[str, str, str]]
) -> None:
    (delivery_id,) = desk.sent(lane=desk.BULK)
    desk.tell(desk.event(kind, delivery_id, bounce_class=bounce_class, reject_reason=reject_reason))
    assert desk.reasons() == entries
    assert desk.reasons(tenant="globex") == []


def test_whom_the_event_names_is_suppressed_even_if_it_is_a_copy_of_the_mail(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    desk.tell(desk.event("bounced", delivery_id, bounce_class="hard", recipient="Copy <COPY@Example.com>"))
    assert desk.reasons("copy@example.com") == [("address", "", "hard_bounce")]
    assert desk.reasons("u0@example.com") == []


def doubtful(fact_id: int, delivery_id: UUID, moment: datetime) -> IncomingEvent:
    return IncomingEvent(
        id=UUID(int=fact_id),
        account="main",
        kind="bounced",
        occurred_at=moment,
        webhook_id=None,
        delivery_id=delivery_id,
        bounce_class="undetermined",
        refusal="recipient_unknown/unknown/microsoft",
        doubted=True,
    )


@pytest.mark.parametrize(
    ("hours", "days"),
    [((0,), None), ((0, 23), None), ((0, 24), 30), ((24, 0), 30), ((0, 12, 25), 30), ((0, 32 * 24), None)],
)
@pytest.mark.parametrize("in_one_batch", [True, False])
def test_refusal_that_may_pass_counts_the_second_time_a_day_or_more_later_in_any_order(
    desk: Any, hours: tuple[int, ...], days: int | None, in_one_batch: bool
) -> None:
    (delivery_id,) = desk.sent()
    began = datetime(2026, 3, 4, tzinfo=UTC)
    facts = [doubtful(hour + 1, delivery_id, began + timedelta(hours=hour)) for hour in hours]
    if in_one_batch and hours != (0, 32 * 24):
        apply(desk.ledger, facts)
    else:
        for fact in facts:
            apply(desk.ledger, [fact])
    found = desk.rows("SELECT reason, expires_at - now() AS left FROM mailglass.suppressions")
    assert [row.reason for row in found] == (["hard_bounce"] if days else [])
    assert all(timedelta(days=days - 1) < row.left <= timedelta(days=days) for row in found if days)
    (event,) = desk.rows("SELECT DISTINCT refusal FROM mailglass.events WHERE kind = 'bounced'")
    assert event.refusal == "recipient_unknown/unknown/microsoft"


@pytest.mark.parametrize(("hours", "reasons"), [(-1, []), (1, ["hard_bounce"])])
def test_a_removal_is_undone_by_doubts_after_it_only(desk: Any, hours: int, reasons: list[str]) -> None:
    (delivery_id,) = desk.sent()
    now = datetime.now(UTC)
    apply(desk.ledger, [doubtful(1, delivery_id, now - timedelta(days=3))])
    apply(desk.ledger, [doubtful(2, delivery_id, now - timedelta(days=1))])
    assert unsuppress(desk.ledger, "acme", "u0@example.com")
    apply(desk.ledger, [doubtful(3, delivery_id, now + timedelta(hours=hours))])
    assert [row.reason for row in desk.rows("SELECT reason FROM mailglass.suppressions")] == reasons


def test_a_recipient_that_is_no_address_suppresses_nobody(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    report = desk.tell(desk.event("complained", delivery_id, recipient="@@@"))
    assert report.matched == 1
    assert desk.rows("SELECT * FROM mailglass.suppressions") == []


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize(
    ("changes", "suppressed"),
    [
        ([("unsubscribed", 0), ("subscribed", 1)], False),
        ([("subscribed", 1), ("unsubscribed", 2)], True),
        ([("unsubscribed", 0), ("unsubscribed", 2), ("subscribed", 1)], True),
        ([("unsubscribed", 2), ("unsubscribed", 0), ("subscribed", 1)], True),
        ([("unsubscribed", 0), ("subscribed", 1), ("unsubscribed", 2), ("subscribed", 3)], False),
    ],
)
def test_of_leaving_a_stream_and_coming_back_the_later_counts(
    desk: Any, in_one_batch: bool, changes: list[tuple[str, int]], suppressed: bool
) -> None:
    (delivery_id,) = desk.sent(lane=desk.BULK)
    told = [desk.event(kind, delivery_id, at=desk.NOON + timedelta(minutes=minutes)) for kind, minutes in changes]
    if in_one_batch:
        desk.tell(*told)
    else:
        for item in told:
            desk.tell(item)
    assert bool(desk.reasons()) is suppressed


def test_coming_back_at_the_provider_ends_no_entry_that_somebody_else_made(desk: Any) -> None:
    (delivery_id,) = desk.sent(lane=desk.BULK)
    mine = Suppression("acme", "u0@example.com", "unsubscribe", "manual", SuppressionType.ADDRESS_STREAM, "bulk")
    suppress(desk.ledger, [mine, Suppression("acme", "u0@example.com", "hard_bounce", "webhook", account="main")])
    desk.tell(desk.event("unsubscribed", delivery_id, at=desk.NOON))
    desk.tell(desk.event("subscribed", delivery_id, at=datetime.now(UTC)))
    assert desk.reasons() == [("address", "", "hard_bounce"), ("address_stream", "bulk", "unsubscribe")]


def test_an_entry_that_was_removed_stays_removed_when_the_same_event_is_posted_again(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    bounce = desk.event("bounced", delivery_id, bounce_class="hard")
    desk.tell(bounce)
    assert unsuppress(desk.ledger, "acme", "u0@example.com")
    desk.tell(bounce, desk.event("delivered", delivery_id))
    assert desk.reasons() == []
