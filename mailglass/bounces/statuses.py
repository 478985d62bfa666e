"""Enhanced status codes (RFC 3463), and what they say of a recipient."""

from __future__ import annotations

import re
from typing import Final

from mailglass.mail.events import BounceClass

# no such mailbox or domain, moved away, mailbox disabled, null MX, a new owner (RFC 3463, RFC 7293, RFC 7505; 5.1.10
# also as Exchange uses it)
HARD_STATUSES: Final = frozenset(
    {"5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10", "5.2.1", "5.7.17", "5.7.18"}
)  # fmt: skip
ACCOUNT_DISABLED: Final = (525, "5.7.13")

# by class and subject: 5.2 a full mailbox or the like, 5.3 the other system, 5.4 the way there (given up), 5.7 policy.
# 5.1 is left where the sender's address may be meant, 5.5 and 5.6 speak of protocol and content
_SOFT_SUBJECTS: Final = frozenset({"2", "3", "4", "7"})
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_REPLY = re.compile(r"(?<![\d.])([2-5]\d\d)(?:[ -]|\Z)")


def status_in(text: str) -> str | None:
    """The first enhanced status code in a text."""
    found = _STATUS.search(text)
    return found[1] if found else None


def reply_in(text: str) -> int | None:
    """The first SMTP reply code in a text."""
    found = _REPLY.search(text)
    return int(found[1]) if found else None


def bounce_class(status: str | None, reply: int | None = None) -> BounceClass:
    """How lasting a failure is that a report calls final.

    Args:
        status: the enhanced status code, for example `5.1.1`.
        reply: the SMTP reply code, where the report quotes one.
    """
    if status in HARD_STATUSES or (reply, status) == ACCOUNT_DISABLED:
        return BounceClass.HARD
    if status is None:
        # policy blocks and unknown users use the same reply codes
        return BounceClass.SOFT if reply is not None and 400 <= reply < 500 else BounceClass.UNDETERMINED
    level, subject, _ = status.split(".")
    if level == "4" or (level == "5" and subject in _SOFT_SUBJECTS):
        return BounceClass.SOFT
    return BounceClass.UNDETERMINED
