"""One Mandrill account: sends, verifies, understands, and lends its rejection list."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from typing_extensions import override

from mailglass.errors import SignatureError
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_provider import encode_json
from mailglass.providers.http_search import SearchableProvider, SearchAnswer
from mailglass.providers.mandrill import events, search, sending
from mailglass.providers.mandrill.options import MandrillOptions
from mailglass.providers.mandrill.suppressions import MandrillSuppressions
from mailglass.providers.search import SearchTarget
from mailglass.providers.signatures import missing_secret
from mailglass.settings import Secret
from mailglass.telemetry import emit


class MandrillProvider(SearchableProvider):
    """One Mandrill account or subaccount.

    Every mail has content of its own, so each is a call; `concurrency` of them are in flight at once.
    """

    name = sending.NAME
    Options = MandrillOptions
    webhook_secrets = ("webhook_keys",)
    keeps_suppressions = True
    # it takes twenty questions a minute
    targets_per_search = 20
    max_request = 25_000_000
    # Mandrill tries again on anything that is not 200; it knows no status that stops it
    retry_status = 503
    signed_headers = (events.SIGNATURE,)
    options: MandrillOptions

    @override
    def credentials(self) -> Mapping[str, str]:
        return {}  # the key stands in the body of each call

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return sending.fitting(mail, self.options.max_metadata)

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail, self.options)

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        key = encode_json({"key": self.options.api_key.reveal()})
        body = key[:-1] + b"," + parts[0][1:]
        return HTTPRequest(sending.path_of(mails[0]), body, {"content-type": "application/json"})

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        outcome = sending.read(answer, mails[0])
        if outcome.kind is OutcomeClass.ACCEPTED and outcome.reason:
            emit(
                "mailglass.provider.queued",
                level=logging.WARNING,
                provider=self.name,
                account=self.account,
                reason=outcome.reason,
            )
        return [outcome]

    @override
    def verify(self, request: WebhookRequest) -> Secret | None:
        url = self.options.webhook_url
        if not url:
            raise missing_secret(self.account, "webhook_keys and webhook_url")
        signature = request.header(events.SIGNATURE)
        if events.is_test(signature, url, request.body):
            return None
        if not self.options.webhook_keys:
            raise missing_secret(self.account, "webhook_keys")
        return events.require_signature(signature, url, request.body, self.options.webhook_keys)

    def delivery_key(self, request: WebhookRequest) -> str | None:
        """Return a digest of what is signed, so that a copy in another encoding is the same webhook."""
        try:
            return events.identity_of(self.options.webhook_url or "", request.body)
        except SignatureError:
            return None

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, self.account)

    @override
    def search(self, targets: Sequence[SearchTarget], *, deadline: float) -> SearchAnswer:
        answer = self.ask(search.request(targets, self.options.api_key), deadline=deadline)
        return search.read(self.listed(answer), targets)

    @override
    def suppression_list(self) -> MandrillSuppressions:
        return MandrillSuppressions(self.http, self.account, self.options)
