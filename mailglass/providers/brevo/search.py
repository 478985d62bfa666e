"""Looking for a mail in Brevo's list of mails: those to its recipient in those days, of which one has our tag."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any, Final
from uuid import UUID

from mailglass.providers.brevo.events import bracketed
from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import SearchAnswer, query
from mailglass.providers.search import SearchTarget, taken

PAGE: Final = 500
TAG: Final = "mailglass:"
# its days are those of the account's time zone, which is not told
_DAY: Final = timedelta(days=1)


def tag_of(delivery_id: UUID) -> str:
    """Return the tag by which a mail is known again."""
    return f"{TAG}{delivery_id}"


def request(item: SearchTarget) -> HTTPRequest:
    """Return the mails to the recipient, newest first."""
    return query(
        "/v3/smtp/emails",
        email=item.recipient,
        startDate=(item.sent_after.astimezone(UTC) - _DAY).strftime("%Y-%m-%d"),
        endDate=(item.sent_before.astimezone(UTC) + _DAY).strftime("%Y-%m-%d"),
        sort="desc",
        limit=PAGE,
        offset=0,
    )


def read(items: Sequence[dict[str, Any]], item: SearchTarget) -> SearchAnswer:
    """Return whether the mail is among them."""
    ours = tag_of(item.delivery_id)
    own = [message for message in items if isinstance(tags := message.get("tags"), list) and ours in tags]
    results = {item.delivery_id: taken(item.delivery_id, bracketed(own[0].get("messageId")))} if own else {}
    return SearchAnswer(results, whole=len(items) < PAGE)
