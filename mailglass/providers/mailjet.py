"""Mailjet: sends in batches whose every item has a verdict of its own, proves webhooks by HTTP Basic credentials."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mailglass.errors import ConfigError, WebhookBodyError
from mailglass.mail.addresses import Address
from mailglass.mail.content_types import written
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
from mailglass.providers.labels import labelled
from mailglass.providers.search import Sought, found
from mailglass.providers.signatures import missing_secret, require_basic
from mailglass.refusals.labels import LABELS
from mailglass.settings import Secret


@dataclass(frozen=True, kw_only=True)
class MailjetOptions(SearchOptions):
    """The options of a Mailjet account.

    Attributes:
        api_key: the key; the account's own or that of a sub-account.
        secret_key: its secret.
        base_url: `https://api.us.mailjet.com` for accounts in the US.
        sandbox: have Mailjet check every mail and deliver none. Such mails count as sent.
        webhook_username: the user name in the webhook's URL. Needed to receive webhooks.
        webhook_passwords: the passwords that are accepted; two at a time while one is replaced.
    """

    api_key: Secret
    secret_key: Secret
    base_url: str = "https://api.mailjet.com"
    sandbox: bool = False
    webhook_username: str | None = None
    webhook_passwords: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.webhook_username) != bool(self.webhook_passwords):
            missing = "webhook_passwords" if self.webhook_username else "webhook_username"
            raise ConfigError(missing, "missing", "Give a user name and at least one password, or neither")
        if ":" in (self.webhook_username or ""):
            raise ConfigError("webhook_username", "holds a colon (RFC 7617)", "Choose another user name")


_OF_ADDRESSES: Final = frozenset({"user unknown", "mailbox inactive", "invalid domain", "no mail host", "typofix"})
_BOUNCED_FOR_OTHERS: Final = "preblocked"
_MOST_FINAL: Final = (
    OutcomeClass.REJECTED, OutcomeClass.MISCONFIGURED, OutcomeClass.QUOTA, OutcomeClass.THROTTLED,
    OutcomeClass.TRANSIENT,
)  # fmt: skip

EVENTS: Final[Mapping[str, Meaning]] = {
    "sent": Meaning(EventKind.DELIVERED),  # the receiving server took it
    "open": Meaning(EventKind.OPENED),
    "click": Meaning(EventKind.CLICKED),
    "bounce": Meaning(EventKind.BOUNCED),
    "blocked": Meaning(EventKind.REJECTED),
    "spam": Meaning(EventKind.COMPLAINED),
    "unsub": Meaning(EventKind.UNSUBSCRIBED),
}
"""`event`; what a bounce or a block means in full depends on its error."""

_HARD, _SOFT = BounceClass.HARD, BounceClass.SOFT
CAUSES: Final[Mapping[str, tuple[BounceClass | None, RejectReason]]] = {
    "user unknown": (_HARD, RejectReason.BOUNCED),
    "mailbox inactive": (_HARD, RejectReason.BOUNCED),
    "quota exceeded": (_SOFT, RejectReason.OTHER),
    # on a list of Mailjet's, which cannot be read: what we learn of it here is all we learn
    "blacklisted": (None, RejectReason.BOUNCED),
    "preblocked": (None, RejectReason.BOUNCED),
    "spam reporter": (None, RejectReason.SPAM),
    "invalid domain": (_HARD, RejectReason.INVALID),
    "no mail host": (_HARD, RejectReason.INVALID),
    "typofix": (None, RejectReason.INVALID),
    "relay/access denied": (_SOFT, RejectReason.BLOCKED),
    "greylisted": (_SOFT, RejectReason.OTHER),
    # the sender or the content is what is refused, which says nothing about the person
    "sender blocked": (_SOFT, RejectReason.BLOCKED),
    "content blocked": (_SOFT, RejectReason.BLOCKED),
    "policy issue": (_SOFT, RejectReason.BLOCKED),
    "system issue": (_SOFT, RejectReason.OTHER),
    "protocol issue": (_SOFT, RejectReason.OTHER),
    "connection issue": (_SOFT, RejectReason.OTHER),
    "duplicate in campaign": (None, RejectReason.OTHER),
}
"""`error` of a bounce or block: how lasting it is, and why Mailjet would not send."""

FAILURES: Final = frozenset({"bad or empty template", "error in template language"})
"""Errors of a mail that Mailjet could not make."""

_WRITTEN: Final = frozenset(
    "from to cc bcc replyto subject textpart htmlpart headers attachments inlinedattachments customid "
    "eventpayload".split()
)
SEARCH_PAGE: Final = 100
_UNNAMED: Final = "unnamed"
_CODE = re.compile(r"[a-z]{1,12}-\d{4}\Z")
_LARGEST_ID: Final = 1 << 63


class MailjetProvider(SearchableProvider):
    """One Mailjet account or sub-account."""

    name = "mailjet"
    Options = MailjetOptions
    mails_per_request = 50
    batch_size = 4 * mails_per_request
    max_request = 15_000_000
    # Mailjet posts again on anything that is not 200; it knows no status that stops it
    retry_status = 503
    options: MailjetOptions

    def credentials(self) -> Mapping[str, str]:
        pair = f"{self.options.api_key.reveal()}:{self.options.secret_key.reveal()}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"}

    def fitting(self, mail: Outgoing) -> Outgoing:
        options = mail.options.get(self.name)
        # a mail belongs to one campaign, and whoever names it by the option means it
        named = isinstance(options, Mapping) and any(str(key).lower() == "customcampaign" for key in options)
        return labelled(mail, () if named else mail.tags[:1], mail.metadata)

    def encode(self, mail: Outgoing) -> bytes:
        options = provider_options(mail, self.name, _WRITTEN)
        if len(mail.reply_to) > 1:
            raise Unsendable("unsupported_reply_to")
        names = [name.lower() for name, _ in mail.headers]
        if len(set(names)) != len(names):
            raise Unsendable("unsupported_repeated_headers")
        return encode_json(options | _fields(mail))

    def request(self, mails: Sequence[Outgoing], parts: Sequence[bytes]) -> HTTPRequest:
        sandbox = b',"SandboxMode":true' if self.options.sandbox else b""
        body = b'{"Messages":[' + b",".join(parts) + b"]" + sandbox + b"}"
        return HTTPRequest("/v3.1/send", body, {"content-type": "application/json"})

    def read(self, answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
        found = answer.json()
        if items := _items(found):
            return [
                _verdict(answer, _item_of(mail, place, items, len(mails)), mail) for place, mail in enumerate(mails)
            ]
        return [_refusal(answer, found)] * len(mails)

    def refuses_whole(self, answer: HTTPAnswer) -> bool:
        # an answer with verdicts has judged each mail, whatever its status
        return super().refuses_whole(answer) and not _items(answer.json())

    def verify(self, request: WebhookRequest) -> None:
        if not self.options.webhook_username:
            raise missing_secret(self.account, "webhook_username and webhook_passwords")
        require_basic(request, self.options.webhook_username, self.options.webhook_passwords)

    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        found = bodies.parse_json(body)
        # version 1 of the event API posts one object, version 2 an array
        items = [found] if isinstance(found, dict) else found
        if not isinstance(items, list):
            raise WebhookBodyError("Mailjet posts a JSON object or an array of them")
        return bodies.read_items(items, _event, _event_name, provider=self.name, account=self.account)

    def look(self, sought: Sequence[Sought], *, deadline: float) -> Look:
        """Its messages by the CustomID, which the answer has to repeat; a message with copies is several there."""
        (item,) = sought
        ours = str(item.delivery_id)
        request = query(
            "/v3/REST/message", CustomID=ours, ShowCustomID="true", ShowContactAlt="true", Limit=SEARCH_PAGE
        )
        messages = self.listed(self.ask(request, deadline=deadline), "Data")
        matches = [message for message in messages if message.get("CustomID") == ours]
        findings = {item.delivery_id: found(item.delivery_id, _own_id(matches, item.recipient))} if matches else {}
        return Look(findings, whole=len(messages) < SEARCH_PAGE)


def _own_id(messages: list[dict[str, Any]], recipient: str) -> str | None:
    """The id of the recipient's own message among those of its copies; None where that cannot be told."""
    own = [item for item in messages if bodies.label_of(item.get("ContactAlt")).lower() == recipient.lower()]
    return next((_number(item.get("ID")) for item in own or (messages if len(messages) == 1 else [])), None)


