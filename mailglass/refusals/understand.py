"""Understand a refusal: from stage, codes, text and label to one value. Pure, linear in the text, remembered.

The order of evidence: the receiver's own published meaning, then the text, the provider's label, the enhanced code, the
reply code. Where they disagree about whether the recipient is at fault, the reading that does the least harm wins: a
wrong suppression costs a customer, anything else one more attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Final

from mailglass.mail.refusal import About, Certainty, Lasting, Part, Refusal, Scope, Stage
from mailglass.refusals import answers, patterns, receivers, texts
from mailglass.refusals.answer_rows import ANSWERS
from mailglass.refusals.codes import NEUTRAL, REPLIES, meaning
from mailglass.refusals.labels import Label, Weight, label_of
from mailglass.refusals.rows import OPENING

# what only the address itself can be: nobody has named one yet before RCPT
_OF_THE_RECIPIENT: Final = frozenset({About.RECIPIENT_UNKNOWN, About.RECIPIENT_DISABLED, About.MAILBOX_FULL})
_SUPPRESSING: Final = frozenset({About.RECIPIENT_UNKNOWN, About.RECIPIENT_DISABLED})
_ALWAYS_PASSING: Final = frozenset(
    {About.MAILBOX_FULL, About.RECIPIENT_RATE, About.SENDER_RATE, About.GREYLISTING}
)  # fmt: skip
_NAMES_IT: Final = frozenset({Stage.RCPT, Stage.DOT, Stage.REPORT, Stage.PROVIDER_EVENT})
_NOT_OF_CREDENTIALS: Final = frozenset({About.INFRASTRUCTURE, About.SENDER_RATE, About.SENDER_REPUTATION})
# RFC 5321 4.3.2: the reply codes that a refused recipient is told with
_REPLIES_ALONE: Final = frozenset({None, 550, 553, 554, 556})
_REPLIES_WITH_TEXT: Final = _REPLIES_ALONE | {511, 540, 541, 542, 551, 571, 585, 591}
_HEDGED: Final = ("temporar", "try again", "later", "retry")
_SCOPES: Final = {
    About.RECIPIENT_UNKNOWN: Scope.MAILBOX,
    About.RECIPIENT_DISABLED: Scope.MAILBOX,
    About.MAILBOX_FULL: Scope.MAILBOX,
    About.RECIPIENT_RATE: Scope.MAILBOX,
    About.RECIPIENT_POLICY: Scope.MAILBOX,
    About.GREYLISTING: Scope.MAILBOX,
    About.SENDER_AUTHENTICATION: Scope.SENDER,
    About.SENDER_REPUTATION: Scope.ACCOUNT,
    About.SENDER_ACCOUNT: Scope.ACCOUNT,
    About.SENDER_RATE: Scope.DESTINATION,
}
_WORST_REPLY: Final = 599
# the codes that make a difference to what words mean
_TOLD_APART: Final = frozenset().union(*(row.codes for row in patterns.ORDER))


def scope_of(code: str) -> Scope:
    """Return how far a refusal usually reaches, from its `code` as the ledger keeps it."""
    try:
        return (
            Scope.ACCOUNT
            if code.endswith(("/used_up", "/account"))
            else _SCOPES.get(About(code.partition("/")[0]), Scope.MAIL)
        )
    except ValueError:
        return Scope.MAIL


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one part says."""

    part: Part
    about: About
    lasting: Lasting | None = None
    scope: Scope | None = None
    used_up: bool = False
    doubtful: bool = False
    proves: bool = True


