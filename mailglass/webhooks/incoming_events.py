"""Conversion of providers' events into incoming events, which the ledger accepts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from mailglass.ids import uuid7_for
from mailglass.ledger.webhooks import IncomingEvent, StoredWebhook
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.mail.recipients import RecipientPolicy
from mailglass.refusals.consequences import SECOND, suppression

MAX_TEXT = 1000
# a provider's clock, or a missing time zone, may be off by some hours, but not by a day
TOLERANCE = timedelta(days=1)
# older than any of these providers
EARLIEST = datetime(1999, 1, 1, tzinfo=UTC)


def incoming_event(
    event: ProviderEvent, webhook: StoredWebhook, recipients: RecipientPolicy | None = None
) -> IncomingEvent:
    """Return an event with an id and a plausible time.

    Args:
        event: from `Provider.normalise`.
        webhook: brought the event.
        recipients: who may get mail in this environment; None for everybody.

    Raises:
        ValueError: the ledger cannot store a part of it.
        TypeError: a part of it has the wrong type.
    """
    if event.occurred_at is not None and not isinstance(event.occurred_at, datetime):
        raise TypeError("occurred_at is no datetime")
    if event.delivery_id is not None and not isinstance(event.delivery_id, UUID):
        raise TypeError("delivery_id is no UUID")
    identity = _text(event.provider_event_id)
    if identity is None:
        raise ValueError("an event without an identity")
    occurred_at = _aware(event.occurred_at)
    # the same event at the URLs of two tenants is one event for each of them
    tenants = () if webhook.tenant is None else (webhook.tenant,)
    return IncomingEvent(
        id=uuid7_for(occurred_at, webhook.account, identity, *tenants),
        account=webhook.account,
        kind=EventKind(event.kind).value,
        occurred_at=_plausible(occurred_at, webhook.received_at),
        webhook_id=webhook.id,
        delivery_id=event.delivery_id,
        provider_message_id=_text(event.provider_message_id),
        recipient=_text(event.recipient),
        bounce_class=None if event.bounce_class is None else BounceClass(event.bounce_class).value,
        reject_reason=None if event.reject_reason is None else RejectReason(event.reject_reason).value,
        enhanced_status=_text(event.status),
        machine=bool(event.machine),
        click_hash=_text(event.click_hash),
        tenant=webhook.tenant,
        refusal=None if event.refusal is None else _text(event.refusal.code),
        doubted=event.refusal is not None and suppression(event.refusal) is SECOND,
        redirected=recipients is not None and recipients.is_redirect(event.recipient),
    )


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _plausible(moment: datetime | None, received_at: datetime) -> datetime:
    if moment is None or not EARLIEST <= moment <= received_at + TOLERANCE:
        return received_at
    return moment


def _text(value: str | None) -> str | None:
    """Check that PostgreSQL can store a text: without NUL, without lone surrogates, of a sane length."""
    if not value:
        return None
    if len(value) > MAX_TEXT or "\x00" in value:
        raise ValueError("a text that cannot be kept")
    # in bytes, since an index entry takes 2,700
    if len(value.encode()) > MAX_TEXT:
        raise ValueError("a text that cannot be kept")
    return value
