"""Postmark's suppression list of one message stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from mailglass import clock
from mailglass.errors import ProviderCallError
from mailglass.providers import parsing
from mailglass.providers.http import HTTPAnswer, HTTPClient, HTTPRequest
from mailglass.providers.management import answered, call, json_request, refused
from mailglass.providers.suppression_list import ListedAddress

REASONS: Final[Mapping[tuple[str, str], str]] = {
    ("HardBounce", ""): "hard_bounce",
    ("SpamComplaint", ""): "complaint",
    ("ManualSuppression", "Recipient"): "unsubscribe",
    ("ManualSuppression", ""): "manual",
}
"""(SuppressionReason, Origin); "" stands for any other origin, and another reason is `provider`."""

BATCH: Final = 50
FIRST_DAY: Final = date(2009, 1, 1)
"""Before Postmark took mail."""

LONGEST: Final = 1 << 13
BAD_REQUEST: Final = 300
"""The ErrorCode of a whole call that may be refused for one of its addresses."""


class PostmarkSuppressions:
    """The list that Postmark keeps for a message stream. What is pushed stands there as `ManualSuppression`.

    Args:
        http: the account's connections.
        account: its name, for errors.
        stream: the message stream's id.
    """

    def __init__(self, http: HTTPClient, account: str, stream: str) -> None:
        self._http = http
        self._account = account
        self._stream = stream
        self._path = f"/message-streams/{quote(stream, safe='')}/suppressions"

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """Return the whole list, which Postmark does not page. One too large for an answer comes by days of listing.

        The cursor is the first day and the number of days of the next page, `2009-01-01:8192`: half as many where they
        still hold too much, twice as many where they do not.
        """
        days = _Days.read(cursor)
        try:
            entries = self._dump("" if days is None else days.query())
        except ProviderCallError as error:
            narrower = _Days(FIRST_DAY, LONGEST) if days is None else days.half()
            if not error.too_large or narrower is None:
                raise
            return [], narrower.cursor()
        return entries, None if days is None or days.is_last() else days.following().cursor()

    def _dump(self, query: str) -> list[ListedAddress]:
        what = self._what("list")
        body = answered(self._http, HTTPRequest(f"{self._path}/dump{query}", method="GET"), what)
        items = body.get("Suppressions") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise ProviderCallError(what, status=200)
        return [entry for item in items if (entry := self._entry(item))]

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries, up to 50 in a call."""
        return self._in_batches("", "Suppressed", [entry.address for entry in entries], self._what("add"))

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off, up to 50 in a call. Who complained of spam stays: Postmark deletes no complaint."""
        return self._in_batches("/delete", "Deleted", addresses, self._what("delete"))

    def _in_batches(self, verb: str, done: str, addresses: Sequence[str], what: str) -> list[bool]:
        results = [False] * len(addresses)
        places = [place for place, address in enumerate(addresses) if parsing.address_of(address)]
        for start in range(0, len(places), BATCH):
            self._ask(verb, done, addresses, places[start : start + BATCH], results, what)
        return results

    def _ask(
        self, verb: str, done: str, addresses: Sequence[str], places: list[int], results: list[bool], what: str
    ) -> None:
        """Ask about some of the addresses; of a call refused for one of them each half is asked about on its own."""
        wanted = {"Suppressions": [{"EmailAddress": addresses[place]} for place in places]}
        answer = call(self._http, json_request("POST", f"{self._path}{verb}", wanted), what)
        if answer.status == 200:
            statuses = _statuses(answer, what)
            for place in places:
                results[place] = statuses.get(addresses[place].lower()) == done
        elif not _is_about_an_address(answer):
            raise refused(answer, what)
        elif len(places) > 1:
            half = len(places) // 2
            self._ask(verb, done, addresses, places[:half], results, what)
            self._ask(verb, done, addresses, places[half:], results, what)

    def _entry(self, item: Any) -> ListedAddress | None:
        address = parsing.address_of(item.get("EmailAddress")) if isinstance(item, dict) else None
        if address is None:
            return None
        why, origin = parsing.label_of(item.get("SuppressionReason")), parsing.label_of(item.get("Origin"))
        reason = REASONS.get((why, origin)) or REASONS.get((why, ""), "provider")
        return ListedAddress(address, reason, parsing.iso_moment(item.get("CreatedAt")), self._stream)

    def _what(self, verb: str) -> str:
        return f"{self._account}: {verb} suppressions"


@dataclass(frozen=True, slots=True)
class _Days:
    """Days in a row, by Postmark's calendar. The first ones hold all before them, the last ones all after."""

    start: date
    count: int

    @classmethod
    def read(cls, cursor: str | None) -> _Days | None:
        """Return the days that a cursor names, or None for a foreign one: the list is read from its beginning."""
        start, _, count = (cursor or "").partition(":")
        if not count.isascii() or not count.isdigit() or len(count) > 4:
            return None
        try:
            return cls(date.fromisoformat(start), min(max(int(count), 1), LONGEST))
        except ValueError:
            return None

    def query(self) -> str:
        since = {} if self.start <= FIRST_DAY else {"fromdate": self.start.isoformat()}
        until = {} if self.is_last() else {"todate": (self.start + timedelta(self.count - 1)).isoformat()}
        wanted = urlencode(since | until)
        return f"?{wanted}" if wanted else ""

    def is_last(self) -> bool:
        # Postmark's day may be behind ours, never ahead of tomorrow's
        return self.start + timedelta(self.count) > clock.now().date() + timedelta(1)

    def half(self) -> _Days | None:
        """Return the first half of them; None of a single day."""
        return _Days(self.start, self.count // 2) if self.count > 1 else None

    def following(self) -> _Days:
        return _Days(self.start + timedelta(self.count), min(self.count * 2, LONGEST))

    def cursor(self) -> str:
        return f"{self.start.isoformat()}:{self.count}"


def _statuses(answer: HTTPAnswer, what: str) -> dict[str, str]:
    """Return the result of each address, by the address: the order of an answer's items is not promised."""
    body = answer.json()
    items = body.get("Suppressions") if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise ProviderCallError(what, status=answer.status)
    known = [item for item in items if isinstance(item, dict)]
    return {parsing.label_of(item.get("EmailAddress")).lower(): parsing.label_of(item.get("Status")) for item in known}


def _is_about_an_address(answer: HTTPAnswer) -> bool:
    body = answer.json()
    return answer.status == 422 and isinstance(body, dict) and body.get("ErrorCode") == BAD_REQUEST
