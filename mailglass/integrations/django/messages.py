"""From Django's `EmailMessage` to messages of mailglass: each part works or is refused before any is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import getaddresses
from typing import Any, Final, NamedTuple

import django
from django.core.mail import EmailMessage

from mailglass.errors import MessageError
from mailglass.integrations.django.attachments import attachment, attachments_of
from mailglass.integrations.django.attributes import (
    given,
    metadata_of,
    provider_options_of,
    refuse_unsupported,
    strings,
)
from mailglass.mail.addresses import FORBIDDEN, Address, parse_address
from mailglass.mail.message import MAX_RECIPIENTS, Attachment, Message, check_metadata
from mailglass.mail.streams import Stream
from mailglass.mail.texts import evaluated

# Django's defaults of DEFAULT_FROM_EMAIL and SERVER_EMAIL, which stand for a setting that nobody has made
_NOBODY: Final = ("webmaster@localhost", "root@localhost")
# fields of the message that Django lets a header override
_OWN_HEADERS: Final = ("from", "reply-to")
_BY_PERSON: Final = ("merge_metadata", "merge_headers")

if django.VERSION < (6, 0):
    from django.core.mail import BadHeaderError as _BadHeader
else:
    _BadHeader = ValueError


class LineEndError(MessageError, _BadHeader):
    """A header field holds a line end. It is Django's `BadHeaderError` too, where Django has that."""


class Envelope(NamedTuple):
    """Recipients of one message."""

    to: Sequence[Address]
    cc: Sequence[Address] = ()
    bcc: Sequence[Address] = ()


class Bodies(NamedTuple):
    """Bodies of a mail, and alternatives that go as attachments."""

    text: str | None
    html: str | None
    others: tuple[Attachment, ...]


def messages_of(email: Any, tenant: str, stream: Stream) -> Iterator[Message]:
    """Yield the messages of one `EmailMessage`: one, or several where its recipients need one each.

    Args:
        email: Django's `EmailMessage` or a class that derives from it.
        tenant: the owner.
        stream: of all messages.

    Raises:
        MessageError: something cannot be sent as it is; names the attribute and the remedy.
    """
    _refuse_own_mime(email)
    _refuse_line_ends(email)
    refuse_unsupported(email)
    bodies = _bodies(email)
    headers = _headers(email)
    common: dict[str, Any] = {
        "subject": email.subject,
        "text": bodies.text,
        "html": bodies.html,
        "from_": _sender(email),
        "reply_to": _reply_to(email),
        "tags": strings(given(email, "tags"), "tags"),
        "attachments": (*attachments_of(_listed(email, "attachments"), bodies.html), *bodies.others),
        "stream": stream,
        "provider_options": provider_options_of(given(email, "esp_extra"), tenant, stream),
    }
    own = [(name, _plain(value)) for name, value in headers if name.lower() not in _OWN_HEADERS]
    metadata = check_metadata(metadata_of(given(email, "metadata")))
    people = [_addresses(email, field) for field in ("to", "cc", "bcc")]
    if not any(given(email, name) for name in _BY_PERSON):
        for envelope in envelopes(*people):
            yield Message(**envelope._asdict(), **common, headers=own, metadata=metadata)
        return
    for person in _each(*people):
        more = metadata_of(_of_person(email, "merge_metadata", person))
        fields = {**dict(own), **_of_person(email, "merge_headers", person)}
        yield Message(to=person, **common, headers=fields, metadata={**metadata, **more})


def envelopes(to: Sequence[Address], cc: Sequence[Address], bcc: Sequence[Address]) -> Iterator[Envelope]:
    """Yield the recipients of each message.

    With copies there is one mail: the first recipient's, and all others get a copy of it that shows who else got one.
    Without, each recipient of `to`, or else of `bcc`, gets a mail of their own.

    Args:
        to: each address once.
        cc: likewise, without those of `to`.
        bcc: likewise, without those of `to` and `cc`.
    """
    if cc or (to and bcc):
        first, *others = (*to, *cc)
        yield Envelope((first,), others, bcc)
        return
    people = to or bcc
    for start in range(0, len(people), MAX_RECIPIENTS):
        yield Envelope(people[start : start + MAX_RECIPIENTS])


def _each(to: Sequence[Address], cc: Sequence[Address], bcc: Sequence[Address]) -> Sequence[Address]:
    if cc or (to and bcc):
        raise MessageError("merge_metadata", "allowed without cc and bcc: each recipient gets a mail of their own")
    return to or bcc


