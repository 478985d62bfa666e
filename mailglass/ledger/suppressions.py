"""The suppression list: whom not to mail, for a tenant or for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mailglass.addresses import Address
from mailglass.errors import SuppressionType
from mailglass.ids import uuid7
from mailglass.ledger.leases import Runs

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
    """Add entries; those that stand already stay, but a complaint takes over. Returns how many were written."""
    unique = {(entry.value, entry.tenant, entry.scope, entry.stream): entry for entry in entries}
    for entry in entries:
        if entry.reason == "complaint":
            unique[entry.value, entry.tenant, entry.scope, entry.stream] = entry
    rows = ledger.run(
        "suppress",
        {
            "ids": [str(uuid7()) for _ in unique],
            "tenants": [entry.tenant for entry in unique.values()],
            "scopes": [entry.scope.value for entry in unique.values()],
            "values": [entry.value for entry in unique.values()],
            "streams": [entry.stream for entry in unique.values()],
            "reasons": [entry.reason for entry in unique.values()],
            "sources": [entry.source for entry in unique.values()],
            "accounts": [entry.account for entry in unique.values()],
            "expires": [entry.expires_at for entry in unique.values()],
        },
    )
    return len(rows)


def unsuppress(
    ledger: Runs,
    tenant: str,
    value: str,
    *,
    scope: SuppressionType = SuppressionType.ADDRESS,
    stream: str = "",
    force: bool = False,
) -> bool:
    """Remove one entry; a complaint only with `force`. Returns whether one was removed."""
    params = {"value": value.lower(), "tenant": tenant, "scope": scope.value, "stream": stream, "force": force}
    return bool(ledger.run("unsuppress", params))


def suppressions_of(ledger: Runs, tenant: str, address: Address) -> list[Suppression]:
    """The live entries that stand in the way of an address, for the tenant or for all."""
    rows = ledger.run("suppressions_of", {"key": address.key, "domain": address.domain, "tenant": tenant})
    return [_suppression(row) for row in rows]


def blocked_copies(ledger: Runs, tenant: str, stream: str, copies: Sequence[Address]) -> set[str]:
    """Which of these cc and bcc addresses are suppressed, as keys."""
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
