"""Read a mail that came back: its kind and its fields. Nothing is judged here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from uuid import UUID

from mailglass.bounces.forms import Form, is_bounce, read_form
from mailglass.bounces.mail import Fields, Part, fields_of, groups_of, merged, parts_of, read_mail

MAX_RECIPIENTS: Final = 50
# a report's facts stand near its beginning; what may be megabytes is the returned mail after them
MAX_READ: Final = 1024 * 1024

# who may have written down where this mail was delivered to: Postfix, qmail and Dovecot, Exim, fetchmail; the address
# itself stands in To
_CAME_TO: Final = ("x-original-to", "delivered-to", "envelope-to", "x-envelope-to", "to")
_DELIVERY_STATUS: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})
_RETURNED: Final = frozenset(
    {"message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/global", "message/global-headers"}
)
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OURS = re.compile(rf"(?<![0-9a-z-])({_UUID})(?![0-9a-z-])", re.IGNORECASE | re.ASCII)
_OURS_IN_ADDRESS = re.compile(r"\bbounces\+([0-9a-f]{32})(?![0-9a-z])", re.IGNORECASE | re.ASCII)


class Kind(Enum):
    """The kinds of mail that come back."""

    DELIVERY_STATUS = "delivery_status"  # RFC 3464
    FEEDBACK = "feedback"  # RFC 5965
    FORM = "form"  # a bounce of a known form that is none of these
    AUTOMATIC = "automatic"  # RFC 3834
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Report:
    """One mail that came back, taken apart.

    Attributes:
        header: of the mail itself.
        came_to: the addresses it may have been delivered to, the surest first.
        about: fields about the mail that was sent: those per message, or the whole feedback.
        recipients: fields per recipient of a delivery status.
        returned: header of the mail that was sent, as far as it came back.
        body: of the mail itself.
        form: what a bounce of another known form says.
    """

    kind: Kind
    header: Fields = field(repr=False)
    came_to: tuple[str, ...] = field(repr=False)
    about: Fields = field(repr=False)
    recipients: tuple[Fields, ...] = field(repr=False)
    returned: Fields = field(repr=False)
    body: bytes = field(repr=False)
    form: Form | None = field(default=None, repr=False)

    def where_tokens_stand(self) -> Iterator[str]:
        """Yield texts in which our token may have come back, the surest first."""
        yield from self.came_to
        if self.kind in (Kind.DELIVERY_STATUS, Kind.FEEDBACK):
            for name in ("original-envelope-id", "original-mail-from"):
                yield from self.about.get(name, [])
            for name in ("x-mailglass-proof", "return-path"):
                yield from self.returned.get(name, [])

    def claimed_delivery(self) -> UUID | None:
        """Return the delivery that this mail says it is about. Anybody may say so."""
        for text in self.came_to:
            if found := _OURS_IN_ADDRESS.search(text):
                return UUID(hex=found[1])
        mentions = [
            *self.returned.get("x-mailglass-id", []),
            *self.returned.get("message-id", []),
            *self.header.get("in-reply-to", []),
            *self.header.get("references", []),
        ]
        for text in mentions:
            if found := _OURS.search(text):
                return UUID(found[1])
        return None


def read_report(raw: bytes, came_to: str = "") -> Report:
    """Read a mail that came back.

    Args:
        raw: any bytes. The first mebibyte is read.
        came_to: the envelope's recipient, where it is known.
    """
    mail = read_mail(raw[:MAX_READ])
    parts = _Parts()
    for part in parts_of(mail):
        parts.add(part, mail)
    kind, form = parts.kind, None
    if kind is Kind.OTHER:
        form = read_form(mail.fields, mail.body if parts.text is None else parts.text)
        if form is not None:
            kind = Kind.FORM
        elif _is_automatic(mail) and not is_bounce(mail.fields):
            kind = Kind.AUTOMATIC
    addresses = [came_to, *(value for name in _CAME_TO for value in mail.fields.get(name, []))]
    return Report(
        kind,
        mail.fields,
        tuple(address for address in addresses if address),
        parts.about,
        tuple(parts.recipients[:MAX_RECIPIENTS]),
        parts.returned,
        mail.body,
        form,
    )


@dataclass(slots=True)
class _Parts:
    """Facts collected from the parts of one mail, in their order."""

    kind: Kind = Kind.OTHER
    about: Fields = field(default_factory=dict)
    recipients: list[Fields] = field(default_factory=list)
    returned: Fields = field(default_factory=dict)
    text: bytes | None = None

    def add(self, part: Part, mail: Part) -> None:
        """Read one part. The first report decides the kind, the first mail after it is the returned one."""
        if self.kind is Kind.OTHER and self._begins_report(part, mail):
            return
        if self.kind is not Kind.OTHER and not self.returned and part.content_type in _RETURNED:
            self.returned = fields_of(part.decoded)
        elif self.text is None and part.content_type == "text/plain":
            self.text = part.decoded

    def _begins_report(self, part: Part, mail: Part) -> bool:
        if part.content_type in _DELIVERY_STATUS:
            self.kind = Kind.DELIVERY_STATUS
            self.about, self.recipients = _delivery_status(part)
        elif part.content_type == "message/feedback-report":
            self.kind = Kind.FEEDBACK
            self.about = merged(groups_of(part.decoded))
        elif part.content_type in _RETURNED and _is_outlooks_complaint(mail):
            self.kind = Kind.FEEDBACK
            self.about, self.returned = {"feedback-type": ["abuse"]}, fields_of(part.decoded)
        else:
            return False
        return True


def _delivery_status(part: Part) -> tuple[Fields, list[Fields]]:
    """Return the fields per message, and those per recipient: the groups that say what was done for somebody."""
    groups = groups_of(part.decoded)
    recipients = [group for group in groups if "action" in group]
    return merged(group for group in groups if "action" not in group), recipients


def _is_outlooks_complaint(mail: Part) -> bool:
    """Return whether this is the older form of Outlook.com's feedback loop: the mail itself behind a line of text."""
    subject = mail.first("subject")[:200].lower()
    return mail.content_type == "multipart/mixed" and subject.startswith("complaint about message from")


def _is_automatic(mail: Part) -> bool:
    """RFC 3834 5: any value but `no`; Exchange calls even its out-of-office replies auto-generated.

    A multipart/report of another kind, such as a read receipt, is none.
    """
    value = mail.first("auto-submitted").partition(";")[0].partition("(")[0].strip().lower()
    return value not in ("", "no") and mail.content_type != "multipart/report"
