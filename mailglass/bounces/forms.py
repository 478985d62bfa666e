"""Bounces in other forms than RFC 3464: whether a mail is one, and what the receiver said in it.

Sources: the texts of Exim, qmail, MailEnable, Gmail, Google Groups and mail.ru, as these systems write them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mailglass.bounces.mail import Fields

MAX_BODY: Final = 16384
MAX_SAID: Final = 2000
_MAX_NAMED: Final = 20

# words by which a known form is recognised, and behind which it quotes the receiver
_FORMS: Final = (
    "the following address(es) failed:",
    "could not be delivered to one or more of its recipients",
    "this is the qmail-send program",
    "delivery to the following recipient failed permanently",
    "delivery to the following recipients failed permanently",
    "message delivery failure - mailenable",
    "the following recipient(s) could not be reached:",
    "the group you tried to contact",
    "this message was created automatically by mail delivery software",
    "this message was created automatically by mail.ru",
)
# where the returned mail begins
_ENDS: Final = ("\n------ this is a copy", "\n--- below this line is a copy", "\n----- original message", "\n--- ")
_SENDERS: Final = frozenset({"mailer-daemon", "postmaster", "mail-daemon", "mdaemon", "mailerdaemon"})
_SUBJECTS: Final = (
    "undeliver",
    "delivery status notification",
    "delivery failure",
    "delivery has failed",
    "mail delivery failed",
    "message delivery failure",
    "failure notice",
    "returned mail",
    "mail system error",
    "mail delivery failure",
    "nondeliverable",
    "non-deliverable",
    "warning: could not send",
)
_SENDER = re.compile(r"(?<![^\s<\"])([a-z-]{4,15})@")
_ADDRESS = re.compile(r"(?<![^\s<>()\[\],;:\"=])([^\s<>()\[\],;:\"=@]{1,64}@[^\s<>()\[\],;:\"=@]{1,255})")


@dataclass(frozen=True, slots=True)
class Form:
    """A bounce of a known form.

    Attributes:
        said: what it quotes of the receiver; may hold addresses, so it never leaves this room.
        named: the addresses that it says were not reached.
    """

    said: str = field(repr=False)
    named: tuple[str, ...] = field(repr=False)


def is_bounce(header: Fields) -> bool:
    """Return whether a mail comes from a mail system that could not hand one over, by its header."""
    if "x-failed-recipients" in header:
        return True
    sender = _SENDER.search(header.get("from", [""])[0][:500].lower())
    subject = header.get("subject", [""])[0][:200].lower().lstrip()
    return (sender is not None and sender[1] in _SENDERS) or subject.startswith(_SUBJECTS)


def read_form(header: Fields, text: bytes) -> Form | None:
    """Return what a bounce of a known form says; None for any other mail.

    Args:
        header: of the mail.
        text: its first text; the beginning counts.
    """
    if not is_bounce(header):
        return None
    body = text[:MAX_BODY].decode("utf-8", "replace")
    lowered = body.lower()
    start = min((place for mark in _FORMS if (place := lowered.find(mark)) >= 0), default=-1)
    if start < 0 or len(lowered) != len(body):
        return None
    ends = [place for mark in _ENDS if (place := lowered.find(mark, start)) >= 0]
    said = body[start : min([*ends, start + MAX_SAID])]
    listed = ",".join(header.get("x-failed-recipients", [])[:_MAX_NAMED])[:MAX_SAID]
    named = [found[1].strip(".") for found in _ADDRESS.finditer(listed + " " + said)][:_MAX_NAMED]
    return Form(said, tuple(dict.fromkeys(named)))