def _fields(mail: Outgoing) -> dict[str, Any]:
    cc, bcc = distinct_copies(mail)
    fields: dict[str, Any] = {
        "From": _person(mail.sender),
        "To": [_person(mail.recipient)],
        "Cc": [_person(address) for address in cc],
        "Bcc": [_person(address) for address in bcc],
        "ReplyTo": _person(mail.reply_to[0]) if mail.reply_to else None,
        "TextPart": mail.text,
        "HTMLPart": mail.html,
        "Headers": dict(mail.headers),
        "Attachments": [_attachment(item) for item in mail.attachments if not item.inline],
        "InlinedAttachments": [
            _attachment(item) | {"ContentID": item.content_id} for item in mail.attachments if item.inline
        ],
        "CustomCampaign": "".join(mail.tags),
        "EventPayload": encode_json(dict(mail.metadata)).decode() if mail.metadata else None,
    }
    filled = {key: value for key, value in fields.items() if value}
    return filled | {"Subject": mail.subject, "CustomID": str(mail.delivery_id)}


def _person(address: Address) -> dict[str, str]:
    return {"Email": address.email, "Name": address.name} if address.name else {"Email": address.email}


def _attachment(item: Attachment) -> dict[str, str]:
    return {
        "ContentType": written(item.content_type),
        "Filename": item.filename,
        "Base64Content": base64.b64encode(item.content).decode("ascii"),
    }


