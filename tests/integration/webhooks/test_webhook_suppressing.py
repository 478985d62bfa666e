"""What events say about whom not to mail any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailglass.errors import SuppressionType
from mailglass.ledger.suppressions import Suppression, suppress, unsuppress

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
def test_what_an_event_says_about_mailing_the_person_again(
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
