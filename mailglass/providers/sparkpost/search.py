"""Looking for mails in SparkPost's events: those of their recipients at that time, of which some carry our ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from mailglass.providers.http import HTTPRequest
from mailglass.providers.http_search import SearchAnswer, query
from mailglass.providers.search import SearchTarget, taken
from mailglass.providers.sparkpost import events

PAGE: Final = 10_000
KINDS: Final = "injection,delivery,delay,bounce,out_of_band,policy_rejection,generation_failure,generation_rejection"
"""Events that SparkPost records of a mail that it took; each event costs space in an answer of at most 8 MB."""


def request(targets: Sequence[SearchTarget]) -> HTTPRequest:
    """Return the events of all the recipients; a URL has room for some twenty (4096 characters)."""
    return query(
        "/api/v1/events/message",
        events=KINDS,
        recipients=",".join(dict.fromkeys(item.recipient for item in targets)),
        **{
            "from": _moment(min(item.sent_after for item in targets)),
            "to": _moment(max(item.sent_before for item in targets)),
        },
        per_page=PAGE,
    )


def read(items: Sequence[dict[str, Any]], targets: Sequence[SearchTarget], account: str) -> SearchAnswer:
    """Return the mails that the events are of: SparkPost has none of a mail that it did not take."""
    told = events.read(items, account)
    results = {}
    for item in targets:
        own = [event for event in told if event.delivery_id == item.delivery_id]
        if own:
            names = (event.provider_message_id for event in own if event.provider_message_id)
            results[item.delivery_id] = taken(item.delivery_id, next(names, None), own)
    return SearchAnswer(results, whole=len(items) < PAGE)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
