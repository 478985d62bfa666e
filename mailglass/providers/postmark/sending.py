"""A mail as Postmark's JSON, and what its answers mean."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from mailglass.mail.content_types import written
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import (
    encode_json,
    mailbox,
    mailboxes,
    provider_options,
)
from mailglass.providers.postmark.options import PostmarkOptions

NAME: Final = "postmark"
INACTIVE_RECIPIENT: Final = 406
_RESERVED_FIELDS: Final = frozenset(
    "from to cc bcc subject htmlbody textbody replyto headers attachments tag metadata".split()
)


def encode(mail: Outgoing, options: PostmarkOptions) -> bytes:
    """Return one mail as the API's JSON.

    Raises:
        Unsendable: Postmark has no way to say what the mail says.
    """
    given = provider_options(mail, NAME, _RESERVED_FIELDS)
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
    return encode_json({"MessageStream": options.message_stream} | given | filled)


def read(answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
    """Return the outcome of each mail of the request, in order."""
    body = answer.json()
    if answer.status == 200:
        items = body if isinstance(body, list) else [body]
        return [_item(answer, item, mail) for item, mail in zip(items, mails, strict=False)]
    return [_refusal(answer, body)] * len(mails)


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
    message_id = parsing.text(item.get("MessageID"))
    # accepted for copies only: the recipient itself is on Postmark's list
    if mail.recipient.key in _inactive(item.get("Message")):
        return replace(_coded(answer, INACTIVE_RECIPIENT), provider_message_id=message_id)
    return Outcome(OutcomeClass.ACCEPTED, message_id, status=answer.status)


def _is_delayed(item: dict[str, Any]) -> bool:
    """Return whether Postmark has the mail and is slow to send it: an answer with an id and without ErrorCode."""
    said = parsing.label_of(item.get("Message"))[:1000].lower()
    return "delivery may be delayed" in said and parsing.text(item.get("MessageID")) is not None


def _refusal(answer: HTTPAnswer, body: Any) -> Outcome:
    code = body.get("ErrorCode") if isinstance(body, dict) else None
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
