"""Webhooks in the ledger: store and claim them, match their events to deliveries, and update projections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

from mailglass.errors import MessageError
from mailglass.ids import uuid7, uuid7s
from mailglass.ledger import arrays
from mailglass.ledger.database import Runs
from mailglass.ledger.events import COPY, MARKS, OUTCOMES, Event, Projection, Source
from mailglass.ledger.low_water import LowWater, by_id
from mailglass.mail.addresses import parse_address

FIRST_ID = UUID(int=0)
# milliseconds by which the clocks of processes that store webhooks may differ, and their statements take
_CLOCKS_DIFFER = 10_000


class WebhookStatus(StrEnum):
    """The states of a stored webhook."""

    RECEIVED = "received"
    PROCESSED = "processed"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified webhook that is to be kept.

    Attributes:
        dedupe_key: what makes it the same webhook when it comes again to this account.
        body: the raw bytes.
        headers: those its signature covers, never credentials.
        tenant: whose it is, where that is known.
        proofs: digests that are bound to the first body they come with, see `Provider.single_use`.
    """

    account: str
    provider: str
    dedupe_key: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    tenant: str | None = None
    proofs: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the body."""
        return hashlib.sha256(self.body).digest()


class Stored(Enum):
    """The result of storing a webhook.

    `REFUSED`: one of its proofs is bound to another body.
    """

    NEW = "new"
    KNOWN = "known"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """A verified webhook as it was kept.

    Attributes:
        body: the raw bytes; None where retention has removed them.
        headers: those its signature covers, never credentials.
        attempts: how often it was claimed, this time included.
        tenant: whose it is, where that was known.
    """

    id: UUID
    account: str
    provider: str
    body: bytes | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    attempts: int
    received_at: datetime
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookClaim:
    """Leased webhooks, oldest first, and whether more are waiting."""

    webhooks: tuple[StoredWebhook, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class WebhookResult:
    """The result of processing one stored webhook: with `received` it is tried again later."""

    id: UUID
    status: WebhookStatus
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One provider's event on its way into the ledger: checked, with an id of its own and a time.

    Attributes:
        id: derived from what the event is, so that a second arrival has the same.
        account: that told it.
        occurred_at: the provider's time, or ours where it gave none that can be true.
        webhook_id: the stored webhook it came in; None: it was searched for.
        delivery_id: ours, where it came back.
        recipient: whom it is about, as the provider wrote it; for the suppression list only.
        tenant: whose deliveries it may speak of; None: anybody's.
        refusal: what a refusal meant, as `Refusal.code`.
        doubted: of the recipient: it may be gone for good, and the second time within weeks counts.
        redirected: the recipient is the mailbox that gets the mail of others outside production.
    """

    id: UUID
    account: str
    kind: str
    occurred_at: datetime
    webhook_id: UUID | None
    delivery_id: UUID | None = None
    provider_message_id: str | None = None
    recipient: str | None = field(default=None, repr=False)
    bounce_class: str | None = None
    reject_reason: str | None = None
    enhanced_status: str | None = None
    machine: bool = False
    click_hash: str | None = None
    tenant: str | None = None
    refusal: str | None = None
    doubted: bool = False
    redirected: bool = False

    @property
    def linkable(self) -> bool:
        """True if it names a delivery at all, known or not."""
        return self.delivery_id is not None or self.provider_message_id is not None


@dataclass(frozen=True, slots=True)
class Match:
    """The delivery that a fact speaks of.

    Attributes:
        recipient: the delivery's own.
        account: the delivery's present one; an earlier one may be the fact's.
    """

    delivery_id: UUID
    tenant: str
    stream: str
    recipient: str = field(repr=False)
    account: str | None

    def is_copy(self, fact: IncomingEvent) -> bool:
        """Return whether the fact is about a person who got a copy, and not about the recipient."""
        if fact.recipient is None or fact.redirected or fact.recipient == self.recipient:
            return False
        about = _key(fact.recipient)
        # copies go to addresses; what is none says nothing about whom it means
        return about is not None and about != _key(self.recipient)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """A provider's event as the ledger keeps it, and the stored webhook that brought it first."""

    event: Event
    webhook_id: UUID | None


