"""What a provider teaches about one of its accounts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lesson:
    """One thing learnt. Durations are microseconds.

    Attributes:
        pause: nothing passes for so long; below 0 for as long as the lesson is hard.
        factor: the interval is stretched by it; 1 for no slowing. A lesson on a lesson multiplies, up to 16.
        lasting: how long after the pause the slowing lasts.
        rate: mails a second the account may send; 0 where it was not told.
        rate_lasting: how long that holds.
    """

    pause: float = 0.0
    factor: float = 1.0
    lasting: float = 0.0
    rate: float = 0.0
    rate_lasting: float = 0.0
