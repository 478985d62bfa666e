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
_ALWAYS_PASSING: Final = frozenset({About.MAILBOX_FULL, About.RECIPIENT_RATE, About.SENDER_RATE, About.GREYLISTING})
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
    """Reading of one part."""

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


@dataclass(frozen=True, slots=True)
class _Heard:
    """The parts of a refusal, told apart.

    Attributes:
        level: the enhanced code's class, `4` or `5`; "" for none.
        detail: its subject and detail, such as `1.1`; "" for none.
        words: the text, comparable.
        label: the provider's label.
        again: whoever said it tries again, as far as that is known.
    """

    stage: Stage
    reply: int | None
    level: str
    detail: str
    words: str
    label: Label | None
    again: bool

    @property
    def passing(self) -> bool:
        """True if it passes by itself, by who said it or by its first digit."""
        return self.again or self._is_temporary(self.level, self.reply)

    @property
    def hedged(self) -> bool:
        """True if the words leave open that it passes."""
        return any(word in self.words for word in _HEDGED)

    @staticmethod
    def _is_temporary(level: str, reply: int | None) -> bool:
        return level == "4" if reply is None else reply < 500

    @classmethod
    def of(
        cls,
        stage: Stage,
        reply: int | None,
        status: str | None,
        words: str,
        label: tuple[str, str] | None,
        deferred: bool | None,
    ) -> _Heard:
        """Return the parts of a refusal; `deferred` as `understand` has it."""
        level, _, detail = (status or "").partition(".")
        again = cls._is_temporary(level, reply) if deferred is None else deferred
        return cls(stage, reply, level, detail, words, None if label is None else label_of(*label), again)


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
    heard = _Heard.of(stage, reply, status, words, label, deferred)
    text = _text(words, stage, heard.detail if heard.detail in _TOLD_APART else None) if words else None
    published = _published(receiver, stage, reply, heard.detail or None, words)
    chosen, spoke = _weighed(heard, text) if published is None else (published, (published,))
    chosen, spoke = _at_stage(stage, chosen, spoke)
    hedged = published is None and heard.hedged
    lasting = _lasting(heard, chosen, hedged)
    return Refusal(
        about=chosen.about,
        lasting=lasting,
        scope=_scope(chosen.scope, chosen.about, stage, lasting, heard.again),
        stage=stage,
        spoke=tuple(reading.part for reading in spoke),
        deferred=heard.again,
        used_up=chosen.used_up,
        certainty=_certainty(heard, chosen, text) if certain and not hedged else Certainty.NONE,
        receiver=receiver,
    )


def _at_stage(stage: Stage, chosen: _Reading, spoke: tuple[_Reading, ...]) -> tuple[_Reading, tuple[_Reading, ...]]:
    """Return the reading as the stage allows it: nobody has named a recipient before RCPT."""
    if stage is Stage.AUTH and chosen.about not in _NOT_OF_CREDENTIALS:
        return replace(chosen, about=About.SENDER_ACCOUNT, lasting=None, scope=None), spoke
    unnamed = stage in OPENING or stage is Stage.MAIL
    if unnamed and chosen.about in _OF_THE_RECIPIENT and not (stage is Stage.CONNECT and chosen.doubtful):
        chosen = _Reading(Part.STAGE, About.UNKNOWN)
        return chosen, (chosen,)
    return chosen, spoke


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


def _weighed(heard: _Heard, text: _Reading | None) -> tuple[_Reading, tuple[_Reading, ...]]:
    """Return the reading that counts, and all that agree with it, the strongest first."""
    by_code = _coded(heard.level, heard.detail, heard.reply)
    candidates = (text, _labelled(heard), by_code, _replied(heard.reply))
    readings = [reading for reading in candidates if reading is not None]
    telling = [reading for reading in readings if reading.about is not About.UNKNOWN]
    if not telling:
        chosen = readings[0] if readings else _Reading(Part.REPLY, About.UNKNOWN)
        return chosen, tuple(readings) if readings else (() if heard.reply is None else (chosen,))
    chosen = telling[0]
    if chosen.about in _SUPPRESSING:
        # whatever speaks of something else says that the recipient may be well
        others = [reading for reading in telling if not _agrees(reading, heard.detail)]
        chosen = others[0] if others else _doubted(chosen, telling)
    spoke = [
        chosen,
        *(reading for reading in telling if reading.part is not chosen.part and reading.about is chosen.about),
    ]
    return _completed(chosen, spoke), tuple(spoke)


