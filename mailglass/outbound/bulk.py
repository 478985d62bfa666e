"""What is not to be sent after all, or is to go again: deliveries of one tenant by filter."""

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
    """Cancel deliveries that match all filters and that no worker has claimed; what is under way is left alone.

    What may have been sent cannot be canceled: it is left, and counted apart. What is recorded while this runs is not
    part of it. It works batch by batch, a statement each: interrupted, or after an error, the same call cancels the
    rest.

    Args:
        tenant: whose; the tenant in scope when left out.
        status: `queued` or `held`; both when left out.
        stream: transactional, operational or bulk.
        mailable: a `Mailable` class, or its `package.module:Class`.
        group: the id of a `DeliveryGroup`.
        recipient: their address.
        account: the account that attempted them last.
        in_doubt: True for those that may have been sent, False for those that cannot have been.
        reason: the recorded reason of held ones, such as `no_route`; `template_failed` stands for all of its kinds.
        created_after, created_before, due_after, due_before: aware moments; from, and up to but not at.

    Returns:
        How many were taken back, and how many matched that may have been sent.

    Raises:
        MessageError: an unknown or wrong filter, or none: name at least one.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached; batches before stay taken back.
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
    """Let held deliveries that match all filters go again, now; their attempts and their age count from here.

    A delivery may be held because nobody knows whether it was sent (`in_doubt=True`): that one may then reach its
    recipient a second time. It stays in doubt, and its event says `resent`.

    Args:
        tenant: whose; the tenant in scope when left out.
        filters: as for `cancel_many`; of what is held, so `status` is `held` or left out.

    Returns:
        How many were released.

    Raises:
        MessageError, TenantError, LedgerUnavailableError: as for `cancel_many`.
    """
    chosen = _selection(tenant, filters, RELEASABLE)
    runtime = get_runtime()
    found = selection.preview(runtime.database, chosen, RELEASABLE, sample=0)
    count = 0
    for lanes in selection.release(runtime.database, found.selection):
        count += len(lanes)
        runtime.doorbell.ring(lanes.values())
    return count


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
        # a value that went missing must not make it more deliveries than were meant
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
