"""Consequences of a refusal, in one table each. Everything that acts on refusals asks here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from mailglass.mail.events import BounceClass
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.refusal import About, Certainty, Lasting, Part, Refusal, Scope, Stage
from mailglass.refusals.rows import OPENING

_A = About
_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN

# -- the outcome of an attempt ------------------------------------------------------------------------------------

FOR_GOOD: Final[Mapping[About, OutcomeClass]] = MappingProxyType(
    {
        _A.RECIPIENT_UNKNOWN: OutcomeClass.REJECTED,
        _A.RECIPIENT_DISABLED: OutcomeClass.REJECTED,
        _A.MAILBOX_FULL: OutcomeClass.REJECTED,
        _A.RECIPIENT_RATE: OutcomeClass.REJECTED,
        _A.RECIPIENT_POLICY: OutcomeClass.REJECTED,
        _A.SENDER_AUTHENTICATION: OutcomeClass.MISCONFIGURED,
        _A.SENDER_REPUTATION: OutcomeClass.MISCONFIGURED,
        _A.SENDER_ACCOUNT: OutcomeClass.MISCONFIGURED,
        _A.SENDER_RATE: OutcomeClass.THROTTLED,
        _A.CONTENT: OutcomeClass.REJECTED,
        _A.SIZE: OutcomeClass.REJECTED,
        _A.PROTOCOL: OutcomeClass.REJECTED,
        _A.INFRASTRUCTURE: OutcomeClass.REJECTED,
        _A.GREYLISTING: OutcomeClass.REJECTED,
        _A.UNKNOWN: OutcomeClass.REJECTED,
    }
)
"""The class of an attempt whose refusal does not pass by itself."""

FOR_NOW: Final[Mapping[About, OutcomeClass]] = MappingProxyType(
    dict.fromkeys(About, OutcomeClass.TRANSIENT) | {_A.SENDER_RATE: OutcomeClass.THROTTLED}
)
"""The class of an attempt whose refusal passes by itself, or that the receiver asks to make again."""


_OF_ONE: Final = frozenset({_A.RECIPIENT_UNKNOWN, _A.RECIPIENT_DISABLED, _A.RECIPIENT_POLICY})


def outcome_class(refusal: Refusal) -> OutcomeClass:
    """Return what an attempt came to that met this refusal. Nothing was sent, unless the refusal is `unsettled`."""
    if refusal.unsettled:
        return OutcomeClass.UNCERTAIN
    if refusal.listed:
        return OutcomeClass.SUPPRESSED
    if refusal.about is _A.SENDER_RATE and refusal.used_up:
        return OutcomeClass.QUOTA
    if refusal.about is _A.SENDER_RATE and refusal.scope is Scope.SESSION:
        return OutcomeClass.TRANSIENT
    if refusal.deferred or refusal.lasting is _T:
        return FOR_NOW[refusal.about]
    if refusal.scope in (Scope.ACCOUNT, Scope.SENDER, Scope.SESSION) or (
        refusal.stage in OPENING and refusal.about not in _OF_ONE
    ):
        # another account may carry it, whatever it is that this one lacks
        return OutcomeClass.MISCONFIGURED
    return FOR_GOOD[refusal.about]


# -- the suppression list -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SuppressionRule:
    """An entry that follows from a refusal.

    Attributes:
        reason: as the suppression list keeps it.
        at: made at this occurrence, 1 or 2; the second one counts a day or more after the first.
        days: after which it ends by itself; None for never.
    """

    reason: str
    at: int
    days: int | None


FIRST: Final = SuppressionRule("hard_bounce", 1, None)
SECOND: Final = SuppressionRule("hard_bounce", 2, 30)
LISTED: Final = SuppressionRule("provider", 1, None)
LISTED_FOR_NOW: Final = SuppressionRule("provider", 1, 1)

SUPPRESSIONS: Final[Mapping[tuple[About, Lasting], SuppressionRule]] = MappingProxyType(
    {
        (_A.RECIPIENT_UNKNOWN, _P): FIRST,
        (_A.RECIPIENT_DISABLED, _P): FIRST,
        # a whole domain may show it while it moves; an account that was barred may be opened again
        (_A.RECIPIENT_UNKNOWN, _U): SECOND,
        (_A.RECIPIENT_DISABLED, _U): SECOND,
        # full, and nobody has looked at it for long
        (_A.MAILBOX_FULL, _P): SECOND,
    }
)
"""Anything else suppresses nobody."""


def suppression(refusal: Refusal) -> SuppressionRule | None:
    """Return the entry that follows from a refusal; None for most: only what is about the recipient suppresses."""
    if refusal.certainty is Certainty.NONE or refusal.deferred:
        return None
    if refusal.listed and refusal.lasting is _T:
        # the provider does not tell when its entry ends
        return LISTED_FOR_NOW
    if refusal.listed and (refusal.about, refusal.lasting) not in SUPPRESSIONS:
        return LISTED
    rule = SUPPRESSIONS.get((refusal.about, refusal.lasting))
    return SECOND if rule is FIRST and refusal.certainty is Certainty.DOUBTFUL else rule


# -- the bounce class of an event -----------------------------------------------------------------------------------

BOUNCE_CLASSES: Final[Mapping[Lasting, Mapping[About, BounceClass]]] = MappingProxyType(
    {
        # hard is what suppresses at once, below
        _P: MappingProxyType(
            dict.fromkeys(About, BounceClass.SOFT)
            | dict.fromkeys((_A.RECIPIENT_UNKNOWN, _A.RECIPIENT_DISABLED, _A.UNKNOWN), BounceClass.UNDETERMINED)
        ),
        _T: MappingProxyType(dict.fromkeys(About, BounceClass.SOFT)),
        _U: MappingProxyType(
            dict.fromkeys(About, BounceClass.SOFT)
            | dict.fromkeys((_A.RECIPIENT_UNKNOWN, _A.RECIPIENT_DISABLED, _A.UNKNOWN), BounceClass.UNDETERMINED)
        ),
    }
)


# RFC 3463: the mailbox, the other system, the way there, policy; 5.1 may mean the sender's address
_SOFT_SUBJECTS: Final = ("5.2.", "5.3.", "5.4.", "5.7.")
_VAGUE_SUBJECTS: Final = ("5.1.", "5.5.", "5.6.")


def bounce_class(refusal: Refusal, enhanced: str | None = None) -> BounceClass:
    """Return how lasting a bounce is for its recipient. `hard` is exactly what suppresses at its first occurrence.

    Args:
        refusal: the meaning of the bounce.
        enhanced: its enhanced status, which tells the kind of what nobody explained.
    """
    if suppression(refusal) is FIRST:
        return BounceClass.HARD
    if refusal.about is _A.UNKNOWN and (enhanced or "").startswith(_SOFT_SUBJECTS):
        return BounceClass.SOFT
    passing = refusal.lasting is Lasting.TEMPORARY
    if not passing and refusal.spoke == (Part.ENHANCED,) and (enhanced or "").startswith(_VAGUE_SUBJECTS):
        return BounceClass.UNDETERMINED
    return BOUNCE_CLASSES[refusal.lasting][refusal.about]


# -- who hears of it -------------------------------------------------------------------------------------------------


class Hears(Enum):
    """Whoever keeps an account within its means."""

    BREAKER = "breaker"  # the account's health: another account may carry on
    LIMITER = "limiter"  # the account's rate
    CONCURRENCY = "concurrency"  # the account's connections at a time
    DESTINATION = "destination"  # the pace of this account towards the recipient's domain
    NOBODY = "nobody"  # it is about this mail or this mailbox alone


_HEARS: Final[Mapping[Scope, Mapping[About, Hears]]] = MappingProxyType(
    {
        Scope.MAIL: MappingProxyType({}),
        Scope.MAILBOX: MappingProxyType({}),
        Scope.SESSION: MappingProxyType({}),
        Scope.CONNECTIONS: MappingProxyType(dict.fromkeys(About, Hears.CONCURRENCY)),
        Scope.DESTINATION: MappingProxyType(dict.fromkeys(About, Hears.DESTINATION)),
        Scope.SENDER: MappingProxyType(dict.fromkeys(About, Hears.BREAKER)),
        Scope.ACCOUNT: MappingProxyType(dict.fromkeys(About, Hears.BREAKER) | {_A.SENDER_RATE: Hears.LIMITER}),
    }
)


def hears(refusal: Refusal) -> Hears:
    """Return who is told of a refusal. What one mailbox says is about that mailbox: nobody slows down for it."""
    if refusal.used_up:
        return Hears.BREAKER
    return _HEARS[refusal.scope].get(refusal.about, Hears.NOBODY)


def breaks_at_once(refusal: Refusal) -> bool:
    """Return whether one refusal proves that the account cannot send.

    At RCPT, DATA and the dot one recipient's server may speak: there it takes three mails to three recipient domains
    with none accepted in between. What is said of a sender address or its domain proves nothing about the account's
    other senders: there it takes three sender domains.
    """
    if refusal.scope is Scope.SENDER:
        return False
    return hears(refusal) is Hears.BREAKER and refusal.stage in (*OPENING, Stage.MAIL, Stage.API)


# -- trying again ------------------------------------------------------------------------------------------------------


class Retry(Enum):
    """Next step of a mail after a refusal that does not end it."""

    NEVER = "never"
    AT_ONCE = "at_once"  # on another connection
    BACKOFF = "backoff"  # seconds to an hour: nobody has looked at the mail yet
    AFTER_GREYLISTING = "after_greylisting"  # just after the usual five minutes, from the same account
    LATER = "later"  # on a mail server's timescale: minutes to hours
    OTHER_ACCOUNT = "other_account"  # at once by another account; else as under an open breaker


def retry(refusal: Refusal) -> Retry:
    """Return how a mail is tried again that met this refusal."""
    kind = outcome_class(refusal)
    if kind is OutcomeClass.REJECTED:
        return Retry.NEVER
    if kind in (OutcomeClass.MISCONFIGURED, OutcomeClass.QUOTA):
        return Retry.OTHER_ACCOUNT
    if refusal.about is _A.GREYLISTING:
        return Retry.AFTER_GREYLISTING
    if refusal.scope is Scope.SESSION:
        return Retry.AT_ONCE
    if refusal.stage in OPENING:
        return Retry.BACKOFF
    near = refusal.stage is Stage.MAIL or refusal.about in (_A.INFRASTRUCTURE, _A.PROTOCOL)
    return Retry.BACKOFF if near and refusal.scope is not Scope.DESTINATION else Retry.LATER


# -- in words ----------------------------------------------------------------------------------------------------------

WORDS: Final[Mapping[About, str]] = MappingProxyType(
    {
        _A.RECIPIENT_UNKNOWN: "no such mailbox or domain",
        _A.RECIPIENT_DISABLED: "the mailbox exists or existed and takes no mail",
        _A.MAILBOX_FULL: "the mailbox is full",
        _A.RECIPIENT_RATE: "the mailbox gets too much mail just now",
        _A.RECIPIENT_POLICY: "the recipient or their organisation wants no mail from this sender",
        _A.SENDER_AUTHENTICATION: "the sender's domain does not authenticate (SPF, DKIM, DMARC or reverse DNS)",
        _A.SENDER_REPUTATION: "the sending IP address or domain is blocked or has a poor reputation",
        _A.SENDER_ACCOUNT: "the account may not send this: credentials, sender address or standing",
        _A.SENDER_RATE: "the account sends too much or too fast",
        _A.CONTENT: "the content was refused",
        _A.SIZE: "the message is too large",
        _A.PROTOCOL: "the receiver refused how the mail was handed over",
        _A.INFRASTRUCTURE: "trouble at the receiver or on the way there",
        _A.GREYLISTING: "greylisted: the receiver takes the mail when it comes again in a while",
        _A.UNKNOWN: "the receiver did not say why",
    }
)

_LISTED_WORDS: Final = "the recipient stands on the provider's own suppression list"
_LASTING_WORDS: Final[Mapping[Lasting, str]] = MappingProxyType({_P: "for good", _T: "for now", _U: "perhaps for good"})


def in_words(code: str) -> str:
    """Return what a receiver meant, as a sentence for people.

    Args:
        code: a refusal's `code`, as the ledger's events keep it.
    """
    about, lasting, receiver, mark, *_ = [*code.split("/"), "", "", ""]
    try:
        words = _LISTED_WORDS if mark == "listed" else WORDS[About(about)]
        sentence = f"{words} ({_LASTING_WORDS[Lasting(lasting)]})"
    except ValueError:
        return ""
    return f"{receiver}: {sentence}" if receiver else sentence
