"""Suppression handling: lists in step with the providers', and entries that bind."""

from __future__ import annotations

from mailglass.errors import ConfigError
from mailglass.go_live.report import Answer, counted, judged
from mailglass.go_live.site import Site
from mailglass.ledger import recent, suppression_sync
from mailglass.providers.registry import provider_class
from mailglass.settings import AccountSettings, SyncMode


def suppression_handling(site: Site) -> Answer:
    """Check that no account's list has stopped being read, and show how each is kept in step."""
    problems: list[str] = []
    details: list[str] = []
    for account in site.configured.values():
        state = suppression_sync.load(site.database, account.name)
        if state.last_error is not None and account.suppressions is not SyncMode.OFF:
            problems.append(f"{account.name}: the last reading of its list failed ({state.last_error})")
        details.append(f"{account.name}: {_in_step(account, state.synced_at is not None)}")
    entries = recent.suppressed(site.database)
    shown = f"{entries} or more entries" if entries == recent.NEWEST else counted(entries, "suppression")
    return judged(
        f"{shown} in force, calls raise SuppressedError: docs/guides/multi-tenancy.md",
        problems,
        "`mailglass suppressions sync ACCOUNT` shows the error",
        details,
    )


def _in_step(account: AccountSettings, read: bool) -> str:
    try:
        keeps = provider_class(account.provider).keeps_suppressions
    except ConfigError:
        keeps = False
    if not keeps:
        return f"{account.provider} shows no list, its events suppress"
    if account.suppressions is SyncMode.OFF:
        return "its list is not kept in step (suppressions = off)"
    return f"{account.suppressions.value}, {'read to its end' if read else 'not read yet'}"
