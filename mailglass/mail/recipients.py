"""Recipients outside production: who may get mail there, and what becomes of mail to everybody else.

Every decision is about one mail as it goes to a provider, so nothing that was stored elsewhere can widen it. An address
that is not plainly allowed is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final
from unicodedata import normalize

from mailglass.errors import MessageError
from mailglass.mail.addresses import FORBIDDEN, Address, parse_address
from mailglass.mail.message import MAX_SUBJECT, MESSAGE_ID_HEADERS
from mailglass.mail.outgoing import Outgoing

NOT_ALLOWED_HERE: Final = "not_allowed_here"
"""Reason of a delivery whose recipient may not get mail in this environment, and of what a mail leaves out for it."""
ORIGINAL_TO: Final = "X-Original-To"
"""Header of a redirected mail that names the recipient it was for."""
_REMEDY: Final = 'Write "*@example.com" or "ada@example.com"'
_WILDCARD = re.compile(r"[*?]")
_NO_PATTERN = re.compile(r"[\s\x00-\x1f\x7f,;:<>()\[\]\"\\]")
# anything with an @ between other characters, so that no spelling of an address passes unseen
_ADDRESS = re.compile(r"[^\s,;:<>()\[\]\"'\\=]+@[^\s,;:<>()\[\]\"'\\=]+")
# ways to write an @ that the text itself does not show: escapes of JSON, URLs and MIME words
_HIDDEN = re.compile(r"\\|%40|=\?|&#")


class ShowRecipient(StrEnum):
    """Place in a redirected mail where the original recipient is named."""

    HEADER = "header"
    SUBJECT = "subject"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Restricted:
    """A mail as far as it may go in this environment.

    Attributes:
        mail: to be sent instead; None if its recipient may not get mail here.
        redirected: it goes to somebody else than its recipient.
        left_out: copies, reply addresses, header fields or options are left out of it.
    """

    mail: Outgoing | None
    redirected: bool = False
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class RecipientPolicy:
    """Policy that keeps an environment from mailing anybody else.

    Attributes:
        allow: patterns of addresses that may get mail, such as `*@example.com`.
        redirect_to: the mailbox that gets all other mail; None: such mail is refused.
        subject_mark: text before every subject, or "".
        show_recipient: the place where a redirected mail names its recipient.
    """

    allow: tuple[str, ...] = ()
    redirect_to: Address | None = None
    subject_mark: str = ""
    show_recipient: ShowRecipient = ShowRecipient.HEADER

    def __repr__(self) -> str:
        return f"<RecipientPolicy of {len(self.allow)} patterns>"

    def describe(self) -> str:
        """Return whom mail goes to, as a sentence for operators."""
        to = ", ".join(self.allow)
        if self.redirect_to is None:
            return f"mail goes only to {to}, and all other is refused" if to else "all mail is refused"
        other = f"goes to {self.redirect_to.email}"
        return f"mail goes only to {to}, and all other {other}" if to else f"all mail {other}"

    def allows(self, email: str) -> bool:
        """Return whether an address may get mail, however it is spelled."""
        return self._plain(email) is not None

    def search_recipient(self, email: str) -> str:
        """Return the address under which a provider knows the mail of a recipient."""
        return email if self.redirect_to is None or self.allows(email) else self.redirect_to.email

    def is_redirect(self, email: str | None) -> bool:
        """Return whether an address is the mailbox that gets the mail of others."""
        return self.redirect_to is not None and email is not None and email.lower() == self.redirect_to.key

    def restrict(self, mail: Outgoing) -> Restricted:
        """Return a mail as far as it may go: nobody outside the policy is in its envelope or its header.

        Args:
            mail: as it would go in production.
        """
        recipient = self._allowed(mail.recipient)
        redirected = recipient is None
        if recipient is None:
            if self.redirect_to is None:
                return Restricted(None)
            recipient = self.redirect_to
        lists = [self._all_allowed(addresses) for addresses in (mail.cc, mail.bcc, mail.reply_to)]
        headers = tuple(pair for pair in mail.headers if self._header_allowed(*pair))
        options = {name: self._options_allowed(own) for name, own in mail.options.items()}
        left_out = (
            sum(map(len, lists)) < len(mail.cc) + len(mail.bcc) + len(mail.reply_to)
            or len(headers) < len(mail.headers)
            or options != mail.options
        )
        shown = mail.recipient.email if redirected else ""
        if shown and self.show_recipient is ShowRecipient.HEADER and not FORBIDDEN.search(shown):
            headers += ((ORIGINAL_TO, shown),)
        changed = replace(
            mail,
            recipient=recipient,
            cc=lists[0],
            bcc=lists[1],
            reply_to=lists[2],
            headers=headers,
            options=options,
            subject=self._subject(mail.subject, shown),
        )
        return Restricted(changed, redirected, left_out)

    def _plain(self, email: str) -> Address | None:
        """Return an allowed address in its one spelling, or None."""
        try:
            address = parse_address(email, "recipient")
        except MessageError:
            return None
        # what is quoted, has a name or looks like two addresses may be read in another way elsewhere
        if address.name or '"' in address.email or "@" in normalize("NFKC", address.local_part):
            return None
        if self.redirect_to is not None and address.key == self.redirect_to.key:
            return address
        return address if any(_matches(pattern, address) for pattern in self.allow) else None

    def _allowed(self, address: Address) -> Address | None:
        plain = self._plain(address.email)
        return None if plain is None else Address(plain.email, address.name)

    def _all_allowed(self, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        return tuple(allowed for address in addresses if (allowed := self._allowed(address)) is not None)

    def _header_allowed(self, name: str, value: str) -> bool:
        """Return whether a header field names nobody who may not get mail: some providers take recipients from it."""
        lowered = name.lower()
        if lowered.startswith("list-") or lowered in MESSAGE_ID_HEADERS:
            # a mailbox of the sender's, and ids
            return True
        return self._text_allowed(value)

    def _options_allowed(self, options: object) -> object:
        """Return a provider's options without those that name somebody who may not get mail."""
        if not isinstance(options, Mapping):
            return options if all(map(self._text_allowed, _texts(options))) else {}
        return {
            key: value
            for key, value in options.items()
            if self._text_allowed(str(key)) and all(map(self._text_allowed, _texts(value)))
        }

    def _text_allowed(self, text: str) -> bool:
        plain = text if text.isascii() else normalize("NFKC", text)
        if _HIDDEN.search(plain):
            return False
        found = _ADDRESS.findall(plain)
        return len(found) == plain.count("@") and all(map(self.allows, found))

    def _subject(self, subject: str, shown: str) -> str:
        parts = [self.subject_mark]
        if shown and self.show_recipient is ShowRecipient.SUBJECT and not FORBIDDEN.search(shown):
            parts.append(f"(to {shown})")
        return " ".join([*filter(None, parts), subject])[:MAX_SUBJECT]


