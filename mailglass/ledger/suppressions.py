"""The suppression list: whom not to mail, for a tenant or for all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

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
        created_at: when what it stands for happened; None for the moment it is added.
        id: of the entry in the ledger; None for one that is not added yet.
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
    id: UUID | None = None


def suppress(ledger: Runs, entries: Sequence[Suppression]) -> int:
    """Add entries, and return how many were written.

    One that stands already stays, but a complaint takes over, and what ends gives way to what ends later or never. One
    that a person removed after its `created_at` is not added again.
    """
    return len(ledger.run("suppress", _columns(_unique(entries))))


def suppressed_already(ledger: Runs, entries: Sequence[Suppression]) -> int:
    """Count those of these entries that `suppress` would leave as they are."""
    unique = _unique(entries)
    params = {name: column for name, column in _columns(unique).items() if name not in ("ids", "sources", "accounts")}
    (row,) = ledger.run("count_suppressed", params)
    return len(entries) - len(unique) + int(row.count)


def columns(entries: Iterable[Suppression]) -> dict[str, str]:
    """Return the columns of entries: of several for the same a complaint, else what lasts longest."""
    found = _columns(_unique(entries))
    del found["moments"]
    return found


def _columns(unique: Sequence[Suppression]) -> dict[str, str]:
    return {
        "ids": arrays.new_uuids(len(unique)),
        "tenants": arrays.texts([entry.tenant for entry in unique]),
        "scopes": arrays.texts([entry.scope for entry in unique]),
        "values": arrays.texts([entry.value for entry in unique]),
        "streams": arrays.texts([entry.stream for entry in unique]),
        "reasons": arrays.texts([entry.reason for entry in unique]),
        "sources": arrays.texts([entry.source for entry in unique]),
        "accounts": arrays.texts([entry.account for entry in unique]),
        "expires": arrays.moments(entry.expires_at for entry in unique),
        "moments": arrays.moments(entry.created_at for entry in unique),
    }


def _unique(entries: Iterable[Suppression]) -> list[Suppression]:
    chosen: dict[tuple[str, str, str, str], Suppression] = {}
    for entry in entries:
        key = (entry.value, entry.tenant, entry.scope, entry.stream)
        if key not in chosen or _lasting(entry) > _lasting(chosen[key]):
            chosen[key] = entry
    return list(chosen.values())


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


def unsuppress_these(ledger: Runs, entries: Iterable[Suppression], *, force: bool = False) -> int:
    """Remove entries that were read from the ledger, complaints only with `force`; return how many were removed."""
    ids = arrays.uuids(entry.id for entry in entries)
    return len(ledger.run("unsuppress_these", {"ids": ids, "force": force}))


def suppressions_of(ledger: Runs, tenant: str, address: Address) -> list[Suppression]:
    """Return the live entries that stop mail to an address, for the tenant or for all."""
    rows = ledger.run("suppressions_of", {"key": address.key, "domain": address.domain, "tenant": tenant})
    return [entry_of(row) for row in rows]


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


def entry_of(row: Any) -> Suppression:
    """Return the entry of a row of the table."""
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
        id=row.id,
    )
