"""The options of a Resend account."""

from __future__ import annotations

from dataclasses import dataclass

from mailglass.errors import ConfigError, SignatureError
from mailglass.providers.http import HTTPOptions
from mailglass.providers.signatures import (
    standard_webhooks_key,
)
from mailglass.settings import Secret


@dataclass(frozen=True, kw_only=True)
class ResendOptions(HTTPOptions):
    """The options of a Resend account.

    Attributes:
        api_key: a key with sending access; full access where the suppression list is synchronised.
        batch: send up to 100 mails in one request. Fewer requests, but a mail whose answer was lost cannot be asked
            about again by its key, because Resend keeps one key per request and not per mail.
        check_attachments: refuse an attachment whose file name stands for another type than it has. Resend was seen to
            drop such mails without a word.
        webhook_secrets: the signing secrets of the webhook, `whsec_...`. Needed to receive webhooks; several while one
            is replaced.
        webhook_tolerance: seconds that a webhook's signed time may lie from now, in either direction.
    """

    api_key: Secret
    base_url: str = "https://api.resend.com"
    batch: bool = False
    check_attachments: bool = True
    webhook_secrets: tuple[Secret, ...] = ()
    webhook_tolerance: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.webhook_tolerance > 0:
            raise ConfigError("webhook_tolerance", "not a duration", "Give seconds above zero, or leave it out")
        for secret in self.webhook_secrets:
            try:
                standard_webhooks_key(secret)
            except SignatureError:
                raise ConfigError(
                    "webhook_secrets", "not a signing secret", "Copy the webhook's signing secret from Resend's console"
                ) from None
