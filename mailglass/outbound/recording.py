"""Recording of a message as deliveries: one item for each recipient, one statement, one ring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar, Union
from uuid import UUID, uuid5

from mailglass.errors import IdempotencyError, MessageError, SuppressedError, SuppressionType
from mailglass.ids import uuid7
from mailglass.ledger.session import (
    NOT_GIVEN,
    HostTransaction,
    async_session,
    is_in_memory,
    is_psycopg,
    remember_ledger,
    runner_of,
)
from mailglass.ledger.submit import Item, Recorded, content_id, derived_content_id, submit
from mailglass.mail.addresses import Address, encodable
from mailglass.mail.mailable import Mailable
from mailglass.mail.message import Message
from mailglass.outbound.schedule import Schedule, expires_before_due
from mailglass.rendering.content import with_text
from mailglass.routing import Lane, Mode, RouteContext
from mailglass.routing.scope import current_tenant
from mailglass.runtime import get_runtime

T = TypeVar("T")
Sendable = Union[Message, Mailable]  # noqa: UP007 - read by Celery at run time
# made once: `json.dumps` makes an encoder at each call that asks for another form than its own
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def items_of(message: Sendable, tenant: str, schedule: Schedule, first_id: UUID | None = None) -> list[Item]:
    """Return one item for each recipient; the items of one message share its content.

    Args:
        message: a `Message` or a `Mailable`.
        tenant: its owner.
        schedule: when the deliveries are due, and how urgent they are.
        first_id: the id of the first delivery, if the caller has chosen it. All other ids follow from it, the tenant
            and the call. So the same call again, as Celery makes it for a repeated task, finds its deliveries, and
            another call under the same id shares nothing with it.

    Raises:
        MessageError: the message cannot be accepted.
        RouteError: there is no route.
    """
    if not isinstance(message, Message | Mailable):
        raise MessageError("message", f"must be a Message or a Mailable, not {type(message).__name__}")
    original, content, mailable = _content_of(message, schedule.mode)
    lane = _lane_of(message, tenant, schedule.mode, mailable)
    if message.idempotency_key is not None and len(message.to) > 1:
        raise MessageError("idempotency_key", "allowed with exactly one `to`: each recipient is a delivery of its own")
    repeatable = message.idempotency_key is not None or first_id is not None
    digest = _digest(lane, message.to, original) if repeatable else None
    ids, group_id = _ids_of(len(message.to), first_id, digest)
    alone = first_id is None and group_id is None
    message_id = content_id(ids[0]) if alone else derived_content_id(tenant, group_id or ids[0])
    return [
        Item(
            id=delivery_id,
            lane=lane,
            message_id=message_id,
            content=content,
            recipient=recipient,
            frozen=mailable is None,
            group_id=group_id,
            mailable=mailable,
            idempotency_key=message.idempotency_key,
            digest=digest,
            priority=schedule.priority,
            delay=schedule.countdown,
            grace=schedule.grace,
            lifetime=schedule.lifetime,
            start_moment=schedule.eta,
            end_moment=schedule.expires_at,
        )
        for delivery_id, recipient in zip(ids, message.to, strict=True)
    ]


def _lane_of(message: Message | Mailable, tenant: str, mode: Mode, mailable: str | None) -> Lane:
    """Return the lane of a message, once its first account has a sender."""
    runtime = get_runtime()
    settings = runtime.settings
    route = runtime.router.resolve(RouteContext(tenant, str(message.stream), mode=mode, mailable=mailable))
    # one that the application keeps is resolved when it sends
    account = settings.accounts.get(route.accounts[0])
    if message.from_ is None and account is not None and account.sender is None and settings.default_from is None:
        raise MessageError("from_", "missing: name a sender, or set `from` for the account or default_from")
    return Lane(route.queue, tenant, str(message.stream))


def _content_of(message: Message | Mailable, mode: Mode) -> tuple[str, str, str | None]:
    """Return the content as the caller gave it, as it is stored, and the mailable's class.

    Stored content has a text for HTML, and the mode of `deliver`, which the route of every attempt may depend on.
    """
    body = message.content()
    original = _json(body)
    if not encodable(original):
        raise MessageError("message", "holds a lone surrogate, which no mail can carry")
    stored = body
    mailable = body["mailable"]["class"] if isinstance(message, Mailable) else None
    if mailable is None and "html" in body and not body.get("text"):
        stored = with_text(body)
    if mode is Mode.NOW:
        stored = {**stored, "mode": mode.value}
    return original, original if stored is body else _json(stored), mailable


def _ids_of(count: int, first_id: UUID | None, digest: str | None) -> tuple[list[UUID], UUID | None]:
    """Return the ids of a message's deliveries, and of their group if there are several."""
    if first_id is None:
        return [uuid7() for _ in range(count)], uuid7() if count > 1 else None
    ids = [uuid5(first_id, f"{index}:{digest}") if index else first_id for index in range(count)]
    return ids, uuid5(first_id, f"group:{digest}") if count > 1 else None


