"""One Brevo account: sends, verifies, understands, and lends its list of the blocked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import override

from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.brevo import events, search, sending
from mailglass.providers.brevo.events import NAME
from mailglass.providers.brevo.options import BrevoOptions
from mailglass.providers.brevo.suppressions import BrevoSuppressions
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_search import SearchableProvider, SearchAnswer
from mailglass.providers.rate_signals import RateHeaders
from mailglass.providers.search import SearchTarget
from mailglass.providers.signatures import (
    missing_secret,
    networks_of,
    require_basic,
    require_bearer,
    require_header,
    require_ip,
)
from mailglass.settings import Secret


class BrevoProvider(SearchableProvider):
    """One Brevo account.

    `messageVersions` would carry many mails in a request. It is not used: sender, tags, attachments and the idempotency
    key are the request's and not a version's, one version at fault refuses all, and at a thousand requests a second
    there is nothing to save. So each mail is a request of its own under its delivery's id as key, and `concurrency` of
    them are in flight at once.
    """

    name = NAME
    Options = BrevoOptions
    webhook_secrets = ("webhook_passwords", "webhook_tokens", "webhook_header_values")
    keeps_suppressions = True
    rate_headers = RateHeaders("x-sib-ratelimit-remaining", "x-sib-ratelimit-reset")
    max_request = 20_000_000
    # the one status after which Brevo posts again: any other 4xx, and by its documentation any 5xx, discards the event
    retry_status = 429
    idempotent = True
    # its guide says 30 minutes and its changelog 15
    idempotency_window = 15 * 60.0
    options: BrevoOptions

    def __init__(self, account: str, options: BrevoOptions) -> None:
        super().__init__(account, options)
        self._networks = networks_of("webhook_networks", options.webhook_networks)

    @override
    def credentials(self) -> Mapping[str, str]:
        return {"api-key": self.options.api_key.reveal()}

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return sending.fitting(mail) if self.options.metadata and mail.metadata else mail

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail, self.options, searchable=self.searchable)

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        return HTTPRequest("/v3/smtp/email", parts[0], {"content-type": "application/json"})

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return sending.read(answer)

    @override
    def verify(self, request: WebhookRequest) -> Secret | None:
        options = self.options
        if options.webhook_username:
            secret = require_basic(request, options.webhook_username, options.webhook_passwords)
        elif options.webhook_tokens:
            secret = require_bearer(request, options.webhook_tokens)
        elif options.webhook_header:
            secret = require_header(request, options.webhook_header, options.webhook_header_values)
        else:
            raise missing_secret(self.account, "webhook_username, webhook_tokens or webhook_header")
        if self._networks:
            require_ip(request, self._networks)
        return secret

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, self.account)

    @override
    def search(self, targets: Sequence[SearchTarget], *, deadline: float) -> SearchAnswer:
        (item,) = targets
        answer = self.ask(search.request(item), deadline=deadline)
        # as of other lists of Brevo's: no mails, no list
        empty = isinstance(answer, dict) and answer.get("count") == 0
        return SearchAnswer() if empty else search.read(self.listed(answer, "transactionalEmails"), item)

    @override
    def suppression_list(self) -> BrevoSuppressions:
        return BrevoSuppressions(self.http, self.account, self.options.blocked_senders)
