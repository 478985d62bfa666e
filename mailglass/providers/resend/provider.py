"""One Resend team: sends, verifies, understands, and lends its suppression list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import override

from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_provider import HTTPProvider
from mailglass.providers.resend import events, sending
from mailglass.providers.resend.events import NAME
from mailglass.providers.resend.options import ResendOptions
from mailglass.providers.resend.suppressions import ResendSuppressions
from mailglass.providers.signatures import (
    STANDARD_WEBHOOK_HEADERS,
    missing_secret,
    require_standard_webhook,
    standard_webhook_id,
    standard_webhooks_key,
)
from mailglass.settings import Secret


class ResendProvider(HTTPProvider):
    """One Resend team.

    Every mail is a request of its own under its delivery's id as Idempotency-Key, so that the same bytes may be asked
    again for a day: Resend answers as the first time and sends nothing. With `batch`, mails share requests; a request's
    key then stands for exactly these mails in this order, and a later attempt that groups them otherwise is another
    request. So such an account is not `idempotent`.
    """

    name = NAME
    Options = ResendOptions
    webhook_secrets = ("webhook_secrets",)
    keeps_suppressions = True
    batch_size = 100
    mails_per_request = 100
    # 40 MB with all attachments
    max_request = 40_000_000
    # Svix tries again on anything that is not 2xx, for some 28 hours
    retry_status = 503
    signed_headers = STANDARD_WEBHOOK_HEADERS
    idempotent = True
    idempotency_window = 24 * 3600.0
    options: ResendOptions

    def __init__(self, account: str, options: ResendOptions) -> None:
        super().__init__(account, options)
        self._keys = [standard_webhooks_key(secret) for secret in options.webhook_secrets]
        self.idempotent = not options.batch

    @override
    def credentials(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.options.api_key.reveal()}"}

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return sending.fitting(mail)

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail, self.options)

    @override
    def goes_alone(self, mail: Outgoing) -> bool:
        # the batch call takes neither attachments nor a time
        timed = "scheduled_at" in (mail.options.get(self.name) or {})
        return not self.options.batch or bool(mail.attachments) or timed

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        headers = {"content-type": "application/json", "idempotency-key": sending.key_of(mails)}
        if len(parts) == 1:
            return HTTPRequest("/emails", parts[0], headers)
        # strict: one mail at fault refuses all, so that a refusal proves that none was taken
        headers["x-batch-validation"] = "strict"
        return HTTPRequest("/emails/batch", b"[" + b",".join(parts) + b"]", headers)

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return sending.read(answer, mails)

    @override
    def verify(self, request: WebhookRequest) -> Secret | None:
        if not self._keys:
            raise missing_secret(self.account, "webhook_secrets")
        return self.options.webhook_secrets[
            require_standard_webhook(request, self._keys, self.options.webhook_tolerance)
        ]

    @override
    def delivery_key(self, request: WebhookRequest) -> str | None:
        return standard_webhook_id(request.headers)

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, headers, self.account)

    @override
    def suppression_list(self) -> ResendSuppressions:
        return ResendSuppressions(self.http, self.account)