def _digest(lane: Lane, recipients: Sequence[Address], content: str) -> str:
    """Return a digest of a call, which tells repeated calls from others.

    Args:
        lane: of the message.
        recipients: in order.
        content: as the caller gave it, since other versions may derive other texts from it.
    """
    keys = "\n".join([recipient.key for recipient in recipients])
    text = f"{lane.tenant}\n{keys}\n{lane.stream}\n{content}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def check_repeated(item: Item, recorded: Recorded) -> None:
    """Check that a message was recorded, or that the ledger has the same one under its idempotency key or id.

    Raises:
        MessageError: it would expire before it is due.
        IdempotencyError: another message has the key or the id.
    """
    if recorded.late:
        raise expires_before_due()
    if recorded.digest != item.digest:
        key = "id" if recorded.id == item.id else "idempotency key"
        raise IdempotencyError(
            f"another message was accepted under this {key} as delivery {recorded.id}: use a new one"
        )


def record(
    message: Sendable, schedule: Schedule, session: object, first_id: UUID | None = None
) -> list[tuple[Item, Recorded]]:
    """Record one message, and ring its lane if a new delivery is due now.

    Args:
        message: a `Message` or a `Mailable`.
        schedule: when its deliveries are due.
        session: a session or connection of the caller's, or `NOT_GIVEN`.
        first_id: the id of the first delivery, if the caller has chosen it.

    Returns:
        Each item with its record.
    """
    items = items_of(message, current_tenant(), schedule, first_id)
    return list(zip(items, record_items(items, schedule, session), strict=True))


async def arecord(
    message: Sendable,
    schedule: Schedule,
    session: object,
    first_id: UUID | None,
    answer: Callable[[list[tuple[Item, Recorded]]], T],
) -> T:
    """Record one message like `record`, from a coroutine, whose event loop waits for nothing.

    The coroutine may be canceled at each `await`. In a transaction of mailglass's own the message is recorded as a
    whole, or not at all if no thread had begun with it. In the caller's, its commit or rollback decides.

    Args:
        message: a `Message` or a `Mailable`.
        schedule: when its deliveries are due.
        session: an asynchronous session or connection of the caller's, or `NOT_GIVEN`.
        first_id: the id of the first delivery, if the caller has chosen it.
        answer: makes the answer of each item with its record; an error that it raises is the caller's.

    Returns:
        The answer.
    """
    from mailglass.outbound.event_loop import in_thread

    if session is NOT_GIVEN:
        return await in_thread(lambda: answer(record(message, schedule, session, first_id)))
    within = async_session(session)

    def prepare() -> list[Item]:
        make_ready()
        return items_of(message, current_tenant(), schedule, first_id)

    items = await in_thread(prepare)
    recorded = await within.run_sync(lambda own: record_items(items, schedule, own))
    return answer(list(zip(items, recorded, strict=True)))


def make_ready() -> None:
    """Open what a transaction of the caller's takes for granted, because it runs in an event loop."""
    remember_ledger()
    _ = get_runtime().doorbell


def record_items(items: Sequence[Item], schedule: Schedule, session: object) -> list[Recorded]:
    """Record the items of one message, and ring its lane if a new delivery is due now."""
    recorded = submit(runner_of(session), items, schedule.called_at)
    for item, answer in zip(items, recorded, strict=True):
        check_repeated(item, answer)
    if schedule.is_due_now and any(is_new(answer) for answer in recorded):
        ring({items[0].lane}, session)
    return recorded


def is_new(answer: Recorded) -> bool:
    """Return whether this call has queued the delivery."""
    return not answer.known and answer.status == "queued"


def ring(lanes: Collection[Lane], session: object) -> None:
    """Ring lanes now, or after the caller's transaction. After a psycopg transaction the pump rings."""
    doorbell = get_runtime().doorbell
    if session is NOT_GIVEN:
        doorbell.ring(lanes)
        return
    if is_in_memory():
        # nobody waits for it, and the caller's session is not to connect for it
        return
    if isinstance(session, HostTransaction):
        session.on_commit(partial(doorbell.ring, lanes))
        return
    if is_psycopg(session):
        return
    from mailglass.outbound.after_commit import ring_after_commit

    for lane in lanes:
        ring_after_commit(session, lane, doorbell)


def raise_if_suppressed(recorded: Sequence[Recorded]) -> None:
    """Raise `SuppressedError` if all recipients are suppressed."""
    scopes = [answer.suppressed_by for answer in recorded if answer.suppressed_by is not None]
    if len(scopes) == len(recorded):
        raise SuppressedError(SuppressionType(scopes[0]), recorded[0].id)
