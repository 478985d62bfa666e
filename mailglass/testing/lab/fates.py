"""Fates of accepted mails in the lab: steps in time, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final

from mailglass.testing.lab.weather import Weather


class Happening(StrEnum):
    """One thing that happens to a mail; every provider has its own name for it, or none."""

    QUEUED = "queued"
    DROPPED = "dropped"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    HARD_BOUNCED = "hard_bounced"
    SOFT_BOUNCED = "soft_bounced"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"


@dataclass(frozen=True, slots=True)
class Step:
    """One happening.

    Attributes:
        what: it.
        after: when it happens, in units of the lab's event delay after the mail was accepted.
        told: when the provider first tells of it, in the same units.
        again: when it tells the same again; None for never.
    """

    what: Happening
    after: float
    told: float
    again: float | None = None


_STORIES: Final[Mapping[Weather, tuple[tuple[Happening, float], ...]]] = {
    Weather.HARD_BOUNCE: ((Happening.QUEUED, 0.0), (Happening.HARD_BOUNCED, 1.0)),
    Weather.SOFT_BOUNCE: ((Happening.QUEUED, 0.0), (Happening.SOFT_BOUNCED, 1.0)),
    Weather.DEFER: ((Happening.QUEUED, 0.0), (Happening.DEFERRED, 1.0), (Happening.DELIVERED, 4.0)),
    Weather.SUPPRESSED: ((Happening.QUEUED, 0.0), (Happening.DROPPED, 0.5)),
    Weather.COMPLAINT: (
        (Happening.QUEUED, 0.0),
        (Happening.DELIVERED, 1.0),
        (Happening.OPENED, 3.0),
        (Happening.COMPLAINED, 5.0),
    ),
}
_DELIVERED: Final = ((Happening.QUEUED, 0.0), (Happening.DELIVERED, 1.0))


@dataclass(frozen=True, slots=True)
class Fates:
    """Draws the story of each mail.

    Attributes:
        open_rate: the share of delivered mails that are opened; 0 to 1.
        click_rate: the share of opened mails that are clicked.
        random: where chance comes from.
    """

    open_rate: float = 0.3
    click_rate: float = 0.2
    random: Random = field(default_factory=Random)

    def steps(self, weather: Weather) -> list[Step]:
        """Return the steps of a mail in this weather."""
        story = list(_STORIES.get(weather, _DELIVERED))
        if weather not in _STORIES and self.random.random() < self.open_rate:
            story.append((Happening.OPENED, 3.0))
            if self.random.random() < self.click_rate:
                story.append((Happening.CLICKED, 4.0))
        if weather is Weather.LATE_EVENT:
            last = story[-1][1]
            return [Step(what, after, told=2 * last - after) for what, after in story]
        again = 2.5 if weather is Weather.DUPLICATE_EVENT else None
        return [Step(what, after, after, None if again is None else after + again) for what, after in story]
