"""Resend's sending API: what a mail looks like there, the key that lets it be asked again, and what answers mean."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.header import Header
from typing import Any, Final

from mailglass.errors import ConfigError, SignatureError
from mailglass.mail.addresses import Address
from mailglass.mail.events import ProviderEvent
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import bodies
from mailglass.providers.base import WebhookRequest
from mailglass.providers.file_types import bare_type, name_agrees
from mailglass.providers.http import HTTPAnswer, HTTPOptions, HTTPRequest, refusal
from mailglass.providers.http_provider import HTTPProvider, Unsendable, encode_json, provider_options
from mailglass.providers.labels import labelled
from mailglass.providers.resend import events
from mailglass.providers.resend.names import COPIES, DELIVERY, NAME, TAG
from mailglass.providers.resend.suppressions import ResendSuppressions
from mailglass.providers.signatures import (
    STANDARD_WEBHOOK_HEADERS,
    missing_secret,
    require_standard_webhook,
    standard_webhook_id,
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


_RESET: Final = ("ratelimit-reset", "seconds")
# the rate limit's reset says nothing of a quota or another request
_BESIDE_THE_RATE: Final = frozenset(
    "daily_quota_exceeded monthly_quota_exceeded concurrent_idempotent_requests application_error"
    " internal_server_error".split()
)
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}\Z")
# RFC 5322 3.2.3: what a display name may not hold unless it is quoted, which Resend refuses
_SPECIALS = re.compile(r'[()<>\[\]:;@\\,."]|=\?')
# what would make another address of a name that is not quoted
_QUOTED_SENDER = re.compile(r"[,;]")
# what Resend takes for an attack, quoted or not
_UNFIT_SENDER = re.compile(r'[<>@\\"]|=\?')
_WRITTEN: Final = frozenset("from to cc bcc reply_to subject html text headers attachments tags".split())


class ResendProvider(HTTPProvider):
    """One Resend team.

    Every mail is a request of its own under its delivery's id as Idempotency-Key, so that the same bytes may be asked
    again for a day: Resend answers as the first time and sends nothing. With `batch`, mails share requests; a request's
    key then stands for exactly these mails in this order, and a later attempt that groups them otherwise is another
    request. So such an account is not `idempotent`.
    """

    name = NAME
    Options = ResendOptions
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

    def credentials(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.options.api_key.reveal()}"}

    def fitting(self, mail: Outgoing) -> Outgoing:
        metadata = {key: value for key, value in mail.metadata.items() if _TAG.match(key) and _TAG.match(value)}
        return labelled(mail, filter(_TAG.match, mail.tags), metadata)

    def encode(self, mail: Outgoing) -> bytes:
        self._refuse_what_is_unsupported(mail)
        options = provider_options(mail, self.name, _WRITTEN)
        fields: dict[str, Any] = {
            "from": _sender(mail.sender),
            "to": [_mailbox(mail.recipient)],
            "cc": _mailboxes(mail.cc),
            "bcc": _mailboxes(mail.bcc),
            "reply_to": _mailboxes(mail.reply_to),
            "headers": dict(mail.headers),
            "attachments": [_attachment(item) for item in mail.attachments],
            "tags": _tags(mail),
        }
        filled = {key: value for key, value in fields.items() if value}
        content = {"text": mail.text, "html": mail.html}
        said = {key: value for key, value in content.items() if value is not None}
        return encode_json(options | filled | {"subject": mail.subject} | said)

    def goes_alone(self, mail: Outgoing) -> bool:
        # the batch call takes neither attachments nor a time
        timed = "scheduled_at" in (mail.options.get(self.name) or {})
        return not self.options.batch or bool(mail.attachments) or timed

    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        headers = {"content-type": "application/json", "idempotency-key": _key(mails)}
        if len(parts) == 1:
            return HTTPRequest("/emails", parts[0], headers)
        # strict: one mail at fault refuses all, so that a refusal proves that none was taken
        headers["x-batch-validation"] = "strict"
        return HTTPRequest("/emails/batch", b"[" + b",".join(parts) + b"]", headers)

    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        found = answer.json()
        if answer.ok:
            items = [found] if len(mails) == 1 else found["data"]
            if len(items) != len(mails):  # which of them were taken is not to be told
                return []
            return [_accepted(item, answer.status) for item in items]
        return [_refusal(answer, found)] * len(mails)

    def verify(self, request: WebhookRequest) -> None:
        if not self._keys:
            raise missing_secret(self.account, "webhook_secrets")
        require_standard_webhook(request, self._keys, self.options.webhook_tolerance)

    def delivery_key(self, request: WebhookRequest) -> str | None:
        return standard_webhook_id(request.headers)

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return events.normalise(body, headers, self.account)

    def suppression_list(self) -> ResendSuppressions:
        return ResendSuppressions(self.http, self.account)

    def _refuse_what_is_unsupported(self, mail: Outgoing) -> None:
        names = [name.lower() for name, _ in mail.headers]
        if len(set(names)) != len(names):
            raise Unsendable("unsupported_repeated_headers")
        addresses = (mail.sender, mail.recipient, *mail.cc, *mail.bcc, *mail.reply_to)
        if any(address.smtputf8 for address in addresses):
            raise Unsendable("unsupported_smtputf8")
        if self.options.check_attachments and not all(name_agrees(item) for item in mail.attachments):
            raise Unsendable("unsupported_attachment_type")


def _key(mails: Sequence[Outgoing]) -> str:
    if len(mails) == 1:
        return str(mails[0].delivery_id)
    together = hashlib.sha256(b"".join(mail.delivery_id.bytes for mail in mails))
    return f"batch-{together.hexdigest()}"


def _sender(address: Address) -> str:
    """A name with a comma is quoted (RFC 5322 3.4); Resend refuses one that is encoded or holds an address."""
    if _UNFIT_SENDER.search(address.name):
        raise Unsendable("unsupported_sender_name")
    if _QUOTED_SENDER.search(address.name):
        return f'"{address.name}" <{address.email}>'
    return f"{address.name} <{address.email}>" if address.name else address.email


def _mailbox(address: Address) -> str:
    """A name that would have to be quoted is encoded instead (RFC 2047): Resend refuses quoted ones."""
    if not address.name:
        return address.email
    name = address.name
    if _SPECIALS.search(name):
        name = Header(name, "utf-8", maxlinelen=75).encode(linesep="")
    return f"{name} <{address.email}>"


def _mailboxes(addresses: Iterable[Address]) -> list[str]:
    return [_mailbox(address) for address in addresses]


def _attachment(item: Attachment) -> dict[str, str]:
    fields = {
        "filename": item.filename,
        "content": base64.b64encode(item.content).decode("ascii"),
        # without parameters: it is compared with the name's extension
        "content_type": bare_type(item),
    }
    return fields | {"content_id": item.content_id} if item.inline else fields


def _tags(mail: Outgoing) -> list[dict[str, str]]:
    """Resend's tags are pairs: labels are numbered, metadata keeps its names, the delivery's id comes back in one."""
    labels = {f"{TAG}{number}": tag for number, tag in enumerate(dict.fromkeys(mail.tags), 1)}
    # a webhook does not say whom of several people it is about
    copies = {COPIES: "1"} if mail.cc or mail.bcc else {}
    pairs = {DELIVERY: str(mail.delivery_id), **copies, **labels, **mail.metadata}
    return [{"name": name, "value": value} for name, value in pairs.items()]


def _accepted(item: Any, status: int) -> Outcome:
    message_id = bodies.text(item.get("id")) if isinstance(item, dict) else None
    if message_id is None:
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=status)
    return Outcome(OutcomeClass.ACCEPTED, message_id, status=status)


def _refusal(answer: HTTPAnswer, found: Any) -> Outcome:
    name = bodies.label_of(found.get("name")) if isinstance(found, dict) else ""
    return refusal(answer, NAME, name, reset=None if name in _BESIDE_THE_RATE else _RESET)
