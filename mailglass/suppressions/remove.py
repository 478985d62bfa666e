"""Take an address off the suppression list, and off those of the providers that would bring it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailglass.errors import ProviderCallError, SuppressionType
from mailglass.ledger import audit
from mailglass.ledger.database import Database
from mailglass.ledger.suppressions import EVERYONE, Suppression, suppressions_of, unsuppress
from mailglass.mail.addresses import Address
from mailglass.providers.registry import Accounts
from mailglass.settings import Settings, SyncMode

_WRITES = frozenset({SyncMode.PUSH, SyncMode.BOTH})


@dataclass(slots=True)
class Removal:
    """What became of it.

    Attributes:
        removed: entries of ours that are gone.
        kept: entries that stand in the way all the same: of the address's domain, of everybody's list, or a complaint
            without `force`.
        accounts: by account whether the address is off its provider's list; a text says why nobody knows.
    """

    removed: int = 0
    kept: int = 0
    accounts: dict[str, bool | str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether nothing stands in the way any more, as far as it was asked for."""
        return self.kept == 0 and all(done is True for done in self.accounts.values())


def remove(
    settings: Settings,
    database: Database,
    accounts: Accounts,
    tenant: str,
    address: Address,
    *,
    who: str,
    at: Sequence[str] = (),
    force: bool = False,
) -> Removal:
    """Take an address off the list of one tenant, on all streams, and off providers' lists first.

    Args:
        tenant: whose list; `*` for the one that binds everybody.
        who: named in the audit, which holds no address.
        at: the accounts whose providers take it off too; none: those of the tenant that push.
        force: also where the person has complained.

    Raises:
        ConfigError: an unknown account, or one that cannot be opened.
        LedgerUnavailableError: the database cannot be reached.
    """
    in_the_way = suppressions_of(database, tenant, address)
    standing = [entry for entry in in_the_way if entry.tenant == tenant]
    result = Removal(kept=len(in_the_way) - len(standing))
    if any(entry.reason == "complaint" for entry in standing) and not force:
        result.kept += len(standing)
        return result
    subject = {"address": audit.digest(address.key), "at": ",".join(at) or None}
    audit.record(database, who, "suppressions.remove", None if tenant == EVERYONE else tenant, subject)
    for name in at or _that_write(settings, tenant):
        done = _take_off(accounts, name, address)
        if done is not None:
            result.accounts[name] = done
    for entry in standing:
        if _is_of(entry, address) and _drop(database, entry, force):
            result.removed += 1
        else:
            result.kept += 1
    audit.record(
        database, who, "suppressions.remove", None if tenant == EVERYONE else tenant, subject, count=result.removed
    )
    return result


def _that_write(settings: Settings, tenant: str) -> list[str]:
    return [
        name
        for name, account in settings.accounts.items()
        if account.suppressions in _WRITES and account.tenant == tenant
    ]


def _take_off(accounts: Accounts, name: str, address: Address) -> bool | str | None:
    """None where the provider keeps no list."""
    listed = accounts.open(name).suppression_list()
    if listed is None:
        return None
    try:
        return all(listed.remove([address.key]))
    except ProviderCallError as error:
        return str(error)


def _is_of(entry: Suppression, address: Address) -> bool:
    return entry.scope is not SuppressionType.DOMAIN and entry.value == address.key


def _drop(database: Database, entry: Suppression, force: bool) -> bool:
    return unsuppress(
        database, entry.tenant, entry.value, scope=entry.scope, stream=entry.stream, force=force
    )  # fmt: skip
