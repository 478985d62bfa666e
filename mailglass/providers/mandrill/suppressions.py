"""Mandrill's rejection list: its newest thousand entries, and a call per address to change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from mailglass.errors import ProviderCallError
from mailglass.mail.outcomes import OutcomeClass
from mailglass.providers import parsing
from mailglass.providers.http import HTTPClient, HTTPRequest
from mailglass.providers.http_provider import encode_json
from mailglass.providers.management import call, refused
from mailglass.providers.mandrill.options import MandrillOptions
from mailglass.providers.suppression_list import ListedAddress
from mailglass.refusals.answer_rows import MANDRILL
from mailglass.refusals.answers import find
from mailglass.refusals.consequences import outcome_class

REASONS: Final[Mapping[str, str]] = {
    "hard-bounce": "hard_bounce",
    "spam": "complaint",
    "unsub": "unsubscribe",
    "custom": "manual",
}
"""Mandrill's reasons; one that is not listed is `provider`."""

PASSING: Final = frozenset({"soft-bounce"})
"""Entries that end by themselves within days and are not mirrored."""

MARK: Final = "suppressed: "
"""Begins the comment of an entry that came from here; our reason follows, so that it comes back as it went."""

OURS: Final = frozenset({"hard_bounce", "complaint", "unsubscribe", "manual", "provider"})
BAD_ADDRESS: Final = "ValidationError"
NOT_LISTED: Final = "Invalid_Reject"

_LATER: Final = frozenset({OutcomeClass.THROTTLED, OutcomeClass.TRANSIENT})


class MandrillSuppressions:
    """The rejection list of one account or subaccount.

    Mandrill answers the newest 1000 entries and pages no further; older ones are had by its export alone.

    Args:
        http: the account's connections.
        account: its name, for errors.
        options: its key and subaccount.
    """

    def __init__(self, http: HTTPClient, account: str, options: MandrillOptions) -> None:
        self._http = http
        self._account = account
        self._options = options

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """Return the one page there is, without entries that pass."""
        listed = self._ask("list", {"include_expired": False})
        return [entry for item in listed if (entry := _entry(item))], None

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries, a call for each. They stand there as `custom`, with our reason in their comment."""
        asked = [self._ask("add", {"email": entry.address, "comment": f"{MARK}{entry.reason}"}) for entry in entries]
        return [reply.get("added") is True for reply in asked]

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off, a call for each."""
        asked = [self._ask("delete", {"email": address}) for address in addresses]
        return [reply.get("deleted") is True or reply.get("name") == NOT_LISTED for reply in asked]

    def _ask(self, verb: str, fields: Mapping[str, Any]) -> Any:
        """Return the answer's value: a list of entries, or an object that says what became of one address."""
        body: dict[str, Any] = {"key": self._options.api_key.reveal(), **fields}
        if self._options.subaccount:
            body["subaccount"] = self._options.subaccount
        what = f"{self._account}: {verb} rejects"
        request = HTTPRequest(f"/rejects/{verb}.json", encode_json(body), {"content-type": "application/json"})
        answer = call(self._http, request, what)
        value = answer.json()
        if answer.status == 200 and isinstance(value, list if verb == "list" else dict):
            return value
        name = value.get("name") if isinstance(value, dict) else None
        if verb != "list" and name in (BAD_ADDRESS, NOT_LISTED):
            return value
        row = find(MANDRILL, answer.status, parsing.label_of(name))
        if name in row.codes:  # older servers answer 500 to all of them
            raise ProviderCallError(what, status=answer.status, retryable=outcome_class(row.refusal) in _LATER)
        raise refused(answer, what)


def _entry(item: Any) -> ListedAddress | None:
    address = parsing.address_of(item.get("email")) if isinstance(item, dict) else None
    if address is None or item.get("expired") is True:
        return None
    reason = parsing.label_of(item.get("reason"))
    if reason in PASSING:
        return None
    marked = parsing.label_of(item.get("detail")).partition(MARK)[2] if reason == "custom" else ""
    known = marked if marked in OURS else REASONS.get(reason, "provider")
    return ListedAddress(address, known, _moment(item.get("created_at")))


def _moment(value: object) -> datetime | None:
    moment = parsing.iso_moment(value)
    return moment.astimezone(UTC) if moment else None