@dataclass(frozen=True, slots=True)
class ProjectionUpdate:
    """The facts to join into one delivery's projection.

    Attributes:
        evidence: it proves that the provider had accepted the mail.
        provider_message_id: learnt by the way, from the delivery's present account.
        proof: where the evidence comes from, a closed code.
    """

    delivery_id: UUID
    facts: Projection
    evidence: bool
    provider_message_id: str | None
    proof: str = "webhook_evidence"


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """Somebody left a stream, or came back to it, as an account told at `moment` of the provider's clock."""

    tenant: str
    value: str = field(repr=False)
    stream: str
    account: str
    moment: datetime


def store(
    ledger: Runs,
    account: str,
    provider: str,
    dedupe_key: str,
    body: bytes,
    headers: Mapping[str, str],
    tenant: str | None = None,
) -> bool:
    """Store a verified webhook; return False, and store nothing, if its key is known.

    Raises:
        LedgerUnavailableError: the database cannot be reached; nothing was kept.
    """
    (stored,) = store_all(ledger, [Arrival(account, provider, dedupe_key, body, headers, tenant)])
    return stored is Stored.NEW


def store_all(ledger: Runs, arrivals: Sequence[Arrival]) -> list[Stored]:
    """Store verified webhooks in one statement, all or none, and bind their proofs in it.

    Returns:
        The result of each, in order. Of several with one key, the first one is new.

    Raises:
        LedgerUnavailableError: the database cannot be reached; nothing was kept.
    """
    ids = uuid7s(len(arrivals))
    proofs = [
        (key, proof, arrival.digest)
        for key, arrival in zip(ids, arrivals, strict=True)
        if arrival.proofs
        for proof in arrival.proofs
    ]
    rows = ledger.run(
        "store_webhooks",
        {
            "ids": arrays.uuids(ids),
            "accounts": arrays.texts(arrival.account for arrival in arrivals),
            "providers": arrays.texts(arrival.provider for arrival in arrivals),
            "tenants": arrays.texts(arrival.tenant for arrival in arrivals),
            "dedupe_keys": arrays.texts(arrival.dedupe_key for arrival in arrivals),
            "bodies": arrays.binaries(arrival.body for arrival in arrivals),
            "headers": arrays.texts(
                json.dumps(dict(arrival.headers)) if arrival.headers else "{}" for arrival in arrivals
            ),
            "proof_ids": arrays.uuids(key for key, _, _ in proofs),
            "proofs": arrays.binaries(proof for _, proof, _ in proofs),
            "digests": arrays.binaries(digest for _, _, digest in proofs),
        },
    )
    became = {row.id: Stored(row.became) for row in rows}
    return [became.get(key, Stored.KNOWN) for key in ids]


def prune_proofs(ledger: Runs, size: int) -> int:
    """Delete up to `size` bound proofs that have expired, and return how many."""
    return len(ledger.run("prune_proofs", {"size": size}))


def claim(ledger: Runs, size: int, max_bytes: int, lease: float, mark: LowWater[UUID] | None = None) -> WebhookClaim:
    """Lease stored webhooks for `lease` seconds: at most `size`, and at most `max_bytes` of bodies but for the first.

    One that was claimed before is claimed alone.

    Args:
        ledger: runs the statement.
        size: webhooks at the most.
        max_bytes: of their bodies.
        lease: seconds.
        mark: how far this process's claims have come; None to start at the beginning.
    """
    mark = mark or by_id()
    scan = mark.start()
    rows = ledger.run(
        "claim_webhooks", {"size": size, "max_bytes": max_bytes, "lease": lease, "after": str(scan.after)}
    )
    more = bool(rows) and bool(rows[0].more)
    mark.learn(scan, _before(max(row.id for row in rows)) if rows else scan.after, more=more)
    claimed = [
        StoredWebhook(
            row.id,
            row.account,
            row.provider,
            None if row.body is None else bytes(row.body),
            json.loads(row.headers),
            row.attempts,
            row.received_at,
            row.tenant_id,
        )
        for row in rows
    ]
    claimed.sort(key=lambda webhook: webhook.id)
    return WebhookClaim(tuple(claimed), more)


def _before(key: UUID) -> UUID:
    """Return the id before which no process that makes ids by its own clock may still store a webhook."""
    return UUID(int=max(0, (key.int >> 80) - _CLOCKS_DIFFER) << 80)