def _addresses(email: Any, field: str) -> list[Address]:
    """Return the addresses of a field, without those that an earlier field has."""
    fields = ("to", "cc", "bcc")
    seen: set[str] = set()
    found: list[Address] = []
    for name in fields[: fields.index(field) + 1]:
        for value in _listed(email, name):
            if not value:
                continue
            address = parse_address(_stripped(value), name)
            if address.key not in seen and name == field:
                found.append(address)
            seen.add(address.key)
    return found


def _listed(email: Any, name: str) -> Sequence[Any]:
    """Return a list of the message.

    Raises:
        MessageError: it is none, as a str that stands for one recipient.
    """
    value = getattr(email, name, None)
    if value is None:
        return ()
    if not isinstance(value, list | tuple | set | frozenset):
        raise MessageError(name, "must be a list")
    return list(value)


def _headers(email: Any) -> list[tuple[str, Any]]:
    """Return the header fields of the message.

    Raises:
        MessageError: they are no mapping.
    """
    value = email.extra_headers or {}
    if not isinstance(value, Mapping):
        raise MessageError("headers", "must be a mapping of names to values")
    return [(str(name), item) for name, item in value.items()]


def _sender(email: Any) -> Any:
    header = next((value for name, value in _headers(email) if name.lower() == "from"), None)
    value = _stripped(header or email.from_email)
    return None if value in _NOBODY else value


def _reply_to(email: Any) -> Any:
    header = next((value for name, value in _headers(email) if name.lower() == "reply-to"), None)
    if header is None:
        return [_stripped(value) for value in _listed(email, "reply_to") if value]
    return [pair for pair in getaddresses([str(header)]) if pair[1]]


def _stripped(value: Any) -> Any:
    value = evaluated(value, "to")
    return value.strip(" \t") if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


def _bodies(email: Any) -> Bodies:
    """Return the bodies.

    Raises:
        MessageError: an alternative that is neither text, HTML nor an invitation, or one kind of body twice.
    """
    found: dict[str, Any] = {}
    others: list[Attachment] = []
    body = email.body or ""
    if email.content_subtype not in ("plain", "html"):
        raise MessageError("content_subtype", 'must be "plain" or "html": attach anything else')
    if body:
        found[email.content_subtype] = body
    for alternative in _listed(email, "alternatives"):
        if not isinstance(alternative, tuple | list) or len(alternative) != 2:
            raise MessageError("alternatives", "each must be (content, mimetype)")
        content, mimetype = alternative
        kind = str(mimetype).partition(";")[0].strip().lower()
        if kind == "text/calendar":
            others.append(attachment(None, evaluated(content, "alternatives"), mimetype))
        elif kind in ("text/plain", "text/html") and kind[5:] not in found:
            found[kind[5:]] = content
        elif kind in ("text/plain", "text/html"):
            raise MessageError("alternatives", "a mail has one text and one HTML body: leave the second one out")
        else:
            raise MessageError("alternatives", "must be text/plain, text/html or text/calendar: attach anything else")
    text, html = found.get("plain"), evaluated(found.get("html"), "html")
    return Bodies("" if text is None and html is None else text, html, tuple(others))


def _of_person(email: Any, name: str, person: Address) -> dict[str, Any]:
    """Return the entry of one recipient in `merge_metadata` or `merge_headers`.

    Raises:
        MessageError: it is no mapping of addresses to mappings.
    """
    value = given(email, name) or {}
    if not isinstance(value, Mapping) or not all(isinstance(item, Mapping) for item in value.values()):
        raise MessageError(name, "must be a mapping of addresses to mappings")
    for address, item in value.items():
        if str(address).strip().lower() in (person.email.lower(), person.key):
            return dict(item)
    return {}


def _refuse_own_mime(email: Any) -> None:
    """Refuse a message that builds its MIME itself, as one that encrypts or signs does: it would be lost.

    Raises:
        MessageError: names the remedy.
    """
    if "message" in vars(email) or getattr(type(email), "message", None) is not EmailMessage.message:
        raise MessageError("message", "is a method of its own here: mailglass builds the mail from the attributes")
    if getattr(email, "mixed_subtype", "mixed") not in ("mixed", "related"):
        raise MessageError("mixed_subtype", "must be mixed or related")


def _refuse_line_ends(email: Any) -> None:
    """Refuse line ends in header fields, by the error that Django raises for them.

    Raises:
        LineEndError: names the field.
    """
    fields: list[tuple[str, Any]] = [("subject", email.subject), ("from_email", email.from_email)]
    fields += [(name, value) for name in ("to", "cc", "bcc", "reply_to") for value in _listed(email, name)]
    fields += [("headers", value) for _, value in _headers(email)]
    for name, value in fields:
        text = evaluated(value, name)
        if isinstance(text, str) and FORBIDDEN.search(text):
            raise LineEndError(name, "must not hold CR, LF or NUL")
