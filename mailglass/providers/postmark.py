"""Postmark: sends in batches, proves webhooks by HTTP Basic credentials, and maps bounces by their type."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from mailglass.errors import ConfigError, WebhookBodyError
from mailglass.mail.content_types import written
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import bodies
from mailglass.providers.base import WebhookRequest
from mailglass.providers.bodies import UNMAPPED, Meaning
from mailglass.providers.http import HTTPAnswer, HTTPRequest, refusal
from mailglass.providers.http_provider import (
    encode_json,
    mailbox,
    mailboxes,
    provider_options,
)
from mailglass.providers.http_search import Look, SearchableProvider, SearchOptions, query
from mailglass.providers.labels import labelled
from mailglass.providers.postmark_suppressions import PostmarkSuppressions
from mailglass.providers.search import Sought, found
from mailglass.providers.signatures import missing_secret, require_basic
from mailglass.settings import Secret


@dataclass(frozen=True, kw_only=True)
class PostmarkOptions(SearchOptions):
    """The options of a Postmark account.

    Attributes:
        server_token: the server's API token.
        message_stream: Postmark's message stream; one of type broadcast for bulk mail.
        webhook_username: the user name in the webhook's URL. Needed to receive webhooks.
        webhook_passwords: the passwords that are accepted; two at a time while one is replaced.
    """

    server_token: Secret
    message_stream: str = "outbound"
    base_url: str = "https://api.postmarkapp.com"
    webhook_username: str | None = None
    webhook_passwords: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.message_stream:
            raise ConfigError("message_stream", "empty", "Name a message stream of the server, or leave it out")
        if bool(self.webhook_username) != bool(self.webhook_passwords):
            missing = "webhook_passwords" if self.webhook_username else "webhook_username"
            raise ConfigError(missing, "missing", "Give a user name and at least one password, or neither")
        if ":" in (self.webhook_username or ""):
            raise ConfigError("webhook_username", "holds a colon (RFC 7617)", "Choose another user name")


_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT
EVENTS: Final[Mapping[tuple[str, str], Meaning]] = {
    ("Delivery", ""): Meaning(EventKind.DELIVERED),
    ("Open", ""): Meaning(EventKind.OPENED),
    ("Click", ""): Meaning(EventKind.CLICKED),
    ("SpamComplaint", ""): Meaning(EventKind.COMPLAINED),
    ("SubscriptionChange", "HardBounce"): Meaning(EventKind.BOUNCED, _HARD),
    ("SubscriptionChange", "SpamComplaint"): Meaning(EventKind.COMPLAINED),
    ("SubscriptionChange", "ManualSuppression"): Meaning(EventKind.UNSUBSCRIBED),
    ("SubscriptionChange", "resumed"): Meaning(EventKind.SUBSCRIBED),
    ("Bounce", "HardBounce"): Meaning(EventKind.BOUNCED, _HARD),
    ("Bounce", "SoftBounce"): Meaning(EventKind.BOUNCED, _SOFT),
    ("Bounce", "VirusNotification"): Meaning(EventKind.BOUNCED, _SOFT),
    ("Bounce", "Transient"): Meaning(EventKind.DEFERRED, _SOFT),
    ("Bounce", "DnsError"): Meaning(EventKind.DEFERRED, _SOFT),
    ("Bounce", "OpenRelayTest"): Meaning(EventKind.DEFERRED, _SOFT),
    ("Bounce", "AutoResponder"): Meaning(EventKind.AUTORESPONDED),
    ("Bounce", "AddressChange"): Meaning(EventKind.AUTORESPONDED),
    ("Bounce", "ChallengeVerification"): Meaning(EventKind.AUTORESPONDED),
    ("Bounce", "BadEmailAddress"): Meaning(EventKind.REJECTED, _HARD, RejectReason.INVALID),
    ("Bounce", "ManuallyDeactivated"): Meaning(EventKind.REJECTED, None, RejectReason.BLOCKED),
    ("Bounce", "DMARCPolicy"): Meaning(EventKind.REJECTED, None, RejectReason.BLOCKED),
    # mostly a receiving provider's block of the sender, which says nothing about the mailbox
    ("Bounce", "Blocked"): Meaning(EventKind.REJECTED, _SOFT, RejectReason.BLOCKED),
    ("Bounce", "Unconfirmed"): Meaning(EventKind.REJECTED, _SOFT, RejectReason.OTHER),
    ("Bounce", "SMTPApiError"): Meaning(EventKind.FAILED),
    ("Bounce", "TemplateRenderingFailed"): Meaning(EventKind.FAILED),
    # no complaint: a filter refused the content, and the address stays active
    ("Bounce", "SpamNotification"): Meaning(EventKind.BOUNCED, _SOFT),
    ("Bounce", "SpamComplaint"): Meaning(EventKind.COMPLAINED),
    ("Bounce", "Unsubscribe"): Meaning(EventKind.UNSUBSCRIBED),
    ("Bounce", "Subscribe"): Meaning(EventKind.SUBSCRIBED),
    ("Bounce", "Unknown"): Meaning(EventKind.UNKNOWN, BounceClass.UNDETERMINED),
}
"""(RecordType, detail): the detail is a bounce's `Type` and a subscription change's reason. Inbound mail is none."""

NAME: Final = "postmark"
INACTIVE_RECIPIENT: Final = 406
SEARCH_PAGE: Final = 50
_TIMES: Final = ("BouncedAt", "DeliveredAt", "ReceivedAt", "ChangedAt")
_WRITTEN: Final = frozenset("from to cc bcc subject htmlbody textbody replyto headers attachments tag metadata".split())


class PostmarkProvider(SearchableProvider):
    """One Postmark server.

    Several mails go through `/email/batch`, where each has an answer of its own; a single one through `/email`, whose
    refusals are certain to be about it.
    """

    name = NAME
    Options = PostmarkOptions
    # of the 500 the API takes: a lost answer makes this many uncertain at most; four requests are in flight at once
    mails_per_request = 100
    batch_size = 4 * mails_per_request
    # 50 MB with all attachments
    max_request = 50_000_000
    # Postmark gives up on 403 and tries again on anything else that is not 2xx
    retry_status = 503
    options: PostmarkOptions

    def credentials(self) -> Mapping[str, str]:
        return {"x-postmark-server-token": self.options.server_token.reveal()}

    def fitting(self, mail: Outgoing) -> Outgoing:
        return labelled(mail, mail.tags[:1], mail.metadata)

    def encode(self, mail: Outgoing) -> bytes:
        options = provider_options(mail, self.name, _WRITTEN)
        fields: dict[str, Any] = {
            "From": mailbox(mail.sender),
            "To": mailbox(mail.recipient),
            "Cc": mailboxes(mail.cc),
            "Bcc": mailboxes(mail.bcc),
            "ReplyTo": mailboxes(mail.reply_to),
            "Subject": mail.subject,
            "TextBody": mail.text,
            "HtmlBody": mail.html,
            "Tag": "".join(mail.tags),
            "Headers": [{"Name": name, "Value": value} for name, value in mail.headers],
            "Attachments": [_attachment(item) for item in mail.attachments],
            "Metadata": {**mail.metadata, "mailglass_id": str(mail.delivery_id)},
        }
        filled = {key: value for key, value in fields.items() if key == "Subject" or value}
        return encode_json({"MessageStream": self.options.message_stream} | options | filled)

    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        headers = {"content-type": "application/json"}
        if len(parts) == 1:
            return HTTPRequest("/email", parts[0], headers)
        return HTTPRequest("/email/batch", b"[" + b",".join(parts) + b"]", headers)

    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        found = answer.json()
        if answer.status == 200:
            items = found if isinstance(found, list) else [found]
            return [_item(answer, item, mail) for item, mail in zip(items, mails, strict=False)]
        return [_refusal(answer, found)] * len(mails)

    def verify(self, request: WebhookRequest) -> None:
        if not self.options.webhook_username:
            raise missing_secret(self.account, "webhook_username and webhook_passwords")
        require_basic(request, self.options.webhook_username, self.options.webhook_passwords)

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        item = bodies.parse_json(body)
        if not isinstance(item, dict):
            raise WebhookBodyError("Postmark posts one JSON object")
        return bodies.read_items([item], _event, _event_name, provider=self.name, account=self.account)

    def look(self, sought: Sequence[Sought], *, deadline: float) -> Look:
        """Its outbound messages by our id in their metadata, newest first."""
        (item,) = sought
        ours, stream = str(item.delivery_id), self.options.message_stream
        request = query(
            "/messages/outbound", count=SEARCH_PAGE, offset=0, messagestream=stream, metadata_mailglass_id=ours
        )
        messages = self.listed(self.ask(request, deadline=deadline), "Messages")
        matches = [message for message in messages if _delivery_id(message) == item.delivery_id]
        if matches:
            return Look({item.delivery_id: found(item.delivery_id, bodies.text(matches[0].get("MessageID")))})
        # a page that is full was not narrowed down to ours
        return Look(whole=len(messages) < SEARCH_PAGE)

    def suppression_list(self) -> PostmarkSuppressions:
        return PostmarkSuppressions(self.http, self.account, self.options.message_stream)


def _attachment(item: Attachment) -> dict[str, str]:
    fields = {
        "Name": item.filename,
        "Content": base64.b64encode(item.content).decode("ascii"),
        "ContentType": written(item.content_type),
    }
    return fields | {"ContentID": f"cid:{item.content_id}"} if item.content_id else fields


def _item(answer: HTTPAnswer, item: Any, mail: Outgoing) -> Outcome:
    code = item.get("ErrorCode") if isinstance(item, dict) else None
    if isinstance(item, dict) and code is None and _is_delayed(item):
        code = 0
    if not isinstance(code, int):
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
    if code:
        return _coded(answer, code)
    message_id = bodies.text(item.get("MessageID"))
    # accepted for copies only: the recipient itself is on Postmark's list
    if mail.recipient.key in _inactive(item.get("Message")):
        return replace(_coded(answer, INACTIVE_RECIPIENT), provider_message_id=message_id)
    return Outcome(OutcomeClass.ACCEPTED, message_id, status=answer.status)


def _is_delayed(item: dict[str, Any]) -> bool:
    """Whether Postmark has the mail and is slow to send it: it says so, gives an id, and leaves ErrorCode out."""
    said = bodies.label_of(item.get("Message"))[:1000].lower()
    return "delivery may be delayed" in said and bodies.text(item.get("MessageID")) is not None


def _refusal(answer: HTTPAnswer, found: Any) -> Outcome:
    code = found.get("ErrorCode") if isinstance(found, dict) else None
    if answer.status in (401, 422) and isinstance(code, int) and code:
        return _coded(answer, code)
    if answer.ok:  # Postmark accepts with 200 only; no other 2xx is its word
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
    return refusal(answer, NAME)


def _coded(answer: HTTPAnswer, code: int) -> Outcome:
    return refusal(answer, NAME, str(code), reason=f"postmark_{code}")


def _inactive(message: object) -> set[str]:
    text = message.lower() if isinstance(message, str) else ""
    _, begin, rest = text.partition("inactive addresses:")
    addresses, end, _ = rest.rpartition("inactive recipients")
    addresses = addresses.strip().removesuffix(".")
    return {address.strip() for address in addresses.split(",")} if begin and end else set()


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = EVENTS.get((bodies.label_of(item.get("RecordType")), _detail(item)), UNMAPPED)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=_identity(item),
        occurred_at=bodies.iso_moment(_time(item)),
        delivery_id=_delivery_id(item),
        provider_message_id=bodies.text(item.get("MessageID")),
        recipient=bodies.address_of(item.get("Email") or item.get("Recipient")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=bodies.enhanced_status(item.get("Details")) if item.get("RecordType") == "Bounce" else None,
        click_hash=bodies.click_hash(item.get("OriginalLink")),
        tags=bodies.tags_of(item.get("Tag")),
    )
    if item.get("RecordType") != "Bounce":
        return event
    return bodies.with_refusal(event, ("postmark", _detail(item)), item.get("Details"))


def _delivery_id(item: dict[str, Any]) -> UUID | None:
    metadata = item.get("Metadata")
    return bodies.delivery_of(metadata.get("mailglass_id")) if isinstance(metadata, dict) else None


def _detail(item: dict[str, Any]) -> str:
    record = item.get("RecordType")
    if record == "Bounce":
        return bodies.label_of(item.get("Type"))
    if record == "SubscriptionChange":
        return "resumed" if item.get("SuppressSending") is False else bodies.label_of(item.get("SuppressionReason"))
    return ""


def _event_name(item: dict[str, Any]) -> str:
    return ".".join(part for part in (bodies.label_of(item.get("RecordType")), _detail(item)) if part)


def _time(item: dict[str, Any]) -> Any:
    return next((item[key] for key in _TIMES if item.get(key)), None)


def _identity(item: dict[str, Any]) -> str:
    """A bounce's own `ID`; what has none is known by message, kind, recipient and time, hashed."""
    number = item.get("ID")
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 63:
        return str(number)
    message_id, time = item.get("MessageID"), _time(item)
    if not message_id or not time:
        return bodies.whole_fingerprint(item)
    recipient = bodies.label_of(item.get("Recipient") or item.get("Email")).lower()
    return bodies.fingerprint(message_id, item.get("RecordType"), recipient, time, _detail(item))
