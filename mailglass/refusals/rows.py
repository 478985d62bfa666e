"""The shape of a row: one thing that a receiver says, with what it means and where that is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope, Stage

OPENING: Final = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.TLS, Stage.AUTH})
DIALOGUE: Final = frozenset({*OPENING, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT})
HEARSAY: Final = frozenset({Stage.REPORT, Stage.PROVIDER_EVENT})

# up to three words between two others; bounded, so that a search takes linear time
_WHO: Final = (
    "(?:users?|mail ?box(?:es)?|recipients?(?:'s)?|rcpt|addressee|accounts?|inbox|alias|person|customer|addresse?s?)"
)
_MAILBOX: Final = "(?:users?(?:'s)?|mail ?box(?:es)?|recipients?(?:'s)?|accounts?|inbox|mail(?:folder| store)|storage)"
_GAP: Final = r" (?:[^ ]{1,40} ){0,3}"


@dataclass(frozen=True, slots=True)
class Row:
    """A form of words and its meaning.

    Attributes:
        about: the subject.
        says: regular expressions for `texts.comparable` text, any of which will do. Each begins where a word begins;
            ` ~ ` stands for up to three words, `<who>` and `<mailbox>` for the nouns below.
        source: where the meaning is published or was met.
        lasting: None where the reply code's first digit tells.
        scope: None for the subject's usual one.
        stages: where it means this; empty for everywhere.
        codes: enhanced codes without their class (`5.4.1` is `4.1`) beside which it means this; empty for any.
        used_up: it names an allowance for an hour or longer.
        doubtful: of the recipient: only the second one within weeks counts.
        proves: whether it may prove something about the recipient at all.
    """

    about: About
    says: tuple[str, ...]
    source: str
    lasting: Lasting | None = None
    scope: Scope | None = None
    stages: frozenset[Stage] = frozenset()
    codes: frozenset[str] = frozenset()
    used_up: bool = False
    doubtful: bool = False
    proves: bool = True
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        says = "|".join(self.says).replace(" ~ ", _GAP).replace("<who>", _WHO).replace("<mailbox>", _MAILBOX)
        object.__setattr__(self, "pattern", re.compile(rf"(?<![^\W_])(?:{says})"))

    def speaks(self, words: str, stage: Stage, detail: str | None) -> bool:
        """Return whether a reply's words are these, where they mean this."""
        if self.stages and stage not in self.stages:
            return False
        if self.codes and detail not in self.codes:
            return False
        return self.pattern.search(words) is not None
