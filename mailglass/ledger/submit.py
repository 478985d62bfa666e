"""Recording new deliveries: one statement for a whole batch, suppression check and answers included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from mailglass import clock
from mailglass.errors import LedgerUnavailableError
from mailglass.ids import uuid7
from mailglass.ledger import arrays
from mailglass.mail.addresses import Address
from mailglass.routing import Lane

if TYPE_CHECKING:
    # who imports `deliver_later` does not load SQLAlchemy by it
    from mailglass.ledger.database import Rows

_VERSION = 0xF << 76
_VERSION_8 = 0x8 << 76

Runner = Callable[[str, Mapping[str, Any]], "Rows"]


@dataclass(frozen=True, slots=True)
class Item:
    """One delivery to record.

    Attributes:
        message_id: of its content, which the deliveries of one group share: `content_id`, or `derived_content_id`.
        content: the content as JSON text.
        frozen: whether the content is final; a mailable's is rendered by the worker first.
        group_id: of one message to several recipients. Its items stand side by side, and the first decides for all of
            them: where it was there before, none is recorded.
        delay: seconds until it is to leave.
        grace: seconds more until it is due for the workers, because the caller sends it itself.
        lifetime: seconds until it expires, or None.
        start_moment: the aware moment at which it is to leave, instead of `delay`.
        end_moment: the aware moment at which it expires, instead of `lifetime`.
        digest: of the call's content and recipients, to tell a repeated message from another one under the same
            idempotency key or id.
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
    start_moment: datetime | None = None
    end_moment: datetime | None = None

    def __repr__(self) -> str:
        return f"<Item {self.id}>"


class Recorded(NamedTuple):
    """The result of recording one item.

    Attributes:
        id: of the delivery that stands: the item's own, or the first one under its idempotency key.
        status: where that delivery stands.
        suppressed_by: the scope of the suppression in the way, or None.
        known: whether the delivery had been there before.
        digest: the existing delivery's.
        late: it was not recorded, because it would end before it is due.
    """

    id: UUID
    status: str
    suppressed_by: str | None = None
    known: bool = False
    digest: str | None = None
    late: bool = False


# of `submit`: each column's name, its kind of array, and the value of an item
_COLUMNS: Final[tuple[tuple[str, Callable[[Sequence[Any]], str], Callable[[Item], Any]], ...]] = (
    ("ids", arrays.uuids, attrgetter("id")),
    ("tenants", arrays.texts, attrgetter("lane.tenant")),
    ("groups", partial(arrays.sparse, arrays.uuids), attrgetter("group_id")),
    ("messages", arrays.uuids, attrgetter("message_id")),
    ("streams", arrays.texts, attrgetter("lane.stream")),
    ("queues", arrays.texts, attrgetter("lane.queue")),
    ("mailables", partial(arrays.sparse, arrays.texts), attrgetter("mailable")),
    ("recipients", arrays.texts, attrgetter("recipient.email")),
    ("names", arrays.texts, attrgetter("recipient.name")),
    ("keys", arrays.texts, attrgetter("recipient.key")),
    ("domains", arrays.texts, attrgetter("recipient.domain")),
    ("idempotency_keys", partial(arrays.sparse, arrays.texts), attrgetter("idempotency_key")),
    ("digests", partial(arrays.sparse, arrays.texts), attrgetter("digest")),
    ("priorities", arrays.numbers, attrgetter("priority")),
    ("delays", arrays.numbers, attrgetter("delay")),
    ("graces", partial(arrays.sparse, arrays.numbers), lambda item: item.grace or None),
    ("lifetimes", partial(arrays.sparse, arrays.numbers), attrgetter("lifetime")),
    ("start_moments", partial(arrays.sparse, arrays.moments), attrgetter("start_moment")),
    ("end_moments", partial(arrays.sparse, arrays.moments), attrgetter("end_moment")),
)


def content_id(delivery_id: UUID) -> UUID:
    """Return the id of one delivery's content, for a new UUIDv7: the same as a version 8, which is no other's."""
    return UUID(int=delivery_id.int & ~_VERSION | _VERSION_8)


