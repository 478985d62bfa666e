"""One SparkPost account: sends, verifies, understands, and lends its suppression list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from typing_extensions import override

from mailglass.errors import SignatureError, SignatureErrorType
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_search import SearchableProvider, SearchAnswer
from mailglass.providers.search import SearchTarget
from mailglass.providers.signatures import missing_secret, require_basic, require_bearer, require_header
from mailglass.providers.sparkpost import events, search, sending
from mailglass.providers.sparkpost.options import SparkPostOptions
from mailglass.providers.sparkpost.suppressions import SparkPostSuppressions
from mailglass.settings import Secret

# where no way of proof fits, the error of the one that came furthest is told
_FURTHEST: Final = (
    SignatureErrorType.BAD_CREDENTIALS,
    SignatureErrorType.MALFORMED_HEADER,
    SignatureErrorType.MISSING_HEADER,
)


class SparkPostProvider(SearchableProvider):
    """One SparkPost account or subaccount.

    Every mail has content of its own, so each is a transmission; `concurrency` of them are in flight at once.
    """

    name = sending.NAME
    Options = SparkPostOptions
    webhook_secrets = ("webhook_passwords", "webhook_tokens", "webhook_header_values")
    keeps_suppressions = True
    targets_per_search = 20
    max_request = 20_000_000
    # SparkPost posts again on anything that is not 200; it knows no status that stops it
    retry_status = 503
    signed_headers = (events.BATCH_ID,)
    options: SparkPostOptions

    @override
    def credentials(self) -> Mapping[str, str]:
        headers = {"authorization": self.options.api_key.reveal()}
        if self.options.subaccount is not None:
            headers["x-msys-subaccount"] = str(self.options.subaccount)
        return headers

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return sending.fitting(mail, self.options.max_metadata)

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail, self.options)

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        return HTTPRequest(sending.PATH, parts[0], {"content-type": "application/json"})

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return [sending.read(answer)]

    @override
    def verify(self, request: WebhookRequest) -> Secret | None:
        proofs = self._proofs(request)
        if not proofs:
            raise missing_secret(self.account, "webhook_passwords, webhook_tokens or webhook_header_values")
        errors: list[SignatureError] = []
        for prove in proofs:
            try:
                return prove()
            except SignatureError as error:
                errors.append(error)
        raise min(errors, key=lambda error: _FURTHEST.index(error.type))

    def delivery_key(self, request: WebhookRequest) -> str | None:
        """Return the batch's id, which SparkPost repeats when it posts the batch again."""
        return parsing.text(request.headers.get(events.BATCH_ID), 100)

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, self.account, count_initial_opens=self.options.count_initial_opens)

    @override
    def search(self, targets: Sequence[SearchTarget], *, deadline: float) -> SearchAnswer:
        answer = self.ask(search.request(targets), deadline=deadline)
        return search.read(self.listed(answer, "results"), targets, self.account)

    @override
    def suppression_list(self) -> SparkPostSuppressions:
        return SparkPostSuppressions(self.http, self.account, self.options.subaccount)

    def _proofs(self, request: WebhookRequest) -> list[Callable[[], Secret]]:
        """Return the ways to prove a webhook that this account is told of."""
        options = self.options
        proofs: list[Callable[[], Secret]] = []
        if options.webhook_username:
            username = options.webhook_username
            proofs.append(lambda: require_basic(request, username, options.webhook_passwords))
        if options.webhook_tokens:
            proofs.append(lambda: require_bearer(request, options.webhook_tokens))
        if options.webhook_header_values:
            proofs.append(lambda: require_header(request, options.webhook_header, options.webhook_header_values))
        return proofs
