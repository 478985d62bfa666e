"""Looking for mails in Mandrill's activity: those of their recipients at that time, of which some carry our ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any, Final
from uuid import UUID

from mailglass.providers import parsing
from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import SearchAnswer
from mailglass.providers.management import json_request
from mailglass.providers.search import UNKNOWN, SearchResult, SearchTarget, taken
from mailglass.settings import Secret

PAGE: Final = 1000
REFUSED: Final = frozenset({"rejected", "invalid", "unsigned", "rule"})
"""States of a mail that Mandrill would not send: to ask for it again ends in the refusal that was lost."""

_DAY: Final = timedelta(days=1)


def request(targets: Sequence[SearchTarget], key: Secret) -> HTTPRequest:
    """Return the messages to any of the recipients.

    Metadata can be searched only where its names were entered at Mandrill; addresses always. Dates are whole days.
    """
    people = dict.fromkeys(item.recipient.lower() for item in targets)
    return json_request(
        "POST",
        "/messages/search.json",
        {
            "key": key.reveal(),
            "query": " OR ".join(f'full_email:"{_escaped(address)}"' for address in people),
            "date_from": (min(item.sent_after for item in targets).astimezone(UTC) - _DAY).strftime("%Y-%m-%d"),
            "date_to": (max(item.sent_before for item in targets).astimezone(UTC) + _DAY).strftime("%Y-%m-%d"),
            "limit": PAGE,
        },
    )


def read(messages: Sequence[dict[str, Any]], targets: Sequence[SearchTarget]) -> SearchAnswer:
    """Return the mails that are among the messages; a copy has our id too, and another address."""
    results: dict[UUID, SearchResult] = {}
    for item in targets:
        own = [
            message
            for message in messages
            if _delivery_id(message) == str(item.delivery_id)
            and parsing.label_of(message.get("email")).lower() == item.recipient.lower()
        ]
        accepted = [message for message in own if parsing.label_of(message.get("state")) not in REFUSED]
        if accepted:
            results[item.delivery_id] = taken(item.delivery_id, parsing.text(accepted[0].get("_id")))
        elif own:
            results[item.delivery_id] = UNKNOWN
    return SearchAnswer(results, whole=len(messages) < PAGE)


def _delivery_id(message: dict[str, Any]) -> str:
    metadata = message.get("metadata")
    return parsing.label_of(metadata.get("mailglass_id")) if isinstance(metadata, dict) else ""


def _escaped(address: str) -> str:
    return address.replace("\\", "\\\\").replace('"', '\\"')
