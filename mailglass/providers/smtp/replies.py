"""SMTP replies and what they mean for a mail. Server text is read to classify and is never passed on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.refusal import Stage
from mailglass.refusals import texts
from mailglass.refusals.consequences import FIRST, outcome_class, suppression
from mailglass.refusals.understand import understand

SERVICE_CLOSING: Final = 421
_MAX_TEXT: Final = 2000
START_INPUT: Final = 354
AUTHENTICATION_NEEDED: Final = 530

# RFC 5321 4.2.4 and 4.3.2: the command was not understood, or not at this point
_SYNTAX_OR_SEQUENCE: Final = range(500, 505)
_OUT_OF_STEP = re.compile(r"\bsynchroni[sz]ation\b|\bpipelin", re.IGNORECASE)


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
        """True for a reply of 2xx."""
        return 200 <= self.code < 300

    @property
    def text(self) -> str:
        """Return what is looked through for words: the beginning, as a server may write without bound."""
        return "\n".join(self.lines)[:_MAX_TEXT]

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 2034), where its class agrees with the reply code."""
        code = texts.enhanced_in(self.text)
        return code if code and code[0] == str(self.code)[0] else None


def blames_the_dialogue(reply: Reply) -> bool:
    """Return whether a reply may be about how commands were sent rather than about the mail."""
    return reply.code < 400 or reply.code in _SYNTAX_OR_SEQUENCE or _OUT_OF_STEP.search(reply.text) is not None


def blames_the_session(stage: Stage, reply: Reply) -> bool:
    """Return whether a refusal to begin a mail may be about the session, so that a fresh one would take the mail.

    Some servers take one mail a session, some want RSET between two, some forget who logged in.
    """
    return stage is Stage.MAIL and (reply.code in _SYNTAX_OR_SEQUENCE or reply.code == AUTHENTICATION_NEEDED)


def refusal(stage: Stage, reply: Reply, *, recipients: int = 1, host: str = "") -> Outcome:
    """Return the outcome of a mail that this reply refused. Only for replies that settle it: nothing was sent.

    Args:
        stage: what the reply answers.
        reply: any reply that is not a success.
        recipients: how many recipients the reply may be about.
        host: the server's name.
    """
    if reply.code < 400:
        return Outcome(OutcomeClass.TRANSIENT, reason="protocol_error", status=reply.code)
    meaning = understand(stage, reply.code, None, reply.text, recipients=recipients, host=host)
    return Outcome(
        outcome_class(meaning),
        reason=f"smtp_{reply.code}",
        status=reply.code,
        enhanced_status=reply.enhanced,
        hard_bounce=suppression(meaning) is FIRST,
        refusal=meaning,
    )
