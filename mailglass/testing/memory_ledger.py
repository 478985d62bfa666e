"""A ledger in memory: the statements that record deliveries and read them back, without a database.

It answers statements by their name and parameters, as the database does. So whatever records deliveries, in whatever
way, ends here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

from mailglass import clock
from mailglass.errors import OutboxError
from mailglass.ledger.database import Database, Rows
from mailglass.ledger.events import Projection
from mailglass.ledger.lifecycle import Status
from mailglass.testing.array_literals import elements
from mailglass.testing.memory_suppressions import MemorySuppressions
from mailglass.testing.rollbacks import on_rollback

_PROVIDER = "outbox"


@dataclass(slots=True)
class Recorded:
    """A delivery as it was recorded, with its content.

    Attributes:
        position: in its call, from 1.
        follower: it is recorded only with the first of its group.
        absolute: it is due, or ends, at a moment that the caller gave.
    """

    id: UUID
    tenant: str
    stream: str
    queue: str
    message_id: UUID
    group_id: UUID | None
    mailable: str | None
    recipient: str = field(repr=False)
    recipient_name: str = field(repr=False)
    recipient_domain: str = field(repr=False)
    content: str = field(repr=False)
    idempotency_key: str | None
    digest: str | None
    priority: int
    starts_at: datetime
    ends_at: datetime | None
    absolute: bool
    position: int
    follower: bool
    created_at: datetime
    status: Status = Status.QUEUED
    last_error: str | None = None

    @property
    def late(self) -> bool:
        """True if it would end before it is due."""
        return self.absolute and self.ends_at is not None and self.ends_at <= self.starts_at


class MemoryLedger(Database):
    """A ledger in memory. Safe to share between threads.

    Args:
        accept: called with a delivery before it stands; what it raises refuses the whole call.
    """

    in_memory: ClassVar[bool] = True

    def __init__(self, accept: Callable[[Recorded], object]) -> None:
        # no pool: nothing of a database is opened
        self._accept = accept
        self._lock = threading.RLock()
        self._rows: dict[UUID, Recorded] = {}
        self._ahead = timedelta()
        self._suppressions = MemorySuppressions(self._now)
        self._statements: dict[str, Callable[[Mapping[str, Any]], Rows]] = {
            "submit_one": self._submit_one,
            "submit": self._submit,
            "existing": self._existing,
            "delivery": self._delivery,
            "delivery_states": self._states,
            "cancel": self._cancel,
            "ledger_identity": self._identity,
            **self._suppressions.statements,
        }

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> Rows:
        """Answer one statement.

        Raises:
            OutboxError: it needs a database.
        """
        answer = self._statements.get(name)
        if answer is None:
            raise _needs_database(name)
        with self._lock:
            return answer(params or {})

    def query(self, statement: object) -> Rows:
        """Refuse a query.

        Raises:
            OutboxError: always.
        """
        raise _needs_database("a query")

    def runner_of(self, session: object) -> Callable[[str, Mapping[str, Any]], Rows]:
        """Return what records for a caller's session, and forgets it again if the session rolls back."""

        def run(name: str, params: Mapping[str, Any]) -> Rows:
            with self._lock:
                before = set(self._rows)
                rows = self.run(name, params)
                new = set(self._rows) - before
            if new:
                on_rollback(session, lambda: self._forget(new))
            return rows

        return run

    def dispose(self, close: bool = True) -> None:
        """Do nothing: there is no pool."""

    def deliveries(self) -> list[Recorded]:
        """Return what was recorded, in the order of the calls, with the status that it has by the ledger's time."""
        with self._lock:
            self._settle()
            return list(self._rows.values())

    def advance(self, seconds: float) -> None:
        """Move the ledger's time on."""
        with self._lock:
            self._ahead += timedelta(seconds=seconds)

    def is_suppressed(self, email: str, tenant: str, stream: str) -> bool:
        """Return whether an address gets no mail."""
        with self._lock:
            return self._suppressions.scope(tenant, stream, email.lower(), email.rpartition("@")[2]) is not None

    def _identity(self, params: Mapping[str, Any]) -> Rows:
        return [SimpleNamespace(id=_PROVIDER, database=_PROVIDER)]

    def _now(self) -> datetime:
        return clock.now() + self._ahead

    def _settle(self) -> None:
        now = self._now()
        for row in self._rows.values():
            if row.status is Status.QUEUED and row.starts_at <= now:
                row.status = Status.SENT

    def _forget(self, ids: set[UUID]) -> None:
        with self._lock:
            for key in ids:
                self._rows.pop(key, None)

    def _submit_one(self, params: Mapping[str, Any]) -> Rows:
        return self._record([_wanted(params, 1, self._now(), params["content"])])

    def _submit(self, params: Mapping[str, Any]) -> Rows:
        contents = dict(zip(elements(params["content_ids"]), elements(params["contents"]), strict=True))
        columns = {name: elements(params[plural]) for plural, name in _COLUMNS.items()}
        count = len(columns["id"])
        now = self._now()
        wanted = []
        for index in range(count):
            one = {name: values[index] if index < len(values) else None for name, values in columns.items()}
            wanted.append(_wanted(one | {"waited": params["waited"]}, index + 1, now, contents[one["message"]] or ""))
        return self._record(wanted)

    def _record(self, wanted: Sequence[Recorded]) -> Rows:
        """Record deliveries that are new, the followers of a group only with its first; all of a call or none."""
        added: dict[UUID, Recorded] = {}
        keys = {(row.tenant, row.idempotency_key) for row in self._rows.values() if row.idempotency_key}
        groups: set[UUID | None] = set()
        scopes: dict[int, str | None] = {}
        for row in wanted:
            scope = scopes[row.position] = self._suppressions.scope(
                row.tenant, row.stream, row.recipient.lower(), row.recipient_domain
            )
            known = row.id in self._rows or row.id in added or (row.tenant, row.idempotency_key) in keys
            if known or row.late or (row.follower and row.group_id not in groups):
                continue
            if row.idempotency_key:
                keys.add((row.tenant, row.idempotency_key))
            groups.add(row.group_id)
            if scope is not None:
                row.status, row.last_error = Status.SUPPRESSED, f"suppressed_{scope}"
            added[row.id] = row
        for row in added.values():
            if row.status is not Status.SUPPRESSED:
                self._accept(row)
        self._rows |= added
        self._settle()
        return [
            SimpleNamespace(
                position=row.position, scope=scopes[row.position], new=added.get(row.id) is row, late=row.late
            )
            for row in wanted
        ]

    def _existing(self, params: Mapping[str, Any]) -> Rows:
        found = []
        asked = zip(*(elements(params[name]) for name in ("ids", "tenants", "idempotency_keys")), strict=True)
        for position, (key, tenant, name) in enumerate(asked, start=1):
            row = next(
                (row for row in self._rows.values() if name and (row.tenant, row.idempotency_key) == (tenant, name)),
                self._rows.get(UUID(key)),
            )
            if row is not None:
                found.append(SimpleNamespace(position=position, id=row.id, status=row.status.value, digest=row.digest))
        return found

    def _delivery(self, params: Mapping[str, Any]) -> Rows:
        self._settle()
        row = self._rows.get(UUID(str(params["id"])))
        return [] if row is None else [_as_row(row)]

    def _states(self, params: Mapping[str, Any]) -> Rows:
        self._settle()
        rows = (self._rows.get(UUID(str(key))) for key in params["ids"])
        return [
            SimpleNamespace(id=row.id, status=row.status.value, last_error=row.last_error, in_doubt=False)
            for row in rows
            if row is not None and params["tenant"] in (None, row.tenant)
        ]

    def _cancel(self, params: Mapping[str, Any]) -> Rows:
        self._settle()
        canceled = []
        for key in elements(params["ids"]):
            row = self._rows.get(UUID(key))
            if row is not None and row.tenant == params["tenant"] and row.status is Status.QUEUED:
                row.status = Status.CANCELED
                canceled.append(SimpleNamespace(id=row.id, in_doubt=False))
        return canceled


