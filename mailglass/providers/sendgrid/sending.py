"""A mail as SendGrid's JSON, and what its answers mean."""

from __future__ import annotations

import base64
from typing import Any, Final

from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.copies import distinct_copies
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, provider_options
from mailglass.providers.labels import as_far_as, labelled

NAME: Final = "sendgrid"

# bytes of JSON, our delivery id included
MAX_CUSTOM_ARGS: Final = 10_000

_RESERVED_FIELDS: Final = frozenset(
    "personalizations from subject content attachments reply_to reply_to_list headers categories custom_args".split()
)


def message_id(value: object) -> str | None:
    """Return the part before the first dot: what `X-Message-Id` and a webhook's `sg_message_id` have in common."""
    name = parsing.text(value)
    return (name.partition(".")[0] or None) if name else None


def fitting(mail: Outgoing) -> Outgoing:
    """Return the mail with the metadata that custom arguments can hold."""

    def fits(metadata: dict[str, str]) -> bool:
        return len(encode_json({**metadata, "mailglass_id": str(mail.delivery_id)})) <= MAX_CUSTOM_ARGS

    return labelled(mail, mail.tags, as_far_as(mail.metadata, fits))


def encode(mail: Outgoing) -> bytes:
    """Return one mail as the API's JSON.

    Raises:
        Unsendable: SendGrid has no way to say what the mail says.
    """
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
    options = provider_options(mail, NAME, _RESERVED_FIELDS)
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


def read(answer: HTTPAnswer) -> Outcome:
    """Return the outcome of the one mail of the request."""
    if answer.ok:
        return Outcome(OutcomeClass.ACCEPTED, message_id(answer.headers.get("x-message-id")), status=answer.status)
    return refusal(answer, NAME, text=_messages(answer.json()), reset=("x-ratelimit-reset", "epoch"))


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


def _messages(answer: Any) -> str:
    errors = answer.get("errors") if isinstance(answer, dict) else None
    items = errors if isinstance(errors, list) else []
    return " ".join(str(item.get("message")) for item in items if isinstance(item, dict))
