"""`remove_many`: remove all entries that match a filter, as after a provider's incident that bounced a whole domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final

from mailglass.errors import ConfigError, MessageError, ProviderCallError, SuppressionType
from mailglass.ids import uuid7
from mailglass.ledger import audit, suppression_list
from mailglass.ledger.session import NOT_GIVEN, Ledger, NotGiven
from mailglass.ledger.suppression_list import Filter
from mailglass.ledger.suppressions import Suppression, unsuppress_these
from mailglass.routing.scope import AnyTenant
from mailglass.settings import get_settings
from mailglass.suppressions.editing import APPLICATION
from mailglass.suppressions.listing import make_filter
from mailglass.suppressions.removal import check_production
from mailglass.suppressions.values import audited

if TYPE_CHECKING:
    from mailglass.ledger.session import SessionLike
    from mailglass.providers.registry import Accounts

# entries that one statement removes
BATCH: Final = 1000


@dataclass(slots=True)
class RemovalCounts:
    """Counts of a removal by filter.

    Attributes:
        found: number of entries that match.
        removed: number of entries removed; of a dry run, that would be.
        kept: number of complaints that stay without `force`.
        accounts: by account, the number of addresses that are off its provider's list; a text is the error of asking.
    """

    found: int = 0
    removed: int = 0
    kept: int = 0
    accounts: dict[str, int | str] = field(default_factory=dict)


def remove_many(
    *,
    tenant: str | AnyTenant | None = None,
    at: Sequence[str] = (),
    force: bool = False,
    dry_run: bool = False,
    actor: str = APPLICATION,
    progress: Callable[[RemovalCounts], None] | None = None,
    session: SessionLike | NotGiven = NOT_GIVEN,
    **filters: Any,
) -> RemovalCounts:
    """Remove all entries that match a filter, and remember that they were removed.

    >>> from mailglass import suppressions
    >>> suppressions.remove_many(tenant="acme", reason="hard_bounce", domain="example.com", dry_run=True)
    RemovalCounts(found=0, removed=0, kept=0, accounts={})

    Entries are removed batch by batch. If the call is interrupted, the same call removes the rest. An entry that is
    added during the call is not part of it.

    Args:
        tenant: as for `search`.
        at: accounts whose providers take the addresses off their lists first.
        force: remove complaints too.
        dry_run: count, and remove nothing.
        actor: for the audit: one entry of the intention, with the filter, and one of the count.
        progress: called with the counts after each batch.
        session: removes in your transaction; cannot go with `at`.
        filters: at least one, as for `search`.

    Raises:
        MessageError: a filter is unknown or invalid, there is none, or `at` is given with `session`.
        ConfigError: an account is unknown, keeps no list, or may not be changed outside production.
        TenantError: no tenant is in scope.
        LedgerUnavailableError: the database cannot be reached. What was removed stays removed.
    """
    chosen = make_filter(tenant, filters)
    if not any(name != "tenant" for name in chosen.given()):
        raise MessageError("filters", "name at least one, such as reason, domain or created_after")
    if at and session is not NOT_GIVEN:
        raise MessageError("at", "cannot go with `session`: what a provider removes is not undone by a rollback")
    ledger, counts = Ledger(session), RemovalCounts()
    if dry_run:
        for batch in _batches(ledger, chosen):
            _count(counts, batch, force)
        return counts
    subject = {name: str(value) for name, value in chosen.given().items() if name != "tenant"}
    whose = audited(chosen.tenant)
    audit.record(ledger, actor, "suppressions.remove", whose, subject)
    accounts = _accounts(at)
    try:
        for batch in _batches(ledger, chosen):
            _remove(ledger, accounts, at, batch, force, counts)
            if progress is not None:
                progress(counts)
    finally:
        if accounts is not None:
            accounts.close()
    audit.record(ledger, actor, "suppressions.remove", whose, subject, counts.removed)
    return counts


def _remove(
    ledger: Ledger,
    accounts: Accounts | None,
    at: Sequence[str],
    batch: Sequence[Suppression],
    force: bool,
    counts: RemovalCounts,
) -> None:
    removable = _count(counts, batch, force)
    for name in at:
        _remove_at(accounts, name, removable, counts)
    counts.removed += unsuppress_these(ledger, removable, force=force) - len(removable)


def _batches(ledger: Ledger, chosen: Filter) -> Iterator[list[Suppression]]:
    last = uuid7()
    entries = takewhile(
        lambda entry: entry.id is not None and entry.id <= last, suppression_list.walk(ledger, chosen, size=BATCH)
    )
    while batch := list(islice(entries, BATCH)):
        yield batch


def _count(counts: RemovalCounts, batch: Sequence[Suppression], force: bool) -> list[Suppression]:
    """Count a batch as if it were removed, and return what is to be removed of it."""
    removable = [entry for entry in batch if force or entry.reason != "complaint"]
    counts.found += len(batch)
    counts.removed += len(removable)
    counts.kept += len(batch) - len(removable)
    return removable


def _accounts(at: Sequence[str]) -> Accounts | None:
    if not at:
        return None
    from mailglass.providers.registry import Accounts

    settings = get_settings()
    check_production(settings)
    accounts = Accounts(settings)
    for name in at:
        if not accounts.open(name).keeps_suppressions:
            accounts.close()
            raise ConfigError(f"accounts.{name}", "its provider shows no suppression list", "Leave the account out")
    return accounts


def _remove_at(accounts: Accounts | None, name: str, entries: Sequence[Suppression], counts: RemovalCounts) -> None:
    addresses = sorted({entry.value for entry in entries if entry.scope is not SuppressionType.DOMAIN})
    done = counts.accounts.setdefault(name, 0)
    if accounts is None or not addresses or isinstance(done, str):
        return
    try:
        counts.accounts[name] = done + sum(accounts.open(name).suppression_list().remove(addresses))
    except ProviderCallError as error:
        counts.accounts[name] = str(error)
