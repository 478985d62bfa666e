"""Agreement of a file's name and its content type: for providers that go by the name's extension."""

from __future__ import annotations

import mimetypes
from typing import Final

from mailglass.mail.message import Attachment

# its own table, without what the machine's files add, so that a mail is not refused here and sent there
_TABLE: Final = mimetypes.MimeTypes()
_UNSPECIFIC: Final = "application/octet-stream"


def bare_type(attachment: Attachment) -> str:
    """`type/subtype` in lower case, without parameters."""
    return attachment.content_type.partition(";")[0].strip().lower()


def name_agrees(attachment: Attachment) -> bool:
    """Return False if the extension stands for another type, as in a `data.txt` of text/csv.

    What is not known well enough to contradict, agrees: unknown extensions and types, application/octet-stream, and
    two names of one thing such as text/xml and application/xml.
    """
    kind = bare_type(attachment)
    named, encoding = _TABLE.guess_type(attachment.filename)
    if named is None or encoding or kind == _UNSPECIFIC or _subtype(kind) == _subtype(named):
        return True
    extension = "." + attachment.filename.rpartition(".")[2].lower()
    known = _TABLE.guess_all_extensions(kind, strict=False)
    return not known or extension in known


def _subtype(kind: str) -> str:
    return kind.partition("/")[2].removeprefix("x-")
