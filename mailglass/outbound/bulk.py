"""Bulk actions: cancel or release one tenant's deliveries by filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from mailglass.errors import MessageError
from mailglass.ledger import selection
from mailglass.ledger.filters import Selection
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.selection import CANCELABLE, RELEASABLE
from mailglass.mail.streams import Stream
from mailglass.outbound.cancel_results import CancelCounts
from mailglass.routing.scope import check_tenant, current_tenant
from mailglass.runtime import get_runtime


def cancel_many(*, tenant: str | None = None, **filters: Any) -> CancelCounts:
    """Cancel queued and held deliveries that match all filters.

    >>> from mailglass import Message, cancel_many, deliver_later, tenant
    >>> with tenant("acme"):
    ...     _ = deliver_later.delay(Message(to="ada@example.com", subject="News", text="Hello.", stream="bulk"))
    ...     cancel_many(stream="bulk")
    CancelCounts(canceled=1, in_doubt=0)

    Claimed deliveries are left alone. Deliveries that may have been sent cannot be canceled: they are counted apart.
    Those recorded during the call are not part of it. The call works in batches, one statement each. If it is
    interrupted, the same call cancels the rest.

    Args:
        tenant: the owner; by default the tenant in scope.
        filters: at least one of the following.
            `status`: `queued` or `held`; by default both.
            `stream`: transactional, operational or bulk.
            `mailable`: a `Mailable` class, or its `package.module:Class`.
            `group`: the id of a `DeliveryGroup`.
            `recipient`: an address.
            `account`: the account of the last attempt.
            `in_doubt`: True for deliveries that may have been sent, False for the others.
            `reason`: the recorded reason, such as `no_route`; `template_failed` matches all its kinds.
            `created_after`, `due_after`: aware moments, inclusive.
            `created_before`, `due_before`: aware moments, exclusive.

    Returns:
        The number of canceled deliveries, and of those that may have been sent.

    Raises:
        MessageError: a filter is unknown or invalid, or there is none.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached; finished batches stay canceled.
    """
    chosen = _selection(tenant, filters, CANCELABLE)
    database = get_runtime().database
    found = selection.preview(database, chosen, CANCELABLE, sample=0)
    canceled = in_doubt = 0
    for step in selection.cancel(database, found.selection):
        canceled += len(step.canceled)
        in_doubt += len(step.in_doubt)
    return CancelCounts(canceled, in_doubt)


def release_many(*, tenant: str | None = None, **filters: Any) -> int:
    """Release held deliveries that match all filters: they are due now, with new attempts and a new age.

    >>> from mailglass import release_many, tenant
    >>> with tenant("acme"):
    ...     release_many(reason="no_route")
    0

    A held delivery that may have been sent (`in_doubt=True`) may reach its recipient a second time. It stays in doubt,
    and its event is `resent`.

    Args:
        tenant: the owner; by default the tenant in scope.
        filters: as for `cancel_many`; `status` can only be `held`.

    Returns:
        The number of released deliveries.

    Raises:
        MessageError: a filter is unknown or invalid, or there is none.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached; finished batches stay released.
    """
    chosen = _selection(tenant, filters, RELEASABLE)
    runtime = get_runtime()
    found = selection.preview(runtime.database, chosen, RELEASABLE, sample=0)
    count = 0
    for lanes in selection.release(runtime.database, found.selection):
        count += len(lanes)
        runtime.doorbell.ring(lanes.values())
    return count


async def acancel_many(*, tenant: str | None = None, **filters: Any) -> CancelCounts:
    """Cancel deliveries like `cancel_many`, from a coroutine.

    >>> import asyncio
    >>> from mailglass import acancel_many
    >>> asyncio.run(acancel_many(tenant="acme", stream="bulk"))
    CancelCounts(canceled=0, in_doubt=0)

    If the awaiting task is canceled, the call goes on to its end.

    Args:
        tenant: the owner; by default the tenant in scope.
        filters: as for `cancel_many`.

    Returns:
        As for `cancel_many`.

    Raises:
        MailglassError: as `cancel_many` raises it.
    """
    from mailglass.outbound.event_loop import in_thread

    return await in_thread(lambda: cancel_many(tenant=tenant, **filters))


async def arelease_many(*, tenant: str | None = None, **filters: Any) -> int:
    """Release held deliveries like `release_many`, from a coroutine.

    >>> import asyncio
    >>> from mailglass import arelease_many
    >>> asyncio.run(arelease_many(tenant="acme", reason="no_route"))
    0

    If the awaiting task is canceled, the call goes on to its end.

    Args:
        tenant: the owner; by default the tenant in scope.
        filters: as for `release_many`.

    Returns:
        The number of released deliveries.

    Raises:
        MailglassError: as `release_many` raises it.
    """
    from mailglass.outbound.event_loop import in_thread

    return await in_thread(lambda: release_many(tenant=tenant, **filters))


def _selection(tenant: str | None, filters: dict[str, Any], statuses: Sequence[Status]) -> Selection:
    known = {field.name for field in fields(Selection)} - {"tenant", "ids"}
    for name in filters:
        if name not in known:
            raise MessageError(name, f"is no filter: use {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: _checked(name, value, statuses) for name, value in filters.items()}
    chosen = Selection(tenant=current_tenant() if tenant is None else check_tenant(tenant), **given)
    if not chosen.narrows:
        raise MessageError("filters", 'name at least one; status="queued" for all that wait')
    return chosen


def _checked(name: str, value: object, statuses: Sequence[Status]) -> object:
    if value is None:
        # a missing value must not select more deliveries than were meant
        raise MessageError(name, "is None: leave the filter out where it does not matter")
    if name in ("created_after", "created_before", "due_after", "due_before"):
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise MessageError(name, "must be a datetime with a time zone")
        return value
    if name == "in_doubt":
        if not isinstance(value, bool):
            raise MessageError(name, "must be True or False")
        return value
    if name == "status":
        if value not in statuses:
            raise MessageError(name, f"must be {' or '.join(statuses)}")
        return Status(str(value))
    if name == "stream":
        if value not in list(Stream):
            raise MessageError(name, f"must be one of {', '.join(Stream)}")
        return str(value)
    if name == "group":
        return _group(value)
    if name == "mailable" and isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if not isinstance(value, str):
        raise MessageError(name, f"must be a str, not {type(value).__name__}")
    return value


def _group(value: object) -> UUID:
    try:
        return UUID(str(getattr(value, "id", value)))
    except ValueError:
        raise MessageError("group", "must be the id of a DeliveryGroup") from None