def _labelled(heard: _Heard) -> _Reading | None:
    """Return what the provider's label says; one that stands alone and mirrors its own list says that much."""
    label = heard.label
    if label is None:
        return None
    alone = not heard.words and not heard.detail and heard.reply is None
    if label.mirrors and alone:
        return _Reading(Part.LABEL, About.RECIPIENT_UNKNOWN, Lasting.PERMANENT)
    return _Reading(Part.LABEL, label.about, label.lasting)


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


def _agrees(reading: _Reading, detail: str) -> bool:
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


def _lasting(heard: _Heard, chosen: _Reading, hedged: bool) -> Lasting:
    if heard.passing:
        mixed = heard.reply is not None and heard.level == "5" and chosen.part is not Part.LABEL
        open_ = mixed and chosen.lasting is not Lasting.UNKNOWN and chosen.about not in _ALWAYS_PASSING
        return Lasting.UNKNOWN if open_ else Lasting.TEMPORARY
    if chosen.lasting is not None and not (chosen.part is Part.LABEL and chosen.about is About.UNKNOWN):
        return chosen.lasting
    if _spared(heard.label, chosen.about) or chosen.about in _ALWAYS_PASSING:
        return Lasting.TEMPORARY
    if chosen.about is About.UNKNOWN:
        passes = heard.label is not None and heard.label.lasting is Lasting.TEMPORARY
        return Lasting.TEMPORARY if passes else Lasting.UNKNOWN
    return _lasting_by_code(heard, chosen, hedged)


def _spared(label: Label | None, about: About) -> bool:
    """Return whether a provider that goes on mailing the recipient says that what condemns them passes."""
    if label is None or label.lasting is not Lasting.TEMPORARY or about not in _SUPPRESSING:
        return False
    doubted = label.weight is Weight.DISABLED and about is About.RECIPIENT_UNKNOWN
    return label.weight is Weight.FORBIDS or doubted


def _lasting_by_code(heard: _Heard, chosen: _Reading, hedged: bool) -> Lasting:
    if heard.level == "4":
        return Lasting.UNKNOWN if heard.reply is not None else Lasting.TEMPORARY
    unreached = heard.stage in (Stage.CONNECT, Stage.TLS) and heard.reply is None
    if chosen.about is About.INFRASTRUCTURE and unreached:
        return Lasting.TEMPORARY
    if chosen.about in (About.SENDER_REPUTATION, About.INFRASTRUCTURE) and chosen.scope is not Scope.MAIL:
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


def _certainty(heard: _Heard, chosen: _Reading, text: _Reading | None) -> Certainty:
    """Return how surely a refusal that names one recipient is about them."""
    named = heard.stage in _NAMES_IT or (heard.stage is Stage.CONNECT and chosen.doubtful)
    if chosen.about not in _OF_THE_RECIPIENT or not named or not chosen.proves:
        return Certainty.NONE
    if _denied(heard.label, chosen) or not (chosen.part is Part.RECEIVER or _codes_allow(heard, text)):
        return Certainty.NONE
    label_doubts = heard.label is not None and heard.label.weight is Weight.DOUBTS
    if chosen.doubtful or label_doubts or _is_unclear(chosen, text, heard.words, heard.stage):
        return Certainty.DOUBTFUL
    return Certainty.CERTAIN


def _denied(label: Label | None, chosen: _Reading) -> bool:
    """Return whether a provider goes on mailing the recipient, whatever its label's text seems to say."""
    if label is None:
        return False
    said_disabled = chosen.about is About.RECIPIENT_DISABLED and chosen.part in (Part.TEXT, Part.RECEIVER)
    return label.weight is Weight.FORBIDS or (label.weight is Weight.DISABLED and not said_disabled)


def _codes_allow(heard: _Heard, text: _Reading | None) -> bool:
    """Return whether the reply code is one that a refused recipient is told with, and its class the other code's."""
    if heard.reply is not None and heard.level and str(heard.reply)[0] != heard.level:
        return False
    proven = text is not None and text.about in _SUPPRESSING
    return heard.reply in (_REPLIES_WITH_TEXT if proven else _REPLIES_ALONE)


def _is_unclear(chosen: _Reading, text: _Reading | None, words: str, stage: Stage) -> bool:
    """Return whether words may contradict what condemns the recipient.

    Receivers put 5.1.1 beside any reason, in any language. What nobody here can read may be one of them.
    """
    if chosen.part is Part.RECEIVER:
        return False
    return (text is None and texts.is_foreign(words)) or patterns.DOUBTS.speaks(words, stage, None)