def understand(
    stage: Stage,
    reply: int | None = None,
    enhanced: str | None = None,
    text: str = "",
    *,
    label: tuple[str, str] | None = None,
    recipients: int = 1,
    named: bool = True,
    host: str = "",
    domain: str = "",
    deferred: bool | None = None,
) -> Refusal:
    """Return the meaning of one refusal.

    Args:
        stage: where it was heard.
        reply: the SMTP reply code, 400 to 599, or at `Stage.API` the HTTP status; None where there was none.
        enhanced: the enhanced status code (RFC 3463); None: the first one in the text counts.
        text: all lines of the reply or the diagnosis; its first thousand characters are looked at.
        label: a provider's name and its own label, such as `("ses", "Permanent/NoEmail")`; at `Stage.API` its name and
            its own code, such as `("postmark", "406")`.
        recipients: how many recipients the refusal may be about.
        named: whether it names the recipient that the mail was for, as far as it names any.
        host: the name of the server that refused, where it is known.
        domain: the domain of the recipient's address.
        deferred: whether whoever said it tries again; None: a reply below 500 says so.
    """
    if stage is Stage.API:
        provider, own_code = label or ("", "")
        return answers.find(ANSWERS.get(provider, ()), reply or 0, own_code, text).refusal
    code = reply if reply is not None and 400 <= reply <= _WORST_REPLY else None
    words = texts.comparable(text)
    status = (enhanced and texts.enhanced_in(enhanced)) or texts.enhanced_in(text)
    certain = named and recipients == 1
    return _understand(stage, code, status, words, label, certain, receivers.family(words, host, domain), deferred)


@lru_cache(maxsize=1024)
def _understand(
    stage: Stage,
    reply: int | None,
    status: str | None,
    words: str,
    label: tuple[str, str] | None,
    certain: bool,
    receiver: str | None,
    deferred: bool | None,
) -> Refusal:
    level, _, detail = (status or "").partition(".")
    labelled = None if label is None else label_of(*label)
    published = _published(receiver, stage, reply, detail or None, words)
    text = _text(words, stage, detail if detail in _TOLD_APART else None) if words else None
    by_label = None if labelled is None else _Reading(Part.LABEL, labelled.about, labelled.lasting)
    if labelled is not None and labelled.mirrors and not words and not detail and reply is None:
        by_label = _Reading(Part.LABEL, About.RECIPIENT_UNKNOWN, Lasting.PERMANENT)
    by_code = _coded(level, detail, reply)
    by_reply = _replied(reply)
    if published is not None:
        chosen: _Reading = published
        spoke: tuple[_Reading, ...] = (published,)
    else:
        chosen, spoke = _weighed(stage, detail, reply, text, by_label, by_code, by_reply)
    about, scope = chosen.about, chosen.scope
    if stage is Stage.AUTH and about not in _NOT_OF_CREDENTIALS:
        about, scope, chosen = About.SENDER_ACCOUNT, Scope.ACCOUNT, replace(chosen, lasting=None, scope=None)
    unnamed = stage in OPENING or stage is Stage.MAIL
    if unnamed and about in _OF_THE_RECIPIENT and not (stage is Stage.CONNECT and chosen.doubtful):
        about, scope, chosen = About.UNKNOWN, None, _Reading(Part.STAGE, About.UNKNOWN)
        spoke = (chosen,)
    again = deferred if deferred is not None else (level == "4" if reply is None else reply < 500)
    hedged = published is None and any(word in words for word in _HEDGED)
    passing = again or (level == "4" if reply is None else reply < 500)
    lasting = _lasting(chosen, about, reply, level, hedged, passing, labelled, stage)
    return Refusal(
        about=about,
        lasting=lasting,
        scope=_scope(scope, about, stage, lasting, again),
        stage=stage,
        spoke=tuple(reading.part for reading in spoke),
        deferred=again,
        used_up=chosen.used_up,
        certainty=_certainty(chosen, about, stage, reply, level, words, text, labelled, certain and not hedged),
        receiver=receiver,
    )


@cache
def _known(receiver: str | None) -> tuple[receivers.Published, ...]:
    return tuple(item for item in receivers.PUBLISHED if item.receiver in (receiver, receivers.GENERAL))


def _published(
    receiver: str | None, stage: Stage, reply: int | None, detail: str | None, words: str
) -> _Reading | None:
    for item in _known(receiver):
        if item.reply and reply not in item.reply and not (reply is None and item.receiver == receiver):
            continue
        row = item.row
        if row.speaks(words, stage, detail):
            return _Reading(Part.RECEIVER, row.about, row.lasting, row.scope, row.used_up, row.doubtful, row.proves)
    return None


