"""SparkPost's suppression list: an entry per address and kind of mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from mailglass.errors import ProviderCallError
from mailglass.providers import parsing
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPRequest
from mailglass.providers.management import answered, call, json_request, refused
from mailglass.providers.suppression_list import ListedAddress

REASONS: Final[Mapping[str, str]] = {
    "spam complaint": "complaint",
    "list unsubscribe": "unsubscribe",
    "unsubscribe link": "unsubscribe",
    "bounce rule": "hard_bounce",
    "manually added": "manual",
    "compliance": "provider",
}
"""`source` in lower case; one that is not listed is `provider`."""

MARK: Final = "suppressed: "
"""Begins the description of an entry that came from here; our reason follows, so that it comes back as it went."""

OURS: Final = frozenset({"hard_bounce", "complaint", "unsubscribe", "manual", "provider"})
TRANSACTIONAL, NON_TRANSACTIONAL = "transactional", "non_transactional"
TYPES: Final = (TRANSACTIONAL, NON_TRANSACTIONAL)
PATH: Final = "/api/v1/suppression-list"
PAGE: Final = 1000
# of the 10,000 rows that one call may have, each address taking up to two
BATCH: Final = 1000


class SparkPostSuppressions:
    """The list of one account or subaccount.

    Args:
        http: the account's connections.
        account: its name, for errors.
        subaccount: whose entries, 0 for the main account; None: all that the key may read.
    """

    def __init__(self, http: HTTPClient, account: str, subaccount: int | None) -> None:
        self._http = http
        self._account = account
        self._subaccount = subaccount

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """One page. An address that gets neither kind of mail has two entries, told apart by their `origin`."""
        query = urlencode({"cursor": cursor or "initial", "limit": PAGE})
        body = answered(self._http, HTTPRequest(f"{PATH}?{query}", method="GET"), self._what("list"))
        items = body.get("results") if isinstance(body, dict) else None
        if not isinstance(items, list):  # an end that is none would look like an empty list
            raise ProviderCallError(self._what("list"), status=200)
        following = _next_cursor(body.get("links"))
        return [entry for item in items if (entry := self._entry(item))], following if following != cursor else None

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries; of a refused call each half is asked about on its own.

        An unsubscription is added for non-transactional mail, anything else for both kinds.
        """
        added = [False] * len(entries)
        for start in range(0, len(entries), BATCH):
            self._add(entries, range(start, min(start + BATCH, len(entries))), added)
        return added

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off, for both kinds of mail. Those that SparkPost's compliance team listed stay."""
        return [self._delete(address) for address in addresses]

    def _add(self, entries: Sequence[ListedAddress], places: range, added: list[bool]) -> None:
        rows = [row for place in places for row in _rows(entries[place])]
        answer = call(self._http, json_request("PUT", f"{PATH}/", {"recipients": rows}), self._what("add"))
        if 200 <= answer.status < 300:
            for place in places:
                added[place] = True
        elif answer.status != 400:
            raise refused(answer, self._what("add"))
        elif len(places) > 1:
            half = len(places) // 2
            self._add(entries, places[:half], added)
            self._add(entries, places[half:], added)

    def _delete(self, address: str) -> bool:
        path = f"{PATH}/{quote(address, safe='@')}"
        answer = call(self._http, HTTPRequest(path, method="DELETE"), self._what("delete"))
        if answer.status in (200, 204, 404):
            return True
        if answer.status == 400 or _by_compliance(answer):
            return False
        raise refused(answer, self._what("delete"))

    def _entry(self, item: Any) -> ListedAddress | None:
        address = parsing.address_of(item.get("recipient")) if isinstance(item, dict) else None
        if address is None or self._is_anothers(item.get("subaccount_id")):
            return None
        kind = parsing.label_of(item.get("type"))
        origin = kind if kind in TYPES else ""
        return ListedAddress(address, _reason(item), parsing.iso_moment(item.get("created")), origin)

    def _is_anothers(self, subaccount: object) -> bool:
        return self._subaccount is not None and bool(subaccount) and str(subaccount) != str(self._subaccount)

    def _what(self, verb: str) -> str:
        return f"{self._account}: {verb} suppressions"


def _reason(item: dict[str, Any]) -> str:
    reason = REASONS.get(parsing.label_of(item.get("source")).lower(), "provider")
    description = parsing.label_of(item.get("description"))
    marked = description.removeprefix(MARK) if description.startswith(MARK) else ""
    return marked if reason == "manual" and marked in OURS else reason


def _rows(entry: ListedAddress) -> list[dict[str, str]]:
    types = (NON_TRANSACTIONAL,) if entry.reason == "unsubscribe" else TYPES
    if entry.origin in TYPES:
        types = (entry.origin,)
    return [{"recipient": entry.address, "type": kind, "description": f"{MARK}{entry.reason}"} for kind in types]


def _next_cursor(links: Any) -> str | None:
    """Return the cursor of the next page. Only that: whatever host a link names gets no credentials."""
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "next":
            try:
                query = parse_qs(urlsplit(parsing.text(link.get("href"), 4000) or "").query)
            except ValueError:
                return None
            return next(iter(query.get("cursor", [])), None)
    return None


def _by_compliance(answer: HTTPAnswer) -> bool:
    return answer.status == 403 and b"compliance" in answer.body.lower()
