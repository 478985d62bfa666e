"""Options of a Mandrill account."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mailglass.errors import ConfigError
from mailglass.providers.http_search import SearchOptions
from mailglass.settings import Secret


@dataclass(frozen=True, kw_only=True)
class MandrillOptions(SearchOptions):
    """The options of a Mandrill account.

    Attributes:
        api_key: travels in the body of every call.
        subaccount: whose quota and reputation the mails count on.
        ip_pool: the dedicated addresses they leave from.
        max_metadata: bytes of JSON that a mail's metadata may take, ours included. Mandrill's page on tags and
            metadata names 250; what is longer is refused here rather than cut off there.
        webhook_keys: the keys of this account's webhooks, as Mandrill shows them. Needed to receive webhooks; several
            while one is replaced, or where several webhooks point here.
        webhook_url: the webhook's URL, letter for letter as it was entered at Mandrill, which signs it: with its
            query, and with user name and password if it has any. Needed to receive webhooks.
    """

    api_key: Secret
    base_url: str = "https://mandrillapp.com/api/1.0"
    subaccount: str | None = None
    ip_pool: str | None = None
    max_metadata: int = 250
    webhook_keys: tuple[Secret, ...] = ()
    webhook_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_metadata < 1:
            raise ConfigError("max_metadata", "not a size", "Give bytes above zero")
        if self.webhook_keys and not self.webhook_url:
            raise ConfigError("webhook_url", "missing", "Give the webhook's URL as it was entered at Mandrill")
        if self.webhook_url is not None and not _is_url(self.webhook_url):
            raise ConfigError("webhook_url", "not a URL", "Write it as it was entered at Mandrill, https://HOST/PATH")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and text.isascii() and text.isprintable()
