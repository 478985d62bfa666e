"""Options of a Mailgun account."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailglass.errors import ConfigError
from mailglass.providers.http_search import SearchOptions
from mailglass.settings import Secret

LONGEST_TOLERANCE = 86_400.0
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")


@dataclass(frozen=True, kw_only=True)
class MailgunOptions(SearchOptions):
    """The options of a Mailgun account: one sending domain.

    Attributes:
        api_key: the account's key, or the sending key of the domain.
        domain: the sending domain as Mailgun lists it; an internationalised one in A-labels.
        base_url: `https://api.eu.mailgun.net` for domains in the EU. Without the version.
        webhook_signing_keys: the HTTP webhook signing key, which is not the API key. Needed to receive webhooks;
            several while one is replaced. A parent account's key proves its subaccounts' webhooks too.
        webhook_tolerance: seconds a webhook's signed time may lie from now, at most a day. Longer where Mailgun posts
            old signatures again in its later tries, which go on for some eight hours.
    """

    api_key: Secret
    domain: str
    base_url: str = "https://api.mailgun.net"
    webhook_signing_keys: tuple[Secret, ...] = ()
    webhook_tolerance: float = 900.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _DOMAIN.match(self.domain):
            # anything else ends at another path, which Mailgun answers with a 200
            raise ConfigError("domain", "not a domain name", "Write it as Mailgun lists it, in A-labels")
        if re.search(r"/v\d+/*\Z", self.base_url):
            raise ConfigError("base_url", "ends in a version", "Write the host only, https://api.mailgun.net")
        if not 0 < self.webhook_tolerance <= LONGEST_TOLERANCE:
            raise ConfigError("webhook_tolerance", "out of range", "Give seconds, above zero and at most 86400")
