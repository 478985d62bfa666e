"""mailglass: mail you can see through.

An application says what to send; from that moment the platform owes it, and every later fact about it can be seen.

    from mailglass import Message, deliver_later, tenant

    with tenant("acme"):
        result = deliver_later.delay(Message(to="ada@example.com", subject="Receipt 1001", text="Thank you."))

Names load when first used, so that importing mailglass costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailglass.celery import app
    from mailglass.errors import (
        BatchFailedError,
        ConfigError,
        DeliveryError,
        DeliveryNotFoundError,
        IdempotencyError,
        LedgerError,
        LedgerUnavailableError,
        MailglassError,
        MessageError,
        RateLimitError,
        RouteError,
        SessionError,
        SignatureError,
        SuppressedError,
        TemplateError,
        TenantError,
    )
    from mailglass.ledger.deliveries import Delivery
    from mailglass.mail.addresses import Address, AddressLike
    from mailglass.mail.mailable import Mailable
    from mailglass.mail.message import Attachment, Message
    from mailglass.mail.streams import Stream
    from mailglass.outbound.batch_results import BatchResults, ItemOutcome, ItemResult
    from mailglass.outbound.bulk import acancel_many, arelease_many, cancel_many, release_many
    from mailglass.outbound.cancel_results import CancelCounts, CancelOutcome
    from mailglass.outbound.deliver import adeliver, deliver
    from mailglass.outbound.deliver_later import deliver_later
    from mailglass.outbound.deliver_many import (
        adeliver_many,
        adeliver_many_or_raise,
        deliver_many,
        deliver_many_or_raise,
    )
    from mailglass.outbound.results import DeliveryGroup, DeliveryResult
    from mailglass.routing.scope import ANY_TENANT, current_tenant, tenant
    from mailglass.settings import configure, load_settings

__version__ = "0.1.0"

_HOMES = {
    "mail.addresses": ("Address", "AddressLike"),
    "outbound.batch_results": ("BatchResults", "ItemOutcome", "ItemResult"),
    "outbound.cancel_results": ("CancelCounts", "CancelOutcome"),
    "celery": ("app",),
    "errors": (
        "BatchFailedError",
        "ConfigError",
        "DeliveryError",
        "DeliveryNotFoundError",
        "IdempotencyError",
        "LedgerError",
        "LedgerUnavailableError",
        "MailglassError",
        "MessageError",
        "RateLimitError",
        "RouteError",
        "SessionError",
        "SignatureError",
        "SuppressedError",
        "TemplateError",
        "TenantError",
    ),
    "ledger.deliveries": ("Delivery",),
    "mail.mailable": ("Mailable",),
    "mail.message": ("Attachment", "Message"),
    "outbound.deliver": ("adeliver", "deliver"),
    "outbound.deliver_later": ("deliver_later",),
    "outbound.deliver_many": ("adeliver_many", "adeliver_many_or_raise", "deliver_many", "deliver_many_or_raise"),
    "outbound.bulk": ("acancel_many", "arelease_many", "cancel_many", "release_many"),
    "outbound.results": ("DeliveryGroup", "DeliveryResult"),
    "settings": ("configure", "load_settings"),
    "mail.streams": ("Stream",),
    "routing.scope": ("ANY_TENANT", "current_tenant", "tenant"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ANY_TENANT",
    "Address",
    "AddressLike",
    "Attachment",
    "BatchFailedError",
    "BatchResults",
    "CancelCounts",
    "CancelOutcome",
    "ConfigError",
    "Delivery",
    "DeliveryError",
    "DeliveryGroup",
    "DeliveryNotFoundError",
    "DeliveryResult",
    "IdempotencyError",
    "ItemOutcome",
    "ItemResult",
    "LedgerError",
    "LedgerUnavailableError",
    "Mailable",
    "MailglassError",
    "Message",
    "MessageError",
    "RateLimitError",
    "RouteError",
    "SessionError",
    "SignatureError",
    "Stream",
    "SuppressedError",
    "TemplateError",
    "TenantError",
    "acancel_many",
    "adeliver",
    "adeliver_many",
    "adeliver_many_or_raise",
    "app",
    "arelease_many",
    "cancel_many",
    "configure",
    "current_tenant",
    "deliver",
    "deliver_later",
    "deliver_many",
    "deliver_many_or_raise",
    "load_settings",
    "release_many",
    "tenant",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'mailglass' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mailglass.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
