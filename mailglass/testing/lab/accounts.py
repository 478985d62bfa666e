"""More accounts of the lab than Postmark, SendGrid and SMTP: one line per provider, opened on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, Protocol

from mailglass.errors import ConfigError
from mailglass.testing.lab.http import Api
from mailglass.testing.lab.world import Teller, World

PROVIDERS: Final[Mapping[str, str]] = {
    "brevo": "brevo:BrevoLab",
    "mailgun": "mailgun:MailgunLab",
    "mailjet": "mailjet:MailjetLab",
    "mandrill": "mandrill:MandrillLab",
    "resend": "resend:ResendLab",
    "ses": "ses:SESLab",
    "sparkpost": "sparkpost:SparkPostLab",
}
"""A provider's name, and the class that stands in for it."""


@dataclass(frozen=True, slots=True)
class LabAccount:
    """One account to open.

    Attributes:
        provider: whose it is, by the name in `PROVIDERS`.
        name: what its webhooks are posted as, and the path below which its API stands.
        secrets: the credentials it asks for and signs with, by the names its class knows.
    """

    provider: str
    name: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class AccountLab(Api, Teller, Protocol):
    """One provider's account in the lab."""

    @classmethod
    def open(cls, world: World, account: LabAccount) -> AccountLab:
        """Open it.

        Raises:
            ConfigError: a secret it does not know, or cannot use.
        """

    def public(self) -> Mapping[str, str]:
        """Return the values that a client needs and that the lab chose itself: public keys."""


def open_accounts(world: World, accounts: Iterable[LabAccount]) -> dict[str, AccountLab]:
    """Return the accounts by name.

    Raises:
        ConfigError: an unknown provider, a name used twice, or secrets that do not fit.
    """
    opened: dict[str, AccountLab] = {}
    for account in accounts:
        if account.name in opened:
            raise ConfigError("account", f"{account.name!r} is named twice", "Give each account a name of its own")
        opened[account.name] = _lab_class(account.provider).open(world, account)
    return opened


def take_secrets(account: LabAccount, **defaults: str) -> dict[str, str]:
    """Return the account's secrets over their defaults.

    Raises:
        ConfigError: one that has no default is unknown.
    """
    for name in sorted(account.secrets.keys() - defaults.keys()):
        raise ConfigError(f"secret {account.name}.{name}", "unknown", f"Known are: {', '.join(sorted(defaults))}")
    return defaults | dict(account.secrets)


def _lab_class(provider: str) -> type[AccountLab]:
    if provider not in PROVIDERS:
        raise ConfigError("account", f"no stand-in for provider {provider!r}", f"Known are: {', '.join(PROVIDERS)}")
    module, _, name = PROVIDERS[provider].partition(":")
    found: type[AccountLab] = getattr(import_module(f"mailglass.testing.lab.{module}"), name)
    return found
