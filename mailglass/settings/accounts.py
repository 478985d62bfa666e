"""Accounts as they are configured: the tables `[accounts.NAME]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mailglass.mail.addresses import Address
from mailglass.settings.domains import SendingSettings, parse_sending
from mailglass.settings.problems import Problems
from mailglass.settings.secrets import SecretValues
from mailglass.settings.values import NAME, NAME_REMEDY, address
from mailglass.settings.warmup import WarmupPlan, parse_warmup

_OF_EVERY_ACCOUNT = frozenset({"provider", "from", "tenant", "warmup", "suppressions", "dns"})


class SyncMode(StrEnum):
    """Direction in which an account's suppression list is synced with its provider's."""

    PULL = "pull"
    PUSH = "push"
    BOTH = "both"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """A provider with credentials, known by a name.

    Attributes:
        name: what routes and webhook URLs call it.
        provider: the provider room that serves it.
        sender: From of messages that name none.
        options: the provider's own options as written; checked by the provider's room when the account is opened.
        tenant: whose account it is; its webhooks say nothing about other tenants' mail. None: several may share it.
        warmup: how many mails a day it may send while it is new.
        suppressions: `pull` reads the provider's suppression list into ours, `push` writes ours into the provider's.
        dns: its sending domains, selectors and Return-Path, for checks of DNS.
    """

    name: str
    provider: str
    sender: Address | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tenant: str | None = None
    warmup: WarmupPlan | None = None
    suppressions: SyncMode = SyncMode.PULL
    dns: SendingSettings = field(default_factory=SendingSettings)

    @property
    def resolved(self) -> bool:
        """True if it comes from the application's hook, and its options hold secrets as values."""
        return isinstance(self.options, SecretValues)


def parse_accounts(value: object, problems: Problems) -> dict[str, AccountSettings]:
    """Return the accounts by name, in the order they are written."""
    if not isinstance(value, dict):
        problems.add("accounts", "wrong type", "Write tables: [accounts.NAME]")
        return {}
    found = (_account(name, body, f"accounts.{name}", problems) for name, body in value.items())
    return {account.name: account for account in found if account is not None}


def _account(name: str, body: Any, key: str, problems: Problems) -> AccountSettings | None:
    if not NAME.match(name):
        problems.add(key, "not an account name", NAME_REMEDY)
        return None
    if not isinstance(body, dict) or not isinstance(body.get("provider"), str):
        problems.add(f"{key}.provider", "missing", 'Name the provider, for example provider = "smtp"')
        return None
    tenant = body.get("tenant")
    if tenant is not None and not (isinstance(tenant, str) and NAME.match(tenant)):
        problems.add(f"{key}.tenant", "not a tenant name", NAME_REMEDY)
        tenant = None
    return AccountSettings(
        name=name,
        provider=body["provider"],
        sender=address(f"{key}.from", body.get("from"), problems),
        options={option: content for option, content in body.items() if option not in _OF_EVERY_ACCOUNT},
        tenant=tenant,
        warmup=parse_warmup(body["warmup"], f"{key}.warmup", problems.add) if "warmup" in body else None,
        suppressions=_sync_mode(body.get("suppressions", "pull"), tenant, f"{key}.suppressions", problems),
        dns=parse_sending(body.get("dns"), f"{key}.dns", problems),
    )


def _sync_mode(value: object, tenant: str | None, key: str, problems: Problems) -> SyncMode:
    if value not in list(SyncMode):
        problems.add(key, "not an allowed value", f"Use one of {', '.join(SyncMode)}")
        return SyncMode.PULL
    mode = SyncMode(str(value))
    if mode in (SyncMode.PUSH, SyncMode.BOTH) and tenant is None:
        problems.add(
            key,
            "pushes nobody's entries",
            "Say whose account it is: tenant = NAME. One tenant's list must not stop "
            "the mail of others who share the account",
        )
    return mode