def finish(ledger: Runs, results: Sequence[WebhookResult], retry_after: float) -> None:
    """Record the results of claimed webhooks. Those to be tried again wait `retry_after` seconds."""
    if not results:
        return
    ledger.run(
        "finish_webhooks",
        {
            "ids": arrays.uuids(result.id for result in results),
            "statuses": arrays.texts(result.status.value for result in results),
            "reasons": arrays.texts(result.reason for result in results),
            "retry_after": retry_after,
        },
    )


def waiting(ledger: Runs, mark: LowWater[UUID] | None = None) -> bool:
    """Return whether stored webhooks wait to be processed.

    Args:
        ledger: runs the statement.
        mark: how far this process's looks have come; None to start at the beginning.
    """
    mark = mark or by_id()
    scan = mark.start()
    (row,) = ledger.run("webhooks_waiting", {"after": str(scan.after)})
    mark.learn(scan, scan.after if row.waiting else _before(uuid7()))
    return bool(row.waiting)


def replay(ledger: Runs, ids: Sequence[UUID]) -> set[UUID]:
    """Queue dead webhooks again, and return those that were dead."""
    return {row.id for row in ledger.run("replay_webhooks", {"ids": arrays.uuids(ids)})}


def match(ledger: Runs, facts: Sequence[IncomingEvent]) -> dict[UUID, Match]:
    """Find the deliveries that facts name, by the fact's id.

    A fact that names none, or two alike, is left out.
    """
    named = [fact for fact in facts if fact.linkable]
    if not named:
        return {}
    rows = ledger.run(
        "match",
        {
            "delivery_ids": arrays.uuids(fact.delivery_id for fact in named),
            "provider_message_ids": arrays.texts(fact.provider_message_id for fact in named),
            "accounts": arrays.texts(fact.account for fact in named),
            "recipients": arrays.texts(_key(fact.recipient) if fact.recipient else None for fact in named),
            "tenants": arrays.texts(fact.tenant for fact in named),
        },
    )
    candidates: dict[UUID, list[Any]] = {}
    for row in rows:
        candidates.setdefault(named[row.position - 1].id, []).append(row)
    found = {}
    for fact_id, rows in candidates.items():
        # the one that carries the event's recipient comes first
        first, *others = sorted(rows, key=lambda row: not row.named) if len(rows) > 1 else rows
        if not others or (first.named and not others[0].named):
            found[fact_id] = Match(first.id, first.tenant_id, first.stream, first.recipient, first.account)
    return found


def append(ledger: Runs, linked: Sequence[tuple[IncomingEvent, Match]]) -> set[UUID]:
    """Append events, and return which were new. Those that are there already are left alone."""
    rows = ledger.run(
        "append",
        {
            "ids": arrays.uuids(fact.id for fact, _ in linked),
            "delivery_ids": arrays.uuids(found.delivery_id for _, found in linked),
            "tenants": arrays.texts(found.tenant for _, found in linked),
            "kinds": arrays.texts(fact.kind for fact, _ in linked),
            "occurred": _moments(fact.occurred_at for fact, _ in linked),
            "reasons": arrays.texts(COPY if found.is_copy(fact) else None for fact, found in linked),
            "accounts": arrays.texts(fact.account for fact, _ in linked),
            "enhanced": arrays.texts(fact.enhanced_status for fact, _ in linked),
            "bounce_classes": arrays.texts(fact.bounce_class for fact, _ in linked),
            "reject_reasons": arrays.texts(fact.reject_reason for fact, _ in linked),
            "machines": arrays.booleans(fact.machine for fact, _ in linked),
            "click_hashes": arrays.texts(fact.click_hash for fact, _ in linked),
            "webhook_event_ids": arrays.uuids(fact.webhook_id for fact, _ in linked),
            "refusals": arrays.texts(fact.refusal for fact, _ in linked),
        },
    )
    return {row.id for row in rows}


def recorded_events(ledger: Runs, ids: Sequence[UUID]) -> dict[UUID, RecordedEvent]:
    """Return providers' events as the ledger has them, by id."""
    return {
        row.id: RecordedEvent(
            Event(
                id=row.id,
                delivery_id=row.delivery_id,
                kind=row.kind,
                source=Source(row.source),
                occurred_at=row.occurred_at,
                reason=row.reason,
                bounce_class=row.bounce_class,
                machine=bool(row.machine),
            ),
            row.webhook_event_id,
        )
        for row in ledger.run("recorded_events", {"ids": arrays.uuids(ids)})
    }