def _items(found: Any) -> list[Any]:
    items = found.get("Messages") if isinstance(found, dict) else None
    return items if isinstance(items, list) else []


def _item_of(mail: Outgoing, place: int, items: list[Any], mails: int) -> dict[str, Any]:
    """The verdict on a mail: the one with its id; one without any id only at its own place."""
    ours = str(mail.delivery_id)
    verdicts = [item for item in items if isinstance(item, dict)]
    for verdict in verdicts:
        if verdict.get("CustomID") == ours:
            return verdict
    if len(verdicts) == len(items) == mails and not verdicts[place].get("CustomID"):
        return verdicts[place]
    return {}


def _verdict(answer: HTTPAnswer, item: dict[str, Any], mail: Outgoing) -> Outcome:
    status = bodies.label_of(item.get("Status")).lower()
    if status == "success":
        return Outcome(OutcomeClass.ACCEPTED, _message_id(item.get("To"), mail), status=answer.status)
    if status == "error":
        errors = item.get("Errors")
        found = (
            [_error(error, answer) for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
        )
        # one mail may have several errors; the most final of them decides
        return min(
            found or [Outcome(OutcomeClass.REJECTED, reason="mailjet_error", status=answer.status)],
            key=lambda outcome: _MOST_FINAL.index(outcome.kind),
        )
    return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)


def _refusal(answer: HTTPAnswer, found: Any) -> Outcome:
    if isinstance(found, dict) and answer.status >= 400 and ("ErrorCode" in found or "ErrorIdentifier" in found):
        return _error({**found, "StatusCode": answer.status}, answer)
    if answer.ok:  # without verdicts nothing is said of the mails
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
    return refusal(answer, "mailjet")