@lru_cache(maxsize=1024)
def _text(words: str, stage: Stage, detail: str | None) -> _Reading | None:
    """Return what the words say; where some speak of the recipient and others of something else, the latter."""
    first: _Reading | None = None
    for row in patterns.ORDER:
        if first is not None and row.about in _SUPPRESSING:
            continue
        if row.speaks(words, stage, detail):
            reading = _Reading(Part.TEXT, row.about, row.lasting, row.scope, row.used_up, row.doubtful, row.proves)
            if row.about not in _SUPPRESSING:
                return reading
            first = first or reading
    return first


def _coded(level: str, detail: str, reply: int | None) -> _Reading | None:
    code = meaning(level, detail) if detail else None
    if code is None or (code.about in _SUPPRESSING and reply is not None and str(reply)[0] != level):
        return None
    return _Reading(Part.ENHANCED, code.about, code.lasting, code.scope, code.used_up, code.doubtful, code.proves)


def _replied(reply: int | None) -> _Reading | None:
    code = REPLIES.get(reply or 0)
    return None if code is None else _Reading(Part.REPLY, code.about, code.lasting, code.scope, proves=code.proves)


def _weighed(
    stage: Stage,
    detail: str,
    reply: int | None,
    text: _Reading | None,
    label: _Reading | None,
    code: _Reading | None,
    by_reply: _Reading | None,
) -> tuple[_Reading, tuple[_Reading, ...]]:
    """Return the reading that counts, and all that agree with it, the strongest first."""
    readings = [reading for reading in (text, label, code, by_reply) if reading is not None]
    telling = [reading for reading in readings if reading.about is not About.UNKNOWN]
    if not telling:
        chosen = readings[0] if readings else _Reading(Part.REPLY, About.UNKNOWN)
        return chosen, tuple(readings) if readings else (() if reply is None else (chosen,))
    chosen = telling[0]
    if chosen.about in _SUPPRESSING:
        # whatever speaks of something else says that the recipient may be well
        others = [reading for reading in telling if not _agrees(reading, stage, detail)]
        chosen = others[0] if others else _doubted(chosen, telling)
    spoke = [
        chosen,
        *(reading for reading in telling if reading.part is not chosen.part and reading.about is chosen.about),
    ]
    return _completed(chosen, spoke), tuple(spoke)


def _completed(chosen: _Reading, spoke: list[_Reading]) -> _Reading:
    """Return the reading with what it leaves open from those that agree."""
    lastings = [reading.lasting for reading in spoke if reading.lasting is not None]
    return replace(
        chosen,
        # a doubt of one of them is a doubt
        lasting=Lasting.UNKNOWN if Lasting.UNKNOWN in lastings else next(iter(lastings), None),
        scope=next((reading.scope for reading in spoke if reading.scope is not None), None),
        used_up=any(reading.used_up for reading in spoke),
        doubtful=any(reading.doubtful for reading in spoke),
    )


def _agrees(reading: _Reading, stage: Stage, detail: str) -> bool:
    """Return whether a reading leaves it possible that the recipient is unknown or disabled."""
    if reading.about in _SUPPRESSING:
        return True
    return reading.part is Part.ENHANCED and detail in NEUTRAL


def _doubted(chosen: _Reading, telling: list[_Reading]) -> _Reading:
    """Return the reading with the most doubt that others of the same kind cast on it."""
    if chosen.part is Part.TEXT:
        # the reply code is the weakest word
        telling = [reading for reading in telling if reading.part is not Part.REPLY]
    if all(reading.proves for reading in telling):
        return chosen
    return _Reading(chosen.part, chosen.about, Lasting.UNKNOWN, proves=False)


