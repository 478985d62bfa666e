"""A mail as Brevo's JSON, what it cannot carry, and what its answers mean."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from email.header import Header
from typing import Any, Final

from mailglass.mail.addresses import Address
from mailglass.mail.message import MAX_HEADER_WORD, Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.brevo import search
from mailglass.providers.brevo.events import CUSTOM, DELIVERY, METADATA, NAME, bracketed
from mailglass.providers.brevo.options import BrevoOptions
from mailglass.providers.copies import distinct_copies
from mailglass.providers.file_types import name_agrees
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, provider_options
from mailglass.providers.labels import as_far_as, labelled

DUPLICATE: Final = "duplicate_request"
"""A request under this delivery's key came before. What became of that one Brevo says only by its message id."""
_RESET: Final = ("x-sib-ratelimit-reset", "seconds")

_RESERVED_FIELDS: Final = frozenset(
    "sender to cc bcc replyto subject htmlcontent textcontent headers tags attachment messageversions".split()
)
# headers by which Brevo is told what is not the mail's own
_OURS: Final = frozenset({CUSTOM.lower(), "idempotencykey", "sender.ip"})
# RFC 5322 3.2.3: what a display name may not hold unless it is quoted
_SPECIALS = re.compile(r'[()<>\[\]:;@\\,."]')


def fitting(mail: Outgoing) -> Outgoing:
    """Return the mail with the metadata that its header can hold."""
    return labelled(mail, mail.tags, as_far_as(mail.metadata, lambda some: _fits(replace(mail, metadata=some))))


def encode(mail: Outgoing, options: BrevoOptions, *, searchable: bool) -> bytes:
    """Return one mail as the API's JSON.

    Args:
        mail: the mail.
        options: of the account.
        searchable: give it the tag by which it is known again.

    Raises:
        Unsendable: Brevo has no way to say what the mail says.
    """
    _refuse_what_is_unsupported(mail)
    given = provider_options(mail, NAME, _RESERVED_FIELDS)
    cc, bcc = distinct_copies(mail)
    fields: dict[str, Any] = {
        "sender": _contact(mail.sender),
        "to": [_contact(mail.recipient)],
        "cc": _contacts(cc),
        "bcc": _contacts(bcc),
        "replyTo": next(iter(_contacts(mail.reply_to)), None),
        "textContent": mail.text,
        "htmlContent": mail.html or _as_html(mail.text or ""),
        "headers": _headers(mail, options),
        "tags": [*dict.fromkeys(mail.tags), *([search.tag_of(mail.delivery_id)] if searchable else [])],
        "attachment": [_attachment(item) for item in mail.attachments],
    }
    filled = {key: value for key, value in fields.items() if value}
    return encode_json(given | {"subject": mail.subject} | filled)


def read(answer: HTTPAnswer) -> list[Outcome]:
    """Return the outcome of the one mail of the request; nothing where the answer cannot be read."""
    body = answer.json()
    body = body if isinstance(body, dict) else {}
    message_id = bracketed(body.get("messageId"))
    if not answer.ok:
        return [_refusal(answer, parsing.label_of(body.get("code")), message_id)]
    if message_id is None:
        return []
    return [Outcome(OutcomeClass.ACCEPTED, message_id, status=answer.status)]


def _refuse_what_is_unsupported(mail: Outgoing) -> None:
    names = [name.lower() for name, _ in mail.headers]
    if len(set(names)) != len(names):
        raise Unsendable("unsupported_repeated_headers")
    if not _OURS.isdisjoint(names):
        raise Unsendable("option_conflict")
    # Brevo writes them into the mail as raw UTF-8, which many servers refuse
    if not all(value.isascii() for _, value in mail.headers):
        raise Unsendable("unsupported_header_text")
    if len(mail.reply_to) > 1:
        raise Unsendable("unsupported_reply_to")
    # such a recipient is reached; from there no answer comes, and one in Cc makes Brevo drop that header
    if any(address.smtputf8 for address in (mail.sender, *mail.reply_to, *mail.cc)):
        raise Unsendable("unsupported_smtputf8")
    for item in mail.attachments:
        _refuse_attachment(item)


def _refuse_attachment(item: Attachment) -> None:
    if item.inline:
        raise Unsendable("unsupported_inline_images")
    # Brevo garbles other characters, and takes no name without an extension, by which alone it knows the type
    if not item.filename.isascii() or not item.filename.rpartition(".")[2].isalnum() or "." not in item.filename[1:]:
        raise Unsendable("unsupported_attachment_name")
    if not name_agrees(item):
        raise Unsendable("unsupported_attachment_type")


def _contact(address: Address) -> dict[str, str]:
    """Encode a name that is not plain ASCII and needs quotes (RFC 2047), or Brevo would leave it out."""
    name = address.name
    if not name:
        return {"email": address.email}
    if not name.isascii() and _SPECIALS.search(name):
        name = Header(name, "utf-8", maxlinelen=75).encode(linesep="")
    return {"email": address.email, "name": name}


def _contacts(addresses: Iterable[Address]) -> list[dict[str, str]]:
    return [_contact(address) for address in addresses]


def _as_html(text: str) -> str:
    """Return HTML of the same characters and lines for a mail without HTML, which Brevo does not take."""
    return f'<html><body><div style="white-space:pre-wrap">{html.escape(text)}</div></body></html>'


def _custom(mail: Outgoing, metadata: bool) -> str:
    """Return the JSON that comes back in webhooks: the delivery's id and the metadata.

    Brevo also writes it into the mail as a header, and not by the rules if it is no plain ASCII. Metadata that is not
    goes as base64 of its JSON, under one name.
    """
    told = {DELIVERY: str(mail.delivery_id)}
    if metadata:
        plain = json.dumps(told | dict(mail.metadata))
        if "\\u" in plain:
            packed = json.dumps(dict(mail.metadata), ensure_ascii=False).encode()
            plain = json.dumps(told | {METADATA: base64.b64encode(packed).decode("ascii")})
    else:
        plain = json.dumps(told)
    return plain


def _fits(mail: Outgoing) -> bool:
    # a header is folded between words only
    return all(len(word) <= MAX_HEADER_WORD for word in _custom(mail, metadata=True).split())


def _attachment(item: Attachment) -> dict[str, str]:
    return {"name": item.filename, "content": base64.b64encode(item.content).decode("ascii")}


def _refusal(answer: HTTPAnswer, code: str, message_id: str | None) -> Outcome:
    if code == DUPLICATE and 400 <= answer.status < 500 and answer.status != 429:
        kind = OutcomeClass.ACCEPTED if message_id else OutcomeClass.UNCERTAIN
        return Outcome(kind, message_id, reason=f"{NAME}_{code}", status=answer.status)
    return refusal(answer, NAME, code, reset=_RESET)


def _headers(mail: Outgoing, options: BrevoOptions) -> dict[str, str]:
    told = {"idempotencyKey": str(mail.delivery_id), CUSTOM: _custom(mail, options.metadata)}
    dedicated = {"sender.ip": options.sender_ip} if options.sender_ip else {}
    return {**dict(mail.headers), **dedicated, **told}
