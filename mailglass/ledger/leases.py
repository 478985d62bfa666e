"""Leases: claim a batch of a lane, mark what is about to be sent, record what became of it, take back what expired."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from mailglass import clock
from mailglass.ids import uuid7_for
from mailglass.ledger import arrays
from mailglass.ledger.database import Runs
from mailglass.ledger.events import EVIDENCE, EngineEvent
from mailglass.ledger.lifecycle import Doubt, Status
from mailglass.ledger.low_water import BEGINNING, ClaimMarks, LowWater, by_moment, seen_by
from mailglass.ledger.suppressions import Suppression, columns
from mailglass.mail.streams import Stream, StreamPolicy
from mailglass.routing import Lane

_MAX_BYTES: Final = 64 * 1024 * 1024
UNPLACED: Final = "route_unknown_here"
"""The reason of a verdict that gives back what this worker cannot place; every other one says that it could."""


class Claimed(NamedTuple):
    """A leased delivery as the engine gets it.

    Attributes:
        scheduled_at: when it was first to leave; its age counts from there.
        age: seconds since then.
        lifetime: seconds until it expires; None for never.
        content: JSON text, None where it was scrubbed.
        in_doubt: the outcome of an earlier attempt is not known: it may have been sent.
        ask_again: its account is to be asked about it again under the same idempotency key, before anything else.
        awaits_account: the account that it has waited for, because that one could not be used; None for none.
        deferrals: how often a receiver asked to be tried again later.
        refusal: what the last attempt's refusal meant, as `Refusal.code`; None where it was not refused.
        left_behind: more may be due that this claim left: over its size in bytes, or to be claimed apart.
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
    lifetime: float | None
    content: str | None
    frozen: bool
    suppressed_by: str | None
    in_doubt: bool = False
    ask_again: bool = False
    awaits_account: str | None = None
    deferrals: int = 0
    refusal: str | None = None
    left_behind: bool = False

    @property
    def tries(self) -> int:
        """Number of attempts, whether they were held against the mail or not."""
        return self.attempts + self.deferrals

    def __repr__(self) -> str:
        return f"<Claimed {self.id}>"


class Verdict(NamedTuple):
    """The result of one leased delivery, to be recorded.

    Attributes:
        status: where it goes.
        event: the event that says so; None where nothing happened but waiting.
        delay: seconds: until it is due again, or how long evidence is waited for.
        counted: False where the attempt is not counted (throttling).
        doubt: what this says of whether it may have been sent; None where it says nothing, and a doubt stays.
        awaits_account: the account that it is queued for, because that one cannot be used now; None for none.
        refusal: what a refusal meant, as `Refusal.code`.
        deferred: a receiver asked to be tried again later: counted apart from attempts.
    """

    id: UUID
    status: Status
    event: EngineEvent | None
    reason: str | None = None
    outcome: str | None = None
    delay: float | None = None
    counted: bool = True
    doubt: Doubt | None = None
    provider_message_id: str | None = None
    status_code: int | None = None
    enhanced_status: str | None = None
    duration_ms: int | None = None
    awaits_account: str | None = None
    refusal: str | None = None
    deferred: bool = False


class RefusedCopy(NamedTuple):
    """Somebody who got no copy, as an event of the delivery; which of them it was is not kept."""

    delivery_id: UUID
    status_code: int
    enhanced_status: str | None
    bounce_class: str
    refusal: str


# of `claim`: the columns of a delivery, before those of the claim
_OWN: Final = len(Claimed._fields) - 1

# of `record`: what many verdicts of a batch have in common is sent once for all of them
_COMMON: Final[tuple[tuple[str, Callable[[Sequence[Any]], str], str], ...]] = (
    ("statuses", arrays.texts, "status"),
    ("kinds", arrays.texts, "event"),
    ("reasons", arrays.texts, "reason"),
    ("outcomes", arrays.texts, "outcome"),
    ("doubts", arrays.texts, "doubt"),
    ("counted", arrays.booleans, "counted"),
    ("status_codes", arrays.numbers, "status_code"),
    ("enhanced", arrays.texts, "enhanced_status"),
    ("durations", arrays.numbers, "duration_ms"),
    ("awaited", arrays.texts, "awaits_account"),
    ("refusals", arrays.texts, "refusal"),
    ("deferred", arrays.booleans, "deferred"),
)
_kind: Final = attrgetter(*(field for _, _, field in _COMMON))