def _lasting(
    chosen: _Reading,
    about: About,
    reply: int | None,
    level: str,
    hedged: bool,
    again: bool,
    label: Label | None,
    stage: Stage,
) -> Lasting:
    if again and chosen.lasting is not Lasting.UNKNOWN:
        mixed = reply is not None and level == "5" and chosen.part is not Part.LABEL
        return Lasting.UNKNOWN if mixed and about not in _ALWAYS_PASSING else Lasting.TEMPORARY
    if again:
        return Lasting.TEMPORARY
    if chosen.lasting is not None and not (chosen.part is Part.LABEL and about is About.UNKNOWN):
        return chosen.lasting
    spared = label is not None and (
        label.weight is Weight.FORBIDS
        or (label.weight is Weight.DISABLED and about is About.RECIPIENT_UNKNOWN)
    )  # fmt: skip
    if spared and label is not None and label.lasting is Lasting.TEMPORARY and about in _SUPPRESSING:
        return Lasting.TEMPORARY
    if about in _ALWAYS_PASSING:
        return Lasting.TEMPORARY
    if about is About.UNKNOWN:
        return Lasting.TEMPORARY if label is not None and label.lasting is Lasting.TEMPORARY else Lasting.UNKNOWN
    if (reply is not None and level == "4") or (reply is None and level == "4"):
        return Lasting.UNKNOWN if reply is not None else Lasting.TEMPORARY
    if about is About.INFRASTRUCTURE and stage in (Stage.CONNECT, Stage.TLS) and reply is None:
        return Lasting.TEMPORARY
    if about in (About.SENDER_REPUTATION, About.INFRASTRUCTURE) and chosen.scope is not Scope.MAIL:
        return Lasting.UNKNOWN
    return Lasting.UNKNOWN if hedged else Lasting.PERMANENT


def _scope(scope: Scope | None, about: About, stage: Stage, lasting: Lasting, again: bool) -> Scope:
    if stage is Stage.AUTH:
        return Scope.ACCOUNT
    ours = about not in _OF_THE_RECIPIENT and about is not About.GREYLISTING
    if stage in OPENING and ours and scope in (None, Scope.MAIL, Scope.MAILBOX):
        return Scope.DESTINATION if again or lasting is Lasting.TEMPORARY else Scope.ACCOUNT
    if scope is not None:
        return scope
    if about is About.SENDER_REPUTATION and again:
        return Scope.DESTINATION
    if about is About.PROTOCOL and stage is Stage.MAIL:
        return Scope.ACCOUNT
    return _SCOPES.get(about, Scope.MAIL)


def _certainty(
    chosen: _Reading,
    about: About,
    stage: Stage,
    reply: int | None,
    level: str,
    words: str,
    text: _Reading | None,
    label: Label | None,
    certain: bool,
) -> Certainty:
    heard = stage in _NAMES_IT or (stage is Stage.CONNECT and chosen.doubtful)
    if about not in _OF_THE_RECIPIENT or not heard or not certain or not chosen.proves:
        return Certainty.NONE
    if label is not None and label.weight is Weight.FORBIDS:
        return Certainty.NONE
    said_disabled = about is About.RECIPIENT_DISABLED and chosen.part in (Part.TEXT, Part.RECEIVER)
    if label is not None and label.weight is Weight.DISABLED and not said_disabled:
        return Certainty.NONE
    if chosen.part is not Part.RECEIVER:
        if reply is not None and level and str(reply)[0] != level:
            return Certainty.NONE
        proven = text is not None and text.about in _SUPPRESSING
        if reply not in (_REPLIES_WITH_TEXT if proven else _REPLIES_ALONE):
            return Certainty.NONE
    if chosen.doubtful or (label is not None and label.weight is Weight.DOUBTS):
        return Certainty.DOUBTFUL
    if _is_unclear(chosen, text, words, stage):
        return Certainty.DOUBTFUL
    return Certainty.CERTAIN


def _is_unclear(chosen: _Reading, text: _Reading | None, words: str, stage: Stage) -> bool:
    """Return whether words may contradict what condemns the recipient.

    Receivers put 5.1.1 beside any reason, in any language. What nobody here can read may be one of them.
    """
    if chosen.part is Part.RECEIVER:
        return False
    return (text is None and texts.is_foreign(words)) or patterns.DOUBTS.speaks(words, stage, None)
