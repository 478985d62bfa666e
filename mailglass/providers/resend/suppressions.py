"""Resend's suppression list of one team."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from mailglass.errors import ProviderCallError
from mailglass.providers import parsing
from mailglass.providers.http import HTTPClient, HTTPRequest
from mailglass.providers.management import answered, call, json_request, refused
from mailglass.providers.suppression_list import ListedAddress

REASONS: Final[Mapping[str, str]] = {"bounce": "hard_bounce", "complaint": "complaint", "manual": "manual"}
"""Why an address stands there, by its `origin`; another origin is `provider`."""

PAGE: Final = 100
BATCH: Final = 100
_AT_FAULT: Final = frozenset({400, 422})


class ResendSuppressions:
    """The list that Resend keeps for a team. What is pushed stands there as `manual`.

    Args:
        http: the account's connections.
        account: its name, for errors.
    """

    def __init__(self, http: HTTPClient, account: str) -> None:
        self._http = http
        self._account = account

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """One page; the cursor is the last entry's id."""
        query = urlencode({"limit": PAGE} | ({"after": cursor} if cursor else {}))
        what = self._what("list suppressions")
        body = answered(self._http, HTTPRequest(f"/suppressions?{query}", method="GET"), what)
        items = body.get("data") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise ProviderCallError(what, retryable=True)
        entries = [entry for item in items if (entry := _entry(item))]
        last = parsing.text(items[-1].get("id")) if items and isinstance(items[-1], dict) else None
        return entries, last if body.get("has_more") is True and last != cursor else None

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries, up to 100 in a call; of a refused call each is asked about alone."""
        what = self._what("add suppressions")
        return self._in_batches("add", [entry.address for entry in entries], what)

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off the list, up to 100 in a call; one that does not stand there counts as taken off."""
        what = self._what("remove suppressions")
        return self._in_batches("remove", addresses, what)

    def _in_batches(self, verb: str, addresses: Sequence[str], what: str) -> list[bool]:
        results: list[bool] = []
        for start in range(0, len(addresses), BATCH):
            some = list(addresses[start : start + BATCH])
            request = json_request("POST", f"/suppressions/batch/{verb}", {"emails": some})
            answer = call(self._http, request, what)
            if 200 <= answer.status < 300:
                results += [True] * len(some)
            elif answer.status in _AT_FAULT:
                results += [self._alone(verb, address, what) for address in some]
            else:
                raise refused(answer, what)
        return results

    def _alone(self, verb: str, address: str, what: str) -> bool:
        if verb == "add":
            request = json_request("POST", "/suppressions", {"email": address})
        else:
            request = HTTPRequest(f"/suppressions/{quote(address, safe='@')}", method="DELETE")
        answer = call(self._http, request, what)
        if 200 <= answer.status < 300 or (verb == "remove" and answer.status == 404):
            return True
        if answer.status in _AT_FAULT:
            return False
        raise refused(answer, what)

    def _what(self, call: str) -> str:
        return f"{self._account}: {call}"


def _entry(item: Any) -> ListedAddress | None:
    address = parsing.address_of(item.get("email")) if isinstance(item, dict) else None
    if address is None:
        return None
    origin = parsing.label_of(item.get("origin"))
    return ListedAddress(address, REASONS.get(origin, "provider"), parsing.iso_moment(item.get("created_at")), origin)
