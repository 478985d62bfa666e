"""The audit: who did what to the ledger in console and CLI. It holds ids, filters and counts, and no address.

A change and its entry are one statement where the statement takes an `Actor`: both are there or neither. Elsewhere the
intention is recorded before the change and the count after it: an intention without a count says that the process died
in between, and that the change may have been made in part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mailglass.ids import uuid7
from mailglass.ledger.database import Runs

# an entry names this many ids, and the number of the others
NAMED_IDS = 100


@dataclass(frozen=True, slots=True)
class Actor:
    """The person who acts, and the deliveries or filter they named.

    Attributes:
        name: `user@host`, or what the person gave.
        subject: the ids they named, or the filter; a filter's values are written as they are, so an address must be
            given as its `digest`.
    """

    name: str
    subject: Sequence[UUID | str] | Mapping[str, object] = ()

    def params(self) -> dict[str, str]:
        """Return the parameters with which a statement records its own entry."""
        return {"audit_id": str(uuid7()), "actor": self.name, "detail": _detail(self.subject)}


NO_ACTOR: Mapping[str, None] = {"audit_id": None, "actor": None, "detail": None}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done.

    Attributes:
        actor: who did it.
        action: what, for example `deliveries.cancel`.
        detail: `ids` or `filter`, and `count` once it was done.
    """

    id: UUID
    at: datetime
    actor: str
    action: str
    tenant: str | None
    detail: Mapping[str, Any]


def record(
    ledger: Runs,
    who: str,
    action: str,
    tenant: str | None,
    subject: Sequence[UUID | str] | Mapping[str, object],
    count: int | None = None,
) -> None:
    """Record one entry by itself: before the change without a count, after it with one.

    Args:
        ledger: runs the statement.
        who: the actor's name.
        action: dotted, what and how: `webhooks.replay`.
        tenant: whose; None where it concerns no tenant, or several.
        subject: ids, or a filter by name; addresses in it as `digest`.
        count: how many were changed; None while it is only intended.
    """
    params = Actor(who, subject).params()
    ledger.run("audit", {**params, "action": action, "tenant": tenant, "count": count})


def entries(ledger: Runs, limit: int = 100) -> list[Entry]:
    """Return the latest entries, newest first.

    Args:
        ledger: runs the statement.
        limit: at most this many, 1 to 1000.
    """
    rows = ledger.run("audit_entries", {"size": min(max(limit, 1), 1000)})
    return [Entry(row.id, row.at, row.actor, row.action, row.tenant_id, json.loads(row.detail)) for row in rows]


def digest(address: str) -> str:
    """Return an address as the audit may hold it: found again by who knows it, and read by nobody else."""
    return f"blake2b:{hashlib.blake2b(address.lower().encode(), digest_size=16).hexdigest()}"


def _detail(subject: Sequence[UUID | str] | Mapping[str, object]) -> str:
    if isinstance(subject, Mapping):
        return json.dumps({"filter": {name: str(value) for name, value in subject.items() if value is not None}})
    detail: dict[str, object] = {"ids": [str(key) for key in subject[:NAMED_IDS]]}
    if len(subject) > NAMED_IDS:
        detail["others"] = len(subject) - NAMED_IDS
    return json.dumps(detail)
