"""Mails that the lab's accounts took, kept for their search APIs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mailglass.testing.lab.weather import LabMail

MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Kept:
    """One mail as its account remembers it.

    Attributes:
        mail: it.
        message_id: the account's own id.
        moment: when it was taken, in Unix time.
        told: its events, each with the Unix time from which it is known.
    """

    mail: LabMail
    message_id: str
    moment: float
    told: list[tuple[float, dict[str, Any]]] = field(default_factory=list, repr=False)

    def events(self, now: float) -> list[dict[str, Any]]:
        """Return the events so far."""
        return [event for moment, event in self.told if moment <= now]


class Archive:
    """The latest mails of all accounts, at most ten thousand: what is older is forgotten, as providers do too."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def keep(self, mail: LabMail, message_id: str, moment: float) -> Kept:
        """Remember a mail."""
        kept = self._kept[mail.account, message_id] = Kept(mail, message_id, moment)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return kept

    def newest(self, account: str) -> Iterator[Kept]:
        """Return an account's mails, the latest first."""
        return (kept for kept in reversed(self._kept.values()) if kept.mail.account == account)

    def to(self, account: str, recipient: str) -> Iterator[Kept]:
        """Those to one recipient."""
        return (kept for kept in self.newest(account) if kept.mail.recipient.lower() == recipient.lower())
