"""From a message to recorded deliveries: one item a recipient, one statement, one ring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Union
from uuid import UUID, uuid5

from mailglass.errors import IdempotencyError, MessageError, SuppressedError, SuppressionType
from mailglass.ids import uuid7
from mailglass.ledger.submit import Item, Recorded, content_id, derived_content_id, submit
from mailglass.mail.addresses import Address, encodable
from mailglass.mail.mailable import Mailable
from mailglass.mail.message import Message
from mailglass.outbound.schedule import Schedule, ends_before_it_is_due
from mailglass.outbound.session import NOT_GIVEN, is_psycopg, runner_of
from mailglass.rendering.content import with_text
from mailglass.routing import Lane, RouteContext
from mailglass.routing.scope import current_tenant
from mailglass.runtime import get_runtime

Sendable = Union[Message, Mailable]  # noqa: UP007 - read by Celery at run time
# made once: `json.dumps` makes one for each call that is not written as it usually is
_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def items_of(message: Sendable, tenant: str, when: Schedule, first_id: UUID | None = None) -> list[Item]:
    """Return one item for each recipient; those of one message share its content.

    Args:
        first_id: the id of the first delivery, if the caller has chosen it. All other ids follow from it, from the
            tenant and from what the call says. So the same call again, as Celery makes it of a task that is run again,
            finds what it recorded, and another call under the same id shares nothing with it.
    """
    if not isinstance(message, Message | Mailable):
        raise MessageError("message", f"must be a Message or a Mailable, not {type(message).__name__}")
    runtime = get_runtime()
    settings = runtime.settings
    route = runtime.router.resolve(RouteContext(tenant, str(message.stream)))
    account = settings.accounts[route.accounts[0]]
    if message.from_ is None and account.sender is None and settings.default_from is None:
        raise MessageError("from_", "missing: name a sender, or set `from` for the account or default_from")
    body = message.content()
    said = content = _as_json(body)
    if not encodable(content):
        raise MessageError("message", "holds a lone surrogate, which no mail can carry")
    if not isinstance(message, Mailable) and "html" in body and not body.get("text"):
        content = _as_json(with_text(body))
    lane = Lane(route.queue, tenant, str(message.stream))
    several = len(message.to) > 1
    mailable = body["mailable"]["class"] if isinstance(message, Mailable) else None
    if message.idempotency_key is not None and several:
        raise MessageError("idempotency_key", "allowed with exactly one `to`: each recipient is a delivery of its own")
    repeatable = message.idempotency_key is not None or first_id is not None
    digest = _digest(lane, message.to, said) if repeatable else None
    ids = [
        uuid7() if first_id is None else uuid5(first_id, f"{position}:{digest}") if position else first_id
        for position in range(len(message.to))
    ]
    group_id = None
    if several:
        group_id = uuid7() if first_id is None else uuid5(first_id, f"group:{digest}")
    alone = first_id is None and not several
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
            priority=when.priority,
            delay=when.countdown,
            grace=when.grace,
            lifetime=when.lifetime,
            start_moment=when.eta,
            end_moment=when.expires_at,
        )
        for delivery_id, recipient in zip(ids, message.to, strict=True)
    ]


def _digest(lane: Lane, recipients: Sequence[Address], content: str) -> str:
    """Return what tells one call from another: whose it is, to whom, and what it says.

    Args:
        content: without what is made from it, which another version may make otherwise.
    """
    keys = "\n".join([recipient.key for recipient in recipients])
    text = f"{lane.tenant}\n{keys}\n{lane.stream}\n{content}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def check_repeated(item: Item, recorded: Recorded) -> None:
    """Check that the message was recorded, or that the same one stands under its idempotency key or its id.

    Raises:
        MessageError: it would end before it is due.
        IdempotencyError: another one stands there.
    """
    if recorded.late:
        raise ends_before_it_is_due()
    if recorded.digest != item.digest:
        what = "id" if recorded.id == item.id else "idempotency key"
        raise IdempotencyError(
            f"another message was accepted under this {what} as delivery {recorded.id}: use a new one"
        )


def record(
    message: Sendable, when: Schedule, session: object, first_id: UUID | None = None
) -> list[tuple[Item, Recorded]]:
    """Record one message and ring its lane if anything new is due now.

    Args:
        session: a session or connection of the caller's, or `NOT_GIVEN`.
        first_id: the id of the first delivery, if the caller has chosen it.
    """
    items = items_of(message, current_tenant(), when, first_id)
    return list(zip(items, record_items(items, when, session), strict=True))


def record_items(items: Sequence[Item], when: Schedule, session: object) -> list[Recorded]:
    """Record the items of one message and ring its lane if anything new is due now."""
    recorded = submit(runner_of(session), items, when.called_at)
    for item, answer in zip(items, recorded, strict=True):
        check_repeated(item, answer)
    if when.now and any(is_new(answer) for answer in recorded):
        ring({items[0].lane}, session)
    return recorded


def is_new(answer: Recorded) -> bool:
    """Whether this call has queued it."""
    return not answer.known and answer.status == "queued"


def ring(lanes: Collection[Lane], session: object) -> None:
    """Ring lanes: now, or when the caller's transaction is over. Where nobody hears of its end the pump rings."""
    doorbell = get_runtime().doorbell
    if session is NOT_GIVEN:
        doorbell.ring(lanes)
        return
    if is_psycopg(session):
        return
    from mailglass.outbound.after_commit import ring_after_commit

    for lane in lanes:
        ring_after_commit(session, lane, doorbell)


def raise_if_suppressed(recorded: Sequence[Recorded]) -> None:
    """One recipient who is suppressed, or several of whom all are, is the caller's to know."""
    scopes = [answer.suppressed_by for answer in recorded if answer.suppressed_by is not None]
    if len(scopes) == len(recorded):
        raise SuppressedError(SuppressionType(scopes[0]), recorded[0].id)
