"""Answers of providers' APIs to a send: HTTP status, the provider's own code and its words, as one meaning.

A row names what it needs of the three. The first row that matches counts: a provider's own rows, then those of any
HTTP server. An answer that does not prove that the mail was not taken is `unsettled`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from mailglass.mail.refusal import About, Certainty, Lasting, Part, Refusal, Scope, Stage
from mailglass.refusals import texts

ANY: Final = "*"
"""In `Answer.codes`: any code of the provider's own."""

_SCOPES: Final = {
    About.RECIPIENT_UNKNOWN: Scope.MAILBOX,
    About.RECIPIENT_DISABLED: Scope.MAILBOX,
    About.RECIPIENT_POLICY: Scope.MAILBOX,
    About.SENDER_ACCOUNT: Scope.ACCOUNT,
    About.SENDER_RATE: Scope.ACCOUNT,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that a provider's API says, and its meaning.

    Attributes:
        about: the subject.
        lasting: how long it holds.
        source: where the meaning is published.
        codes: the provider's own codes; `ANY` for all that it has; empty: no code is needed.
        statuses: HTTP statuses beside which it means this; empty for any.
        says: words in its message, in lower case, any of which will do; empty for any message.
        scope: what else meets the same; None for the subject's usual one.
        used_up: an allowance for an hour or longer is used up.
        listed: the provider itself mails the recipient no more.
        certain: it proves something about the very recipient.
        unsettled: it does not tell whether the mail was taken.
        name: a short code for the reason, where the provider's own does not tell it from others.
    """

    about: About
    lasting: Lasting
    source: str
    codes: frozenset[str] = frozenset()
    statuses: Collection[int] = frozenset()
    says: tuple[str, ...] = ()
    scope: Scope | None = None
    used_up: bool = False
    listed: bool = False
    certain: bool = False
    unsettled: bool = False
    name: str = ""

    def speaks(self, status: int, code: str, words: str) -> bool:
        """Return whether this is what the provider said.

        Args:
            status: of the answer, 100 to 599.
            code: the provider's own; "" for none.
            words: its message as `texts.comparable` text.
        """
        if self.statuses and status not in self.statuses:
            return False
        if self.codes and code not in self.codes and not (code and ANY in self.codes):
            return False
        return not self.says or any(text in words for text in self.says)

    @property
    def refusal(self) -> Refusal:
        """Return the meaning."""
        parts = ((Part.TEXT, bool(self.says)), (Part.LABEL, bool(self.codes)), (Part.REPLY, bool(self.statuses)))
        return Refusal(
            about=self.about,
            lasting=self.lasting,
            scope=self.scope or _SCOPES.get(self.about, Scope.MAIL),
            stage=Stage.API,
            spoke=tuple(part for part, spoke in parts if spoke),
            used_up=self.used_up,
            certainty=Certainty.CERTAIN if self.listed or self.certain else Certainty.NONE,
            listed=self.listed,
            unsettled=self.unsettled,
        )


_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN
_HTTP: Final = "RFC 9110 15"

GENERAL: Final[tuple[Answer, ...]] = (
    Answer(About.SENDER_ACCOUNT, _P, _HTTP, statuses=frozenset({401, 403, 407})),
    Answer(About.SENDER_RATE, _T, _HTTP, statuses=frozenset({402}), used_up=True),
    Answer(About.INFRASTRUCTURE, _T, "RFC 9110 15, RFC 8470", statuses=frozenset({408, 425, 503})),
    Answer(About.SIZE, _P, _HTTP, statuses=frozenset({413})),
    Answer(About.SENDER_RATE, _T, "RFC 6585 4", statuses=frozenset({429})),
    # redirects are not followed: the address is not the API's
    Answer(About.PROTOCOL, _P, _HTTP, statuses=range(300, 400), scope=Scope.ACCOUNT),
    Answer(About.UNKNOWN, _P, _HTTP, statuses=range(400, 500)),
    # a gateway may have lost the answer of a server that accepted the mail
    Answer(About.INFRASTRUCTURE, _U, _HTTP, unsettled=True),
)
"""Statuses of any HTTP server, for answers that say nothing more exact."""


def find(rows: Sequence[Answer], status: int, code: str = "", text: str = "") -> Answer:
    """Return the row that an answer is read by.

    Args:
        rows: the provider's own, the more exact ones first.
        status: of the answer.
        code: the provider's own code; "" for none.
        text: its message; addresses in it are not looked at.
    """
    words = texts.comparable(text)
    return next(row for row in (*rows, *GENERAL) if row.speaks(status, code, words))
