"""SendGrid: one mail per request, webhooks signed with ECDSA, events in arrays."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from mailglass.errors import ConfigError, SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import bodies
from mailglass.providers.base import WebhookRequest
from mailglass.providers.bodies import UNMAPPED, Meaning
from mailglass.providers.copies import distinct_copies
from mailglass.providers.http import HTTPAnswer, HTTPRequest, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, provider_options
from mailglass.providers.http_search import Look, SearchableProvider, SearchOptions, query
from mailglass.providers.labels import as_far_as, labelled
from mailglass.providers.rate_signals import RateHeaders
from mailglass.providers.search import Sought, found
from mailglass.providers.sendgrid_suppressions import SendGridSuppressions
from mailglass.providers.signatures import ecdsa_p256_key, missing_secret, require_ecdsa, require_fresh
from mailglass.settings import Secret

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"


@dataclass(frozen=True, kw_only=True)
class SendGridOptions(SearchOptions):
    """The options of a SendGrid account.

    Attributes:
        api_key: a key with the Mail Send permission; with Suppressions too where the suppression list is synchronised.
        base_url: `https://api.eu.sendgrid.com` for accounts in the EU.
        subuser: send on behalf of this subuser.
        search: look at SendGrid for mails whose answer was lost. It needs the paid addition "email activity history",
            and a key with the Email Activity permission.
        webhook_public_keys: the verification keys of the signed event webhook, as the console shows them. Needed to
            receive webhooks; several while one is replaced.
        webhook_tolerance: seconds a webhook's signed time may lie from now; left out, any time is accepted, because
            SendGrid posts again for up to 24 hours and does not say whether it signs anew.
    """

    api_key: Secret
    base_url: str = "https://api.sendgrid.com"
    subuser: str | None = None
    search: bool = False
    webhook_public_keys: tuple[str, ...] = ()
    webhook_tolerance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.webhook_tolerance is not None and not self.webhook_tolerance > 0:
            raise ConfigError("webhook_tolerance", "not a duration", "Give seconds above zero, or leave it out")
        for key in self.webhook_public_keys:
            try:
                ecdsa_p256_key(key)
            except SignatureError:
                raise ConfigError(
                    "webhook_public_keys", "not a P-256 public key", "Copy the verification key from SendGrid's console"
                ) from None


# bytes of JSON, our delivery id included
MAX_CUSTOM_ARGS: Final = 10_000

EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("processed", ""): Meaning(EventKind.QUEUED),
    ("delivered", ""): Meaning(EventKind.DELIVERED),
    ("deferred", ""): Meaning(EventKind.DEFERRED),
    ("bounce", "bounce"): Meaning(EventKind.BOUNCED, BounceClass.HARD),
    # the receiving side blocked the sender; SendGrid itself does not suppress these
    ("bounce", "blocked"): Meaning(EventKind.BOUNCED, BounceClass.SOFT),
    ("bounce", ""): Meaning(EventKind.BOUNCED, BounceClass.UNDETERMINED),
    ("dropped", "invalid"): Meaning(EventKind.REJECTED, None, RejectReason.INVALID),
    ("dropped", "unsubscribed address"): Meaning(EventKind.REJECTED, None, RejectReason.UNSUBSCRIBED),
    ("dropped", "bounced address"): Meaning(EventKind.REJECTED, None, RejectReason.BOUNCED),
    ("dropped", "spam reporting address"): Meaning(EventKind.REJECTED, None, RejectReason.SPAM),
    ("dropped", ""): Meaning(EventKind.REJECTED, None, RejectReason.OTHER),
    ("open", ""): Meaning(EventKind.OPENED),
    ("click", ""): Meaning(EventKind.CLICKED),
    ("spamreport", ""): Meaning(EventKind.COMPLAINED),
    ("unsubscribe", ""): Meaning(EventKind.UNSUBSCRIBED),
    ("group_unsubscribe", ""): Meaning(EventKind.UNSUBSCRIBED),
    ("group_resubscribe", ""): Meaning(EventKind.SUBSCRIBED),
    ("account_status_change", ""): UNMAPPED,
}
"""(event, detail): the detail is a bounce's `type` and a drop's `reason`; "" stands for any other."""

SEARCH_PAGE: Final = 3
_WRITTEN: Final = frozenset(
    "personalizations from subject content attachments reply_to reply_to_list headers categories custom_args".split()
)


class SendGridProvider(SearchableProvider):
    """One SendGrid account or subuser.

    Every mail has content of its own, so each is a request; `concurrency` of them are in flight at once.
    """

    name = "sendgrid"
    Options = SendGridOptions
    rate_headers = RateHeaders("x-ratelimit-remaining", "x-ratelimit-reset", "epoch")
    max_request = 30_000_000
    signed_headers = (SIGNATURE, TIMESTAMP)
    options: SendGridOptions

    def __init__(self, account: str, options: SendGridOptions) -> None:
        super().__init__(account, options)
        self._keys = [ecdsa_p256_key(key) for key in options.webhook_public_keys]

    def credentials(self) -> Mapping[str, str]:
        headers = {"authorization": f"Bearer {self.options.api_key.reveal()}"}
        return headers | {"on-behalf-of": self.options.subuser} if self.options.subuser else headers

    def fitting(self, mail: Outgoing) -> Outgoing:
        def fits(metadata: dict[str, str]) -> bool:
            return len(encode_json({**metadata, "mailglass_id": str(mail.delivery_id)})) <= MAX_CUSTOM_ARGS

        return labelled(mail, mail.tags, as_far_as(mail.metadata, fits))

    def encode(self, mail: Outgoing) -> bytes:
        names = [name.lower() for name, _ in mail.headers]
        if len(set(names)) != len(names):
            raise Unsendable("unsupported_repeated_headers")
        # the API refuses a mail that names somebody twice
        cc, bcc = distinct_copies(mail)
        person: dict[str, Any] = {
            "to": [_mailbox(mail.recipient)],
            "cc": [_mailbox(address) for address in cc],
            "bcc": [_mailbox(address) for address in bcc],
            "custom_args": {**mail.metadata, "mailglass_id": str(mail.delivery_id)},
        }
        options = provider_options(mail, self.name, _WRITTEN)
        fields: dict[str, Any] = {
            "personalizations": [_filled(person)],
            "from": _mailbox(mail.sender),
            "reply_to_list": [_mailbox(address) for address in mail.reply_to],
            # the order is the API's rule
            "content": _filled_content(("text/plain", mail.text), ("text/html", mail.html)),
            "attachments": [_attachment(item) for item in mail.attachments],
            "headers": dict(mail.headers),
            # the API takes each category once
            "categories": list(dict.fromkeys(mail.tags)),
        }
        return encode_json(options | {"subject": mail.subject} | _filled(fields))

    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        return HTTPRequest("/v3/mail/send", parts[0], {"content-type": "application/json"})

    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        if answer.ok:
            message_id = _message_id(answer.headers.get("x-message-id"))
            return [Outcome(OutcomeClass.ACCEPTED, message_id, status=answer.status)]
        return [refusal(answer, self.name, text=_messages(answer.json()), reset=("x-ratelimit-reset", "epoch"))]

    def verify(self, request: WebhookRequest) -> None:
        if not self._keys:
            raise missing_secret(self.account, "webhook_public_keys")
        signature, timestamp = request.header(SIGNATURE), request.header(TIMESTAMP)
        if not timestamp.isascii():
            raise SignatureError(SignatureErrorType.MALFORMED_HEADER, TIMESTAMP)
        require_ecdsa(self._keys, signature, timestamp.encode("ascii") + request.body)
        if self.options.webhook_tolerance is not None:
            require_fresh(timestamp, self.options.webhook_tolerance)

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        items = bodies.parse_json(body)
        if not isinstance(items, list):
            raise WebhookBodyError("SendGrid posts a JSON array")
        return bodies.read_items(items, _event, _event_name, provider=self.name, account=self.account)

    def look(self, sought: Sequence[Sought], *, deadline: float) -> Look:
        """Its activity by our id; the list does not repeat that, so the message itself is asked for it."""
        (item,) = sought
        request = query(
            "/v3/messages", limit=SEARCH_PAGE, query=f"(unique_args['mailglass_id']=\"{item.delivery_id}\")"
        )
        messages = self.listed(self.ask(request, deadline=deadline), "messages")
        for name in filter(None, (bodies.text(message.get("msg_id")) for message in messages)):
            whole = self.ask(HTTPRequest(f"/v3/messages/{quote(name, safe='')}", method="GET"), deadline=deadline)
            if _unique_id(whole) == item.delivery_id:
                return Look({item.delivery_id: found(item.delivery_id, _message_id(name))})
        return Look(whole=not messages)

    def suppression_list(self) -> SendGridSuppressions:
        return SendGridSuppressions(self.http, self.account)


def _mailbox(address: Address) -> dict[str, str]:
    return {"email": address.email, "name": address.name} if address.name else {"email": address.email}


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def _filled_content(*bodies_by_type: tuple[str, str | None]) -> list[dict[str, str]]:
    return [{"type": kind, "value": value} for kind, value in bodies_by_type if value]


def _attachment(item: Attachment) -> dict[str, str]:
    fields = {
        "content": base64.b64encode(item.content).decode("ascii"),
        # the API refuses parameters here
        "type": item.content_type.partition(";")[0].strip(),
        "filename": item.filename,
    }
    if item.inline:
        return fields | {"disposition": "inline", "content_id": item.content_id}
    return fields | {"disposition": "attachment"}


def _message_id(value: object) -> str | None:
    """The part before the first dot: what `X-Message-Id` and a webhook's `sg_message_id` have in common."""
    found = bodies.text(value)
    return (found.partition(".")[0] or None) if found else None


