"""`add` and `remove`: change the suppression list by a person's or a program's word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from mailglass import clock
from mailglass.errors import MessageError, SuppressionType
from mailglass.ledger import audit
from mailglass.ledger.session import NOT_GIVEN, Ledger, NotGiven
from mailglass.ledger.suppressions import Suppression, suppress, unsuppress
from mailglass.mail.addresses import Address, parse_address
from mailglass.settings import get_settings
from mailglass.suppressions.listing import REASONS
from mailglass.suppressions.removal import Removal, remove_address
from mailglass.suppressions.values import audited, check_moment, owner, parse_value, stream_name

if TYPE_CHECKING:
    from mailglass.ledger.session import SessionLike

APPLICATION = "application"
# entries that one statement adds
BATCH = 5000


def add(
    values: str | Address | Iterable[str | Address],
    *,
    tenant: str | None = None,
    reason: str = "manual",
    stream: str | None = None,
    expires_at: datetime | None = None,
    actor: str = APPLICATION,
    session: SessionLike | NotGiven = NOT_GIVEN,
) -> int:
    """Add addresses or whole domains to the suppression list.

    >>> from mailglass import suppressions
    >>> suppressions.add(["ada@example.com", "example.org"], tenant="acme")
    2

    An entry that stands already stays. A complaint replaces any other reason, and an entry that ends gives way to one
    that ends later or never. Each statement adds up to 5,000 entries. If the call is interrupted, make it again.

    Args:
        values: an address, a domain, or an iterable of them. All are checked before the first is added, except those of
            a generator, which is read batch by batch.
        tenant: whose mail they stop; `*` for everybody's; by default the tenant in scope.
        reason: manual, hard_bounce, complaint, unsubscribe or provider.
        stream: transactional, operational or bulk, to stop this stream only; by default all.
        expires_at: the aware moment at which the entries end; by default never. A complaint never ends.
        actor: for the audit, which holds no address.
        session: adds in your transaction, as for `deliver_later.delay`.

    Returns:
        The number of entries that were written.

    Raises:
        MessageError: a value is neither an address nor a domain, or an argument is invalid.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached.
    """
    tenant, stream = owner(tenant), stream_name(stream)
    _check_reason(reason, expires_at)
    ledger = Ledger(session)
    written = 0
    for batch in _batches(_checked(values, stream)):
        entries = [
            Suppression(tenant, value, reason, "manual", scope, stream or "", expires_at=expires_at)
            for value, scope in batch
        ]
        subject = audit_subject([value for value, _ in batch], stream)
        audit.record(ledger, actor, "suppressions.add", audited(tenant), subject)
        count = suppress(ledger, entries)
        audit.record(ledger, actor, "suppressions.add", audited(tenant), subject, count)
        written += count
    return written


def remove(
    value: str | Address,
    *,
    tenant: str | None = None,
    at: Sequence[str] = (),
    force: bool = False,
    actor: str = APPLICATION,
    session: SessionLike | NotGiven = NOT_GIVEN,
) -> Removal:
    """Remove an address, on all its streams, or a domain from the suppression list.

    >>> from mailglass import suppressions
    >>> suppressions.remove("bob@example.com", tenant="acme").removed
    0

    The removal is remembered. What a provider or a late webhook says of the time before it does not bring the entry
    back. The accounts that push to their providers' lists take the address off them first.

    Args:
        value: an address or a domain.
        tenant: the owner of the list; `*` for the list that binds all tenants; by default the tenant in scope.
        at: accounts whose providers take the address off their lists too.
        force: remove complaints too.
        actor: for the audit, which holds no address.
        session: removes in your transaction. No provider is asked then, because it could not be undone.

    Returns:
        The counts, and each provider's answer. `is_whole` is True if nothing suppresses the address any more.

    Raises:
        MessageError: neither an address nor a domain, or `at` together with `session`.
        ConfigError: an account is unknown, or cannot be opened.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached.
    """
    tenant = owner(tenant)
    found, scope = parse_value(value)
    if scope is SuppressionType.DOMAIN:
        return _remove_domain(Ledger(session), tenant, found, actor)
    address = parse_address(value, "value")
    if session is not NOT_GIVEN:
        if at:
            raise MessageError("at", "cannot go with `session`: what a provider removes is not undone by a rollback")
        return remove_address(get_settings(), Ledger(session), None, tenant, address, actor=actor, force=force)
    return _remove_everywhere(tenant, address, at, force, actor)


def audit_subject(values: Sequence[str], stream: str | None) -> dict[str, object]:
    """Return what was named, as the audit keeps it: digests of the first values, and the number of the others."""
    digests = " ".join(audit.digest(value) for value in values[: audit.NAMED_IDS])
    return {"values": digests, "others": max(len(values) - audit.NAMED_IDS, 0) or None, "stream": stream}


def _remove_everywhere(tenant: str, address: Address, at: Sequence[str], force: bool, actor: str) -> Removal:
    from mailglass.providers.registry import Accounts

    settings = get_settings()
    accounts = Accounts(settings)
    try:
        return remove_address(settings, Ledger(NOT_GIVEN), accounts, tenant, address, actor=actor, at=at, force=force)
    finally:
        accounts.close()


def _remove_domain(ledger: Ledger, tenant: str, domain: str, actor: str) -> Removal:
    subject = {"domain": domain}
    audit.record(ledger, actor, "suppressions.remove", audited(tenant), subject)
    removed = int(unsuppress(ledger, tenant, domain, scope=SuppressionType.DOMAIN))
    audit.record(ledger, actor, "suppressions.remove", audited(tenant), subject, removed)
    return Removal(removed=removed)


def _check_reason(reason: str, expires_at: datetime | None) -> None:
    if reason not in REASONS:
        raise MessageError("reason", f"must be one of {', '.join(REASONS)}")
    moment = check_moment("expires_at", expires_at)
    if moment is not None and moment <= clock.now():
        raise MessageError("expires_at", "lies in the past: an entry that has ended stops no mail")
    if moment is not None and reason == "complaint":
        raise MessageError("expires_at", "a complaint never ends")


def _checked(
    values: str | Address | Iterable[str | Address], stream: str | None
) -> Iterable[tuple[str, SuppressionType]]:
    if isinstance(values, str | Address) or not isinstance(values, Iterable):
        return [parse_value(values, stream)]
    if isinstance(values, Sequence):
        return [parse_value(value, stream) for value in values]
    return (parse_value(value, stream) for value in values)


def _batches(parsed: Iterable[tuple[str, SuppressionType]]) -> Iterator[list[tuple[str, SuppressionType]]]:
    remaining = iter(parsed)
    while batch := list(islice(remaining, BATCH)):
        yield batch