def derived_content_id(tenant: str, owner_id: UUID) -> UUID:
    """Return the id of content, to which no delivery of another call or tenant may refer, whoever chose the owner's.

    Args:
        tenant: whose content.
        owner_id: what the content belongs to: a group, or one delivery without a group.
    """
    digest = hashlib.sha256(f"{tenant}/{owner_id}".encode()).hexdigest()
    return UUID(f"{digest[:12]}8{digest[13:16]}8{digest[17:32]}")


def submit(run: Runner, items: Sequence[Item], called_at: float | None = None) -> list[Recorded]:
    """Record deliveries and answer in their order.

    Args:
        run: runs a named statement: the ledger's own connection, or one inside the caller's transaction.
        items: any number; a few hundred per call is best.
        called_at: the moment on the monotonic clock from which their delays and lifetimes count; now if left out.

    Raises:
        LedgerUnavailableError: the database cannot be reached. All were recorded, under their ids, or none.
    """
    waited = 0.0 if called_at is None else clock.monotonic() - called_at
    rows = _submit_one(run, items[0], waited) if len(items) == 1 else _submit_all(run, items, waited)
    rows.sort(key=lambda row: row.position)
    known = [row.position for row in rows if not row.new]
    repeated = _existing(run, items, known) if known else {}
    answers: list[Recorded] = []
    for item, row in zip(items, rows, strict=True):
        found = repeated.get(row.position)
        if row.new:
            answers.append(_new(item, row.scope))
        elif found is not None:
            answers.append(_repeated(item, found, row.scope))
        elif row.late:
            answers.append(Recorded(item.id, "late", digest=item.digest, late=True))
        elif item.group_id is not None and answers and item.group_id == items[len(answers) - 1].group_id:
            # another call's first delivery stands in the way of the whole group
            answers.append(answers[-1])
        else:
            raise LedgerUnavailableError("a delivery was removed while it was looked up: submit again")
    return answers


def existing(run: Runner, item: Item) -> Recorded | None:
    """Return the delivery that stands under an item's idempotency key or id, or None."""
    return _existing(run, [item], [1]).get(1)


def _submit_one(run: Runner, item: Item, waited: float) -> Rows:
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
            "start_moment": _text(item.start_moment),
            "end_moment": _text(item.end_moment),
            "waited": waited,
            "event_id": uuid7().hex,
            "content": item.content,
            "frozen": item.frozen,
        },
    )


def _submit_all(run: Runner, items: Sequence[Item], waited: float) -> Rows:
    contents = {item.message_id: item for item in items}
    return run(
        "submit",
        {
            **{name: write(list(map(read, items))) for name, write, read in _COLUMNS},
            "followers": _followers(items),
            "waited": waited,
            "event_ids": arrays.new_uuids(len(items)),
            "content_ids": arrays.uuids(contents),
            "contents": arrays.texts([item.content for item in contents.values()]),
            "frozen": arrays.booleans([item.frozen for item in contents.values()]),
        },
    )


def _followers(items: Sequence[Item]) -> str:
    """Return which items are recorded only with the first of their group, or an empty array if there are none."""
    groups = [item.group_id for item in items]
    if not any(groups):
        return "{}"
    return arrays.booleans(
        [group is not None and before == group for before, group in zip([None, *groups], groups, strict=False)]
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _existing(run: Runner, items: Sequence[Item], positions: Sequence[int]) -> dict[int, Recorded]:
    """Return what was there before, by the positions of the items that it stands for."""
    known = [items[position - 1] for position in positions]
    rows = run(
        "existing",
        {
            "ids": arrays.uuids([item.id for item in known]),
            "tenants": arrays.texts([item.lane.tenant for item in known]),
            "idempotency_keys": arrays.texts([item.idempotency_key for item in known]),
        },
    )
    return {
        positions[row.position - 1]: Recorded(_uuid(row.id), row.status, known=True, digest=row.digest) for row in rows
    }


def _new(item: Item, scope: str | None) -> Recorded:
    return Recorded(item.id, "suppressed" if scope else "queued", scope, digest=item.digest)


def _repeated(item: Item, found: Recorded, scope: str | None) -> Recorded:
    """Return the answer for what was there before.

    Under the item's own id this very call recorded it, and its answer was lost.
    """
    return found._replace(known=found.id != item.id, suppressed_by=scope if found.status == "suppressed" else None)


def _uuid(value: object) -> UUID:
    """Return an id that the caller's driver may have answered as text."""
    return value if isinstance(value, UUID) else UUID(str(value))
