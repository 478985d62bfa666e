"""Looking for a mail in SendGrid's activity, by our id in its arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from mailglass.providers import parsing
from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import query
from mailglass.providers.search import SearchTarget

SEARCH_PAGE: Final = 3


def unique_id(message: Any) -> UUID | None:
    """Our id in a message's arguments, which come as an object or as its text."""
    arguments = message.get("unique_args") if isinstance(message, dict) else None
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    return parsing.delivery_of(arguments.get("mailglass_id")) if isinstance(arguments, dict) else None


def request(item: SearchTarget) -> HTTPRequest:
    """Return the request for the activity with our id, which the list does not repeat."""
    return query("/v3/messages", limit=SEARCH_PAGE, query=f"(unique_args['mailglass_id']=\"{item.delivery_id}\")")


def names(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the messages' names, each of which can be asked for its arguments."""
    return [name for message in messages if (name := parsing.text(message.get("msg_id")))]


def message_request(name: str) -> HTTPRequest:
    """Return the request for one message."""
    return HTTPRequest(f"/v3/messages/{quote(name, safe='')}", method="GET")
