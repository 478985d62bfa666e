"""A mail as Mandrill's call, and what its answers mean."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mailglass.mail.addresses import Address
from mailglass.mail.content_types import written
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.copies import distinct_copies
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, mailboxes, provider_options
from mailglass.providers.labels import as_far_as, labelled
from mailglass.providers.mandrill.options import MandrillOptions
from mailglass.refusals.answer_rows import MANDRILL

NAME: Final = "mandrill"
MAX_TAG: Final = 50

WAITING: Final[Mapping[str, bool]] = {
    "attachments": False,
    "multiple-recipients": False,
    "sending-backlogged": False,
    "free-trial-sends-exhausted": True,
    "hourly-quota-exhausted": True,
    "monthly-limit-reached": True,
    "sending-paused": True,
    "sending-suspended": True,
    "account-suspended": True,
}
"""Why Mandrill queues a mail that it accepted, and whether somebody should look after the account.

It sends such a mail later by itself, so nobody else may.
"""

_NAMED: Final = frozenset().union(*(row.codes for row in MANDRILL))
_TAKEN: Final = frozenset({"sent", "queued", "scheduled"})
_BESIDE_THE_MESSAGE: Final = frozenset({"ip_pool", "send_at", "template_name", "template_content"})
_RESERVED_FIELDS: Final = frozenset(
    "key async message html text subject from_email from_name to headers tags metadata recipient_metadata "
    "attachments images preserve_recipients bcc_address raw_message".split()
)


def encode(mail: Outgoing, options: MandrillOptions) -> bytes:
    """Return the call without its key, the same bytes for the same mail.

    Raises:
        Unsendable: Mandrill has no way to say what the mail says.
    """
    given = provider_options(mail, NAME, _RESERVED_FIELDS)
    call: dict[str, Any] = {"ip_pool": options.ip_pool} if options.ip_pool else {}
    call |= {key: value for key, value in given.items() if key in _BESIDE_THE_MESSAGE}
    if "template_name" in call:
        call.setdefault("template_content", [])  # the call has to have it
    message: dict[str, Any] = {"subaccount": options.subaccount} if options.subaccount else {}
    message |= {key: value for key, value in given.items() if key not in _BESIDE_THE_MESSAGE}
    # asynchronous calls answer before they have looked at the recipients
    return encode_json(call | {"async": False, "message": message | _message(mail)})


def path_of(mail: Outgoing) -> str:
    """Return the call for this mail."""
    chosen = mail.options.get(NAME)
    templated = isinstance(chosen, Mapping) and "template_name" in chosen
    return "/messages/send-template.json" if templated else "/messages/send.json"


def read(answer: HTTPAnswer, mail: Outgoing) -> Outcome:
    """Return the outcome of the mail's recipient. Copies have items of their own beside it."""
    body = answer.json()
    if answer.status == 200 and isinstance(body, list):
        return _item(answer, body, mail)
    name = parsing.label_of(body.get("name")) if isinstance(body, dict) else ""
    if answer.ok and name not in _NAMED:  # Mandrill accepts with a list only
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
    return refusal(answer, NAME, name, reason=f"{NAME}_{name.lower()}" if name in _NAMED else None)


def _item(answer: HTTPAnswer, body: list[Any], mail: Outgoing) -> Outcome:
    items = [item for item in body if isinstance(item, dict)]
    named = [item for item in items if parsing.label_of(item.get("email")).lower() == mail.recipient.key]
    if not named and len(items) == 1:
        named = items
    for item in named[:1]:
        status, message_id = item.get("status"), parsing.text(item.get("_id"))
        if status in _TAKEN:
            queued = parsing.label_of(item.get("queued_reason"))
            reason = f"mandrill_{queued}" if WAITING.get(queued) else None
            return Outcome(OutcomeClass.ACCEPTED, message_id, reason=reason, status=200)
        if status in ("rejected", "invalid"):
            why = parsing.label_of(item.get("reject_reason")) or str(status)
            return replace(refusal(answer, NAME, why), provider_message_id=message_id)
    return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=200)


def fitting(mail: Outgoing, max_metadata: int) -> Outgoing:
    """Return the mail with the tags and metadata that Mandrill takes."""

    def fits(metadata: dict[str, str]) -> bool:
        return len(encode_json({"mailglass_id": str(mail.delivery_id), **metadata})) <= max_metadata

    tags = (tag for tag in mail.tags if len(tag) <= MAX_TAG and not tag.startswith("_"))
    return labelled(mail, tags, as_far_as(mail.metadata, fits))


def _message(mail: Outgoing) -> dict[str, Any]:
    names = [name.lower() for name, _ in mail.headers]
    if len(set(names)) != len(names):
        raise Unsendable("unsupported_repeated_headers")
    headers = dict(mail.headers)
    if mail.reply_to:
        headers["Reply-To"] = mailboxes(mail.reply_to)
    metadata = {"mailglass_id": str(mail.delivery_id), **mail.metadata}
    cc, bcc = distinct_copies(mail)
    fields: dict[str, Any] = {
        "html": mail.html,
        "text": mail.text,
        "from_email": mail.sender.email,
        "from_name": mail.sender.name,
        "headers": headers,
        "tags": list(dict.fromkeys(mail.tags)),
        "attachments": [_attachment(item) for item in mail.attachments if not item.inline],
        "images": [_image(item) for item in mail.attachments if item.inline],
    }
    return {key: value for key, value in fields.items() if value} | {
        "subject": mail.subject,
        "to": [
            _person(mail.recipient, "to"),
            *(_person(address, "cc") for address in cc),
            *(_person(address, "bcc") for address in bcc),
        ],
        "metadata": metadata,
        # otherwise nobody sees who got a copy
        "preserve_recipients": True,
    }


def _person(address: Address, kind: str) -> dict[str, str]:
    fields = {"email": address.email, "type": kind}
    return fields | {"name": address.name} if address.name else fields


def _attachment(item: Attachment) -> dict[str, str]:
    return {"type": written(item.content_type), "name": item.filename, "content": _base64(item.content)}


def _image(item: Attachment) -> dict[str, str]:
    if not item.content_type.lower().startswith("image/"):
        raise Unsendable("unsupported_inline_type")
    # its name is what the HTML refers to, so the file's own has no place
    return {"type": written(item.content_type), "name": item.content_id, "content": _base64(item.content)}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
