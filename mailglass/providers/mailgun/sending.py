"""A mail as Mailgun's form, and what its answers mean."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from mailglass.clock import now
from mailglass.mail.content_types import written
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers import parsing
from mailglass.providers.copies import distinct_copies
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, mailbox, mailboxes, provider_options

NAME: Final = "mailgun"

WRONG_URL: Final = b"Mailgun Magnificent API"
"""Mailgun's answer, with status 200, at a path that it does not know."""

_LONGEST_RESET: Final = 3600.0
_RESERVED_FIELDS: Final = frozenset(
    "from to cc bcc subject text html attachment inline message recipient-variables o:tag".split()
)
_LINE_END: Final = re.compile(r"[\r\n\x00]")
_OPTION_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of the form; with a file name it is a file."""

    name: str
    value: bytes
    filename: str = ""
    content_type: str = ""

    @property
    def head(self) -> bytes:
        lines = f'Content-Disposition: form-data; name="{_quotable(self.name)}"'
        if _LINE_END.search(self.filename) or _LINE_END.search(self.content_type):
            # it would end the line, and begin another one
            raise Unsendable("invalid_attachment")
        if self.filename:
            # as browsers write it (WHATWG HTML 4.10.21.8); Mailgun does not read RFC 2231
            lines += f'; filename="{self.filename.replace(chr(34), "%22")}"\r\nContent-Type: {self.content_type}'
        return _utf8(lines)


def encode(mail: Outgoing) -> bytes:
    """Return the mail as multipart/form-data (RFC 7578), the same bytes for the same mail.

    Raises:
        Unsendable: Mailgun has no way to say what the mail says.
    """
    if mail.sender.smtputf8:
        raise Unsendable("unsupported_smtputf8_sender")
    names = [name.lower() for name, _ in mail.headers]
    if len(set(names)) != len(names):
        raise Unsendable("unsupported_repeated_headers")
    return _form([*_fields(mail), *_options(mail), *map(_file, mail.attachments)])


def boundary_of(form: bytes) -> str:
    """Return the boundary with which an encoded form begins."""
    return form[2 : form.index(b"\r\n")].decode("ascii")


def read(answer: HTTPAnswer) -> Outcome:
    """Return the outcome of the one mail of the request."""
    body = answer.json()
    if answer.status == 200:
        return _accepted(answer, body)
    if answer.ok:  # Mailgun accepts with 200 only; no other 2xx is its word
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
    outcome = refusal(answer, NAME, text=parsing.label_of(body.get("message")) if isinstance(body, dict) else "")
    if outcome.kind is OutcomeClass.THROTTLED and outcome.retry_after is None:
        return replace(outcome, retry_after=_until_reset(answer.headers.get("x-ratelimit-reset", "")))
    return outcome


def bracketed(message_id: object) -> str | None:
    """Return a message id in the form the send call answers it, `<…>`; webhooks give it bare."""
    name = parsing.text(message_id, parsing.MAX_ID - 2)
    return name and (name if name.startswith("<") else f"<{name}>")


def _accepted(answer: HTTPAnswer, body: Any) -> Outcome:
    message_id = bracketed(body.get("id")) if isinstance(body, dict) else None
    if message_id:
        return Outcome(OutcomeClass.ACCEPTED, message_id, status=200)
    if WRONG_URL in answer.body:
        return refusal(answer, NAME, "wrong_url")
    return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=200)


def _until_reset(text: str) -> float | None:
    """Seconds until the time in the header, which is not documented: seconds, Unix seconds or milliseconds."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return None
    number = float(text)
    if number >= 1e11:
        number /= 1000
    if number >= 1e9:
        number -= now().timestamp()
    return min(max(number, 0.0), _LONGEST_RESET)


def _fields(mail: Outgoing) -> Iterator[_Field]:
    cc, bcc = distinct_copies(mail)
    yield _Field("from", _line(mailbox(mail.sender)))
    yield _Field("to", _line(mailbox(mail.recipient)))
    for name, addresses in (("cc", cc), ("bcc", bcc), ("h:Reply-To", mail.reply_to)):
        if addresses:
            yield _Field(name, _line(mailboxes(addresses)))
    yield _Field("subject", _line(mail.subject))
    for name, body in (("text", mail.text), ("html", mail.html)):
        if body is not None:
            yield _Field(name, _utf8(body))
    for name, value in mail.headers:
        yield _Field(f"h:{name}", _line(value))
    for tag in dict.fromkeys(mail.tags):
        yield _Field("o:tag", _line(tag))
    yield _Field("v:mailglass_id", str(mail.delivery_id).encode())
    for key, value in mail.metadata.items():
        yield _Field(f"v:{key}", _line(value))


def _options(mail: Outgoing) -> Iterator[_Field]:
    for name, value in provider_options(mail, NAME, _RESERVED_FIELDS).items():
        if not isinstance(name, str) or not _OPTION_NAME.match(name):
            raise Unsendable("invalid_options")
        if name.lower().startswith(("h:", "v:")):
            raise Unsendable("option_conflict")  # the mail's own headers and metadata say these
        for item in value if isinstance(value, list | tuple) else [value]:
            yield _Field(name, _option(item))


def _option(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"yes" if value else b"no"
    if isinstance(value, str):
        return _utf8(value)
    if isinstance(value, int | float | dict):
        return encode_json(value)
    raise Unsendable("invalid_options")


def _file(item: Attachment) -> _Field:
    if item.inline:
        # the file's name is what the HTML refers to, so its own name has no place
        return _Field("inline", item.content, item.content_id, written(item.content_type))
    return _Field("attachment", item.content, item.filename, written(item.content_type))


def _form(fields: list[_Field]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for field in fields:
        digest.update(field.head)
        digest.update(field.value)
    # a text that held its own digest would have another one
    boundary = f"mailglass-{digest.hexdigest()}".encode()
    parts = [b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, field.head, field.value) for field in fields]
    return b"".join([*parts, b"--", boundary, b"--\r\n"])


def _quotable(name: str) -> str:
    if '"' in name or "\\" in name or not name.isascii() or _LINE_END.search(name):
        raise Unsendable("unsupported_header_name")
    return name


def _line(text: str) -> bytes:
    """Return a value that becomes one line of the mail."""
    if "\r" in text or "\n" in text:
        raise Unsendable("invalid_text")
    return _utf8(text)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Unsendable("invalid_text") from None
