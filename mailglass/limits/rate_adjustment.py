"""Changes of an account's rate that its provider asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateAdjustment:
    """One change of an account's rate. Durations are microseconds.

    Attributes:
        pause: nothing passes for this long; below 0: in proportion to the slowing, half a second for each fold.
        factor: the interval is stretched by it; 1 for no slowing. Factors multiply, up to 16.
        lasting: how long after the pause the slowing lasts.
        rate: mails a second that the provider grants the account; 0 if it names none.
        rate_lasting: how long that rate holds.
    """

    pause: float = 0.0
    factor: float = 1.0
    lasting: float = 0.0
    rate: float = 0.0
    rate_lasting: float = 0.0
