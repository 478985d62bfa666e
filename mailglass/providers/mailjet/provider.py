"""One Mailjet account: sends in batches whose every item has a verdict of its own, proves webhooks by HTTP Basic."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from typing_extensions import override

from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_search import SearchableProvider, SearchAnswer
from mailglass.providers.mailjet import events, search, sending
from mailglass.providers.mailjet.options import MailjetOptions
from mailglass.providers.search import SearchTarget
from mailglass.providers.signatures import missing_secret, require_basic
from mailglass.settings import Secret


class MailjetProvider(SearchableProvider):
    """One Mailjet account or sub-account."""

    name = sending.NAME
    Options = MailjetOptions
    webhook_secrets = ("webhook_passwords",)
    mails_per_request = 50
    batch_size = 4 * mails_per_request
    max_request = 15_000_000
    # Mailjet posts again on anything that is not 200; it knows no status that stops it
    retry_status = 503
    options: MailjetOptions

    @override
    def credentials(self) -> Mapping[str, str]:
        pair = f"{self.options.api_key.reveal()}:{self.options.secret_key.reveal()}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"}

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return sending.fitting(mail)

    @override
    def encode(self, mail: Outgoing) -> bytes:
        return sending.encode(mail)

    @override
    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        sandbox = b',"SandboxMode":true' if self.options.sandbox else b""
        body = b'{"Messages":[' + b",".join(parts) + b"]" + sandbox + b"}"
        return HTTPRequest("/v3.1/send", body, {"content-type": "application/json"})

    @override
    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        return sending.read(answer, mails)

    @override
    def refuses_whole(self, answer: HTTPAnswer) -> bool:
        return super().refuses_whole(answer) and not sending.has_verdicts(answer)

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
        answer = self.ask(search.request(item), deadline=deadline)
        return search.read(self.listed(answer, "Data"), item)
