"""Streams: what kind of mail it is, and the policy that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias, Union


class Stream(StrEnum):
    """The three kinds of mail.

    >>> from mailglass import Message, Stream
    >>> Message(to="ada@example.com", subject="News", text="Hello.", stream=Stream.BULK).stream.value
    'bulk'
    """

    TRANSACTIONAL = "transactional"
    OPERATIONAL = "operational"
    BULK = "bulk"


# a stream as an application writes it
StreamLike: TypeAlias = Union[Stream, Literal["transactional", "operational", "bulk"]]  # noqa: UP007


class UncertainPolicy(StrEnum):
    """Fate of a delivery whose outcome stays unknown after the hold time."""

    RESEND = "resend"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """Policy of one stream: retries, age, settling. Durations are seconds.

    Attributes:
        max_attempts: counted attempts before `failed`. Throttling and deferrals are not counted. 1 to 100.
        max_age: age after which a delivery that is still not sent fails.
        backoff_base: the first retry's upper bound; it doubles with each attempt, with full jitter.
        backoff_max: the limit of what doubles, for retries and for deferrals.
        deferral_base: the first wait after a receiver asked to be tried again later, as by greylisting; it doubles
            with each deferral.
        max_deferrals: deferrals before `failed`. At the usual figures `max_age` comes long before. 1 to 10000.
        uncertain: what happens after `uncertain_hold` without evidence.
        uncertain_hold: how long evidence is waited for.
    """

    max_attempts: int = 8
    max_age: float = 24 * 3600
    backoff_base: float = 5.0
    backoff_max: float = 3600.0
    deferral_base: float = 300.0
    max_deferrals: int = 500
    uncertain: UncertainPolicy = UncertainPolicy.RESEND
    uncertain_hold: float = 600.0


DEFAULT_POLICIES: dict[Stream, StreamPolicy] = {
    Stream.TRANSACTIONAL: StreamPolicy(),
    Stream.OPERATIONAL: StreamPolicy(),
    Stream.BULK: StreamPolicy(max_age=72 * 3600, uncertain=UncertainPolicy.HOLD),
}