def claim(
    ledger: Runs,
    lane: Lane,
    token: UUID,
    size: int,
    lease: float,
    cap: int | None = None,
    max_bytes: int = _MAX_BYTES,
    suspects_first: bool | None = None,
    marks: ClaimMarks | None = None,
) -> list[Claimed]:
    """Lease up to `size` due deliveries of a lane for `lease` seconds, most urgent first.

    Args:
        ledger: runs the statement.
        lane: whose deliveries.
        token: names this claim; mark and record need it.
        size: deliveries at most.
        lease: seconds until another worker may have them.
        cap: how many of the tenant's deliveries may be leased at once, over all workers; None for any number.
        max_bytes: of content, about; one is claimed however large it is.
        suspects_first: whether deliveries that were in a claim without a verdict go before the others, where both are
            due; None for one claim in two.
        marks: how far this process's claims have come; None to start at the beginning.
    """
    start = BEGINNING if marks is None else marks.start(lane)
    begun = clock.monotonic()
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
            "max_bytes": max_bytes,
            "suspects_first": random.random() < 0.5 if suspects_first is None else suspects_first,  # noqa: S311
            "again": False,
            **start.params,
        },
    )
    if marks is not None:
        marks.learn(lane, start, rows, clock.monotonic() - begun, size)
    # the last row is about the claim, and so is what follows a delivery's own columns
    left_behind = (rows.pop().left_behind,)
    return _recheck_non_ascii(ledger, lane, _claimed([row[:_OWN] + left_behind for row in rows]))


def claim_these(ledger: Runs, ids: Sequence[UUID], token: UUID, lease: float) -> list[Claimed]:
    """Lease these deliveries for `lease` seconds, due or not, if they are queued and no other worker has them."""
    rows = ledger.run("claim_these", {"ids": arrays.uuids(ids), "token": str(token), "lease": lease})
    return _claimed([(*row, False) for row in rows])


def _claimed(rows: Sequence[tuple[Any, ...]]) -> list[Claimed]:
    claimed = [Claimed._make(row) for row in rows]
    claimed.sort(key=lambda delivery: (-delivery.priority, delivery.id.int))
    return claimed


def _recheck_non_ascii(ledger: Runs, lane: Lane, claimed: list[Claimed]) -> list[Claimed]:
    """Check recipients that are not ASCII again, because the statement lowers ASCII letters alone."""
    others = {delivery.recipient.lower() for delivery in claimed if not delivery.recipient.isascii()}
    if not others:
        return claimed
    params = {"keys": list(others), "domains": [""] * len(others), "tenant": lane.tenant, "stream": lane.stream}
    blocked = {row.key for row in ledger.run("blocked_copies", params)}
    return [
        delivery._replace(suppressed_by="address")
        if delivery.suppressed_by is None and delivery.recipient.lower() in blocked
        else delivery
        for delivery in claimed
    ]


def note_unplaced(ledger: Runs, ids: Sequence[UUID]) -> dict[UUID, float]:
    """Note that claimed deliveries cannot be placed here, and return for how many seconds no worker could, by id."""
    return {row.id: row.seconds for row in ledger.run("note_unplaced", {"ids": arrays.uuids(ids)})}


def freeze(ledger: Runs, contents: Mapping[UUID, str]) -> dict[UUID, str]:
    """Keep rendered contents by message id, and return what stands, should another worker have been first."""
    params = {"ids": arrays.uuids(contents), "contents": arrays.texts(contents.values())}
    rows = ledger.run("freeze", params)
    if not all(row.frozen for row in rows):
        rows = ledger.run("freeze", params)
    return {row.id: row.content for row in rows if row.frozen}


def mark(
    ledger: Runs, token: UUID, ids: Sequence[UUID], account: str, provider: str, expired: set[UUID] | None = None
) -> dict[UUID, int]:
    """Commit that these are about to be sent. What has expired by now fails instead.

    Args:
        ledger: runs the statement.
        token: of the claim.
        ids: of the claimed deliveries.
        account: the account that is called.
        provider: the account's provider.
        expired: those that failed so are added to it.

    Returns:
        The attempt's number by id, only for those that are still leased and have not expired.
    """
    rows = ledger.run("mark", {"ids": arrays.uuids(ids), "token": str(token), "account": account, "provider": provider})
    attempts = {ids[row.position - 1]: row.attempts for row in rows}
    if len(attempts) < len(ids) and (rest := [key for key in ids if key not in attempts]):
        failed = _expire(ledger, token, rest)
        if expired is not None:
            expired |= failed
    return attempts


def _expire(ledger: Runs, token: UUID, ids: Sequence[UUID]) -> set[UUID]:
    """Fail those of these claimed deliveries that have expired, and return them."""
    params = {"ids": arrays.uuids(ids), "event_ids": arrays.new_uuids(len(ids)), "token": str(token)}
    return {row.id for row in ledger.run("expire", params)}


