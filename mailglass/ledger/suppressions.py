"""The suppression list: whom not to mail, for a tenant or for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from mailglass.errors import SuppressionType
from mailglass.ledger import arrays
from mailglass.mail.addresses import Address

if TYPE_CHECKING:
    from mailglass.ledger.database import Runs

EVERYONE = "*"
# columns of `suppress` that do not matter to what it would leave as it is
_UNCOUNTED: Final = ("ids", "sources", "accounts")


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
    that a person removed after its `created_at` is not added again. Of several for the same each has its turn, the
    strongest first: those that a removal outlives must not take a newer one along. Usually one statement does.
    """
    return sum(len(ledger.run("suppress", _columns(turn))) for turn in _turns(entries))


def suppressed_already(ledger: Runs, entries: Sequence[Suppression]) -> int:
    """Count those of these entries that `suppress` would leave as they are."""
    turns = _turns(entries)
    candidates = [entry for turn in turns for entry in turn]
    params = {name: column for name, column in _columns(candidates).items() if name not in _UNCOUNTED}
    (row,) = ledger.run("count_suppressed", params)
    # the first turn has each address once
    return len(entries) - sum(map(len, turns[:1])) + int(row.count)


def columns(entries: Iterable[Suppression]) -> dict[str, str]:
    """Return the columns of entries: of several for the same a complaint, else what lasts longest."""
    turns = _turns([replace(entry, created_at=None) for entry in entries])
    found = _columns(turns[0] if turns else [])
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


def in_turns(
    entries: Iterable[Suppression],
    strength: Callable[[Suppression], tuple[float, ...]],
    moment: Callable[[Suppression], float],
) -> list[list[Suppression]]:
    """Return entries in turns, each address once in a turn, and the strongest in the first.

    One that is neither stronger nor newer than another for the same is left out.

    Args:
        entries: in any order.
        strength: of one; the greater takes over.
        moment: of one; the greater is the newer.
    """
    by_key: dict[tuple[str, str, str, str], list[Suppression]] = {}
    for entry in entries:
        by_key.setdefault((entry.value, entry.tenant, entry.scope, entry.stream), []).append(entry)
    turns: list[list[Suppression]] = []
    for same in by_key.values():
        newest, turn = -math.inf, 0
        for entry in sorted(same, key=lambda entry: (*strength(entry), moment(entry)), reverse=True):
            if moment(entry) <= newest:
                continue
            newest = moment(entry)
            if turn == len(turns):
                turns.append([])
            turns[turn].append(entry)
            turn += 1
    return turns


def _turns(entries: Iterable[Suppression]) -> list[list[Suppression]]:
    return in_turns(entries, _lasting, _moment)


def _moment(entry: Suppression) -> float:
    return entry.created_at.timestamp() if entry.created_at else math.inf


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
