"""SES's suppression list: the account's, or the tenant's where the account names one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from mailglass.providers import parsing
from mailglass.providers.ses.clients import Clients, code_of
from mailglass.providers.suppression_list import ListedAddress

PAGE: Final = 1000
_REASONS: Final[Mapping[str, str]] = {"BOUNCE": "hard_bounce", "COMPLAINT": "complaint"}
# SES knows no others: to enter an unsubscription as a complaint would be a false word about somebody
_PUSHED: Final[Mapping[str, str]] = {"hard_bounce": "BOUNCE", "complaint": "COMPLAINT"}


class SESSuppressionList:
    """One account's list at SES, which takes one address per call and about one call per second.

    Args:
        clients: of the account.
        tenant_name: whose list; None: the account's.
    """

    def __init__(self, clients: Clients, tenant_name: str | None = None) -> None:
        self._clients = clients
        self._tenant = {"TenantName": tenant_name} if tenant_name else {}

    def pull(self, cursor: str | None) -> tuple[list[ListedAddress], str | None]:
        """Return one page of the list, and the cursor of the next."""
        parameters = {"PageSize": PAGE, **self._tenant} | ({"NextToken": cursor} if cursor else {})
        answer = self._clients.manage(
            "list suppressed destinations",
            lambda: self._clients.manager().list_suppressed_destinations(**parameters),
        )
        entries = answer.get("SuppressedDestinationSummaries") or []
        return [listed for entry in entries if (listed := _listed(entry))], answer.get("NextToken") or None

    def push(self, entries: Sequence[ListedAddress]) -> list[bool]:
        """Add entries to the list."""
        return [self._put(entry) for entry in entries]

    def remove(self, addresses: Sequence[str]) -> list[bool]:
        """Take addresses off the list."""
        return [self._delete(address) for address in addresses]

    def _put(self, entry: ListedAddress) -> bool:
        reason = _PUSHED.get(entry.reason)
        if reason is None:
            return False
        parameters = {"EmailAddress": entry.address, "Reason": reason, **self._tenant}
        return self._change(
            "put suppressed destination",
            lambda: self._clients.manager().put_suppressed_destination(**parameters),
            {"BadRequestException": False},
        )

    def _delete(self, address: str) -> bool:
        parameters = {"EmailAddress": address, **self._tenant}
        return self._change(
            "delete suppressed destination",
            lambda: self._clients.manager().delete_suppressed_destination(**parameters),
            {"NotFoundException": True, "BadRequestException": False},
        )

    def _change(self, call: str, action: Any, answers: Mapping[str, bool]) -> bool:
        """Change one entry; some refusals are an answer about this address and no failure of the call."""

        def act() -> bool:
            try:
                action()
            except ClientError as error:
                if code_of(error) not in answers:
                    raise
                return answers[code_of(error)]
            return True

        return self._clients.manage(call, act)


def _listed(entry: Mapping[str, Any]) -> ListedAddress | None:
    address = parsing.address_of(entry.get("EmailAddress"))
    if address is None:
        return None
    moment = entry.get("LastUpdateTime")
    created = moment.astimezone(UTC) if isinstance(moment, datetime) else None
    return ListedAddress(address, _REASONS.get(str(entry.get("Reason")), "provider"), created)