# of `submit`: each array and the parameter of `submit_one` that stands for its values
_COLUMNS = {
    "ids": "id",
    "tenants": "tenant",
    "groups": "group",
    "messages": "message",
    "streams": "stream",
    "queues": "queue",
    "mailables": "mailable",
    "recipients": "recipient",
    "names": "name",
    "domains": "domain",
    "idempotency_keys": "idempotency_key",
    "digests": "digest",
    "priorities": "priority",
    "delays": "delay",
    "lifetimes": "lifetime",
    "start_moments": "start_moment",
    "end_moments": "end_moment",
    "followers": "follower",
}


def _wanted(one: Mapping[str, Any], position: int, now: datetime, content: str) -> Recorded:
    """Return a delivery as a call wants it recorded.

    Args:
        one: the parameters of `submit_one`, or what an array says of one delivery.
        position: in the call.
        now: by the ledger's time.
        content: as JSON.
    """
    waited = float(one["waited"])
    start, end, lifetime = one["start_moment"], one["end_moment"], one["lifetime"]
    soonest = now + timedelta(seconds=max(float(one["delay"] or 0) - waited, 0.0))
    starts_at = soonest if start is None else max(datetime.fromisoformat(start), soonest)
    ends_at = None if lifetime is None else now + timedelta(seconds=float(lifetime) - waited)
    return Recorded(
        id=UUID(one["id"]),
        tenant=one["tenant"],
        stream=one["stream"],
        queue=one["queue"],
        message_id=UUID(one["message"]),
        group_id=UUID(one["group"]) if one["group"] else None,
        mailable=one["mailable"],
        recipient=one["recipient"],
        recipient_name=one["name"],
        recipient_domain=one["domain"],
        content=content,
        idempotency_key=one["idempotency_key"],
        digest=one["digest"],
        priority=int(one["priority"]),
        starts_at=starts_at,
        ends_at=datetime.fromisoformat(end) if end is not None else ends_at,
        absolute=start is not None or end is not None,
        position=position,
        follower=one.get("follower") == "t",
        created_at=now,
    )


