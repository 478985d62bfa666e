"""One SendGrid account: one mail per request, webhooks signed with ECDSA, its lists of suppressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from typing_extensions import override

from mailglass.errors import SignatureError, SignatureErrorType
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_search import SearchableProvider, SearchAnswer
from mailglass.providers.rate_signals import RateHeaders
from mailglass.providers.search import SearchTarget, taken
from mailglass.providers.sendgrid import events, search, sending
from mailglass.providers.sendgrid.options import SendGridOptions
from mailglass.providers.sendgrid.suppressions import SendGridSuppressions
from mailglass.providers.signatures import ecdsa_p256_key, missing_secret, require_ecdsa, require_fresh
from mailglass.settings import Secret

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"


class SendGridProvider(SearchableProvider):
    """One SendGrid account or subuser.

    Every mail has content of its own, so each is a request; `concurrency` of them are in flight at once.
    """

    name = sending.NAME
    Options = SendGridOptions
    webhook_secrets = ("webhook_public_keys",)
    keeps_suppressions = True
    rate_headers = RateHeaders("x-ratelimit-remaining", "x-ratelimit-reset", "epoch")
    max_request = 30_000_000
    signed_headers = (SIGNATURE, TIMESTAMP)
    options: SendGridOptions

    def __init__(self, account: str, options: SendGridOptions) -> None:
        super().__init__(account, options)
        self._keys = [ecdsa_p256_key(key) for key in options.webhook_public_keys]

    @override
    def credentials(self) -> Mapping[str, str]:
        headers = {"authorization": f"Bearer {self.options.api_key.reveal()}"}
        return headers | {"on-behalf-of": self.options.subuser} if self.options.subuser else headers

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return sending.fitting(mail)

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail)

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        return HTTPRequest("/v3/mail/send", parts[0], {"content-type": "application/json"})

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return [sending.read(answer)]

    @override
    def verify(self, request: WebhookRequest) -> Secret | None:
        if not self._keys:
            raise missing_secret(self.account, "webhook_public_keys")
        signature, timestamp = request.header(SIGNATURE), request.header(TIMESTAMP)
        if not timestamp.isascii():
            raise SignatureError(SignatureErrorType.MALFORMED_HEADER, TIMESTAMP)
        index = require_ecdsa(self._keys, signature, timestamp.encode("ascii") + request.body)
        if self.options.webhook_tolerance is not None:
            require_fresh(timestamp, self.options.webhook_tolerance)
        return Secret(self.options.webhook_public_keys[index])

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, self.account)

    @override
    def search(self, targets: Sequence[SearchTarget], *, deadline: float) -> SearchAnswer:
        (item,) = targets
        messages = self.listed(self.ask(search.request(item), deadline=deadline), "messages")
        for name in search.names(messages):
            whole = self.ask(search.message_request(name), deadline=deadline)
            if search.unique_id(whole) == item.delivery_id:
                return SearchAnswer({item.delivery_id: taken(item.delivery_id, sending.message_id(name))})
        return SearchAnswer(whole=not messages)

    @override
    def suppression_list(self) -> SendGridSuppressions:
        return SendGridSuppressions(self.http, self.account)
