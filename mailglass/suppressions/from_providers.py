"""Conversion of entries of providers' lists into suppressions.

| the provider's | becomes |
| --- | --- |
| `complaint`, `hard_bounce`, `manual`, `provider` | the address |
| `unsubscribe` | the address on the account's streams that one can unsubscribe from |

An entry belongs to the account's tenant. An entry of a shared account binds all tenants, as it does at the provider. A
person who unsubscribes does not object to receipts, so transactional mail is not suppressed, except for an account that
sends nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailglass.errors import MessageError, SuppressionType
from mailglass.ledger.suppressions import EVERYONE, Suppression
from mailglass.mail.addresses import parse_address
from mailglass.mail.streams import Stream
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import AccountSettings, Settings

REASONS = frozenset({"complaint", "hard_bounce", "unsubscribe", "manual", "provider"})


def entries_of(listed: Iterable[ListedAddress], account: AccountSettings, settings: Settings) -> list[Suppression]:
    """Return the suppressions for entries of an account's list. Invalid addresses are left out."""
    streams = unsubscribable(account.name, settings)
    return [entry for item in listed for entry in _entries(item, account, streams)]


def unsubscribable(account: str, settings: Settings) -> tuple[str, ...]:
    """Return the streams that an unsubscription at the account's provider concerns."""
    routes = [route for route in settings.routes if account in route.accounts]
    # an application that chooses accounts by code may send any stream by any of them
    anything = settings.tenancy is not None or not routes or any(route.stream == "*" for route in routes)
    carried = set(Stream) if anything else {Stream(route.stream) for route in routes}
    return tuple(sorted(carried - {Stream.TRANSACTIONAL} or carried))


def _entries(item: ListedAddress, account: AccountSettings, streams: Sequence[str]) -> list[Suppression]:
    try:
        value = parse_address(item.address, "address").key
    except MessageError:
        return []
    tenant = account.tenant or EVERYONE
    if item.reason == "unsubscribe":
        return [
            Suppression(
                tenant,
                value,
                "unsubscribe",
                "sync",
                SuppressionType.ADDRESS_STREAM,
                stream,
                account.name,
                created_at=item.created_at,
            )
            for stream in streams
        ]
    reason = item.reason if item.reason in REASONS else "provider"
    return [Suppression(tenant, value, reason, "sync", account=account.name, created_at=item.created_at)]
