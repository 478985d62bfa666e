"""Removal of an address from the suppression list, and from the providers' lists that would restore it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailglass.errors import ConfigError, ProviderCallError, SuppressionType
from mailglass.ledger import audit
from mailglass.ledger.database import Runs
from mailglass.ledger.suppressions import Suppression, suppressions_of, unsuppress
from mailglass.mail.addresses import Address
from mailglass.settings import Settings, SyncMode
from mailglass.suppressions.values import audited

if TYPE_CHECKING:
    from mailglass.providers.registry import Accounts

_WRITES = frozenset({SyncMode.PUSH, SyncMode.BOTH})


@dataclass(slots=True)
class Removal:
    """Result of a removal.

    Attributes:
        removed: number of entries removed.
        kept: number of entries that still suppress the address: of its domain, of the list that binds all tenants, or a
            complaint without `force`.
        accounts: by account, whether the address is off its provider's list; a text is the error of asking.
    """

    removed: int = 0
    kept: int = 0
    accounts: dict[str, bool | str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """True if nothing suppresses the address any more."""
        return self.kept == 0 and all(done is True for done in self.accounts.values())


def remove_address(
    settings: Settings,
    ledger: Runs,
    accounts: Accounts | None,
    tenant: str,
    address: Address,
    *,
    actor: str,
    at: Sequence[str] = (),
    force: bool = False,
) -> Removal:
    """Remove an address from one tenant's list, on all streams, and from providers' lists first.

    Args:
        settings: name the accounts.
        ledger: runs the statements.
        accounts: the opened accounts; None to ask no provider.
        tenant: the owner of the list; `*` for the list that binds all tenants.
        address: to remove.
        actor: name for the audit, which holds no address.
        at: accounts whose providers remove the address too; by default those of the tenant that push. Outside
            production none may be named, and none is asked.
        force: remove complaints too.

    Returns:
        The counts, and the answer of each provider.

    Raises:
        ConfigError: an account is unknown, or cannot be opened, or may not be changed outside production.
        LedgerUnavailableError: the database cannot be reached.
    """
    if at:
        check_production(settings)
    entries = suppressions_of(ledger, tenant, address)
    own = [entry for entry in entries if entry.tenant == tenant]
    result = Removal(kept=len(entries) - len(own))
    if any(entry.reason == "complaint" for entry in own) and not force:
        result.kept += len(own)
        return result
    subject = {"address": audit.digest(address.key), "at": ",".join(at) or None}
    audit.record(ledger, actor, "suppressions.remove", audited(tenant), subject)
    if accounts is not None:
        for name in at or _pushing(settings, tenant):
            done = _remove_at(accounts, name, address)
            if done is not None:
                result.accounts[name] = done
    for entry in own:
        if _is_of(entry, address) and _remove_entry(ledger, entry, force):
            result.removed += 1
        else:
            result.kept += 1
    audit.record(ledger, actor, "suppressions.remove", audited(tenant), subject, count=result.removed)
    return result


def check_production(settings: Settings) -> None:
    """Check that a provider's suppression list may be changed.

    Raises:
        ConfigError: not outside production.
    """
    if settings.recipients is not None:
        raise ConfigError(
            "environments",
            "outside production no provider's suppression list is changed",
            "Name no account and remove the addresses there by hand, or run this in production",
        )


def _pushing(settings: Settings, tenant: str) -> list[str]:
    return [
        name
        for name, account in settings.accounts.items()
        if account.suppressions in _WRITES and account.tenant == tenant and settings.recipients is None
    ]


def _remove_at(accounts: Accounts, name: str, address: Address) -> bool | str | None:
    """Remove an address at one provider; returns None if it keeps no list."""
    provider = accounts.open(name)
    if not provider.keeps_suppressions:
        return None
    try:
        return all(provider.suppression_list().remove([address.key]))
    except ProviderCallError as error:
        return str(error)


def _is_of(entry: Suppression, address: Address) -> bool:
    return entry.scope is not SuppressionType.DOMAIN and entry.value == address.key


def _remove_entry(ledger: Runs, entry: Suppression, force: bool) -> bool:
    return unsuppress(ledger, entry.tenant, entry.value, scope=entry.scope, stream=entry.stream, force=force)
