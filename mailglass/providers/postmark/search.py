"""Looking for a mail among Postmark's outbound messages, by our id in their metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mailglass.providers import parsing
from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import SearchAnswer, query
from mailglass.providers.postmark import events
from mailglass.providers.search import SearchTarget, taken

SEARCH_PAGE: Final = 50


def request(item: SearchTarget, stream: str) -> HTTPRequest:
    """Return the request for the outbound messages with our id in their metadata, newest first."""
    ours = str(item.delivery_id)
    return query("/messages/outbound", count=SEARCH_PAGE, offset=0, messagestream=stream, metadata_mailglass_id=ours)


def read(messages: Sequence[dict[str, Any]], item: SearchTarget) -> SearchAnswer:
    """Return whether one of the messages is the mail."""
    matches = [message for message in messages if events.delivery_id(message) == item.delivery_id]
    if matches:
        return SearchAnswer({item.delivery_id: taken(item.delivery_id, parsing.text(matches[0].get("MessageID")))})
    # a page that is full was not narrowed down to ours
    return SearchAnswer(whole=len(messages) < SEARCH_PAGE)
