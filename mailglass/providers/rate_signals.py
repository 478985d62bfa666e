"""Rate limits in the header fields of answers, read by a table and kept until asked for.

A room declares the names its provider uses; the forms of the IETF's draft (draft-ietf-httpapi-ratelimit-headers: one
field `RateLimit`, or as in its early versions `RateLimit-Remaining` and `RateLimit-Reset`) are understood of everyone.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mailglass import clock
from mailglass.providers.base import RateSignal

ResetUnit = Literal["seconds", "epoch", "any"]

_LONGEST_RESET: Final = 86_400.0
_LONGEST_FIELD: Final = 1000
_MANY: Final = 1e15
# numbers from here on are moments and no durations, and from there on in milliseconds
_EPOCH: Final = 1e9
_EPOCH_MS: Final = 1e11
# `"default";r=50;t=30`, and before that `limit=100, remaining=50, reset=30`
_ITEM = re.compile(r"\br=(\d{1,15})\b.*?;\s*t=(\d{1,9})\b|;\s*t=(\d{1,9})\b.*?;\s*r=(\d{1,15})\b")
_PAIR = re.compile(r"\b(remaining|reset)=(\d{1,15})\b")


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """Header fields of a provider's answers.

    Attributes:
        remaining: the field, in lower case, that says how many requests it still takes.
        reset: the field that says when it counts anew.
        reset_unit: `seconds` from now, `epoch` for Unix time in seconds; `any` where nobody says: small numbers are
            seconds, large ones Unix time in seconds or milliseconds.
    """

    remaining: str
    reset: str
    reset_unit: ResetUnit = "seconds"


_EARLY_DRAFT: Final = RateHeaders("ratelimit-remaining", "ratelimit-reset")


def read_signal(headers: Mapping[str, str], own: RateHeaders | None = None) -> RateSignal | None:
    """Return the rate limit that an answer names, in requests, or None if it names none that can be read.

    Args:
        headers: of the answer, names in lower case.
        own: the provider's own fields, which go before the common ones.
    """
    for fields in (own, _EARLY_DRAFT):
        if fields is not None and (remaining := headers.get(fields.remaining)) is not None:
            return _signal(_number(remaining), _until(headers.get(fields.reset), fields.reset_unit))
    combined = headers.get("ratelimit")
    return None if combined is None else _combined(combined[:_LONGEST_FIELD])


def _combined(field: str) -> RateSignal | None:
    """Return the tightest of the limits in a `RateLimit` field."""
    signals: list[RateSignal | None] = []
    pairs = {name: float(number) for name, number in _PAIR.findall(field)}
    signals.append(_signal(pairs.get("remaining"), pairs.get("reset")))
    for item in field.split(","):
        if match := _ITEM.search(item):
            signals.append(_signal(float(match[1] or match[4]), float(match[2] or match[3])))
    return min((each for each in signals if each), key=lambda each: (each.remaining, -each.reset_seconds), default=None)


def _signal(remaining: float | None, reset: float | None) -> RateSignal | None:
    if remaining is None or reset is None:
        return None
    return RateSignal(int(max(remaining, 0.0)), min(max(reset, 0.0), _LONGEST_RESET))


def _until(text: str | None, unit: ResetUnit) -> float | None:
    number = _number(text or "")
    if number is None:
        return None
    if unit == "any" and number >= _EPOCH_MS:
        number /= 1000
    if unit == "epoch" or (unit == "any" and number >= _EPOCH):
        number -= clock.now().timestamp()
    return number


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < _MANY else None


class RateGauge:
    """The tightest word of the answers since somebody last asked. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: tuple[int, float] | None = None

    def note(self, signal: RateSignal) -> None:
        """Keep what an answer said, unless an earlier one that still holds said less."""
        now = clock.monotonic()
        heard = (signal.remaining, now + signal.reset_seconds)
        with self._lock:
            known = self._heard
            if known is None or known[1] <= now or (heard[0], -heard[1]) < (known[0], -known[1]):
                self._heard = heard

    def take(self) -> RateSignal | None:
        """Return the signal as of now, or None if there is none or it has run out."""
        # cheap where nothing was heard, which is nearly always
        if self._heard is None:
            return None
        with self._lock:
            heard, self._heard = self._heard, None
        left = 0.0 if heard is None else heard[1] - clock.monotonic()
        return RateSignal(heard[0], left) if heard is not None and left > 0 else None
