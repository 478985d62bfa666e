"""One Postmark server: sends in batches, proves webhooks by HTTP Basic credentials, lends its suppression list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import override

from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_search import SearchableProvider, SearchAnswer
from mailglass.providers.labels import labelled
from mailglass.providers.postmark import events, search, sending
from mailglass.providers.postmark.options import PostmarkOptions
from mailglass.providers.postmark.suppressions import PostmarkSuppressions
from mailglass.providers.search import SearchTarget
from mailglass.providers.signatures import missing_secret, require_basic
from mailglass.settings import Secret


class PostmarkProvider(SearchableProvider):
    """One Postmark server.

    Several mails go through `/email/batch`, where each has an answer of its own; a single one through `/email`, whose
    refusals are certain to be about it.
    """

    name = sending.NAME
    Options = PostmarkOptions
    webhook_secrets = ("webhook_passwords",)
    keeps_suppressions = True
    # of the 500 the API takes: a lost answer makes this many uncertain at most; four requests are in flight at once
    mails_per_request = 100
    batch_size = 4 * mails_per_request
    # 50 MB with all attachments
    max_request = 50_000_000
    # Postmark gives up on 403 and tries again on anything else that is not 2xx
    retry_status = 503
    options: PostmarkOptions

    @override
    def credentials(self) -> Mapping[str, str]:
        return {"x-postmark-server-token": self.options.server_token.reveal()}

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return labelled(mail, mail.tags[:1], mail.metadata)

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail, self.options)

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        headers = {"content-type": "application/json"}
        if len(parts) == 1:
            return HTTPRequest("/email", parts[0], headers)
        return HTTPRequest("/email/batch", b"[" + b",".join(parts) + b"]", headers)

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return sending.read(answer, mails)

    @override
    def verify(self, request: WebhookRequest) -> Secret | None:
        if not self.options.webhook_username:
            raise missing_secret(self.account, "webhook_username and webhook_passwords")
        return require_basic(request, self.options.webhook_username, self.options.webhook_passwords)

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, self.account)

    @override
    def search(self, targets: Sequence[SearchTarget], *, deadline: float) -> SearchAnswer:
        (item,) = targets
        answer = self.ask(search.request(item, self.options.message_stream), deadline=deadline)
        return search.read(self.listed(answer, "Messages"), item)

    @override
    def suppression_list(self) -> PostmarkSuppressions:
        return PostmarkSuppressions(self.http, self.account, self.options.message_stream)
