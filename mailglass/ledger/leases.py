"""Leases: claim a batch of a lane, mark what is about to be sent, record what became of it, take back what expired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from mailglass.ids import uuid7
from mailglass.ledger.database import Rows
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.lifecycle import Status
from mailglass.routing import Lane
from mailglass.streams import Stream, StreamPolicy


class Runs(Protocol):
    """Anything that runs the ledger's statements."""

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows: ...


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leased delivery as the engine gets it. `content` is JSON text, None where it was scrubbed."""

    id: UUID
    message_id: UUID
    recipient: str
    recipient_name: str
    account: str | None
    attempts: int
    created_at: datetime
    priority: int
    expired: bool
    age: float
    content: str | None
    frozen: bool
    suppressed_by: str | None

    def __repr__(self) -> str:
        return f"<Claimed {self.id}>"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be written down about one leased delivery.

    Attributes:
        status: where it goes.
        event: the event that says so.
        delay: seconds: until it is due again, or how long evidence is waited for.
        counted: False where the attempt is not counted (throttling).
    """

    id: UUID
    status: Status
    event: EngineEvent
    reason: str | None = None
    outcome: str | None = None
    delay: float | None = None
    counted: bool = True
    provider_message_id: str | None = None
    status_code: int | None = None
    enhanced_status: str | None = None
    duration_ms: int | None = None


def claim(ledger: Runs, lane: Lane, token: UUID, size: int, lease: float) -> list[Claimed]:
    """Lease up to `size` due deliveries of a lane for `lease` seconds, most urgent first."""
    rows = ledger.run(
        "claim",
        {
            "queue": lane.queue,
            "tenant": lane.tenant,
            "stream": lane.stream,
            "size": size,
            "token": str(token),
            "lease": lease,
        },
    )
    return _claimed(rows)


def claim_these(ledger: Runs, ids: Sequence[UUID], token: UUID, lease: float) -> list[Claimed]:
    """Lease these deliveries for `lease` seconds, due or not, if they are queued and nobody else has them."""
    return _claimed(ledger.run("claim_these", {"ids": [str(key) for key in ids], "token": str(token), "lease": lease}))


def _claimed(rows: Rows) -> list[Claimed]:
    claimed = [
        Claimed(
            row.id, row.message_id, row.recipient, row.recipient_name, row.account, row.attempts, row.created_at,
            row.priority, row.expired, row.age, row.content, bool(row.frozen), row.scope,
        )
        for row in rows
    ]  # fmt: skip
    claimed.sort(key=lambda delivery: (-delivery.priority, delivery.id))
    return claimed


def freeze(ledger: Runs, contents: Mapping[UUID, str]) -> dict[UUID, str]:
    """Keep rendered contents by message id; the answer is what stands, should another worker have been first."""
    rows = ledger.run("freeze", {"ids": [str(key) for key in contents], "contents": list(contents.values())})
    return {row.id: row.content for row in rows}


def mark(ledger: Runs, token: UUID, ids: Sequence[UUID], account: str, provider: str) -> dict[UUID, int]:
    """Commit that these are about to be sent. Returns the attempt's number by id, only for those still leased."""
    rows = ledger.run(
        "mark",
        {"ids": [str(key) for key in ids], "token": str(token), "account": account, "provider": provider},
    )
    return {row.id: row.attempts for row in rows}


def record(ledger: Runs, token: UUID, verdicts: Sequence[Verdict]) -> set[UUID]:
    """Write down what became of leased deliveries. Returns those that were still ours to write."""
    if not verdicts:
        return set()
    rows = ledger.run(
        "record",
        {
            "token": str(token),
            "ids": [str(verdict.id) for verdict in verdicts],
            "statuses": [verdict.status.value for verdict in verdicts],
            "delays": [verdict.delay for verdict in verdicts],
            "counted": [verdict.counted for verdict in verdicts],
            "provider_message_ids": [verdict.provider_message_id for verdict in verdicts],
            "event_ids": [str(uuid7()) for _ in verdicts],
            "kinds": [verdict.event.value for verdict in verdicts],
            "outcomes": [verdict.outcome for verdict in verdicts],
            "reasons": [verdict.reason for verdict in verdicts],
            "status_codes": [verdict.status_code for verdict in verdicts],
            "enhanced": [verdict.enhanced_status for verdict in verdicts],
            "durations": [verdict.duration_ms for verdict in verdicts],
        },
    )
    return {row.id for row in rows}


def sweep(ledger: Runs, policies: Mapping[Stream, StreamPolicy], size: int = 500) -> list[tuple[Lane, str]]:
    """Take expired leases back and settle the uncertain whose hold is over.

    Returns:
        For each delivery moved its lane and the event recorded.
    """
    rows = ledger.run(
        "sweep",
        {
            "size": size,
            "streams": [stream.value for stream in policies],
            "policies": [policy.uncertain.value for policy in policies.values()],
            "holds": [policy.uncertain_hold for policy in policies.values()],
            "event_ids": [str(uuid7()) for _ in range(size)],
        },
    )
    return [(Lane(row.queue, row.tenant_id, row.stream), row.kind) for row in rows]


def lanes_due(ledger: Runs) -> list[Lane]:
    """The lanes that have due work."""
    return [Lane(row.queue, row.tenant_id, row.stream) for row in ledger.run("lanes_due")]


def note(ledger: Runs, tenant: str, ids: Sequence[UUID], kind: EngineEvent, reason: str) -> None:
    """Append one engine event for each delivery, moving nothing."""
    ledger.run(
        "note",
        {
            "tenant": tenant,
            "event_ids": [str(uuid7()) for _ in ids],
            "ids": [str(key) for key in ids],
            "kinds": [kind.value] * len(ids),
            "reasons": [reason] * len(ids),
        },
    )


def orphans_waiting(ledger: Runs, provider_message_ids: Sequence[str]) -> bool:
    """Whether the webhook of a just learnt provider id came before the id."""
    (row,) = ledger.run("orphans_waiting", {"provider_message_ids": list(provider_message_ids)})
    return bool(row.waiting)
