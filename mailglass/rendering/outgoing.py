"""From frozen stored content to what a provider is asked to send. The hot path: nothing is validated twice."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outgoing import Outgoing


def outgoing(
    *,
    delivery_id: UUID,
    tenant: str,
    stream: str,
    recipient: Address,
    created_at: datetime,
    content: Mapping[str, Any],
    default_sender: Address | None,
    start_by: float | None = None,
) -> Outgoing:
    """Return one delivery as a provider gets it.

    Args:
        delivery_id: the id of the delivery.
        tenant: whose it is.
        stream: its stream.
        recipient: of this delivery.
        created_at: when it was recorded.
        content: as `Message.content()` wrote it.
        default_sender: for content that names no sender.
        start_by: on the monotonic clock; when the mail expires, None for never.

    Raises:
        ValueError: neither the content nor the default names a sender.
    """
    named = content.get("from")
    sender = Address(named[1], named[0]) if named else default_sender
    if sender is None:
        raise ValueError("no sender: the message names none and there is no default")
    return Outgoing(
        delivery_id=delivery_id,
        tenant=tenant,
        stream=stream,
        recipient=recipient,
        sender=sender,
        subject=content["subject"],
        created_at=created_at,
        text=content.get("text"),
        html=content.get("html"),
        reply_to=_addresses(content.get("reply_to")),
        cc=_addresses(content.get("cc")),
        bcc=_addresses(content.get("bcc")),
        headers=_headers(content.get("headers")),
        tags=tuple(content.get("tags", ())),
        metadata=content.get("metadata", {}),
        attachments=_attachments(content.get("attachments")),
        options=content.get("options", {}),
        start_by=start_by,
    )


def _addresses(pairs: Any) -> tuple[Address, ...]:
    return tuple([Address(email, name) for name, email in pairs]) if pairs else ()


def _headers(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple([(name, value) for name, value in pairs]) if pairs else ()


def _attachments(items: Any) -> tuple[Attachment, ...]:
    return tuple([_attachment(item) for item in items]) if items else ()


def _attachment(item: Mapping[str, str]) -> Attachment:
    return Attachment(
        item["filename"], base64.b64decode(item["content"]), item["content_type"], item.get("content_id", "")
    )
