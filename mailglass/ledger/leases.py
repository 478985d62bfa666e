"""Leases: claim a batch of a lane, mark what is about to be sent, record what became of it, take back what expired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from mailglass.ids import uuid7s
from mailglass.ledger import arrays
from mailglass.ledger.database import Rows
from mailglass.ledger.events import EVIDENCE, EngineEvent
from mailglass.ledger.lifecycle import Status
from mailglass.routing import Lane
from mailglass.streams import Stream, StreamPolicy


class Runs(Protocol):
    """Anything that runs the ledger's statements."""

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows: ...


class Claimed(NamedTuple):
    """A leased delivery as the engine gets it.

    Attributes:
        scheduled_at: when it was first to leave; its age counts from there.
        age: seconds since then.
        content: JSON text, None where it was scrubbed.
    """

    id: UUID
    message_id: UUID
    recipient: str
    recipient_name: str
    account: str | None
    attempts: int
    scheduled_at: datetime
    priority: int
    expired: bool
    age: float
    content: str | None
    frozen: bool
    suppressed_by: str | None
    last_error: str | None

    def __repr__(self) -> str:
        return f"<Claimed {self.id}>"


class Verdict(NamedTuple):
    """What is to be written down about one leased delivery.

    Attributes:
        status: where it goes.
        event: the event that says so; None where nothing happened but waiting.
        delay: seconds: until it is due again, or how long evidence is waited for.
        counted: False where the attempt is not counted (throttling).
    """

    id: UUID
    status: Status
    event: EngineEvent | None
    reason: str | None = None
    outcome: str | None = None
    delay: float | None = None
    counted: bool = True
    provider_message_id: str | None = None
    status_code: int | None = None
    enhanced_status: str | None = None
    duration_ms: int | None = None


def claim(ledger: Runs, lane: Lane, token: UUID, size: int, lease: float, cap: int | None = None) -> list[Claimed]:
    """Lease up to `size` due deliveries of a lane for `lease` seconds, most urgent first.

    Args:
        cap: how many of the tenant's deliveries may be leased at once, over all workers; None for any number.
    """
    rows = ledger.run(
        "claim",
        {
            "queue": lane.queue,
            "tenant": lane.tenant,
            "stream": lane.stream,
            "size": size,
            "token": str(token),
            "lease": lease,
            "cap": cap,
        },
    )
    return _claimed(rows)


def claim_these(ledger: Runs, ids: Sequence[UUID], token: UUID, lease: float) -> list[Claimed]:
    """Lease these deliveries for `lease` seconds, due or not, if they are queued and nobody else has them."""
    return _claimed(ledger.run("claim_these", {"ids": arrays.uuids(ids), "token": str(token), "lease": lease}))


def _claimed(rows: Rows) -> list[Claimed]:
    claimed = [Claimed._make(row) for row in rows]
    claimed.sort(key=lambda delivery: (-delivery.priority, delivery.id.int))
    return claimed


def freeze(ledger: Runs, contents: Mapping[UUID, str]) -> dict[UUID, str]:
    """Keep rendered contents by message id; the answer is what stands, should another worker have been first."""
    params = {"ids": arrays.uuids(contents), "contents": arrays.texts(contents.values())}
    rows = ledger.run("freeze", params)
    if not all(row.frozen for row in rows):
        rows = ledger.run("freeze", params)
    return {row.id: row.content for row in rows if row.frozen}


def mark(ledger: Runs, token: UUID, ids: Sequence[UUID], account: str, provider: str) -> dict[UUID, int]:
    """Commit that these are about to be sent. Returns the attempt's number by id, only for those still leased."""
    rows = ledger.run("mark", {"ids": arrays.uuids(ids), "token": str(token), "account": account, "provider": provider})
    return {ids[row.position - 1]: row.attempts for row in rows}


def record(ledger: Runs, token: UUID, verdicts: Sequence[Verdict]) -> set[UUID]:
    """Write down what became of leased deliveries. Returns those that were still ours to write."""
    if not verdicts:
        return set()
    kinds: dict[tuple[Any, ...], int] = {}
    kind_of = [kinds.setdefault(_kind(verdict), len(kinds) + 1) for verdict in verdicts]
    statuses, events, reasons, outcomes, counted, codes, enhanced, durations = zip(*kinds, strict=True)
    rows = ledger.run(
        "record",
        {
            "token": str(token),
            "ids": arrays.uuids([verdict.id for verdict in verdicts]),
            "event_ids": arrays.uuids(uuid7s(len(verdicts))),
            "delays": arrays.numbers([verdict.delay for verdict in verdicts]),
            "provider_message_ids": arrays.texts([verdict.provider_message_id for verdict in verdicts]),
            "verdicts": arrays.numbers(kind_of),
            "statuses": arrays.texts(statuses),
            "kinds": arrays.texts(events),
            "reasons": arrays.texts(reasons),
            "outcomes": arrays.texts(outcomes),
            "counted": arrays.booleans(counted),
            "status_codes": arrays.numbers(codes),
            "enhanced": arrays.texts(enhanced),
            "durations": arrays.numbers(durations),
            "evidence": arrays.texts(sorted(EVIDENCE)),
        },
    )
    return {verdicts[row.position - 1].id for row in rows}


def _kind(verdict: Verdict) -> tuple[Any, ...]:
    """What many verdicts of a batch have in common, and is sent once for all of them."""
    return (
        verdict.status, verdict.event, verdict.reason, verdict.outcome, verdict.counted, verdict.status_code,
        verdict.enhanced_status, verdict.duration_ms,
    )  # fmt: skip


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
            "most": [policy.max_attempts for policy in policies.values()],
            "event_ids": arrays.uuids(uuid7s(size)),
            "evidence": sorted(EVIDENCE),
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
            "event_ids": arrays.uuids(uuid7s(len(ids))),
            "ids": arrays.uuids(ids),
            "kinds": [kind.value] * len(ids),
            "reasons": [reason] * len(ids),
        },
    )


def orphans_waiting(ledger: Runs, provider_message_ids: Sequence[str]) -> bool:
    """Whether the webhook of a just learnt provider id came before the id."""
    (row,) = ledger.run("orphans_waiting", {"provider_message_ids": arrays.texts(provider_message_ids)})
    return bool(row.waiting)