def record(
    ledger: Runs,
    token: UUID,
    verdicts: Sequence[Verdict],
    refused: Sequence[Suppression] = (),
    copies: Sequence[RefusedCopy] = (),
) -> set[UUID]:
    """Record the verdicts on leased deliveries, and return the ids of those that were still ours to write.

    Args:
        ledger: runs the statement.
        token: of the claim.
        verdicts: at most one for each delivery.
        refused: what is to be suppressed in the same transaction, whoever holds the leases by now.
        copies: those who get no copy of these deliveries.
    """
    if not verdicts:
        return set()
    kinds: dict[tuple[Any, ...], int] = {}
    kind_of = [kinds.setdefault(_kind(verdict), len(kinds) + 1) for verdict in verdicts]
    common = zip(_COMMON, zip(*kinds, strict=True), strict=True)
    rows = ledger.run(
        "record",
        {
            "token": str(token),
            "ids": arrays.uuids([verdict.id for verdict in verdicts]),
            "event_ids": arrays.new_uuids(len(verdicts)),
            "delays": arrays.sparse(arrays.numbers, [verdict.delay for verdict in verdicts]),
            "provider_message_ids": arrays.texts([verdict.provider_message_id for verdict in verdicts]),
            "verdicts": arrays.numbers(kind_of),
            **{name: write(values) for (name, write, _), values in common},
            "copy_event_ids": arrays.new_uuids(len(copies)),
            "copy_ids": arrays.uuids(copy.delivery_id for copy in copies),
            "copy_status_codes": arrays.numbers([copy.status_code for copy in copies]),
            "copy_enhanced": arrays.texts([copy.enhanced_status for copy in copies]),
            "copy_classes": arrays.texts([copy.bounce_class for copy in copies]),
            "copy_refusals": arrays.texts([copy.refusal for copy in copies]),
            "evidence": arrays.texts(sorted(EVIDENCE)),
            "unplaced": UNPLACED,
            **{f"refused_{name}": column for name, column in columns(refused).items()},
        },
    )
    return {verdicts[row.position - 1].id for row in rows if not row.suppressed}


def sweep(
    ledger: Runs,
    policies: Mapping[Stream, StreamPolicy],
    remembering: Mapping[str, float | None] | None = None,
    size: int = 500,
    spread: float = 0.0,
    mark: LowWater[datetime] | None = None,
) -> list[tuple[Lane, str]]:
    """Take expired leases back and settle the uncertain whose hold is over.

    Args:
        ledger: runs the statement.
        policies: of the streams.
        remembering: the accounts that take the same delivery twice as once, each with the age in seconds up to which
            it does; None for any. What was being sent there is asked about again.
        size: deliveries at the most.
        spread: seconds over which those are due that were in several claims without a verdict.
        mark: how far this process's sweeps have come; None to start at the beginning.

    Returns:
        For each delivery moved its lane and the event recorded.
    """
    mark = mark or by_moment()
    scan = mark.start()
    rows = ledger.run(
        "sweep",
        {
            "size": size,
            "spread": spread,
            "streams": [stream.value for stream in policies],
            "policies": [policy.uncertain.value for policy in policies.values()],
            "holds": [policy.uncertain_hold for policy in policies.values()],
            "most": [policy.max_attempts for policy in policies.values()],
            "accounts": arrays.texts(remembering or ()),
            "memories": arrays.numbers((remembering or {}).values()),
            "event_ids": arrays.new_uuids(2 * size),
            "evidence": sorted(EVIDENCE),
            "after": scan.after,
            "again": False,
        },
    )
    moved = [(Lane(row.queue, row.tenant_id, row.stream), row.kind) for row in rows if row.id is not None]
    more = len(moved) >= size
    mark.learn(scan, scan.after if more else seen_by(rows[0].looked_at), more=more)
    return moved


def drop_copies(ledger: Runs, tenant: str, dropped: Sequence[tuple[Claimed, str]]) -> None:
    """Keep contents from which suppressed copies were taken, for every later attempt, with an event for each delivery.

    A message with copies is one delivery's alone, so nobody else's content changes.
    """
    ledger.run(
        "drop_copies",
        {
            "tenant": tenant,
            "kind": EngineEvent.COPY_DROPPED.value,
            "ids": arrays.uuids([delivery.id for delivery, _ in dropped]),
            "event_ids": arrays.new_uuids(len(dropped)),
            "messages": arrays.uuids([delivery.message_id for delivery, _ in dropped]),
            "contents": arrays.texts([content for _, content in dropped]),
        },
    )


def note(
    ledger: Runs, tenant: str, account: str, kind: EngineEvent, notes: Sequence[tuple[UUID, datetime, str]]
) -> None:
    """Note how an account's requests differ from the deliveries, once for each delivery, account and reason.

    Args:
        ledger: runs the statement.
        tenant: whose deliveries.
        account: whose requests.
        kind: of the event.
        notes: delivery, when it was recorded, and the reason's closed code.
    """
    ids = [uuid7_for(created, kind.value, str(delivery), account, reason) for delivery, created, reason in notes]
    ledger.run(
        "note",
        {
            "tenant": tenant,
            "kind": kind.value,
            "account": account,
            "ids": arrays.uuids([delivery for delivery, _, _ in notes]),
            "event_ids": arrays.uuids(ids),
            "reasons": arrays.texts([reason for _, _, reason in notes]),
        },
    )


def orphans_waiting(ledger: Runs, provider_message_ids: Sequence[str]) -> bool:
    """Return whether the webhook of a just learnt provider id came before the id."""
    (row,) = ledger.run("orphans_waiting", {"provider_message_ids": arrays.texts(provider_message_ids)})
    return bool(row.waiting)
