"""Looking for a mail in Mailgun's events: those of its recipient at that time, of which one carries our id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import SearchAnswer, query
from mailglass.providers.mailgun import events
from mailglass.providers.search import SearchTarget, taken

PAGE: Final = 300


def request(item: SearchTarget, domain: str) -> HTTPRequest:
    """Return the events of the recipient, oldest first."""
    return query(
        f"/v3/{domain}/events",
        begin=int(item.sent_after.timestamp()),
        end=int(item.sent_before.timestamp()),
        ascending="yes",
        limit=PAGE,
        recipient=item.recipient,
    )


def read(items: Sequence[dict[str, Any]], item: SearchTarget, account: str) -> SearchAnswer:
    """Return whether one of the events is of the mail: Mailgun has none of a mail that it did not take."""
    told = [event for event in events.read(items, account) if event.delivery_id == item.delivery_id]
    names = [event.provider_message_id for event in told if event.provider_message_id]
    results = {item.delivery_id: taken(item.delivery_id, next(iter(names), None), told)} if told else {}
    return SearchAnswer(results, whole=len(items) < PAGE)
