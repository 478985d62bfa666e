"""The ledger's side of the watch: what was seen of each sending domain, and when it is due again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from mailglass.ledger import arrays
from mailglass.ledger.database import Runs


@dataclass(frozen=True, slots=True)
class WatchedDomain:
    """State of one sending domain.

    Attributes:
        domain: in A-labels.
        status: the worst status of its findings; None before its first check.
        statuses: of the findings that are not `pass`, by their ids.
        summary: how many findings have each status.
        since: since when it has this status.
        checked_at: when it was checked last.
        due_at: when it is checked next.
    """

    domain: str
    status: str | None = None
    statuses: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, int] = field(default_factory=dict)
    since: datetime | None = None
    checked_at: datetime | None = None
    due_at: datetime | None = None


def claim(
    ledger: Runs, domains: Sequence[str], token: UUID, size: int, answer_within: float
) -> dict[str, dict[str, str] | None]:
    """Claim domains whose check is due.

    Args:
        ledger: runs the statement.
        domains: that are watched.
        token: of this claim.
        size: how many at most.
        answer_within: seconds after which somebody else may check them, where this process has died.

    Returns:
        The claimed domains with the statuses of their findings; None for one that was never checked.
    """
    rows = ledger.run(
        "claim_domains",
        {
            "domains": arrays.texts(sorted(domains)),
            "token": str(token),
            "size": size,
            "answer_within": answer_within,
        },
    )
    return {row.domain: None if row.statuses is None else dict(row.statuses) for row in rows}


def save(
    ledger: Runs,
    domain: str,
    token: UUID,
    *,
    status: str,
    statuses: Mapping[str, str],
    summary: Mapping[str, int],
    again_after: float,
) -> bool:
    """Keep what a check saw.

    Args:
        ledger: runs the statement.
        domain: that was checked.
        token: of the claim.
        status: the worst of its findings.
        statuses: of the findings, by their ids.
        summary: how many findings have each status.
        again_after: seconds until the next check.

    Returns:
        Whether it was kept: not where somebody else has claimed the domain since.
    """
    rows = ledger.run(
        "save_domain",
        {
            "domain": domain,
            "token": str(token),
            "status": status,
            "statuses": json.dumps(dict(statuses)),
            "summary": json.dumps(dict(summary)),
            "again_after": again_after,
        },
    )
    return bool(rows)


def known(ledger: Runs, domains: Sequence[str]) -> dict[str, WatchedDomain]:
    """Return what is known of these domains.

    Args:
        ledger: runs the statement.
        domains: in A-labels.
    """
    rows = ledger.run("list_domains", {"domains": arrays.texts(sorted(domains))})
    return {row.domain: WatchedDomain(*row) for row in rows}