def _unique_id(message: Any) -> UUID | None:
    """Our id in a message's arguments, which come as an object or as its text."""
    found = message.get("unique_args") if isinstance(message, dict) else None
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            return None
    return bodies.delivery_of(found.get("mailglass_id")) if isinstance(found, dict) else None


def _messages(answer: Any) -> str:
    errors = answer.get("errors") if isinstance(answer, dict) else None
    items = errors if isinstance(errors, list) else []
    return " ".join(str(item.get("message")) for item in items if isinstance(item, dict))


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = _meaning(item)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=bodies.text(item.get("sg_event_id"), 100) or bodies.whole_fingerprint(item),
        occurred_at=bodies.epoch_moment(item.get("timestamp")),
        delivery_id=bodies.delivery_of(item.get("mailglass_id")),
        provider_message_id=_message_id(item.get("sg_message_id")),
        recipient=bodies.address_of(item.get("email")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=bodies.enhanced_status(item.get("status")),
        machine=item.get("sg_machine_open") is True,
        click_hash=bodies.click_hash(item.get("url")),
        tags=bodies.tags_of(item.get("category")),
    )
    kind, classified = bodies.label_of(item.get("type")), bodies.label_of(item.get("bounce_classification"))
    return bodies.with_refusal(event, ("sendgrid", f"{kind}/{classified}"), item.get("reason") or item.get("response"))


def _meaning(item: dict[str, Any]) -> Meaning:
    event = bodies.label_of(item.get("event"))
    detail = {"bounce": "type", "dropped": "reason"}.get(event, "")
    return EVENTS.get((event, bodies.label_of(item.get(detail)).lower())) or EVENTS.get((event, ""), UNMAPPED)


def _event_name(item: dict[str, Any]) -> str:
    return bodies.label_of(item.get("event"))
