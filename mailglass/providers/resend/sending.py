"""A mail as Resend's JSON, the key that lets it be asked again, and what answers mean."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from email.header import Header
from typing import Any, Final

from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.file_types import bare_type, name_agrees
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, provider_options
from mailglass.providers.labels import labelled
from mailglass.providers.resend.events import COPIES, DELIVERY, NAME, TAG
from mailglass.providers.resend.options import ResendOptions

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
_RESERVED_FIELDS: Final = frozenset("from to cc bcc reply_to subject html text headers attachments tags".split())


def key_of(mails: Sequence[Outgoing]) -> str:
    """Return the idempotency key of a request: the delivery's id, or one for exactly these mails in this order."""
    if len(mails) == 1:
        return str(mails[0].delivery_id)
    together = hashlib.sha256(b"".join(mail.delivery_id.bytes for mail in mails))
    return f"batch-{together.hexdigest()}"


def fitting(mail: Outgoing) -> Outgoing:
    """Return the mail with the tags and metadata that Resend's tags can hold."""
    metadata = {key: value for key, value in mail.metadata.items() if _TAG.match(key) and _TAG.match(value)}
    return labelled(mail, filter(_TAG.match, mail.tags), metadata)


def encode(mail: Outgoing, options: ResendOptions) -> bytes:
    """Return one mail as the API's JSON.

    Args:
        mail: the mail.
        options: of the account.

    Raises:
        Unsendable: Resend has no way to say what the mail says.
    """
    _refuse_what_is_unsupported(mail, options)
    given = provider_options(mail, NAME, _RESERVED_FIELDS)
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
    return encode_json(given | filled | {"subject": mail.subject} | said)


def read(answer: HTTPAnswer, mails: Sequence[Outgoing]) -> list[Outcome]:
    """Return the outcome of each mail of the request, in order; nothing where the answer cannot be read."""
    body = answer.json()
    if answer.ok:
        items = [body] if len(mails) == 1 else body["data"]
        if len(items) != len(mails):  # which of them were taken is not to be told
            return []
        return [_accepted(item, answer.status) for item in items]
    return [_refusal(answer, body)] * len(mails)


def _sender(address: Address) -> str:
    """Return a name with a comma is quoted (RFC 5322 3.4); Resend refuses one that is encoded or holds an address."""
    if _UNFIT_SENDER.search(address.name):
        raise Unsendable("unsupported_sender_name")
    if _QUOTED_SENDER.search(address.name):
        return f'"{address.name}" <{address.email}>'
    return f"{address.name} <{address.email}>" if address.name else address.email


def _mailbox(address: Address) -> str:
    """Return a name that would have to be quoted is encoded instead (RFC 2047): Resend refuses quoted ones."""
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
    message_id = parsing.text(item.get("id")) if isinstance(item, dict) else None
    if message_id is None:
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=status)
    return Outcome(OutcomeClass.ACCEPTED, message_id, status=status)


def _refusal(answer: HTTPAnswer, body: Any) -> Outcome:
    name = parsing.label_of(body.get("name")) if isinstance(body, dict) else ""
    return refusal(answer, NAME, name, reset=None if name in _BESIDE_THE_RATE else _RESET)


def _refuse_what_is_unsupported(mail: Outgoing, options: ResendOptions) -> None:
    names = [name.lower() for name, _ in mail.headers]
    if len(set(names)) != len(names):
        raise Unsendable("unsupported_repeated_headers")
    addresses = (mail.sender, mail.recipient, *mail.cc, *mail.bcc, *mail.reply_to)
    if any(address.smtputf8 for address in addresses):
        raise Unsendable("unsupported_smtputf8")
    if options.check_attachments and not all(name_agrees(item) for item in mail.attachments):
        raise Unsendable("unsupported_attachment_type")
