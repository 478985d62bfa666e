"""The options of a Mailjet account."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.errors import ConfigError
from mailglass.providers.http_search import SearchOptions
from mailglass.settings import Secret


@dataclass(frozen=True, kw_only=True)
class MailjetOptions(SearchOptions):
    """The options of a Mailjet account.

    Attributes:
        api_key: the key; the account's own or that of a sub-account.
        secret_key: its secret.
        base_url: `https://api.us.mailjet.com` for accounts in the US.
        sandbox: have Mailjet check every mail and deliver none. Such mails count as sent.
        webhook_username: the user name in the webhook's URL. Needed to receive webhooks.
        webhook_passwords: the passwords that are accepted; two at a time while one is replaced.
    """

    api_key: Secret
    secret_key: Secret
    base_url: str = "https://api.mailjet.com"
    sandbox: bool = False
    webhook_username: str | None = None
    webhook_passwords: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.webhook_username) != bool(self.webhook_passwords):
            missing = "webhook_passwords" if self.webhook_username else "webhook_username"
            raise ConfigError(missing, "missing", "Give a user name and at least one password, or neither")
        if ":" in (self.webhook_username or ""):
            raise ConfigError("webhook_username", "holds a colon (RFC 7617)", "Choose another user name")
