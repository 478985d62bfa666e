"""SendGrid's lists of addresses it does not deliver to, read as one; what is added is a global unsubscribe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from mailglass.errors import ProviderCallError
from mailglass.providers import parsing
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPRequest
from mailglass.providers.management import answered, call, json_request, refused
from mailglass.providers.suppression_list import ListedAddress

REASONS: Final[Mapping[str, str]] = {
    "bounces": "hard_bounce",
    "invalid_emails": "hard_bounce",
    "spam_reports": "complaint",
    "unsubscribes": "unsubscribe",
}
"""SendGrid's lists, in the order in which they are read, and why an address stands on one.

`blocks` is none of them: it keeps what receivers refused once, and SendGrid goes on delivering to its addresses.
"""

GLOBAL: Final = "/v3/asm/suppressions/global"
"""Path at which entries of `unsubscribes` are added and deleted; `/v3/suppression/unsubscribes` only lists them."""

PAGE: Final = 500
BATCH: Final = 500
_AT_FAULT: Final = frozenset({400, 413})


class SendGridSuppressions:
    """The bounces, invalid addresses, spam reports and global unsubscribes of one account or subuser.

    Args:
        http: the account's connections, which name the subuser.
        account: its name, for errors.
    """

    def __init__(self, http: HTTPClient, account: str) -> None:
        self._http = http
        self._account = account

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """One page of one list; the cursor is the list's name and the offset of its next page: `bounces:500`."""
        name, offset = _place(cursor)
        query = urlencode({"limit": PAGE, "offset": offset})
        what = self._what("list", name)
        items = answered(self._http, HTTPRequest(f"/v3/suppression/{name}?{query}", method="GET"), what)
        if not isinstance(items, list):
            raise ProviderCallError(what, status=200)
        entries = [entry for item in items if (entry := _entry(item, name))]
        return entries, f"{name}:{offset + PAGE}" if len(items) >= PAGE else _next_list(name)

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries as global unsubscribes, whatever their reason: SendGrid lets nobody add to its other lists.

        Up to 500 go in a call; of a refused call each half is asked about on its own.
        """
        added = [False] * len(entries)
        places = [place for place, entry in enumerate(entries) if parsing.address_of(entry.address)]
        for start in range(0, len(places), BATCH):
            self._add(entries, places[start : start + BATCH], added)
        return added

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off all four lists, a call for each; one that does not stand there counts as taken off."""
        return [self._remove(address) for address in addresses]

    def _add(self, entries: Sequence[ListedAddress], places: list[int], added: list[bool]) -> None:
        what = self._what("add to", "unsubscribes")
        wanted = {"recipient_emails": [entries[place].address for place in places]}
        answer = call(self._http, json_request("POST", GLOBAL, wanted), what)
        if 200 <= answer.status < 300:
            listed = _listed(answer, what)
            for place in places:
                added[place] = entries[place].address.lower() in listed
        elif answer.status not in _AT_FAULT:
            raise refused(answer, what)
        elif len(places) > 1:
            half = len(places) // 2
            self._add(entries, places[:half], added)
            self._add(entries, places[half:], added)

    def _remove(self, address: str) -> bool:
        # without an address the same path would stand for a whole list
        if parsing.address_of(address) is None:
            return False
        gone = [self._delete(name, address) for name in REASONS]
        return all(gone)

    def _delete(self, name: str, address: str) -> bool:
        what = self._what("delete from", name)
        base = GLOBAL if name == "unsubscribes" else f"/v3/suppression/{name}"
        answer = call(self._http, HTTPRequest(f"{base}/{quote(address, safe='@')}", method="DELETE"), what)
        if 200 <= answer.status < 300 or answer.status == 404:
            return True
        if answer.status == 400:
            return False
        raise refused(answer, what)

    def _what(self, verb: str, name: str) -> str:
        return f"{self._account}: {verb} {name}"


def _place(cursor: str | None) -> tuple[str, int]:
    """Return the list and the offset that a cursor names; one that is none of ours begins at the beginning."""
    name, _, offset = (cursor or "").partition(":")
    if name in REASONS and len(offset) <= 12 and offset.isascii() and offset.isdigit():
        return name, int(offset)
    return next(iter(REASONS)), 0


def _next_list(name: str) -> str | None:
    names = list(REASONS)
    following = names[names.index(name) + 1 :]
    return f"{following[0]}:0" if following else None


def _entry(item: Any, name: str) -> ListedAddress | None:
    address = parsing.address_of(item.get("email")) if isinstance(item, dict) else None
    if address is None:
        return None
    return ListedAddress(address, _reason(item, name), parsing.epoch_moment(item.get("created")), name)


def _reason(item: dict[str, Any], name: str) -> str:
    # SendGrid drops mail to it all the same, but a passing refusal does not prove that the mailbox is gone
    if name == "bounces" and parsing.label_of(item.get("status")).startswith("4."):
        return "provider"
    return REASONS[name]


def _listed(answer: HTTPAnswer, what: str) -> set[str]:
    body = answer.json()
    emails = body.get("recipient_emails") if isinstance(body, dict) else None
    if not isinstance(emails, list):
        raise ProviderCallError(what, status=answer.status)
    return {parsing.label_of(email).lower() for email in emails}
