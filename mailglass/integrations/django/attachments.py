"""Attachments of Django's `EmailMessage`, in each of the forms that it takes."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator
from email.message import Message as MIMEPart
from typing import Any, Final

from mailglass.errors import MessageError
from mailglass.mail.message import Attachment
from mailglass.mail.texts import evaluated

_NAMES: Final = {"text/calendar": "invite.ics", "message/rfc822": "message.eml"}
# parameters of a part's type that say what its bytes are
_PARAMETERS: Final = ("charset", "method", "format", "delsp", "component")


def attachments_of(items: Iterable[Any], html: str | None) -> Iterator[Attachment]:
    """Yield the attachments of a mail.

    Args:
        items: `(filename, content, mimetype)`, Django's `EmailAttachment`, or a MIME part of the standard library.
        html: the HTML body. A part with a Content-ID that it refers to is an inline image.

    Raises:
        MessageError: a part is a container, or a value is refused.
    """
    for item in items:
        if isinstance(item, MIMEPart):
            yield _of_part(item, html or "")
        elif isinstance(item, tuple | list) and 0 < len(item) <= 3:
            filename, content, mimetype = (*item, None, None)[:3]
            yield attachment(filename, content, mimetype)
        else:
            raise MessageError("attachments", "each must be (filename, content, mimetype) or a MIME part")


def attachment(filename: Any, content: Any, mimetype: Any) -> Attachment:
    """Return an attachment of a name, a content and a type, as Django's `attach` takes them.

    Args:
        filename: its name. None: it gets one by its type.
        content: bytes, a str, or for `message/rfc822` a message of Django or of the standard library.
        mimetype: with or without parameters. None: it is guessed from the name.
    """
    content_type = str(mimetype or mimetypes.guess_type(str(filename or ""))[0] or "application/octet-stream")
    if isinstance(content, MIMEPart):
        content = content.as_bytes()
    elif hasattr(content, "message") and hasattr(content, "extra_headers"):
        # another mail of Django's, forwarded
        content = content.message().as_bytes()
    elif not isinstance(content, bytes | bytearray | memoryview):
        content = _text(content)
        if content_type.startswith("text/") and "charset" not in content_type.lower():
            content_type += "; charset=utf-8"
    return Attachment(str(filename or _name(content_type)), content, content_type)


def _text(content: Any) -> bytes:
    text = evaluated(content, "attachments")
    if not isinstance(text, str):
        raise MessageError("attachments", f"content must be bytes or a str, not {type(content).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MessageError("attachments", "a text holds a lone surrogate, which no mail can carry") from None


def _of_part(part: Any, html: str) -> Attachment:
    content_type = part.get_content_type()
    if content_type == "message/rfc822" and part.is_multipart():
        content = part.get_payload(0).as_bytes()
    elif part.is_multipart():
        raise MessageError("attachments", "a multipart cannot be attached: attach the parts it holds")
    else:
        content = part.get_payload(decode=True) or b""
    parameters = [(name, part.get_param(name)) for name in _PARAMETERS]
    written = "".join(f"; {name}={value}" for name, value in parameters if isinstance(value, str))
    content_id = str(part["Content-ID"] or "").strip().removeprefix("<").removesuffix(">")
    return Attachment(
        part.get_filename() or _name(content_type),
        content,
        content_type + written,
        content_id if content_id and f"cid:{content_id}" in html else "",
    )


def _name(content_type: str) -> str:
    plain = content_type.partition(";")[0].strip().lower()
    return _NAMES.get(plain) or f"attachment{mimetypes.guess_extension(plain) or '.bin'}"