def project(ledger: Runs, updates: Sequence[ProjectionUpdate]) -> set[UUID]:
    """Join projections into their deliveries, and return those that evidence settled as sent."""
    rows = ledger.run(
        "project",
        {
            "ids": arrays.uuids(update.delivery_id for update in updates),
            **{
                name: _moments(getattr(update.facts, f"{name}_at") for update in updates)
                for name in (*OUTCOMES, *MARKS)
            },
            "bounce_classes": arrays.texts(update.facts.bounce_class for update in updates),
            "last_events": arrays.texts(update.facts.last_event for update in updates),
            "last_at": _moments(update.facts.last_event_at for update in updates),
            "last_ids": arrays.uuids(update.facts.last_event_id for update in updates),
            "evidence": arrays.booleans(update.evidence for update in updates),
            "provider_message_ids": arrays.texts(update.provider_message_id for update in updates),
            "proofs": arrays.texts(update.proof for update in updates),
            "event_ids": arrays.new_uuids(len(updates)),
        },
    )
    return {row.id for row in rows if row.settles}


def keep_orphans(ledger: Runs, facts: Sequence[IncomingEvent]) -> None:
    """Keep facts whose delivery is not known yet."""
    ledger.run(
        "keep_orphans",
        {
            "event_ids": arrays.uuids(fact.id for fact in facts),
            "accounts": arrays.texts(fact.account for fact in facts),
            "delivery_ids": arrays.uuids(fact.delivery_id for fact in facts),
            "provider_message_ids": arrays.texts(fact.provider_message_id for fact in facts),
            "events": arrays.texts(_to_json(fact) for fact in facts),
            "webhook_event_ids": arrays.uuids(fact.webhook_id for fact in facts),
        },
    )


def linkable_orphans(ledger: Runs, after: UUID, size: int) -> list[IncomingEvent]:
    """Return kept facts whose delivery is known by now: at most `size`, in the order of their ids, after one."""
    rows = ledger.run("linkable_orphans", {"after": str(after), "size": size})
    return [_from_json(row.event) for row in rows]


def drop_orphans(ledger: Runs, ids: Iterable[UUID]) -> None:
    """Delete kept facts."""
    ledger.run("drop_orphans", {"event_ids": arrays.uuids(ids)})


def unsubscribe(ledger: Runs, changes: Sequence[SubscriptionChange]) -> int:
    """Record that people left a stream, at the latest time, and return how many were written."""
    return len(ledger.run("unsubscribe", {"ids": arrays.new_uuids(len(changes)), **_columns(changes)}))


def resubscribe(ledger: Runs, changes: Sequence[SubscriptionChange]) -> int:
    """End older unsubscriptions that the same account told of, and return how many."""
    return len(ledger.run("resubscribe", _columns(changes)))


def _key(address: str) -> str | None:
    """Return what all ways to write one address have in common, or None if it is not an address."""
    try:
        return parse_address(address, "recipient").key
    except MessageError:
        return None


def _columns(changes: Sequence[SubscriptionChange]) -> dict[str, Any]:
    return {
        "tenants": arrays.texts(change.tenant for change in changes),
        "values": arrays.texts(change.value for change in changes),
        "streams": arrays.texts(change.stream for change in changes),
        "accounts": arrays.texts(change.account for change in changes),
        "moments": _moments(change.moment for change in changes),
    }


def _moments(values: Iterable[datetime | None]) -> str:
    """For CAST(... AS timestamptz[])."""
    return arrays.texts(None if value is None else value.isoformat() for value in values)


def _to_json(fact: IncomingEvent) -> str:
    values = {
        name: value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value
        for name, value in asdict(fact).items()
        if value is not None
    }
    return json.dumps(values)


_UUIDS = frozenset({"id", "webhook_id", "delivery_id"})
_FIELDS = frozenset(item.name for item in fields(IncomingEvent))


def _from_json(text: str) -> IncomingEvent:
    values: dict[str, Any] = {name: value for name, value in json.loads(text).items() if name in _FIELDS}
    for name in _UUIDS & values.keys():
        values[name] = UUID(values[name])
    values["occurred_at"] = datetime.fromisoformat(values["occurred_at"])
    return IncomingEvent(**values)
