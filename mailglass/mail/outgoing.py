"""One delivery as a provider gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One delivery as a provider gets it: frozen, so that every attempt says the same.

    Attributes:
        delivery_id: ours; sent as metadata and read back from webhooks.
        created_at: when the delivery was first to leave; the Date header of every attempt.
        start_by: on `mailglass.clock.monotonic()`; an attempt that was not started by then must not be, since the mail
            has expired; None for never.
    """

    delivery_id: UUID
    tenant: str
    stream: str
    recipient: Address
    sender: Address
    subject: str
    created_at: datetime
    text: str | None = None
    html: str | None = None
    reply_to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    start_by: float | None = None

    @property
    def expired(self) -> bool:
        """True if no attempt may be started any more."""
        return self.start_by is not None and monotonic() >= self.start_by

    def __repr__(self) -> str:
        return f"<Outgoing {self.delivery_id}>"
