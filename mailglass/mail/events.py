"""The taxonomy into which every provider's events are normalised."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from mailglass.mail.refusal import Refusal


class EventKind(StrEnum):
    """The one taxonomy into which every provider's events are normalised."""

    QUEUED = "queued"
    SENT = "sent"
    REJECTED = "rejected"
    FAILED = "failed"
    BOUNCED = "bounced"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    AUTORESPONDED = "autoresponded"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    UNKNOWN = "unknown"


class BounceClass(StrEnum):
    """Permanence of a bounce. Only `hard` suppresses."""

    HARD = "hard"
    SOFT = "soft"
    UNDETERMINED = "undetermined"


class RejectReason(StrEnum):
    """Reason of a provider not to send."""

    INVALID = "invalid"
    BOUNCED = "bounced"
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"
    SPAM = "spam"
    UNSUBSCRIBED = "unsubscribed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """One normalised event about one recipient.

    Attributes:
        kind: in the one taxonomy; what is not mapped is `unknown`, never a guess.
        provider_event_id: what makes it the same event when it comes again, by the provider's own rule.
        occurred_at: the provider's time, aware; None where it gives none.
        delivery_id: ours, where it came back.
        provider_message_id: the provider's id, in the form `Outcome.provider_message_id` has.
        recipient: the address it is about; used to suppress, never written to the ledger's events.
        status: the enhanced status code (RFC 3463), where given.
        machine: an open or click made by a machine (prefetch, proxy).
        click_hash: hex digest of the clicked target; the target itself is content.
        refusal: the meaning of what a receiver said, where it refused or put off the mail.
    """

    kind: EventKind
    provider_event_id: str
    occurred_at: datetime | None = None
    delivery_id: UUID | None = None
    provider_message_id: str | None = None
    recipient: str | None = field(default=None, repr=False)
    bounce_class: BounceClass | None = None
    reject_reason: RejectReason | None = None
    status: str | None = None
    machine: bool = False
    click_hash: str | None = None
    tags: tuple[str, ...] = ()
    refusal: Refusal | None = field(default=None, compare=False)
