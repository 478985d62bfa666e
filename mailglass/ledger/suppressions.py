"""The suppression list: whom not to mail, for a tenant or for all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mailglass.errors import SuppressionType
from mailglass.ledger import arrays
from mailglass.mail.addresses import Address

if TYPE_CHECKING:
    from mailglass.ledger.database import Runs

EVERYONE = "*"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry.

    Attributes:
        tenant: whose mail it stops; `*` for everybody's.
        value: the address in lower case, or the domain in A-labels.
        reason: hard_bounce, complaint, unsubscribe, manual or provider. A complaint never expires.
        source: where it was learnt: webhook, attempt, sync, manual or import.
        scope: address, domain, or the address on one stream.
        stream: for scope address_stream only.
        account: the account it was learnt from.
        expires_at: when it ends by itself; None for never.
    """

    tenant: str
    value: str = field(repr=False)
    reason: str
    source: str
    scope: SuppressionType = SuppressionType.ADDRESS
    stream: str = ""
    account: str | None = None
    expires_at: datetime | None = None
    created_at: datetime | None = None


def suppress(ledger: Runs, entries: Sequence[Suppression]) -> int:
    """Add entries, and return how many were written.

    One that stands already stays, but a complaint takes over, and what ends gives way to what ends later or never.
    """
    return len(ledger.run("suppress", columns(entries)))


def columns(entries: Iterable[Suppression]) -> dict[str, str]:
    """Return the parameters of `suppress`: of several entries for the same a complaint, else what lasts longest."""
    chosen: dict[tuple[str, str, str, str], Suppression] = {}
    for entry in entries:
        key = (entry.value, entry.tenant, entry.scope, entry.stream)
        if key not in chosen or _lasting(entry) > _lasting(chosen[key]):
            chosen[key] = entry
    unique = chosen.values()
    return {
        "ids": arrays.new_uuids(len(unique)),
        "tenants": arrays.texts([entry.tenant for entry in unique]),
        "scopes": arrays.texts([entry.scope for entry in unique]),
        "values": arrays.texts([entry.value for entry in unique]),
        "streams": arrays.texts([entry.stream for entry in unique]),
        "reasons": arrays.texts([entry.reason for entry in unique]),
        "sources": arrays.texts([entry.source for entry in unique]),
        "accounts": arrays.texts([entry.account for entry in unique]),
        "expires": arrays.texts([entry.expires_at.isoformat() if entry.expires_at else None for entry in unique]),
    }


def _lasting(entry: Suppression) -> tuple[bool, float]:
    return entry.reason == "complaint", entry.expires_at.timestamp() if entry.expires_at else math.inf


def refused_again(ledger: Runs, doubts: Sequence[tuple[str, str, datetime]]) -> set[tuple[str, str]]:
    """Note addresses that may be gone for good, and return those that were noted a day or more apart.

    Args:
        ledger: runs the statement.
        doubts: tenant, address in lower case, and when it was refused.

    Returns:
        Tenant and address of each.
    """
    if not doubts:
        return set()
    tenants, values, moments = zip(*doubts, strict=True)
    rows = ledger.run(
        "doubt_addresses",
        {
            "tenants": arrays.texts(tenants),
            "values": arrays.texts(values),
            "moments": arrays.texts([moment.isoformat() for moment in moments]),
        },
    )
    return {(row.tenant_id, row.value) for row in rows if row.again}


def unsuppress(
    ledger: Runs,
    tenant: str,
    value: str,
    *,
    scope: SuppressionType = SuppressionType.ADDRESS,
    stream: str = "",
    force: bool = False,
) -> bool:
    """Remove one entry, a complaint only with `force`; return whether one was removed."""
    params = {"value": value.lower(), "tenant": tenant, "scope": scope.value, "stream": stream, "force": force}
    return bool(ledger.run("unsuppress", params))


def suppressions_of(ledger: Runs, tenant: str, address: Address) -> list[Suppression]:
    """Return the live entries that stop mail to an address, for the tenant or for all."""
    rows = ledger.run("suppressions_of", {"key": address.key, "domain": address.domain, "tenant": tenant})
    return [_suppression(row) for row in rows]


def blocked_copies(ledger: Runs, tenant: str, stream: str, copies: Sequence[Address]) -> set[str]:
    """Return which of these addresses are suppressed, as keys."""
    rows = ledger.run(
        "blocked_copies",
        {
            "keys": [address.key for address in copies],
            "domains": [address.domain for address in copies],
            "tenant": tenant,
            "stream": stream,
        },
    )
    return {row.key for row in rows}


def _suppression(row: Any) -> Suppression:
    return Suppression(
        tenant=row.tenant_id,
        value=row.value,
        reason=row.reason,
        source=row.source,
        scope=SuppressionType(row.scope),
        stream=row.stream,
        account=row.account,
        expires_at=row.expires_at,
        created_at=row.created_at,
    )