def _as_row(row: Recorded) -> Any:
    """Return a delivery as the ledger's table has it."""
    sent = row.status is Status.SENT
    facts = {name: None for name in Projection.__dataclass_fields__ if name != "status"}
    values: dict[str, Any] = {
        **facts,
        "sent_at": max(row.starts_at, row.created_at) if sent else None,
        "id": row.id,
        "tenant_id": row.tenant,
        "group_id": row.group_id,
        "message_id": row.message_id,
        "stream": row.stream,
        "queue": row.queue,
        "mailable": row.mailable,
        "status": row.status.value,
        "recipient": row.recipient,
        "recipient_domain": row.recipient_domain,
        "account": _PROVIDER if sent else None,
        "provider": _PROVIDER if sent else None,
        "provider_message_id": f"{_PROVIDER}-{row.id}" if sent else None,
        "idempotency_key": row.idempotency_key,
        "priority": row.priority,
        "due_at": row.starts_at if row.status is Status.QUEUED else None,
        "expires_at": row.ends_at,
        "attempts": int(sent),
        "in_doubt": False,
        "ask_again": False,
        "deferrals": 0,
        "refusal": None,
        "last_error": row.last_error,
        "scheduled_at": row.starts_at,
        "created_at": row.created_at.astimezone(UTC),
    }
    return SimpleNamespace(**values)


def _needs_database(name: str) -> OutboxError:
    return OutboxError(f"the outbox has no database, which {name} needs: use the mailbox instead")
