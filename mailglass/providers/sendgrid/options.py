"""The options of a SendGrid account."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.errors import ConfigError, SignatureError
from mailglass.providers.http_search import SearchOptions
from mailglass.providers.signatures import ecdsa_p256_key
from mailglass.settings import Secret


@dataclass(frozen=True, kw_only=True)
class SendGridOptions(SearchOptions):
    """The options of a SendGrid account.

    Attributes:
        api_key: a key with the Mail Send permission; with Suppressions too where the suppression list is synchronised.
        base_url: `https://api.eu.sendgrid.com` for accounts in the EU.
        subuser: send on behalf of this subuser.
        search: look at SendGrid for mails whose answer was lost. It needs the paid addition "email activity history",
            and a key with the Email Activity permission.
        webhook_public_keys: the verification keys of the signed event webhook, as the console shows them. Needed to
            receive webhooks; several while one is replaced.
        webhook_tolerance: seconds a webhook's signed time may lie from now; left out, any time is accepted, because
            SendGrid posts again for up to 24 hours and does not say whether it signs anew.
    """

    api_key: Secret
    base_url: str = "https://api.sendgrid.com"
    subuser: str | None = None
    search: bool = False
    webhook_public_keys: tuple[str, ...] = ()
    webhook_tolerance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.webhook_tolerance is not None and not self.webhook_tolerance > 0:
            raise ConfigError("webhook_tolerance", "not a duration", "Give seconds above zero, or leave it out")
        for key in self.webhook_public_keys:
            try:
                ecdsa_p256_key(key)
            except SignatureError:
                raise ConfigError(
                    "webhook_public_keys", "not a P-256 public key", "Copy the verification key from SendGrid's console"
                ) from None
