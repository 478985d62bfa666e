"""Mailgun's three suppression lists of one domain, read and written as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from mailglass.errors import ProviderCallError
from mailglass.providers import parsing
from mailglass.providers.http import HTTPClient, HTTPRequest
from mailglass.providers.http_provider import encode_json
from mailglass.providers.management import answered, call, refused
from mailglass.providers.suppression_list import ListedAddress

REASONS: Final[Mapping[str, str]] = {
    "bounces": "hard_bounce",  # soft bounces are not put there, says Mailgun's reference
    "unsubscribes": "unsubscribe",
    "complaints": "complaint",
}
"""Mailgun's lists, in the order in which they are read, and why an address stands on one."""

LISTS: Final[Mapping[str, str]] = {
    "hard_bounce": "bounces",
    "provider": "bounces",
    "manual": "bounces",
    "unsubscribe": "unsubscribes",
    "complaint": "complaints",
}
MARK: Final = "suppressed: "
"""Begins the error text of a bounce that came from here; our reason follows, so that it comes back as it went."""

PAGE: Final = 1000
BATCH: Final = 1000
EVERY_TAG: Final = "*"


class MailgunSuppressions:
    """One domain's bounces, unsubscribes and complaints.

    An address that unsubscribed from single tags only is left out: it may be mailed.

    Args:
        http: the account's connections.
        account: its name, for errors.
        domain: whose lists.
    """

    def __init__(self, http: HTTPClient, account: str, domain: str) -> None:
        self._http = http
        self._account = account
        self._base = f"/v3/{domain}"

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """One page of one list; the cursor is the list's name and the query of its next page."""
        name, _, query = (cursor or "").partition("?")
        if name not in REASONS:
            name, query = next(iter(REASONS)), ""
        query = query or f"limit={PAGE}"
        what = self._what("list", name)
        body = answered(self._http, HTTPRequest(f"{self._base}/{name}?{query}", method="GET"), what)
        items = body.get("items") if isinstance(body, dict) else None
        if not isinstance(items, list):  # a wrong address is answered with 200 and a greeting
            raise ProviderCallError(what, status=200)
        entries = [entry for item in items if (entry := _entry(item, name))]
        following = _next_query(body)
        # Mailgun names a next page always; the one behind the last is empty
        if items and following and following != query:
            return entries, f"{name}?{following}"
        return entries, _next_list(name)

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries, up to 1000 in a call; of a refused call each half is asked about on its own."""
        added = [False] * len(entries)
        for name in REASONS:
            places = [place for place, entry in enumerate(entries) if _list_of(entry) == name]
            for start in range(0, len(places), BATCH):
                self._add(name, entries, places[start : start + BATCH], added)
        return added

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off all three lists."""
        return [all(self._delete(name, address) for name in REASONS) for address in addresses]

    def _add(self, name: str, entries: Sequence[ListedAddress], places: list[int], added: list[bool]) -> None:
        body = encode_json([_item(entries[place], name) for place in places])
        request = HTTPRequest(f"{self._base}/{name}", body, {"content-type": "application/json"})
        what = self._what("add to", name)
        answer = call(self._http, request, what)
        if answer.status == 200:
            for place in places:
                added[place] = True
        elif answer.status != 400:
            raise refused(answer, what)
        elif len(places) > 1:
            half = len(places) // 2
            self._add(name, entries, places[:half], added)
            self._add(name, entries, places[half:], added)

    def _delete(self, name: str, address: str) -> bool:
        what = self._what("delete from", name)
        path = f"{self._base}/{name}/{quote(address, safe='@')}"
        answer = call(self._http, HTTPRequest(path, method="DELETE"), what)
        if answer.status not in (200, 400, 404):
            raise refused(answer, what)
        return answer.status != 400

    def _what(self, verb: str, name: str) -> str:
        return f"{self._account}: {verb} {name}"


def _list_of(entry: ListedAddress) -> str:
    return entry.origin if entry.origin in REASONS else LISTS.get(entry.reason, "bounces")


def _next_list(name: str) -> str | None:
    names = [*REASONS, None]
    return names[names.index(name) + 1]


def _next_query(body: Any) -> str | None:
    """Return the query of the next page. Only that: whatever host the URL names gets no credentials."""
    paging = body.get("paging") if isinstance(body, dict) else None
    url = parsing.text(paging.get("next"), 2000) if isinstance(paging, dict) else None
    try:
        query = urlsplit(url or "").query
    except ValueError:
        return None
    return query if query.isascii() and " " not in query else None


def _entry(item: Any, name: str) -> ListedAddress | None:
    address = parsing.address_of(item.get("address")) if isinstance(item, dict) else None
    tags = item.get("tags") if address else None
    if address is None or (name == "unsubscribes" and isinstance(tags, list) and tags and EVERY_TAG not in tags):
        return None
    marked = parsing.label_of(item.get("error")).partition(MARK)[2] if name == "bounces" else ""
    reason = marked if LISTS.get(marked) == name else REASONS[name]
    return ListedAddress(address, reason, _moment(item.get("created_at")), name)


def _item(entry: ListedAddress, name: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"address": entry.address}
    if name == "bounces":
        fields |= {"code": "550", "error": f"{MARK}{entry.reason}"}
    if name == "unsubscribes":
        fields["tags"] = [EVERY_TAG]
    if entry.created_at is not None:
        fields["created_at"] = format_datetime(entry.created_at.astimezone(UTC), usegmt=True)
    return fields


def _moment(value: object) -> datetime | None:
    try:
        moment = parsedate_to_datetime(str(value)[:200])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