def parse_pattern(text: str) -> str:
    """Return a pattern of addresses as addresses are compared with it: lower case, its domain in A-labels.

    `*` stands for any characters of the local part, `?` for one. In the domain `*` stands for whole labels.

    Args:
        text: as in the settings, `*@example.com`.

    Raises:
        ValueError: it is no such pattern; its text names the remedy.
    """
    local, at, domain = text.strip().rpartition("@")
    if not at or not local or not domain or _NO_PATTERN.search(local + domain):
        raise ValueError(_REMEDY)
    labels = domain.split(".")
    if any(_WILDCARD.search(label) and label != "*" for label in labels):
        raise ValueError('In a domain `*` stands for whole labels: write "*@example.com", "*@*.example.com"')
    if domain == "*":
        return f"{_address(f'{local}@example.com').local_part.lower()}@*"
    parsed = _address(f"{local}@{'.'.join('x' if label == '*' else label for label in labels)}")
    names = parsed.domain.split(".")
    if len(names) != len(labels):
        raise ValueError(_REMEDY)
    written = ["*" if label == "*" else name for label, name in zip(labels, names, strict=True)]
    return f"{parsed.local_part.lower()}@{'.'.join(written)}"


def _address(text: str) -> Address:
    try:
        return parse_address(text, "pattern")
    except MessageError:
        raise ValueError(_REMEDY) from None


@lru_cache(maxsize=1024)
def _parts(pattern: str) -> tuple[str, str]:
    local, _, domain = pattern.rpartition("@")
    return local, domain


def _matches(pattern: str, address: Address) -> bool:
    local, domain = _parts(pattern)
    mine, _, at = address.key.rpartition("@")
    return fnmatchcase(at, domain) and fnmatchcase(mine, local)


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value, keys included. Values come from JSON, whose depth the message has bounded."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, bytes | bytearray):
        yield bytes(value).decode("utf-8", "replace")
