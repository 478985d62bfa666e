"""SMTP replies and what they mean for a mail. Server text is read to classify and is never passed on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mailglass.bounces.statuses import ACCOUNT_DISABLED, HARD_STATUSES
from mailglass.mail.outcomes import Outcome, OutcomeClass

SERVICE_CLOSING: Final = 421
_MAX_TEXT: Final = 2000
START_INPUT: Final = 354

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")
# SES says "454 Throttling failure: Daily message quota exceeded", Gmail "550 5.4.5 Daily user sending limit exceeded"
_DAILY = re.compile(r"\bdaily\b.*\b(?:quota|limit)", re.IGNORECASE)
_THROTTLED = re.compile(r"\brate|throttl|too many", re.IGNORECASE)

# RFC 5321 4.2.4 and 4.3.2: the command was not understood, or not at this point
_SYNTAX_OR_SEQUENCE: Final = range(500, 505)
_OUT_OF_STEP = re.compile(r"\bsynchroni[sz]ation\b|\bpipelin", re.IGNORECASE)

# RFC 4954 section 6, RFC 3207: authentication is needed, failed, or is too weak
_AUTHENTICATION: Final = frozenset({530, 534, 535, 538})
# RFC 3463 and RFC 7372 by way of RFC 5248: the sender's address or domain is refused. Postfix says so at RCPT
# (smtpd_delay_reject), so these count at every stage.
_SENDER_REFUSED: Final = frozenset({"5.1.7", "5.1.8", "5.7.27"})


class Stage(Enum):
    """Where in the dialogue a reply was given; the same code means different things at different stages."""

    SESSION = "session"
    RESET = "reset"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, all its lines.

    Attributes:
        code: three digits.
        lines: the text of each line; may quote addresses, so it never leaves this room.
    """

    code: int
    lines: tuple[str, ...] = field(repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 300

    @property
    def text(self) -> str:
        """What is looked through for words: the beginning, as a server may write without bound."""
        return " ".join(self.lines)[:_MAX_TEXT]

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 2034), where its class agrees with the reply code."""
        for line in self.lines:
            found = _ENHANCED.match(line)
            if found and found[1][0] == str(self.code)[0]:
                return found[1]
        return None


def is_hard_recipient_failure(status: int | None, enhanced: str | None) -> bool:
    """Whether a refusal means that the recipient's address will never work, so that it belongs on the suppression list.

    A 5xx without an enhanced status is not enough: policy blocks use the same codes.

    Args:
        status: the SMTP reply code.
        enhanced: the enhanced status code (RFC 3463), for example `5.1.1`.
    """
    if status is None or not 500 <= status < 600:
        return False
    return enhanced in HARD_STATUSES or (status, enhanced) == ACCOUNT_DISABLED


def blames_the_dialogue(reply: Reply) -> bool:
    """Whether a reply may be about how commands were sent rather than about the mail."""
    return reply.code < 400 or reply.code in _SYNTAX_OR_SEQUENCE or _OUT_OF_STEP.search(reply.text) is not None


def refusal(stage: Stage, reply: Reply, *, recipients: int = 1) -> Outcome:
    """The outcome of a mail that this reply refused. Only for replies that settle it: nothing was sent.

    Args:
        stage: what the reply answers.
        reply: any reply that is not a success.
        recipients: how many recipients the reply may be about.
    """
    if reply.code < 400:
        return Outcome(OutcomeClass.TRANSIENT, reason="protocol_error", status=reply.code)
    enhanced = reply.enhanced
    blames_somebody_else = stage in (Stage.SESSION, Stage.MAIL) or recipients > 1
    if blames_somebody_else and is_hard_recipient_failure(reply.code, enhanced):
        # kept, it would put the recipient on the suppression list
        enhanced = None
    kind = _refusal_class(stage, reply)
    return Outcome(
        kind,
        reason=f"smtp_{reply.code}",
        status=reply.code,
        enhanced_status=enhanced,
        hard_bounce=kind is OutcomeClass.REJECTED and is_hard_recipient_failure(reply.code, enhanced),
    )


def _refusal_class(stage: Stage, reply: Reply) -> OutcomeClass:
    if _DAILY.search(reply.text) and stage is not Stage.RCPT:
        return OutcomeClass.QUOTA
    if reply.code < 500:
        return OutcomeClass.THROTTLED if _THROTTLED.search(reply.text) else OutcomeClass.TRANSIENT
    if stage is Stage.SESSION or reply.code in _AUTHENTICATION or reply.enhanced in _SENDER_REFUSED:
        return OutcomeClass.MISCONFIGURED
    return OutcomeClass.REJECTED
