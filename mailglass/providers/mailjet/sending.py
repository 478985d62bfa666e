"""A mail as Mailjet's JSON, and what its answers mean."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mailglass.mail.addresses import Address
from mailglass.mail.content_types import written
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.copies import distinct_copies
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, provider_options
from mailglass.providers.labels import labelled

NAME: Final = "mailjet"

_MOST_FINAL: Final = (
    OutcomeClass.REJECTED,
    OutcomeClass.MISCONFIGURED,
    OutcomeClass.QUOTA,
    OutcomeClass.THROTTLED,
    OutcomeClass.TRANSIENT,
)

_RESERVED_FIELDS: Final = frozenset(
    "from to cc bcc replyto subject textpart htmlpart headers attachments inlinedattachments customid "
    "eventpayload".split()
)
_UNNAMED: Final = "unnamed"
_CODE = re.compile(r"[a-z]{1,12}-\d{4}\Z")
_LARGEST_ID: Final = 1 << 63


def number(value: object) -> str | None:
    """Return a 64-bit id as text, which JSON readers do not round, or None for none, such as a sandbox's 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST_ID:
        return None
    return str(value)


def fitting(mail: Outgoing) -> Outgoing:
    """Return the mail with the one tag that becomes its campaign."""
    options = mail.options.get(NAME)
    # a mail belongs to one campaign, and whoever names it by the option means it
    named = isinstance(options, Mapping) and any(str(key).lower() == "customcampaign" for key in options)
    return labelled(mail, () if named else mail.tags[:1], mail.metadata)


def encode(mail: Outgoing) -> bytes:
    """Return one mail as the API's JSON.

    Raises:
        Unsendable: Mailjet has no way to say what the mail says.
    """
    options = provider_options(mail, NAME, _RESERVED_FIELDS)
    if len(mail.reply_to) > 1:
        raise Unsendable("unsupported_reply_to")
    names = [name.lower() for name, _ in mail.headers]
    if len(set(names)) != len(names):
        raise Unsendable("unsupported_repeated_headers")
    return encode_json(options | _fields(mail))


def read(answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
    """Return the outcome of each mail of the request, in order."""
    body = answer.json()
    if items := _items(body):
        return [_verdict(answer, _item_of(mail, place, items, len(mails)), mail) for place, mail in enumerate(mails)]
    return [_refusal(answer, body)] * len(mails)


def has_verdicts(answer: HTTPAnswer) -> bool:
    """Return whether an answer has judged each mail, whatever its status."""
    return bool(_items(answer.json()))


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


def _items(body: Any) -> list[Any]:
    items = body.get("Messages") if isinstance(body, dict) else None
    return items if isinstance(items, list) else []


def _item_of(mail: Outgoing, place: int, items: list[Any], mails: int) -> dict[str, Any]:
    """Return the verdict on a mail: the one with its id; one without any id only at its own place."""
    ours = str(mail.delivery_id)
    verdicts = [item for item in items if isinstance(item, dict)]
    for verdict in verdicts:
        if verdict.get("CustomID") == ours:
            return verdict
    if len(verdicts) == len(items) == mails and not verdicts[place].get("CustomID"):
        return verdicts[place]
    return {}


def _verdict(answer: HTTPAnswer, item: dict[str, Any], mail: Outgoing) -> Outcome:
    status = parsing.label_of(item.get("Status")).lower()
    if status == "success":
        return Outcome(OutcomeClass.ACCEPTED, _message_id(item.get("To"), mail), status=answer.status)
    if status == "error":
        errors = item.get("Errors")
        refusals = (
            [_error(error, answer) for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
        )
        # one mail may have several errors; the most final of them decides
        return min(
            refusals or [Outcome(OutcomeClass.REJECTED, reason="mailjet_error", status=answer.status)],
            key=lambda outcome: _MOST_FINAL.index(outcome.kind),
        )
    return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)


def _refusal(answer: HTTPAnswer, body: Any) -> Outcome:
    if isinstance(body, dict) and answer.status >= 400 and ("ErrorCode" in body or "ErrorIdentifier" in body):
        return _error({**body, "StatusCode": answer.status}, answer)
    if answer.ok:  # without verdicts nothing is said of the mails
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
    return refusal(answer, NAME)


def _error(error: dict[str, Any], answer: HTTPAnswer) -> Outcome:
    code, status = parsing.label_of(error.get("ErrorCode")).lower(), error.get("StatusCode")
    if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
        status = 400
    reason = f"mailjet_{code}" if _CODE.match(code) else f"http_{status}"
    return refusal(HTTPAnswer(status, answer.headers, b""), NAME, code or _UNNAMED, reason=reason)


def _message_id(people: Any, mail: Outgoing) -> str | None:
    """Return the recipient's own id; copies have others."""
    recipients = [person for person in people if isinstance(person, dict)] if isinstance(people, list) else []
    named = [person for person in recipients if parsing.label_of(person.get("Email")).lower() == mail.recipient.key]
    return next((number(person.get("MessageID")) for person in named or recipients[:1]), None)
