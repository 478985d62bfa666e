"""Mails that a test has caught, and what it asserts of them. Failures list what was sent, addresses included."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html.parser import HTMLParser
from typing import Any, Literal, TypeAlias
from uuid import UUID

from mailglass.mail.addresses import Address, parse_address
from mailglass.mail.mailable import Mailable, class_path
from mailglass.mail.message import Attachment
from mailglass.mail.outgoing import Outgoing

Part: TypeAlias = Literal["html", "text", "subject"]
# a mailable by its class, or by its `package.module:Class`
MailableLike: TypeAlias = type[Mailable] | str

_URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]}]")
_LINES = 12


@dataclass(frozen=True, slots=True)
class SentMail:
    """One mail to one recipient, as it goes out: rendered, with its CSS inlined.

    Attributes:
        id: of the delivery.
        tenant: whose mail it is.
        stream: transactional, operational or bulk.
        account: the account that the route chooses.
        to: the recipient.
        sender: From.
        subject: on one line.
        text: the text part, or None.
        html: the HTML part, or None.
        cc: copies.
        bcc: blind copies.
        reply_to: where answers go.
        headers: header fields of the message's own.
        attachments: files.
        tags: labels.
        metadata: of the message.
        mailable: `package.module:Class`, or None for a plain message.
        scheduled_at: the moment at which it is due.
        priority: 0 to 9.
        idempotency_key: of the message, or None.
    """

    id: UUID
    tenant: str
    stream: str
    account: str
    to: Address
    sender: Address
    subject: str
    text: str | None
    html: str | None
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    headers: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...]
    tags: tuple[str, ...]
    metadata: Mapping[str, str]
    mailable: str | None
    scheduled_at: datetime
    priority: int = 5
    idempotency_key: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        mail: Outgoing,
        account: str,
        *,
        mailable: str | None,
        scheduled_at: datetime,
        priority: int,
        idempotency_key: str | None,
    ) -> SentMail:
        """Return a mail as it goes to a provider, with what the ledger knows of it."""
        return cls(
            id=mail.delivery_id,
            tenant=mail.tenant,
            stream=mail.stream,
            account=account,
            to=mail.recipient,
            sender=mail.sender,
            subject=mail.subject,
            text=mail.text,
            html=mail.html,
            cc=mail.cc,
            bcc=mail.bcc,
            reply_to=mail.reply_to,
            headers=mail.headers,
            attachments=mail.attachments,
            tags=mail.tags,
            metadata=mail.metadata,
            mailable=mailable,
            scheduled_at=scheduled_at,
            priority=priority,
            idempotency_key=idempotency_key,
            options=mail.options,
        )

    @property
    def links(self) -> list[str]:
        """Return the links of the HTML and the URLs of the text, each once, in their order."""
        found = _Links.of(self.html) if self.html else []
        return list(dict.fromkeys([*found, *_URL.findall(self.text or "")]))

    def attachment(self, filename: str) -> Attachment:
        """Return an attachment by its name.

        Raises:
            AssertionError: there is none of this name; lists those that there are.
        """
        for attachment in self.attachments:
            if attachment.filename == filename:
                return attachment
        names = ", ".join(attachment.filename for attachment in self.attachments) or "no attachment"
        raise AssertionError(f"{self} has no attachment {filename}. It has: {names}")

    def assert_part(self, part: Part, *, contains: str | None = None, lacks: str | None = None) -> SentMail:
        """Check a part of the mail.

        Args:
            part: `html`, `text` or `subject`.
            contains: text that it must hold.
            lacks: text that it must not hold.

        Returns:
            The mail itself, for further checks.

        Raises:
            AssertionError: there is no such part, or it says otherwise. Quotes the part.
        """
        body: str | None = getattr(self, part)
        if body is None:
            raise AssertionError(f"{self} has no {part} part")
        if contains is not None and contains not in body:
            raise AssertionError(f"the {part} part of {self} does not contain {contains!r}:\n{_excerpt(body)}")
        if lacks is not None and lacks in body:
            raise AssertionError(f"the {part} part of {self} contains {lacks!r}:\n{_excerpt(body)}")
        return self

    def __str__(self) -> str:
        kind = "" if self.mailable is None else f" ({self.mailable})"
        return f"{self.to.email}: {self.subject!r}{kind}"


class SentMails:
    """Mails of one test, with its assertions.

    Args:
        read: returns the mails that were sent so far.
    """

    def __init__(self, read: Callable[[], Sequence[SentMail]]) -> None:
        self._read = read

    @property
    def sent(self) -> list[SentMail]:
        """Return the mails so far, one for each recipient, in the order in which they were sent."""
        return list(self._read())

    def __len__(self) -> int:
        return len(self.sent)

    def __bool__(self) -> bool:
        return True

    def assert_sent(
        self,
        *,
        to: str | None = None,
        subject: str | re.Pattern[str] | None = None,
        mailable: MailableLike | None = None,
        count: int | None = None,
    ) -> SentMail:
        """Check that a mail was sent.

        Args:
            to: its recipient.
            subject: its whole subject, or a pattern that is found in it.
            mailable: its class.
            count: the number of such mails; by default at least one.

        Returns:
            The first such mail.

        Raises:
            AssertionError: it was not, or not so often. Lists what was sent.
        """
        if count is not None and count < 1:
            raise ValueError("count must be 1 or more: use assert_nothing_sent for none")
        found = self._matching(to, subject, mailable)
        if not found or (count is not None and len(found) != count):
            expected = "a mail" if count is None else "1 mail" if count == 1 else f"{count} mails"
            wanted = _described(to, subject, mailable)
            raise AssertionError(f"expected {expected}{wanted}, found {len(found)}. {self._listed()}")
        return found[0]

    def assert_nothing_sent(
        self,
        *,
        to: str | None = None,
        subject: str | re.Pattern[str] | None = None,
        mailable: MailableLike | None = None,
    ) -> None:
        """Check that no mail was sent, or none of a kind.

        Args:
            to: its recipient.
            subject: its whole subject, or a pattern that is found in it.
            mailable: its class.

        Raises:
            AssertionError: one was. Lists what was sent.
        """
        if found := self._matching(to, subject, mailable):
            wanted = _described(to, subject, mailable)
            raise AssertionError(f"expected no mail{wanted}, found {len(found)}. {self._listed()}")

    def assert_part(self, part: Part, *, contains: str | None = None, lacks: str | None = None) -> SentMail:
        """Check a part of the one mail that was sent; see `SentMail.assert_part`.

        Raises:
            AssertionError: not exactly one was sent, or the part says otherwise.
        """
        return self.assert_sent(count=1).assert_part(part, contains=contains, lacks=lacks)

    @property
    def links(self) -> list[str]:
        """Return the links of all mails, each once."""
        return list(dict.fromkeys(link for mail in self.sent for link in mail.links))

    def _matching(
        self, to: str | None, subject: str | re.Pattern[str] | None, mailable: MailableLike | None
    ) -> list[SentMail]:
        key = None if to is None else parse_address(to, "to").key
        path = class_path(mailable) if isinstance(mailable, type) else mailable
        return [
            mail
            for mail in self.sent
            if (key is None or mail.to.key == key)
            and (path is None or mail.mailable == path)
            and (
                subject is None
                or (mail.subject == subject if isinstance(subject, str) else subject.search(mail.subject) is not None)
            )
        ]

    def _listed(self) -> str:
        sent = self.sent
        if not sent:
            return "Nothing was sent."
        shown = [f"  {mail}" for mail in sent[:_LINES]]
        if len(sent) > _LINES:
            shown.append(f"  and {len(sent) - _LINES} more")
        return "\n".join(["Sent:", *shown])


def _described(to: str | None, subject: str | re.Pattern[str] | None, mailable: MailableLike | None) -> str:
    words = []
    if to is not None:
        words.append(f" to {to}")
    if subject is not None:
        text = repr(subject) if isinstance(subject, str) else f"/{subject.pattern}/"
        words.append(f" with the subject {text}")
    if mailable is not None:
        words.append(f" of {class_path(mailable) if isinstance(mailable, type) else mailable}")
    return "".join(words)


def _excerpt(body: str) -> str:
    return body if len(body) <= 4000 else f"{body[:4000]}\n[{len(body) - 4000} more characters]"


class _Links(HTMLParser):
    """Reader of the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @classmethod
    def of(cls, html: str) -> list[str]:
        reader = cls()
        reader.feed(html)
        reader.close()
        return reader.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("a", "area"):
            self.found += [value for name, value in attrs if name == "href" and value]
