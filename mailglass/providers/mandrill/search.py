"""Looking for mails in Mandrill's activity: those of their recipients at that time, of which some carry our ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any, Final
from uuid import UUID

from mailglass.providers import parsing
from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import Look
from mailglass.providers.management import json_request
from mailglass.providers.search import UNKNOWN, Finding, Sought, found
from mailglass.settings import Secret

PAGE: Final = 1000
REFUSED: Final = frozenset({"rejected", "invalid", "unsigned", "rule"})
"""States of a mail that Mandrill would not send: to ask for it again ends in the refusal that was lost."""

_DAY: Final = timedelta(days=1)


def request(sought: Sequence[Sought], key: Secret) -> HTTPRequest:
    """The messages to any of the recipients.

    Metadata can be searched only where its names were entered at Mandrill; addresses always. Dates are whole days.
    """
    people = dict.fromkeys(item.recipient.lower() for item in sought)
    return json_request(
        "POST",
        "/messages/search.json",
        {
            "key": key.reveal(),
            "query": " OR ".join(f'full_email:"{_escaped(address)}"' for address in people),
            "date_from": (min(item.sent_after for item in sought).astimezone(UTC) - _DAY).strftime("%Y-%m-%d"),
            "date_to": (max(item.sent_before for item in sought).astimezone(UTC) + _DAY).strftime("%Y-%m-%d"),
            "limit": PAGE,
        },
    )


def read(messages: Sequence[dict[str, Any]], sought: Sequence[Sought]) -> Look:
    """Which of the mails are among the messages; a copy has our id too, and another address."""
    findings: dict[UUID, Finding] = {}
    for item in sought:
        own = [
            message
            for message in messages
            if _delivery_id(message) == str(item.delivery_id)
            and parsing.label_of(message.get("email")).lower() == item.recipient.lower()
        ]
        taken = [message for message in own if parsing.label_of(message.get("state")) not in REFUSED]
        if taken:
            findings[item.delivery_id] = found(item.delivery_id, parsing.text(taken[0].get("_id")))
        elif own:
            findings[item.delivery_id] = UNKNOWN
    return Look(findings, whole=len(messages) < PAGE)


def _delivery_id(message: dict[str, Any]) -> str:
    metadata = message.get("metadata")
    return parsing.label_of(metadata.get("mailglass_id")) if isinstance(metadata, dict) else ""


def _escaped(address: str) -> str:
    return address.replace("\\", "\\\\").replace('"', '\\"')
