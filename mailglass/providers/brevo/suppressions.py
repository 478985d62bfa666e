"""Brevo's list of blocked and unsubscribed contacts of transactional mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from mailglass.errors import ProviderCallError
from mailglass.providers import parsing
from mailglass.providers.http import HTTPClient, HTTPRequest
from mailglass.providers.management import answered, call, json_request, refused
from mailglass.providers.suppression_list import ListedAddress

REASONS: Final[Mapping[str, str]] = {
    "hardBounce": "hard_bounce",
    "contactFlaggedAsSpam": "complaint",
    "unsubscribedViaMA": "unsubscribe",
    "unsubscribedViaEmail": "unsubscribe",
    "unsubscribedViaApi": "unsubscribe",
    "adminBlocked": "manual",
}
"""Why an address stands there, by its reason's `code`; another code is `provider`."""

PAGE: Final = 100
_AT_FAULT: Final = frozenset({400, 422})


class BrevoSuppressions:
    """The blocked contacts of one account.

    Brevo has no call that blocks one address for all. A contact can be forbidden for certain senders, and that is what
    a push does, for the account's `blocked_senders`.

    Args:
        http: the account's connections.
        account: its name, for errors.
        senders: for whose mail pushed addresses are blocked; none: nothing is pushed.
    """

    def __init__(self, http: HTTPClient, account: str, senders: Sequence[str] = ()) -> None:
        self._http = http
        self._account = account
        self._senders = list(senders)

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """One page, the oldest entries first; the cursor is how many were read.

        Raises:
            ValueError: the cursor is none of ours.
        """
        offset = int(cursor or 0)
        query = urlencode({"limit": PAGE, "offset": offset, "sort": "asc"})
        what = f"{self._account}: list blocked contacts"
        body = answered(self._http, HTTPRequest(f"/v3/smtp/blockedContacts?{query}", method="GET"), what)
        # an empty list has no `contacts` at all
        items = body.get("contacts", []) if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise ProviderCallError(what, retryable=True)
        entries = [entry for item in items if (entry := _entry(item))]
        return entries, str(offset + len(items)) if len(items) >= PAGE else None

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Forbid contacts for the account's senders, making those Brevo does not know; each is a call."""
        return [bool(self._senders) and self._forbid(entry.address) for entry in entries]

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Unblock contacts; one that is not blocked counts as taken off. Each is a call."""
        return [self._unblock(address) for address in addresses]

    def _forbid(self, address: str) -> bool:
        contact = {"email": address, "smtpBlacklistSender": self._senders, "updateEnabled": True}
        what = f"{self._account}: block a contact"
        answer = call(self._http, json_request("POST", "/v3/contacts", contact), what)
        if answer.status in (200, 201, 204):
            return True
        if answer.status in _AT_FAULT:
            return False
        raise refused(answer, what)

    def _unblock(self, address: str) -> bool:
        what = f"{self._account}: unblock a contact"
        path = f"/v3/smtp/blockedContacts/{quote(address, safe='')}"
        answer = call(self._http, HTTPRequest(path, method="DELETE"), what)
        if 200 <= answer.status < 300 or answer.status == 404:
            return True
        if answer.status in _AT_FAULT:
            return False
        raise refused(answer, what)


def _entry(item: Any) -> ListedAddress | None:
    address = parsing.address_of(item.get("email")) if isinstance(item, dict) else None
    if address is None:
        return None
    reason = item.get("reason")
    code = parsing.label_of(reason.get("code")) if isinstance(reason, dict) else ""
    return ListedAddress(address, REASONS.get(code, "provider"), parsing.iso_moment(item.get("blockedAt")), code)
