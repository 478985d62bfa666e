"""Values of the suppression list as callers give them: an address or a domain, a tenant, a stream."""

from __future__ import annotations

from datetime import datetime

from mailglass.errors import MessageError, SuppressionType
from mailglass.ledger.suppressions import EVERYONE
from mailglass.mail.addresses import parse_address
from mailglass.mail.message import check_stream
from mailglass.routing.scope import ANY_TENANT, AnyTenant, check_tenant, current_tenant


def parse_value(value: object, stream: str | None = None) -> tuple[str, SuppressionType]:
    """Return an address or a domain in its normal form, with its scope.

    Args:
        value: what the caller gave; text without `@` is a domain.
        stream: for an address on this stream only.

    Raises:
        MessageError: neither an address nor a domain, or a domain with a stream; never echoes it.
    """
    whole_domain = isinstance(value, str) and "@" not in value
    try:
        address = parse_address(f"postmaster@{value}" if whole_domain else value, "value")
    except MessageError as error:
        kind = "domain" if whole_domain else "address"
        raise MessageError("value", f"not a valid {kind}: {str(error).partition(': ')[2]}") from None
    if not whole_domain:
        return address.key, SuppressionType.ADDRESS_STREAM if stream else SuppressionType.ADDRESS
    if stream:
        raise MessageError("stream", "goes with addresses: a domain is suppressed on all streams")
    return address.domain, SuppressionType.DOMAIN


def owner(tenant: str | None) -> str:
    """Return the tenant whose list is meant: the given one, `*` for the list that binds all, else the one in scope.

    Raises:
        TenantError: not a tenant's name, or none is given and none is in scope.
    """
    if tenant is None:
        return current_tenant()
    return tenant if tenant == EVERYONE else check_tenant(tenant)


def audited(tenant: str | None) -> str | None:
    """Return the tenant under whom the audit notes a change; None for the list that binds all, and for all lists."""
    return None if tenant == EVERYONE else tenant


def owner_or_any(tenant: str | AnyTenant | None) -> str | None:
    """Return the tenant whose list is meant, as `owner` does; None for `ANY_TENANT`."""
    return None if tenant is ANY_TENANT else owner(tenant)


def stream_name(stream: object) -> str | None:
    """Return a stream's name, or None.

    Raises:
        MessageError: there is no such stream.
    """
    return None if stream is None else check_stream(stream).value


def check_moment(name: str, moment: object) -> datetime | None:
    """Return an aware moment, or None.

    Raises:
        MessageError: it is not an aware datetime.
    """
    if moment is None or (isinstance(moment, datetime) and moment.tzinfo is not None):
        return moment
    raise MessageError(name, "must be a datetime with a time zone")
