"""Messages: one mail in the application's words, validated when it is built."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, Union

from mailglass.errors import MessageError
from mailglass.mail import content_types
from mailglass.mail.addresses import (
    FORBIDDEN,
    Address,
    AddressesLike,
    AddressLike,
    encodable,
    parse_address,
    parse_addresses,
)
from mailglass.mail.in_process import refuse_to_travel
from mailglass.mail.streams import Stream, StreamLike
from mailglass.mail.texts import TextLike, evaluated
from mailglass.mail.uris import as_uris

MAX_SUBJECT: Final = 998
MAX_BODY: Final = 5 * 1024 * 1024
MAX_MESSAGE: Final = 25 * 1024 * 1024
MAX_RECIPIENTS: Final = 50
MAX_HEADERS: Final = 100
MAX_HEADER_VALUE: Final = 8 * 1024
MAX_HEADER_WORD: Final = 850  # with its name on one line of 998 octets
MAX_TAGS: Final = 10
MAX_TAG: Final = 100
MAX_METADATA: Final = 50
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 1024
MAX_IDEMPOTENCY_KEY: Final = 256
MAX_OPTIONS_DEPTH: Final = 32
MAX_OPTIONS: Final = 1024 * 1024

_HEADER_NAME = re.compile(r"[!-9;-~]{1,128}\Z")
_CONTENT_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}(?:[ \t]*;[^\x00-\x1f\x7f]{0,200})?\Z"
)
_SURROGATE: Final = "holds a lone surrogate, which no mail can carry"
_METADATA_KEY = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_METADATA_KEY}}}\Z")
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,200}\Z")

# header fields as an application gives them
HeadersLike: TypeAlias = Union[Mapping[str, TextLike], Sequence[tuple[str, TextLike]]]  # noqa: UP007

# written by mailglass or by the provider; a second one would be ambiguous or forged
RESERVED_HEADERS: Final = frozenset(
    "from sender to cc bcc reply-to subject date mime-version content-type content-transfer-encoding "
    "content-disposition content-id return-path received dkim-signature x-mailglass-id x-mailglass-proof".split()
)


_FIELDS_OF_HEADERS: Final = {
    "from": "from_",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "reply_to",
    "subject": "subject",
}
MESSAGE_ID_HEADERS: Final = frozenset({"message-id", "in-reply-to", "references"})
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]{1,200}@[!-;=?A-~]{1,200}>\Z")


@dataclass(frozen=True, slots=True)
class Attachment:
    r"""A file that travels with a message.

    >>> from mailglass import Attachment
    >>> Attachment("receipt.pdf", b"%PDF-1.7").content_type
    'application/pdf'

    Attributes:
        filename: its name, without a path. Any characters but CR, LF, NUL, `/` and `\`.
        content: its bytes.
        content_type: `type/subtype`, perhaps with parameters; guessed from the file name when empty.
        content_id: set for an inline image, referred to as `cid:<content_id>` in the HTML. Without angle brackets.
    """

    filename: str
    content: bytes
    content_type: str = ""
    content_id: str = ""

    if TYPE_CHECKING:

        def __init__(
            self,
            filename: TextLike,
            content: bytes | bytearray | memoryview,
            content_type: TextLike = "",
            content_id: TextLike = "",
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in ("filename", "content_type", "content_id"):
            object.__setattr__(self, name, evaluated(getattr(self, name), "attachments"))
        if not isinstance(self.filename, str) or not self.filename or len(self.filename) > 255:
            raise MessageError("attachments", "a filename must be a str of 1 to 255 characters")
        if FORBIDDEN.search(self.filename) or "/" in self.filename or "\\" in self.filename:
            raise MessageError("attachments", "a filename must not hold CR, LF, NUL, a slash or a backslash")
        if not encodable(self.filename):
            raise MessageError("attachments", f"a filename {_SURROGATE}")
        if not isinstance(self.content, bytes | bytearray | memoryview):
            raise MessageError("attachments", f"content must be bytes, not {type(self.content).__name__}")
        object.__setattr__(self, "content", bytes(self.content))
        if not self.content_type:
            object.__setattr__(self, "content_type", content_types.guessed(self.filename))
        if not isinstance(self.content_type, str) or not _CONTENT_TYPE.match(self.content_type):
            raise MessageError(
                "attachments", "content_type must be type/subtype on one line, for example application/pdf"
            )
        if not encodable(self.content_type):
            raise MessageError("attachments", f"a content_type {_SURROGATE}")
        if not isinstance(self.content_id, str) or (self.content_id and not _CONTENT_ID.match(self.content_id)):
            raise MessageError("attachments", "content_id must be 1 to 200 plain characters, without angle brackets")

    def __repr__(self) -> str:
        return f"<Attachment {self.content_type.partition(';')[0]}, {len(self.content)} bytes>"

    @property
    def inline(self) -> bool:
        """True if the HTML refers to it by its content id."""
        return bool(self.content_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One mail to one or several people, each of whom gets a delivery of their own.

    >>> from mailglass import Message
    >>> message = Message(to="ada@example.com", subject="Receipt 1001", html="<p>Thank you.</p>", tags=["receipt"])
    >>> message.subject, str(message.stream)
    ('Receipt 1001', 'transactional')

    Every value is checked when the message is built; what is refused raises `MessageError`, which names the field
    and never echoes content.

    Args:
        to: one address or a list of up to 50. Strings, `(name, email)` pairs or `Address`.
        subject: up to 998 characters on one line.
        text: the plain text body. Made from the HTML when left out; "" for none.
        html: the HTML body. At least one of `text` and `html` is needed.
        from_: the sender; the account's or the project's default when left out.
        reply_to: one address or a list.
        cc: carried by the delivery; allowed with exactly one `to`, so that nobody gets a copy per recipient.
        bcc: as `cc`, in the envelope only.
        headers: more header fields, `Message-ID` among them; those mailglass writes itself are refused. Hosts in URLs
            of `List-…` fields become A-labels.
        tags: up to 10 labels for statistics; passed to providers that know tags.
        metadata: up to 50 strings that come back in webhooks where the provider can.
        attachments: files and inline images.
        stream: transactional, operational or bulk.
        idempotency_key: unique per tenant; the same key again returns the first delivery.
        provider_options: per provider name, options passed to that provider as they are; up to 1 MiB as JSON in all.
    """

    to: tuple[Address, ...]
    subject: str
    text: str | None = None
    html: str | None = None
    from_: Address | None = None
    reply_to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = None  # type: ignore[assignment]
    attachments: tuple[Attachment, ...] = ()
    stream: Stream = Stream.TRANSACTIONAL
    idempotency_key: str | None = None
    provider_options: Mapping[str, Mapping[str, Any]] = None  # type: ignore[assignment]

    if TYPE_CHECKING:
        # the fields are what a message holds; this is what may be given for them
        def __init__(
            self,
            *,
            to: AddressesLike,
            subject: TextLike,
            text: TextLike | None = None,
            html: TextLike | None = None,
            from_: AddressLike | None = None,
            reply_to: AddressesLike | None = (),
            cc: AddressesLike | None = (),
            bcc: AddressesLike | None = (),
            headers: HeadersLike = (),
            tags: Sequence[TextLike] = (),
            metadata: Mapping[str, TextLike] | None = None,
            attachments: Sequence[Attachment] = (),
            stream: StreamLike = Stream.TRANSACTIONAL,
            idempotency_key: TextLike | None = None,
            provider_options: Mapping[str, Mapping[str, Any]] | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "to", check_recipients(self.to))
        put(self, "from_", None if self.from_ is None else parse_address(self.from_, "from_"))
        for field in ("reply_to", "cc", "bcc"):
            put(self, field, parse_addresses(getattr(self, field), field))
        check_copies(self.to, self.cc, self.bcc)
        put(self, "subject", check_subject(self.subject))
        for body in ("text", "html"):
            put(self, body, evaluated(getattr(self, body), body))
        check_bodies(self.text, self.html)
        put(self, "headers", check_headers(self.headers))
        put(self, "tags", check_tags(self.tags))
        put(self, "metadata", check_metadata(self.metadata))
        put(self, "attachments", check_attachments(self.attachments))
        put(self, "stream", check_stream(self.stream))
        put(self, "idempotency_key", check_idempotency_key(self.idempotency_key))
        put(self, "provider_options", check_provider_options(self.provider_options))
        check_size(self.text, self.html, self.attachments)

    def __repr__(self) -> str:
        return f"<Message to {len(self.to)} on {self.stream}>"

    def __json__(self) -> NoReturn:
        refuse_to_travel("a Message")

    def content(self) -> dict[str, Any]:
        """Return the frozen content as plain JSON values, without the recipients: what the ledger stores."""
        body: dict[str, Any] = {"v": 1, "subject": self.subject}
        body.update(envelope_content(self))
        if self.text is not None:
            body["text"] = self.text
        if self.html is not None:
            body["html"] = self.html
        return body


def envelope_content(message: Any) -> dict[str, Any]:
    """All but subject and bodies of a message or mailable, as plain JSON values; what is empty is left out."""
    body: dict[str, Any] = {}
    if message.from_ is not None:
        body["from"] = [message.from_.name, message.from_.email]
    for field in ("reply_to", "cc", "bcc"):
        if addresses := getattr(message, field):
            body[field] = [[address.name, address.email] for address in addresses]
    if message.headers:
        body["headers"] = [list(pair) for pair in message.headers]
    if message.tags:
        body["tags"] = list(message.tags)
    if message.metadata:
        body["metadata"] = dict(message.metadata)
    if message.attachments:
        body["attachments"] = [
            {
                "filename": item.filename,
                "content_type": item.content_type,
                "content_id": item.content_id,
                "content": base64.b64encode(item.content).decode("ascii"),
            }
            for item in message.attachments
        ]
    if message.provider_options:
        body["options"] = {name: dict(options) for name, options in message.provider_options.items()}
    return body


def check_recipients(value: object) -> tuple[Address, ...]:
    """`to` as addresses: at least one, at most 50, none twice."""
    recipients = parse_addresses(value, "to")
    if not recipients:
        raise MessageError("to", "at least one recipient is needed; beside `bcc` alone, name yourself")
    if len(recipients) > MAX_RECIPIENTS:
        raise MessageError("to", f"at most {MAX_RECIPIENTS} recipients; use deliver_many for more")
    if len(recipients) > 1 and len({recipient.key for recipient in recipients}) != len(recipients):
        raise MessageError("to", "a recipient is named twice")
    return recipients


def check_copies(to: Sequence[Address], cc: Sequence[Address], bcc: Sequence[Address]) -> None:
    """Refuse copies beside several recipients: copies go out with one delivery, so they need exactly one `to`."""
    if (cc or bcc) and len(to) != 1:
        raise MessageError(
            "cc" if cc else "bcc", "allowed with exactly one `to`: each recipient is a delivery of its own"
        )
    if len(to) + len(cc) + len(bcc) > MAX_RECIPIENTS:
        raise MessageError("cc", f"at most {MAX_RECIPIENTS} recipients with cc and bcc")


def check_subject(value: object) -> str:
    """Return a subject: a str on one line."""
    value = evaluated(value, "subject")
    if not isinstance(value, str):
        raise MessageError("subject", f"must be a str, not {type(value).__name__}")
    if FORBIDDEN.search(value):
        raise MessageError("subject", "must not hold CR, LF or NUL")
    if len(value) > MAX_SUBJECT:
        raise MessageError("subject", f"at most {MAX_SUBJECT} characters (RFC 5322 2.1.1)")
    if not encodable(value):
        raise MessageError("subject", _SURROGATE)
    return value


def check_bodies(text: object, html: object) -> None:
    """At least one body; each a str within its size."""
    if text is None and html is None:
        raise MessageError("text", "a message needs text, html or both")
    for field, body in (("text", text), ("html", html)):
        if body is None:
            continue
        if not isinstance(body, str):
            raise MessageError(field, f"must be a str, not {type(body).__name__}")
        if "\x00" in body:
            raise MessageError(field, "must not hold NUL")
        if len(body) > MAX_BODY:
            raise MessageError(field, f"longer than {MAX_BODY} characters")
        if not encodable(body):
            raise MessageError(field, _SURROGATE)


def check_headers(value: object) -> tuple[tuple[str, str], ...]:
    """Header fields as pairs; names per RFC 5322 3.6.8, no reserved ones, no CR, LF or NUL."""
    if type(value) is tuple and not value:
        return ()
    items: Any = value.items() if isinstance(value, Mapping) else (value or ())
    pairs: list[tuple[str, str]] = []
    for item in items:
        parts = [evaluated(part, "headers") for part in item] if isinstance(item, tuple | list) else []
        if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise MessageError("headers", "must be a mapping or pairs of str")
        name, content = parts
        if not _HEADER_NAME.match(name):
            raise MessageError("headers", "a name must be 1 to 128 printable ASCII characters without a colon")
        refuse_reserved(name)
        if FORBIDDEN.search(content):
            raise MessageError("headers", "a value must not hold CR, LF or NUL")
        if len(content) > MAX_HEADER_VALUE or not encodable(content):
            raise MessageError("headers", f"a value must be encodable and at most {MAX_HEADER_VALUE} characters")
        content = _as_written(name.lower(), content)
        if any(len(word) > MAX_HEADER_WORD for word in content.split()):
            raise MessageError(
                "headers", f"a word longer than {MAX_HEADER_WORD} characters fits on no line (RFC 5322 2.1.1)"
            )
        pairs.append((name, content))
    if len(pairs) > MAX_HEADERS:
        raise MessageError("headers", f"at most {MAX_HEADERS} header fields")
    return tuple(pairs)


def refuse_reserved(name: str) -> None:
    """Refuse a header field that mailglass or the provider writes.

    Raises:
        MessageError: names the message's own field for it, where there is one.
    """
    lowered = name.lower()
    if lowered in _FIELDS_OF_HEADERS:
        raise MessageError("headers", f"{lowered} is written by mailglass: use `{_FIELDS_OF_HEADERS[lowered]}`")
    if lowered in RESERVED_HEADERS:
        raise MessageError("headers", f"{lowered} is written by mailglass or the provider and cannot be set")


def _as_written(name: str, content: str) -> str:
    """Return a value in the ASCII that its field needs: URLs are encoded, and what cannot be is refused."""
    if name == "message-id" and not _MESSAGE_ID.match(content.strip()):
        raise MessageError("headers", "message-id must be `<left@right>` in plain ASCII (RFC 5322 3.6.4)")
    if name in MESSAGE_ID_HEADERS and not content.isascii():
        raise MessageError("headers", f"{name} holds message ids, which are plain ASCII (RFC 5322 3.6.4)")
    return as_uris(content) if name.startswith("list-") else content


def check_tags(value: object) -> tuple[str, ...]:
    """Tags: short strings on one line."""
    if type(value) is tuple and not value:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MessageError("tags", "must be a list of str")
    if len(value) > MAX_TAGS:
        raise MessageError("tags", f"at most {MAX_TAGS} tags")
    tags = [evaluated(tag, "tags") for tag in value]
    for tag in tags:
        if not isinstance(tag, str) or not tag or len(tag) > MAX_TAG or FORBIDDEN.search(tag):
            raise MessageError("tags", f"each must be a str of 1 to {MAX_TAG} characters without CR, LF or NUL")
        if not encodable(tag):
            raise MessageError("tags", _SURROGATE)
    return tuple(tags)


def check_metadata(value: object) -> dict[str, str]:
    """Metadata: a mapping of short strings; keys that begin with `mailglass` are ours."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MessageError("metadata", "must be a mapping of str to str")
    if len(value) > MAX_METADATA:
        raise MessageError("metadata", f"at most {MAX_METADATA} entries")
    pairs = {evaluated(key, "metadata"): evaluated(content, "metadata") for key, content in value.items()}
    for key, content in pairs.items():
        if not isinstance(key, str) or not _METADATA_KEY.match(key):
            raise MessageError("metadata", f"a key must be 1 to {MAX_METADATA_KEY} of letters, digits, `_`, `.`, `-`")
        if key.lower().startswith("mailglass"):
            raise MessageError("metadata", "keys that begin with `mailglass` are reserved")
        if not isinstance(content, str) or len(content) > MAX_METADATA_VALUE or FORBIDDEN.search(content):
            raise MessageError(
                "metadata",
                f"a value must be a str of up to {MAX_METADATA_VALUE} characters without CR, LF or NUL",
            )
        if not encodable(content):
            raise MessageError("metadata", _SURROGATE)
    return pairs


def check_attachments(value: object) -> tuple[Attachment, ...]:
    """Attachments as a tuple; content ids unique."""
    if type(value) is tuple and not value:
        return ()
    if not isinstance(value, Sequence) or not all(isinstance(item, Attachment) for item in value):
        raise MessageError("attachments", "must be a list of Attachment")
    content_ids = [item.content_id for item in value if item.content_id]
    if len(set(content_ids)) != len(content_ids):
        raise MessageError("attachments", "a content_id is used twice")
    return tuple(value)


def check_stream(value: object) -> Stream:
    """Return a stream by name."""
    if type(value) is Stream:
        return value
    try:
        return Stream(value)  # type: ignore[arg-type]
    except ValueError:
        raise MessageError("stream", f"must be one of {', '.join(Stream)}") from None


def check_provider_options(value: object) -> dict[str, dict[str, Any]]:
    """Check provider options: by provider name, each a mapping of JSON values."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(options, Mapping) for name, options in value.items()
    ):
        raise MessageError("provider_options", "must be a mapping of provider names to mappings")
    plain = {name: dict(options) for name, options in value.items()}
    # what is written here is read again in another process, whose stack may be used further by then
    if _nests_deeper(plain, MAX_OPTIONS_DEPTH):
        raise MessageError("provider_options", f"nested deeper than {MAX_OPTIONS_DEPTH} levels")
    lazy: list[str] = []

    def read(item: object) -> str:
        text = evaluated(item, "provider_options")
        if not isinstance(text, str):
            raise TypeError
        lazy.append(text)
        return text

    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=read)
    parts: list[str] = []
    size = 0
    try:
        # piece by piece: lists that hold one another many times are a few bytes here and gigabytes as JSON
        for part in encoder.iterencode(plain):
            parts.append(part)
            size += len(part)
            if size > MAX_OPTIONS:
                raise MessageError("provider_options", f"longer than {MAX_OPTIONS} characters as JSON")
    except MessageError:
        raise
    except (TypeError, ValueError, RecursionError):
        raise MessageError("provider_options", "must be JSON: str, finite numbers, bool, None, lists, dicts") from None
    text = "".join(parts)
    if not encodable(text):
        raise MessageError("provider_options", _SURROGATE)
    # lazy strings were read once, by writing them
    return json.loads(text) if lazy else plain


def _nests_deeper(value: object, limit: int) -> bool:
    """Return whether mappings and lists nest deeper than so many levels; of those that are shared each counts once."""
    level: list[Any] = [value]
    for _ in range(limit):
        children = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, Mapping) else parent)
            if isinstance(child, Mapping | list | tuple)
        ]
        level = list({id(child): child for child in children}.values())
        if not level:
            return False
    return True


def check_idempotency_key(value: object) -> str | None:
    """Return an idempotency key: None or a printable str of up to 256 characters."""
    if value is None:
        return None
    value = evaluated(value, "idempotency_key")
    if not isinstance(value, str) or not value or len(value) > MAX_IDEMPOTENCY_KEY or not value.isprintable():
        raise MessageError("idempotency_key", f"must be a printable str of 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return value


def check_size(text: str | None, html: str | None, attachments: Sequence[Attachment]) -> None:
    """Bound the whole message after base64 (+37 %) at 25 MiB, the smallest limit of the large providers."""
    size = len(text or "") + len(html or "") + sum(len(item.content) * 137 // 100 for item in attachments)
    if size > MAX_MESSAGE:
        raise MessageError("attachments", f"the message is larger than {MAX_MESSAGE} bytes after encoding")
