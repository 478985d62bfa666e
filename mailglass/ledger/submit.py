"""Recording new deliveries: one statement for a whole batch, suppression check and answers included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from mailglass.addresses import Address
from mailglass.errors import LedgerUnavailableError
from mailglass.ids import uuid7, uuid7s
from mailglass.ledger import arrays
from mailglass.routing import Lane

if TYPE_CHECKING:
    # who imports `deliver_later` does not load SQLAlchemy by it
    from mailglass.ledger.database import Rows

Runner = Callable[[str, Mapping[str, Any]], "Rows"]


@dataclass(frozen=True, slots=True)
class Item:
    """One delivery to record.

    Attributes:
        message_id: of its content; deliveries of one group may share it.
        content: the content as JSON text.
        frozen: whether the content is final; a mailable's is rendered by the worker first.
        delay: seconds until it is to leave.
        grace: seconds more until it is due for the workers, because the caller sends it itself.
        lifetime: seconds until it expires, or None.
        digest: of the content, to tell a repeated message from another one under the same idempotency key.
    """

    id: UUID
    lane: Lane
    message_id: UUID
    content: str
    recipient: Address
    frozen: bool = True
    group_id: UUID | None = None
    mailable: str | None = None
    idempotency_key: str | None = None
    digest: str | None = None
    priority: int = 5
    delay: float = 0.0
    grace: float = 0.0
    lifetime: float | None = None

    def __repr__(self) -> str:
        return f"<Item {self.id}>"


class Recorded(NamedTuple):
    """What became of one item.

    Attributes:
        id: of the delivery that stands: the item's own, or the first one under its idempotency key.
        status: where that delivery stands.
        suppressed_by: the scope of the suppression in the way, or None.
        known: whether the delivery had been there before.
        digest: the standing delivery's.
    """

    id: UUID
    status: str
    suppressed_by: str | None = None
    known: bool = False
    digest: str | None = None


def submit(run: Runner, items: Sequence[Item]) -> list[Recorded]:
    """Record deliveries and answer in their order.

    Args:
        run: runs a named statement: the ledger's own connection, or one inside the caller's transaction.
        items: any number; a few hundred per call is best.

    Raises:
        LedgerUnavailableError: the database cannot be reached. All were recorded, under their ids, or none.
    """
    rows = _submit_one(run, items[0]) if len(items) == 1 else _submit_all(run, items)
    known = [row.position for row in rows if not row.new]
    standing = _standing(run, items, known) if known else {}
    return [
        _new(items[row.position - 1], row.scope)
        if row.new
        else _repeated(items[row.position - 1], standing[row.position], row.scope)
        for row in sorted(rows, key=lambda row: row.position)
    ]


def _submit_one(run: Runner, item: Item) -> Rows:
    lane, recipient = item.lane, item.recipient
    return run(
        "submit_one",
        {
            "id": item.id.hex,
            "tenant": lane.tenant,
            "group": None if item.group_id is None else item.group_id.hex,
            "message": item.message_id.hex,
            "stream": lane.stream,
            "queue": lane.queue,
            "mailable": item.mailable,
            "recipient": recipient.email,
            "name": recipient.name,
            "key": recipient.key,
            "domain": recipient.domain,
            "idempotency_key": item.idempotency_key,
            "digest": item.digest,
            "priority": item.priority,
            "delay": item.delay,
            "grace": item.grace,
            "lifetime": item.lifetime,
            "event_id": uuid7().hex,
            "content": item.content,
            "frozen": item.frozen,
        },
    )


def _submit_all(run: Runner, items: Sequence[Item]) -> Rows:
    contents = {item.message_id: item for item in items}
    return run(
        "submit",
        {
            "ids": arrays.uuids([item.id for item in items]),
            "tenants": arrays.texts([item.lane.tenant for item in items]),
            "groups": arrays.uuids([item.group_id for item in items]),
            "messages": arrays.uuids([item.message_id for item in items]),
            "streams": arrays.texts([item.lane.stream for item in items]),
            "queues": arrays.texts([item.lane.queue for item in items]),
            "mailables": arrays.texts([item.mailable for item in items]),
            "recipients": arrays.texts([item.recipient.email for item in items]),
            "names": arrays.texts([item.recipient.name for item in items]),
            "keys": arrays.texts([item.recipient.key for item in items]),
            "domains": arrays.texts([item.recipient.domain for item in items]),
            "idempotency_keys": arrays.texts([item.idempotency_key for item in items]),
            "digests": arrays.texts([item.digest for item in items]),
            "priorities": arrays.numbers([item.priority for item in items]),
            "delays": arrays.numbers([item.delay for item in items]),
            "graces": arrays.numbers([item.grace for item in items]),
            "lifetimes": arrays.numbers([item.lifetime for item in items]),
            "event_ids": arrays.uuids(uuid7s(len(items))),
            "content_ids": arrays.uuids(contents),
            "contents": arrays.texts([item.content for item in contents.values()]),
            "frozen": arrays.booleans([item.frozen for item in contents.values()]),
        },
    )


def _standing(run: Runner, items: Sequence[Item], positions: Sequence[int]) -> dict[int, Recorded]:
    """What was there before, by the positions of the items that it stands for."""
    known = [items[position - 1] for position in positions]
    rows = run(
        "standing",
        {
            "ids": arrays.uuids([item.id for item in known]),
            "tenants": arrays.texts([item.lane.tenant for item in known]),
            "idempotency_keys": arrays.texts([item.idempotency_key for item in known]),
        },
    )
    if len(rows) < len(known):
        raise LedgerUnavailableError("a delivery was removed while it was looked up: submit again")
    return {
        positions[row.position - 1]: Recorded(_uuid(row.id), row.status, known=True, digest=row.digest) for row in rows
    }


def _new(item: Item, scope: str | None) -> Recorded:
    return Recorded(item.id, "suppressed" if scope else "queued", scope, digest=item.digest)


def _repeated(item: Item, found: Recorded, scope: str | None) -> Recorded:
    """Under the item's own id it was recorded by this very call, whose answer had been lost."""
    return found._replace(known=found.id != item.id, suppressed_by=scope if found.status == "suppressed" else None)


def _uuid(value: object) -> UUID:
    """Drivers of the caller's choice may answer with text."""
    return value if isinstance(value, UUID) else UUID(str(value))
