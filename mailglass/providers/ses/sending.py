"""A mail as SES's SendEmail takes it, and what SES's answers mean.

Every mail goes as `Content.Raw`: the bytes that the SMTP room sends too. It is the one form that says everything
(repeated header fields, inline images by content id, any charset in names and file names) and it is byte-identical at
every attempt, while `Content.Simple` would have SES write the MIME, with boundaries of its own each time. SES replaces
Date and Message-ID in either form.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, provider_options
from mailglass.providers.labels import labelled
from mailglass.providers.ses.options import SESOptions
from mailglass.rendering import mime

MAX_RAW: Final = 40_000_000
ID_TAG: Final = "mailglass_id"
LABEL_TAG: Final = "mailglass_tag_"

_RESERVED_FIELDS: Final = frozenset("fromemailaddress destination replytoaddresses content emailtags".split())
_TAG_TEXT = re.compile(r"[A-Za-z0-9_-]{1,256}\Z")
_ENCODED: Final = "b64_"


def send_parameters(mail: Outgoing, options: SESOptions) -> dict[str, Any]:
    """Return the parameters of SendEmail.

    Raises:
        Unsendable: SES has no way to say what the mail says.
        MessageError: it cannot be written as a MIME message.
    """
    if mime.needs_smtputf8(mail):
        raise Unsendable("unsupported_smtputf8")
    if any(name.lower().startswith("x-ses-") for name, _ in mail.headers):
        # SES reads these as commands, takes them off, and lets the call's own parameters win
        raise Unsendable("unsupported_x_ses_headers")
    own = provider_options(mail, "ses", _RESERVED_FIELDS)
    raw = mime.build(mail)
    if len(raw) > MAX_RAW:
        raise Unsendable("too_large")
    account = {"ConfigurationSetName": options.configuration_set, "TenantName": options.tenant_name}
    copies = {
        "CcAddresses": [address.email for address in mail.cc],
        "BccAddresses": [address.email for address in mail.bcc],
    }
    return {
        **{name: value for name, value in account.items() if value},
        **own,
        # the sender stands in the message; named here as well, it would take the place of that field
        "Destination": {"ToAddresses": [mail.recipient.email]}
        | {key: addresses for key, addresses in copies.items() if addresses},
        "Content": {"Raw": {"Data": raw}},
        "EmailTags": _tags(mail),
    }


def outcome_of(answer: Mapping[str, Any]) -> Outcome:
    """Return the outcome of SES's answer or error, as botocore parsed it."""
    meta = answer.get("ResponseMetadata")
    code = meta.get("HTTPStatusCode") if isinstance(meta, Mapping) else None
    headers = meta.get("HTTPHeaders") if isinstance(meta, Mapping) else None
    status = code if isinstance(code, int) else 0
    error = answer.get("Error")
    if isinstance(error, Mapping):
        return _refusal(error, status, headers if isinstance(headers, Mapping) else {})
    message_id = parsing.text(answer.get("MessageId"))
    if message_id is None:
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=status or None)
    return Outcome(OutcomeClass.ACCEPTED, message_id, status=status)


def decode_tag(text: str) -> str:
    """Return a message tag's name or value as the application wrote it."""
    if not text.startswith(_ENCODED):
        return text
    encoded = text.removeprefix(_ENCODED)
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("utf-8")
    except ValueError:
        return text


def _refusal(error: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Outcome:
    code, message = str(error.get("Code") or ""), str(error.get("Message") or "")
    return refusal(HTTPAnswer(status, headers, b""), "ses", code, message)


def _tags(mail: Outgoing) -> list[dict[str, str]]:
    named = [(ID_TAG, str(mail.delivery_id))]
    for number, tag in enumerate(mail.tags, start=1):
        named.append((f"{LABEL_TAG}{number}", _tag_text(tag)))
    for key, value in mail.metadata.items():
        named.append((_tag_text(key), _tag_text(value)))
    return [{"Name": name, "Value": value} for name, value in named]


def fitting(mail: Outgoing) -> Outgoing:
    """Return the mail with the tags and metadata that message tags can hold."""
    metadata = {key: value for key, value in mail.metadata.items() if _is_short(key) and _is_short(value)}
    return labelled(mail, filter(_is_short, mail.tags), metadata)


def _is_short(text: str) -> bool:
    return _TAG_TEXT.match(_tag_text(text)) is not None


def _tag_text(text: str) -> str:
    """Return a text in the letters that message tags are made of: as it is, or in base64url behind a mark."""
    if _TAG_TEXT.match(text) and not text.startswith(_ENCODED):
        return text
    try:
        return _ENCODED + base64.urlsafe_b64encode(text.encode("utf-8")).decode("ascii").rstrip("=")
    except UnicodeEncodeError:
        raise Unsendable("invalid_text") from None
