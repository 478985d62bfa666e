"""One Mailgun account: sends, verifies, understands, and lends its suppression lists."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from typing_extensions import override

from mailglass.errors import SignatureError
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_search import SearchableProvider, SearchAnswer
from mailglass.providers.labels import labelled
from mailglass.providers.mailgun import events, search, sending
from mailglass.providers.mailgun.options import MailgunOptions
from mailglass.providers.mailgun.suppressions import MailgunSuppressions
from mailglass.providers.rate_signals import RateHeaders
from mailglass.providers.search import SearchTarget
from mailglass.providers.signatures import missing_secret
from mailglass.settings import Secret


class MailgunProvider(SearchableProvider):
    """One Mailgun domain.

    Every mail has content of its own, so each is a request; `concurrency` of them are in flight at once.
    """

    name = sending.NAME
    Options = MailgunOptions
    webhook_secrets = ("webhook_signing_keys",)
    keeps_suppressions = True
    # not documented, and seen in several units
    rate_headers = RateHeaders("x-ratelimit-remaining", "x-ratelimit-reset", "any")
    # 25 MB of message, in a form with the fields around it
    max_request = 30_000_000
    # Mailgun gives up on 406 and tries again, for some eight hours, on anything else that is not 200
    retry_status = 503
    options: MailgunOptions

    @override
    def credentials(self) -> Mapping[str, str]:
        user = base64.b64encode(f"api:{self.options.api_key.reveal()}".encode()).decode("ascii")
        return {"authorization": f"Basic {user}"}

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return labelled(mail, filter(str.isascii, mail.tags), mail.metadata)

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail)

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        content_type = f"multipart/form-data; boundary={sending.boundary_of(parts[0])}"
        return HTTPRequest(f"/v3/{self.options.domain}/messages", parts[0], {"content-type": content_type})

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return [sending.read(answer)]

    @override
    def verify(self, request: WebhookRequest) -> Secret | None:
        if not self.options.webhook_signing_keys:
            raise missing_secret(self.account, "webhook_signing_keys")
        return events.require_proof(request.body, self.options.webhook_signing_keys, self.options.webhook_tolerance)

    def delivery_key(self, request: WebhookRequest) -> str | None:
        """Return the signature's token: Mailgun asks its receivers to take each one once."""
        try:
            return events.proof_of(request.body).token
        except SignatureError:
            return None

    def single_use(self, request: WebhookRequest) -> Sequence[bytes]:
        """Return the signature covers time and token only, so a token of one key proves one body."""
        return events.used_tokens(request.body, self.options.webhook_signing_keys)

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, self.account)

    @override
    def search(self, targets: Sequence[SearchTarget], *, deadline: float) -> SearchAnswer:
        (item,) = targets
        answer = self.ask(search.request(item, self.options.domain), deadline=deadline)
        return search.read(self.listed(answer, "items"), item, self.account)

    @override
    def suppression_list(self) -> MailgunSuppressions:
        return MailgunSuppressions(self.http, self.account, self.options.domain)
