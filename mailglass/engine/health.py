"""Health of accounts, by the answers of their providers and the calls without one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from uuid import UUID

from mailglass.engine.bulkhead import SLOW
from mailglass.engine.verdicts import UNWRITABLE, not_started
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import Refusal, Scope, Stage
from mailglass.refusals.consequences import Hears, breaks_at_once, hears
from mailglass.refusals.rows import OPENING

# mails to as many recipient domains that were refused for the account's sake, with none accepted in between
SUSPECT_AFTER: Final = 3
# calls in a row without an answer before the breaker opens
NO_ANSWER_AFTER: Final = 3


class Sign(Enum):
    """Sign of an account's health that one outcome gives."""

    WORKS = "works"
    ANSWERS = "answers"  # about this mail: the provider is there, which says nothing of the account's own standing
    NO_ANSWER = "transient"  # timeout, lost connection, 5xx, an answer that cannot be read
    REFUSED = "misconfigured"
    USED_UP = "quota"
    SUSPECT = "suspect"  # one recipient's server may have spoken for the account
    NOTHING = "nothing"  # it was not asked


_SIGNS: Final = {
    OutcomeClass.ACCEPTED: Sign.WORKS,
    OutcomeClass.THROTTLED: Sign.ANSWERS,
    OutcomeClass.REJECTED: Sign.ANSWERS,
    OutcomeClass.SUPPRESSED: Sign.ANSWERS,
    OutcomeClass.TRANSIENT: Sign.NO_ANSWER,
    OutcomeClass.UNCERTAIN: Sign.NO_ANSWER,
    OutcomeClass.MISCONFIGURED: Sign.REFUSED,
    OutcomeClass.QUOTA: Sign.USED_UP,
}
BREAKING: Final = frozenset({Sign.REFUSED, Sign.USED_UP})


@dataclass(frozen=True, slots=True)
class Judgement:
    """Sign of an account's health that a call gives.

    Attributes:
        sign: the gravest of its outcomes; of calls that were answered in part, that they were.
        index: of the outcome that says so.
    """

    sign: Sign
    index: int


def sign_of(outcome: Outcome) -> Sign:
    """Return what one outcome says of its account."""
    if not_started(outcome) or (outcome.kind is OutcomeClass.TRANSIENT and outcome.reason in UNWRITABLE):
        return Sign.NOTHING
    if outcome.refusal is not None:
        return _sign_of_refusal(outcome, outcome.refusal)
    return _SIGNS[outcome.kind]


def _sign_of_refusal(outcome: Outcome, refusal: Refusal) -> Sign:
    """Heed who spoke: what one mailbox or domain says is about that, and a session that did not open is no answer."""
    told = hears(refusal)
    silent = refusal.stage in OPENING or (refusal.stage is Stage.API and outcome.kind is OutcomeClass.TRANSIENT)
    if told in (Hears.DESTINATION, Hears.NOBODY) and silent:
        return Sign.NO_ANSWER
    if told is not Hears.BREAKER:
        return Sign.ANSWERS
    if not breaks_at_once(refusal):
        return Sign.SUSPECT
    return Sign.USED_UP if outcome.kind is OutcomeClass.QUOTA else Sign.REFUSED


def judge(signs: Sequence[Sign]) -> Judgement:
    """Return what the outcomes of one call say of the account, together.

    Args:
        signs: of each outcome.
    """
    for wanted in (Sign.REFUSED, Sign.USED_UP, Sign.WORKS, Sign.SUSPECT, Sign.ANSWERS, Sign.NO_ANSWER):
        if wanted in signs:
            return Judgement(wanted, signs.index(wanted))
    return Judgement(Sign.NOTHING, 0)


class Unanswered:
    """Count of calls in a row that accounts did not answer. One per process; safe to use from several threads."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, account: str, seconds: float) -> bool:
        """Count a call without an answer; return whether the account is given up.

        Args:
            account: whose call.
            seconds: how long it lasted. Whoever waits for a timeout three times keeps mail waiting for minutes.
        """
        with self._lock:
            calls = self._calls.get(account, 0) + (NO_ANSWER_AFTER if seconds >= SLOW else 1)
            self._calls[account] = calls
        return calls >= NO_ANSWER_AFTER

    def forget(self, account: str) -> None:
        """Forget the calls of an account that has answered, or whose breaker is open."""
        if account in self._calls:
            with self._lock:
                self._calls.pop(account, None)

    def doubtful(self, account: str) -> bool:
        """Return whether the last call had no answer: then the next one risks a single mail."""
        return account in self._calls


@dataclass(slots=True)
class _Suspected:
    """Mails that an account has refused for its own sake, since it last accepted one.

    Attributes:
        receivers: recipient domains, each with the mail that it refused.
        senders: sender domains that were refused.
        beside: receivers that refused them; a provider's own word counts as one each time. Both hold a few at most.
    """

    receivers: dict[str, UUID] = field(default_factory=dict)
    senders: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)

    def add(self, mail: Outgoing, refusal: Refusal) -> bool:
        """Note a refused mail; return whether that is enough to suspect the account itself."""
        if refusal.scope is not Scope.SENDER:
            if mail.delivery_id not in self.receivers.values():
                self.receivers.setdefault(mail.recipient.domain, mail.delivery_id)
            return len(self.receivers) >= SUSPECT_AFTER
        own_word = refusal.stage in (*OPENING, Stage.MAIL, Stage.API)
        for kept, value in (
            (self.senders, mail.sender.domain),
            (self.beside, str(mail.delivery_id) if own_word else mail.recipient.domain),
        ):
            if len(kept) < SUSPECT_AFTER:
                kept.add(value)
        return len(self.senders) >= SUSPECT_AFTER and len(self.beside) >= SUSPECT_AFTER


class Suspicions:
    """Collection of mails that were refused for their account's sake where something else may be at fault.

    One recipient's server may have spoken, or the sender of one tenant may be the one that is not allowed. The account
    is at fault when three recipient domains have refused it, or three sender domains were refused, with none accepted
    in between. One per process; safe to use from several threads.
    """

    def __init__(self) -> None:
        self._suspected: dict[str, _Suspected] = {}
        self._lock = threading.Lock()

    def add(
        self, account: str, mails: Sequence[Outgoing], outcomes: Sequence[Outcome], signs: Sequence[Sign]
    ) -> int | None:
        """Heed the outcomes of one call, in their order.

        Args:
            account: which was called.
            mails: that it was handed.
            outcomes: of each mail.
            signs: of each outcome.

        Returns:
            The index of the mail with which enough was refused, nothing accepted in between; None while it is not.
        """
        if account not in self._suspected and Sign.SUSPECT not in signs:
            return None
        with self._lock:
            for index, (mail, outcome, sign) in enumerate(zip(mails, outcomes, signs, strict=True)):
                if sign is Sign.WORKS:
                    self._suspected.pop(account, None)
                elif self._heeds(account, mail, outcome, sign):
                    self._suspected.pop(account, None)
                    return index
        return None

    def _heeds(self, account: str, mail: Outgoing, outcome: Outcome, sign: Sign) -> bool:
        if sign is not Sign.SUSPECT or outcome.refusal is None:
            return False
        return self._suspected.setdefault(account, _Suspected()).add(mail, outcome.refusal)
