"""Looking for mails in SparkPost's events: those of their recipients at that time, of which some carry our ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import Look, query
from mailglass.providers.search import Sought, found
from mailglass.providers.sparkpost import events

PAGE: Final = 10_000
KINDS: Final = "injection,delivery,delay,bounce,out_of_band,policy_rejection,generation_failure,generation_rejection"
"""What SparkPost records of a mail that it took; each event costs space in an answer of at most 8 MB."""


def request(sought: Sequence[Sought]) -> HTTPRequest:
    """The events of all the recipients; a URL has room for some twenty (4096 characters)."""
    return query(
        "/api/v1/events/message",
        events=KINDS,
        recipients=",".join(dict.fromkeys(item.recipient for item in sought)),
        **{
            "from": _moment(min(item.sent_after for item in sought)),
            "to": _moment(max(item.sent_before for item in sought)),
        },
        per_page=PAGE,
    )


def read(items: Sequence[dict[str, Any]], sought: Sequence[Sought], account: str) -> Look:
    """Which of the mails the events are of: SparkPost has none of a mail that it did not take."""
    told = events.read(items, account)
    findings = {}
    for item in sought:
        own = [event for event in told if event.delivery_id == item.delivery_id]
        if own:
            names = (event.provider_message_id for event in own if event.provider_message_id)
            findings[item.delivery_id] = found(item.delivery_id, next(names, None), own)
    return Look(findings, whole=len(items) < PAGE)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
