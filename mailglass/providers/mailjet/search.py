"""Looking for a mail among Mailjet's messages, by our id as their CustomID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mailglass.providers import parsing
from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import SearchAnswer, query
from mailglass.providers.mailjet.sending import number
from mailglass.providers.search import SearchTarget, taken

SEARCH_PAGE: Final = 100


def request(item: SearchTarget) -> HTTPRequest:
    """Return the request for the messages with our CustomID, which the answer has to repeat."""
    return query(
        "/v3/REST/message",
        CustomID=str(item.delivery_id),
        ShowCustomID="true",
        ShowContactAlt="true",
        Limit=SEARCH_PAGE,
    )


def read(messages: Sequence[dict[str, Any]], item: SearchTarget) -> SearchAnswer:
    """Return whether one of the messages is the mail; a message with copies is several there."""
    matches = [message for message in messages if message.get("CustomID") == str(item.delivery_id)]
    results = {item.delivery_id: taken(item.delivery_id, _own_id(matches, item.recipient))} if matches else {}
    return SearchAnswer(results, whole=len(messages) < SEARCH_PAGE)


def _own_id(messages: list[dict[str, Any]], recipient: str) -> str | None:
    """Return the id of the recipient's own message among those of its copies; None where that cannot be told."""
    own = [item for item in messages if parsing.label_of(item.get("ContactAlt")).lower() == recipient.lower()]
    return next((number(item.get("ID")) for item in own or (messages if len(messages) == 1 else [])), None)
