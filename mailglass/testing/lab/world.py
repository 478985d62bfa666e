"""The lab's world: who refuses, what is accepted and counted, and what becomes of it. Every account lives in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from mailglass.clock import now
from mailglass.testing.lab.archive import Archive, Kept
from mailglass.testing.lab.fates import Fates, Happening
from mailglass.testing.lab.posting import Poster, Sender
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.witness import Witness

_REFUSALS: Final = (Weather.THROTTLE_ONCE, Weather.SERVER_ERROR_ONCE)


class Teller(Sender, Protocol):
    """An account that can word a happening as its provider does."""

    def event(self, mail: LabMail, message_id: str, what: Happening, moment: float) -> dict[str, Any] | None:
        """Return the provider's event, or None if it tells of no such thing; `moment` is Unix time."""


class World:
    """State shared by all accounts of the lab.

    Args:
        weather: by recipient.
        witness: counts what is accepted.
        poster: posts what happens.
        fates: draws what happens.
        event_delay: seconds from acceptance to delivery; later events take a multiple of it.
        latency: seconds until a request is answered.
    """

    def __init__(
        self,
        weather: Callable[[str], Weather],
        witness: Witness,
        poster: Poster,
        *,
        fates: Fates | None = None,
        event_delay: float = 0.2,
        latency: float = 0.0,
    ) -> None:
        self.weather = weather
        self.witness = witness
        self.poster = poster
        self.latency = latency
        self.archive = Archive()
        self._fates = fates or Fates()
        self._event_delay = event_delay
        self._met: set[tuple[Weather, str]] = set()
        self._counted: Counter[str] = Counter()

    def refusal(self, mails: Iterable[LabMail]) -> Weather | None:
        """Return the weather that keeps this whole request from being taken now: each delivery meets it once."""
        met = [
            weather
            for mail in mails
            if (weather := self.weather(mail.recipient)) in _REFUSALS and self._meets_once(weather, mail)
        ]
        for weather in met[:1]:
            self._counted["throttled" if weather is Weather.THROTTLE_ONCE else "faults"] += 1
            return weather
        return None

    def suppresses(self, mail: LabMail) -> bool:
        """Return whether the account's own list refuses the recipient."""
        suppressed = self.weather(mail.recipient) is Weather.SUPPRESSED or self.witness.inactive(
            mail.account, mail.recipient
        )
        self._counted["suppressed"] += suppressed
        return suppressed

    def accept(self, teller: Teller, mails: Iterable[tuple[LabMail, str]]) -> bool:
        """Take mails, each with the id the account gave it; returns whether to answer at all."""
        taken = list(mails)
        self.witness.accept(mail for mail, _ in taken)
        lost = False
        for mail, message_id in taken:
            weather = self.weather(mail.recipient)
            if self.witness.inactive(mail.account, mail.recipient):
                weather = Weather.SUPPRESSED
            elif weather is Weather.HARD_BOUNCE:
                self.witness.deactivate(mail.account, mail.recipient)
            elif weather is Weather.LOST_ANSWER:
                lost = self._meets_once(weather, mail) or lost
            self._tell(teller, self.archive.keep(mail, message_id, now().timestamp()), weather)
        self._counted["lost_answers"] += lost
        return not lost

    def counts(self) -> dict[str, int]:
        """All totals."""
        names = ("throttled", "faults", "suppressed", "lost_answers")
        return {
            **self.witness.counts(),
            **{name: self._counted[name] for name in names},
            **self.poster.counts(),
        }

    def _tell(self, teller: Teller, kept: Kept, weather: Weather) -> None:
        for step in self._fates.steps(weather):
            happens = kept.moment + step.after * self._event_delay
            event = teller.event(kept.mail, kept.message_id, step.what, happens)
            if event is None:
                continue
            kept.told.append((happens, event))
            self.poster.schedule(teller, event, step.told * self._event_delay)
            if step.again is not None:
                self.poster.schedule(teller, event, step.again * self._event_delay)

    def _meets_once(self, weather: Weather, mail: LabMail) -> bool:
        met = (weather, mail.delivery_id or mail.recipient)
        if met in self._met:
            return False
        self._met.add(met)
        return True
