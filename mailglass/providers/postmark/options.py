"""The options of a Postmark account."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.errors import ConfigError
from mailglass.providers.http_search import SearchOptions
from mailglass.settings import Secret


@dataclass(frozen=True, kw_only=True)
class PostmarkOptions(SearchOptions):
    """The options of a Postmark account.

    Attributes:
        server_token: the server's API token.
        message_stream: Postmark's message stream; one of type broadcast for bulk mail.
        webhook_username: the user name in the webhook's URL. Needed to receive webhooks.
        webhook_passwords: the passwords that are accepted; two at a time while one is replaced.
    """

    server_token: Secret
    message_stream: str = "outbound"
    base_url: str = "https://api.postmarkapp.com"
    webhook_username: str | None = None
    webhook_passwords: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.message_stream:
            raise ConfigError("message_stream", "empty", "Name a message stream of the server, or leave it out")
        if bool(self.webhook_username) != bool(self.webhook_passwords):
            missing = "webhook_passwords" if self.webhook_username else "webhook_username"
            raise ConfigError(missing, "missing", "Give a user name and at least one password, or neither")
        if ":" in (self.webhook_username or ""):
            raise ConfigError("webhook_username", "holds a colon (RFC 7617)", "Choose another user name")