def _error(error: dict[str, Any], answer: HTTPAnswer) -> Outcome:
    code, status = bodies.label_of(error.get("ErrorCode")).lower(), error.get("StatusCode")
    if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
        status = 400
    reason = f"mailjet_{code}" if _CODE.match(code) else f"http_{status}"
    return refusal(HTTPAnswer(status, answer.headers, b""), "mailjet", code or _UNNAMED, reason=reason)


def _message_id(people: Any, mail: Outgoing) -> str | None:
    """The recipient's own id; copies have others."""
    found = [person for person in people if isinstance(person, dict)] if isinstance(people, list) else []
    named = [person for person in found if bodies.label_of(person.get("Email")).lower() == mail.recipient.key]
    return next((_number(person.get("MessageID")) for person in named or found[:1]), None)


def _number(value: object) -> str | None:
    """A 64-bit id as text, since many a JSON reader would round the number; None for none, such as a sandbox's 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST_ID:
        return None
    return str(value)


def _event(item: dict[str, Any]) -> ProviderEvent:
    meaning = _meaning(item)
    event = ProviderEvent(
        kind=meaning.kind,
        provider_event_id=_identity(item),
        occurred_at=bodies.epoch_moment(item.get("time")),
        delivery_id=bodies.delivery_of(item.get("CustomID")),
        provider_message_id=_event_message_id(item),
        recipient=bodies.address_of(item.get("email")),
        bounce_class=meaning.bounce_class,
        reject_reason=meaning.reject_reason,
        status=bodies.enhanced_status(item.get("smtp_reply")) or bodies.enhanced_status(item.get("comment")),
        click_hash=bodies.click_hash(item.get("url")) if _event_name(item) == "click" else None,
        tags=bodies.tags_of(item.get("customcampaign")),
    )
    error = bodies.label_of(item.get("error")).strip().lower()
    if error == _BOUNCED_FOR_OTHERS and event.kind is EventKind.REJECTED:
        return bodies.doubted(event, ("mailjet", error))
    hard = item.get("hard_bounce")
    flag = "hard" if hard is True else "soft" if hard is False else ""
    # the flag says whether Mailjet mails the address again
    label = error if error in LABELS["mailjet"] and not (error in _OF_ADDRESSES and hard is False) else flag
    return bodies.with_refusal(
        event, ("mailjet", label), bodies.label_of(item.get("smtp_reply")) or bodies.label_of(item.get("comment")),
    )  # fmt: skip


def _meaning(item: dict[str, Any]) -> Meaning:
    event, error = _event_name(item), bodies.label_of(item.get("error")).strip().lower()
    found = EVENTS.get(event, UNMAPPED)
    if event not in ("bounce", "blocked"):
        return found
    if error in FAILURES:
        return Meaning(EventKind.FAILED)
    hard = item.get("hard_bounce")
    if error == "greylisted" and hard is not True:  # Mailjet tries again
        return Meaning(EventKind.DEFERRED, _SOFT)
    lasting, reason = CAUSES.get(error, (None, RejectReason.OTHER))
    if event == "blocked":
        return Meaning(found.kind, lasting, reason)
    if isinstance(hard, bool):
        lasting = _HARD if hard else _SOFT
    # a bounce is the receiving side's word: of Mailjet's reasons not to send only a block can be one of theirs
    return Meaning(found.kind, lasting or BounceClass.UNDETERMINED, reason if reason is RejectReason.BLOCKED else None)


def _event_name(item: dict[str, Any]) -> str:
    return bodies.label_of(item.get("event"))


def _event_message_id(item: dict[str, Any]) -> str | None:
    return _number(item.get("MessageID")) or _number(item.get("mj_message_id"))


def _identity(item: dict[str, Any]) -> str:
    """Mailjet gives events no id: one is known by message, kind, recipient, time and target, hashed."""
    message_id, moment = _event_message_id(item), item.get("time")
    if not message_id or not moment:
        return bodies.whole_fingerprint(item)
    email = bodies.label_of(item.get("email")).lower()
    return bodies.fingerprint(message_id, _event_name(item), email, moment, item.get("url"))
