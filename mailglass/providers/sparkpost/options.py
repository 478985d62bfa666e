"""Options of a SparkPost account."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailglass.errors import ConfigError
from mailglass.providers.http_search import SearchOptions
from mailglass.settings import Secret

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")


@dataclass(frozen=True, kw_only=True)
class SparkPostOptions(SearchOptions):
    """The options of a SparkPost account.

    Attributes:
        api_key: a key with the grants Transmissions: Read/Write, for `search` Message Events: Read-only and, for the
            suppression list, Suppression Lists: Read/Write.
        base_url: `https://api.eu.sparkpost.com` for accounts in the EU.
        subaccount: the number of the subaccount to send as, or 0 for the main account alone. Left out, the key's own
            account, and a main account's key reads its subaccounts' suppressions too.
        ip_pool: the dedicated addresses that mails leave from.
        return_path: the envelope's sender; SparkPost overwrites its local part unless the plan says otherwise.
        open_tracking: whether opens are tracked; left out, the account's own setting.
        click_tracking: the same for clicks.
        max_metadata: bytes of JSON that a mail's metadata may take, ours included.
        count_initial_opens: take `initial_open` for an open. SparkPost posts it beside `open` for the same opening,
            where both are chosen, so this is for webhooks that have it alone.
        webhook_username: the user name of webhooks with Basic authentication.
        webhook_passwords: its passwords; two at a time while one is replaced.
        webhook_tokens: access tokens of webhooks with OAuth 2, which come as bearer tokens.
        webhook_header: the name of a header of one's own that webhooks carry.
        webhook_header_values: its values; two at a time while one is replaced.

    Of the three ways to prove a webhook at least one is needed to receive any; where several are set, one has to fit.
    """

    api_key: Secret
    base_url: str = "https://api.sparkpost.com"
    subaccount: int | None = None
    ip_pool: str | None = None
    return_path: str | None = None
    open_tracking: bool | None = None
    click_tracking: bool | None = None
    max_metadata: int = 10_000
    count_initial_opens: bool = False
    webhook_username: str | None = None
    webhook_passwords: tuple[Secret, ...] = ()
    webhook_tokens: tuple[Secret, ...] = ()
    webhook_header: str = "X-MessageSystems-Webhook-Token"
    webhook_header_values: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subaccount is not None and self.subaccount < 0:
            raise ConfigError("subaccount", "not a subaccount", "Give its number, 0 for the main account")
        if self.return_path is not None and "@" not in self.return_path:
            raise ConfigError("return_path", "not an address", "Give an address of a verified bounce domain")
        if self.max_metadata < 1:
            raise ConfigError("max_metadata", "not a size", "Give bytes above zero")
        if bool(self.webhook_username) != bool(self.webhook_passwords):
            missing = "webhook_passwords" if self.webhook_username else "webhook_username"
            raise ConfigError(missing, "missing", "Give a user name and at least one password, or neither")
        if ":" in (self.webhook_username or ""):
            raise ConfigError("webhook_username", "holds a colon (RFC 7617)", "Choose another user name")
        if not _HEADER_NAME.match(self.webhook_header):
            raise ConfigError(
                "webhook_header", "not a header's name", "Write it without a colon, for example X-Api-Key"
            )
