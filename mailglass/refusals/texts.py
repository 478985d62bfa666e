"""Reply texts made comparable: bounded, lower case, on one line, without addresses and without codes."""

from __future__ import annotations

import re
from typing import Final

MAX_TEXT: Final = 1000
"""Characters that are looked at. Longer replies say what they mean in the beginning."""

_END: Final = r"\s<>()\[\],;:\"="
# each begins where a run begins, so that a run is looked at once
_ADDRESS = re.compile(rf"(?<![^{_END}])[^{_END}@]*@[^{_END}]*")
_CODE = re.compile(r"(?<![\w.])[245]\d\d(?:[- ]#?[245]\.\d{1,3}\.\d{1,3})?(?![\w.])-?")
# at the head of a line, behind a reply code, or marked as one: `(#5.1.1)`
_ENHANCED = re.compile(
    r"(?:^\s{0,3}#?|[;(\[]\s?#?|#|(?<![\w.])[245]\d\d[- ]#?)([245])\.(\d{1,3})\.(\d{1,3})(?!\w|\.\d)", re.MULTILINE
)
_REPLY = re.compile(r"(?<![\w.])([2-5]\d\d)(?=[- ]|\Z)")
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W_]+")
# what refusals are wrapped in, whatever they mean
_WRAPPING: Final = frozenset(
    "a action address an and at be bounce bounced by code command could couldn delivered delivery domain dsn e"
    " email error esmtp failed failure fatal following for from gave giving had hard has have host http https in"
    " invalid is it mail mailbox mailer message mx no not of on one or org permanent permanently protocol provider"
    " rcpt recipient recipients refused rejected rejecting remote reply requested response returned s said see"
    " server smtp sorry status t taken that the this to unavailable undeliverable undelivered up user was were with"
    " x".split()
)
# words that most English sentences hold and few of other languages
_ENGLISH: Final = frozenset(
    "about been but does doesn don has have here if not our such that the there these they this to unknown we who you"
    " your".split()
)
_QUOTES: Final = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})


def bounded(text: str) -> str:
    """Return the part of a text that is looked at."""
    return text[:MAX_TEXT]


def comparable(text: str) -> str:
    """Return a reply's words as the patterns expect them. Takes linear time.

    Args:
        text: all lines of a reply or a diagnosis; its beginning counts.
    """
    words = bounded(text).lower()[:MAX_TEXT].translate(_QUOTES)
    if "@" in words:
        words = _ADDRESS.sub(" ", words)
    return _SPACE.sub(" ", _CODE.sub(" ", words)).strip()


def is_foreign(words: str) -> bool:
    """Return whether comparable text says more than that something was refused, and not in English."""
    said = [word for word in _WORD.findall(words) if not any(sign.isdigit() for sign in word)]
    if all(word in _WRAPPING for word in said):
        return False
    return not words.isascii() or _ENGLISH.isdisjoint(said)


def enhanced_in(text: str) -> str | None:
    """Return the first enhanced status code (RFC 3463) at the head of a line, behind a reply code, or marked by `#`."""
    match = _ENHANCED.search(bounded(text))
    return f"{match[1]}.{int(match[2])}.{int(match[3])}" if match else None


def reply_in(text: str) -> int | None:
    """Return the first SMTP reply code in a text."""
    match = _REPLY.search(bounded(text))
    return int(match[1]) if match else None
