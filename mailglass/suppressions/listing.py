"""`check`, `get`, `search` and `count`: read the suppression list."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from mailglass.errors import MessageError, SuppressionType
from mailglass.ledger import suppression_list
from mailglass.ledger.session import NOT_GIVEN, Ledger, NotGiven
from mailglass.ledger.suppression_list import Filter
from mailglass.ledger.suppressions import Suppression, suppressions_of
from mailglass.mail.addresses import AddressLike, parse_address
from mailglass.routing.scope import AnyTenant
from mailglass.suppressions.values import check_moment, owner, owner_or_any, parse_value, stream_name

if TYPE_CHECKING:
    from mailglass.ledger.session import SessionLike

REASONS: Final = ("hard_bounce", "complaint", "unsubscribe", "manual", "provider")
SOURCES: Final = ("webhook", "attempt", "sync", "manual", "import")
_NAMES: Final = {"reason": REASONS, "source": SOURCES, "scope": tuple(scope.value for scope in SuppressionType)}
_MOMENTS: Final = ("created_after", "created_before", "expires_after", "expires_before")
_KNOWN: Final = (*_NAMES, *_MOMENTS, "stream", "account", "domain", "live")


def check(
    address: AddressLike, *, tenant: str | None = None, session: SessionLike | NotGiven = NOT_GIVEN
) -> list[Suppression]:
    """Return the live entries that stop mail to an address: of the tenant and of the list that binds all.

    >>> from mailglass import suppressions
    >>> suppressions.check("ada@example.com", tenant="acme")
    []

    Args:
        address: the recipient.
        tenant: the sender; by default the tenant in scope.
        session: reads in your transaction, as for `deliver_later.delay`.

    Returns:
        The entries, empty if mail may go. An entry with a `stream` stops that stream only.

    Raises:
        MessageError: not an address.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached.
    """
    parsed = parse_address(address, "address")
    return suppressions_of(Ledger(session), owner(tenant), parsed)


def get(key: UUID | str, *, session: SessionLike | NotGiven = NOT_GIVEN) -> Suppression | None:
    """Return one entry by its id, whoever it binds, or None.

    >>> from uuid import uuid4
    >>> from mailglass import suppressions
    >>> suppressions.get(uuid4()) is None
    True

    Args:
        key: the entry's `id`.
        session: reads in your transaction.

    Raises:
        MessageError: not an id.
        LedgerUnavailableError: the database cannot be reached.
    """
    return suppression_list.get(Ledger(session), _id(key, "id"))


def search(
    *,
    tenant: str | AnyTenant | None = None,
    after: UUID | str | None = None,
    limit: int | None = None,
    session: SessionLike | NotGiven = NOT_GIVEN,
    **filters: Any,
) -> Iterator[Suppression]:
    """Iterate over the entries that match all filters, in the order in which they were made.

    >>> from mailglass import suppressions
    >>> [entry.reason for entry in suppressions.search(tenant="acme", reason="complaint", limit=100)]
    []

    The list is read page by page, so memory stays flat. To go on later, give the last entry's `id` as `after`.

    Args:
        tenant: the owner of the list; `*` for the list that binds all tenants, `ANY_TENANT` for all lists; by default
            the tenant in scope.
        after: the id of the entry to go on after.
        limit: at most this many entries.
        session: reads in your transaction.
        filters: any of the following.
            `scope`: `address`, `domain` or `address_stream`.
            `reason`: hard_bounce, complaint, unsubscribe, manual or provider.
            `source`: webhook, attempt, sync, manual or import.
            `stream`: transactional, operational or bulk, of entries on one stream.
            `account`: the account it was learnt from.
            `domain`: of the address.
            `created_after`, `expires_after`: aware moments, inclusive.
            `created_before`, `expires_before`: aware moments, exclusive.
            `live`: True for entries that stop mail, False for those that have ended.

    Returns:
        An iterator. The arguments are checked at the call, the list is read at the first step.

    Raises:
        MessageError: a filter is unknown or invalid.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached.
    """
    chosen = make_filter(tenant, filters)
    if limit is not None and limit < 0:
        raise MessageError("limit", "must not be negative")
    position = None if after is None else _id(after, "after")
    size = suppression_list.PAGE if limit is None else max(1, min(limit, suppression_list.PAGE))
    return islice(suppression_list.walk(Ledger(session), chosen, after=position, size=size), limit)


def count(*, tenant: str | AnyTenant | None = None, session: SessionLike | NotGiven = NOT_GIVEN, **filters: Any) -> int:
    """Return the number of entries that match all filters.

    >>> from mailglass import suppressions
    >>> suppressions.count(tenant="acme", live=True)
    0

    Args:
        tenant: as for `search`.
        session: reads in your transaction.
        filters: as for `search`.

    Raises:
        MessageError: a filter is unknown or invalid.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached.
    """
    return suppression_list.count(Ledger(session), make_filter(tenant, filters))


def make_filter(tenant: str | AnyTenant | None, filters: dict[str, Any]) -> Filter:
    """Return a checked filter.

    Raises:
        MessageError: a filter is unknown or invalid.
        TenantError: no tenant is in scope.
    """
    for name in filters:
        if name not in _KNOWN:
            raise MessageError(name, f"is no filter: use {', '.join(sorted(_KNOWN))}")
    return Filter(
        tenant=owner_or_any(tenant),
        **{name: _checked(name, value) for name, value in filters.items() if value is not None},
    )


def _checked(name: str, value: Any) -> Any:
    if name in _NAMES:
        if value not in _NAMES[name]:
            raise MessageError(name, f"must be one of {', '.join(_NAMES[name])}")
        return str(value)
    if name in _MOMENTS:
        return check_moment(name, value)
    if name == "stream":
        return stream_name(value)
    if name == "domain":
        found, scope = parse_value(value)
        if scope is not SuppressionType.DOMAIN:
            raise MessageError("domain", "must be a domain, without `@`")
        return found
    if name == "live" and not isinstance(value, bool):
        raise MessageError("live", "must be True or False")
    return value


def _id(value: UUID | str, name: str) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise MessageError(name, "must be the id of an entry") from None
