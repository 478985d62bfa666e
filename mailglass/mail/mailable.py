"""A mail with a template: the application gives the context, a worker renders it.

What is stored at once is the context, as plain JSON, and the path of the class; so a mailable must be a class that
a worker can import.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal, NamedTuple, NoReturn, Protocol
from uuid import UUID

from mailglass.errors import MessageError, TemplateErrorType
from mailglass.mail.addresses import AddressesLike, AddressLike, parse_address, parse_addresses
from mailglass.mail.in_process import refuse_to_travel
from mailglass.mail.message import (
    Attachment,
    HeadersLike,
    check_attachments,
    check_copies,
    check_headers,
    check_idempotency_key,
    check_metadata,
    check_provider_options,
    check_recipients,
    check_size,
    check_stream,
    check_tags,
    envelope_content,
)
from mailglass.mail.streams import Stream, StreamLike
from mailglass.mail.texts import TextLike, evaluated

MAX_CONTEXT: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_INTEGER_BITS: Final = 1024

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_TEMPLATES = ("subject", "html", "html_template", "text", "text_template")


class BodyTemplate(NamedTuple):
    """Source of one part of a mailable: text, a file, or (both None) nothing."""

    source: str | None
    file: str | None


class Renderer(Protocol):
    """A template engine that renders a mailable instead of Jinja2."""

    def render(self, part: str, template: BodyTemplate, context: Mapping[str, Any]) -> str:
        """Render one part: `subject`, `html` or `text`. It raises whatever the engine does."""

    def type_of(self, error: BaseException) -> TemplateErrorType:
        """Return the kind of an error that `render` has raised."""


class Mailable:
    """The base of an application's templated mails.

    >>> from mailglass import Mailable, deliver_later
    >>> class Receipt(Mailable):
    ...     subject = "Receipt {{ order.number }}"
    ...     html = "<p>Thank you, {{ name }}.</p>"
    >>> receipt = Receipt(to="ada@example.com", context={"order": {"number": 4711}, "name": "Ada"})
    >>> receipt.to[0].email, str(receipt.stream)
    ('ada@example.com', 'transactional')

    Templates are Jinja2, found in `templates/` beside the module that defines the class, then in the directories of
    the setting `templates`. HTML is escaped, subject and text are not; an undefined name is an error. Without a text
    template the text part is made from the HTML. `class Base(Mailable, abstract=True)` is a base to share, which
    needs no template and is never sent itself.

    Class attributes:
        subject: the subject's template, on one line.
        html: the HTML body's template, written out; or
        html_template: its file.
        text: the text body's template, written out; or
        text_template: its file.
        stream: transactional, operational or bulk.
        renderer: a template engine to use instead of Jinja2.

    Args:
        to: one address or a list of up to 50. Strings, `(name, email)` pairs or `Address`.
        context: what the templates see: JSON values of up to 1 MiB in all. Dates, times, `Decimal` and `UUID` become
            strings at once.
        from_: the sender; the account's or the project's default when left out.
        reply_to: one address or a list.
        cc: carried by the delivery; allowed with exactly one `to`.
        bcc: as `cc`, in the envelope only.
        headers: more header fields; those mailglass writes itself are refused.
        tags: up to 10 labels for statistics.
        metadata: up to 50 strings that come back in webhooks where the provider can.
        attachments: files and inline images.
        stream: instead of the class's.
        idempotency_key: unique per tenant; the same key again returns the first delivery.
        provider_options: per provider name, options passed to that provider as they are.

    Raises:
        MessageError: a value is refused (the field is named, its content never echoed), or no worker could import
            the class.
    """

    subject: ClassVar[str] = ""
    html: ClassVar[str | None] = None
    html_template: ClassVar[str | None] = None
    text: ClassVar[str | None] = None
    text_template: ClassVar[str | None] = None
    renderer: ClassVar[Renderer | None] = None
    stream: Stream | str = Stream.TRANSACTIONAL
    _abstract: ClassVar[bool] = True

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._abstract = abstract
        for name in _TEMPLATES:
            source = getattr(cls, name)
            if source is not None and not isinstance(source, str):
                raise TypeError(f"{cls.__qualname__}.{name} must be a str, not {type(source).__name__}")
        for kind in ("html", "text"):
            if vars(cls).get(kind) and vars(cls).get(f"{kind}_template"):
                raise TypeError(f"{cls.__qualname__} has both {kind} and {kind}_template: keep one of them")
        try:
            check_stream(cls.stream)
        except MessageError as error:
            raise TypeError(f"{cls.__qualname__}.{error}") from None
        if abstract:
            return
        if not cls.subject:
            raise TypeError(f'{cls.__qualname__} has no subject: add subject = "...", or make it abstract=True')
        if not any(part.source or part.file for part in (body_template(cls, "html"), body_template(cls, "text"))):
            raise TypeError(
                f'{cls.__qualname__} has no template: add html_template = "<file>" (or html, text_template, text), '
                "or make it abstract=True"
            )

    def __init__(
        self,
        *,
        to: AddressesLike,
        context: Mapping[str, Any] | None = None,
        from_: AddressLike | None = None,
        reply_to: AddressesLike | None = (),
        cc: AddressesLike | None = (),
        bcc: AddressesLike | None = (),
        headers: HeadersLike = (),
        tags: Sequence[TextLike] = (),
        metadata: Mapping[str, TextLike] | None = None,
        attachments: Sequence[Attachment] = (),
        stream: StreamLike | None = None,
        idempotency_key: TextLike | None = None,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        _check_importable(type(self))
        self.to = check_recipients(to)
        self.from_ = None if from_ is None else parse_address(from_, "from_")
        self.reply_to = parse_addresses(reply_to, "reply_to")
        self.cc = parse_addresses(cc, "cc")
        self.bcc = parse_addresses(bcc, "bcc")
        check_copies(self.to, self.cc, self.bcc)
        self.headers = check_headers(headers)
        self.tags = check_tags(tags)
        self.metadata = check_metadata(metadata)
        self.attachments = check_attachments(attachments)
        self.stream = check_stream(type(self).stream if stream is None else stream)
        self.idempotency_key = check_idempotency_key(idempotency_key)
        self.provider_options = check_provider_options(provider_options)
        check_size(None, None, self.attachments)
        self.context = check_context(context)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {len(self.to)} on {self.stream}>"

    def __json__(self) -> NoReturn:
        refuse_to_travel("a Mailable")

    def content(self) -> dict[str, Any]:
        """Return the content as JSON values, without the recipients, as the ledger keeps it until it is rendered."""
        mailable = {"class": class_path(type(self)), "context": self.context}
        return {"v": 1, "mailable": mailable, **envelope_content(self)}


def body_template(cls: type[Mailable], kind: Literal["html", "text"]) -> BodyTemplate:
    """Return the template of one body.

    The nearest class that says anything about it decides, so `text = None` takes away what a base has.
    """
    for owner in cls.__mro__:
        if kind in vars(owner) or f"{kind}_template" in vars(owner):
            return BodyTemplate(vars(owner).get(kind) or None, vars(owner).get(f"{kind}_template") or None)
    return BodyTemplate(None, None)


def class_path(cls: type) -> str:
    """Return the mailable's name in the ledger: `package.module:Class`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def check_context(value: object) -> dict[str, Any]:
    """Return a context as plain JSON values, a copy that later changes do not reach.

    Raises:
        MessageError: a value that is not JSON, too deep, or more than 1 MiB in all. Names its place, not the value.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MessageError("context", f"must be a mapping of str to values, not {type(value).__name__}")
    if _grows_beyond(value, MAX_CONTEXT):
        raise MessageError("context", f"larger than {MAX_CONTEXT} bytes as JSON; pass ids and load the rest elsewhere")
    context: dict[str, Any] = _plain(value, "context", 0)
    size = len(json.dumps(context, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
    if size > MAX_CONTEXT:
        raise MessageError("context", f"larger than {MAX_CONTEXT} bytes as JSON; pass ids and load the rest elsewhere")
    return context


def _grows_beyond(value: object, limit: int) -> bool:
    """Return whether a value is surely longer than so many characters as JSON, in time linear in what it holds.

    Lists that hold one another many times are a few bytes in memory and gigabytes once they are written out.
    """
    total = 0
    level: dict[int, tuple[Any, int]] = {id(value): (value, 1)}
    # what nests deeper is refused for that
    for _ in range(MAX_DEPTH + 1):
        following: dict[int, tuple[Any, int]] = {}
        for parent, times in level.values():
            for child in parent.values() if isinstance(parent, Mapping) else parent:
                total += times * (len(child) if isinstance(child, str) else 1)
                if isinstance(child, Mapping | list | tuple):
                    following[id(child)] = child, following.get(id(child), (None, 0))[1] + times
            if total > limit:
                return True
        level = following
    return False


def _plain(value: object, place: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(str.__str__(value), place)
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise MessageError("context", f"{place} is an integer of more than {MAX_INTEGER_BITS} bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MessageError("context", f"{place} is not a finite number")
        return float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if depth >= MAX_DEPTH:
        raise MessageError("context", f"{place} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {
            _key(key, place): _plain(item, f"{place}.{key}" if _is_name(key) else f"{place}[?]", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    text = evaluated(value, "context")
    if isinstance(text, str):
        return _plain_text(text, place)
    raise MessageError(
        "context", f"{place} is a {type(value).__name__}, which is not JSON; pass its values as str, int, list or dict"
    )


def _plain_text(text: str, place: str) -> str:
    if "\x00" in text:
        raise MessageError("context", f"{place} holds NUL")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise MessageError("context", f"{place} holds a lone surrogate, which no mail can carry") from None
    return text


def _key(key: object, place: str) -> str:
    key = evaluated(key, "context")
    if not isinstance(key, str):
        raise MessageError("context", f"{place} has a key of type {type(key).__name__}; keys must be str")
    return _plain_text(str.__str__(key), f"a key of {place}")


def _is_name(key: object) -> bool:
    """Return a name a programmer gave; any other key may be data, such as an address, and is not shown."""
    return isinstance(key, str) and _IDENTIFIER.match(key) is not None


def _check_importable(cls: type[Mailable]) -> None:
    if cls._abstract:
        raise MessageError("mailable", f"{cls.__qualname__} is abstract: build one of its subclasses")
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise MessageError(
            "mailable",
            f"{class_path(cls)} cannot be imported by a worker: "
            "define the class at the top level of a module of its own",
        )
