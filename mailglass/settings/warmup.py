"""Warm-up plans as they are configured: the table `[accounts.NAME.warmup]`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from mailglass.settings.problems import Report
from mailglass.settings.values import whole

LONGEST_PLAN = 366
MOST_A_DAY = 1_000_000
_KEYS = ("start", "plan", "timezone")
_PLAN_REMEDY = (
    f"List mails a day (0 to {MOST_A_DAY:,}), day by day: [50, 100, 500]; or name the days on which it changes, "
    "beginning with day 1: { 1 = 50, 3 = 200 }"
)


@dataclass(frozen=True, slots=True)
class WarmupPlan:
    """Plan of an account's mails a day while its provider and the receiving sides get to know it.

    Attributes:
        start: day 1, as a date in `timezone`; nothing passes before it.
        caps: mails a day, day by day from day 1; afterwards there is no cap.
        timezone: IANA name; days go from midnight to midnight there.
    """

    start: date
    caps: tuple[int, ...]
    timezone: str = "UTC"

    def day(self, moment: datetime) -> WarmupDay | None:
        """Return the day of the plan in which a moment lies; None once the plan is over.

        Args:
            moment: aware.
        """
        zone = _zone(self.timezone)
        today = moment.astimezone(zone).date()
        number = (today - self.start).days
        if number >= len(self.caps):
            return None
        end = datetime.combine(today + timedelta(days=1), time(), zone)
        return WarmupDay(today, self.caps[number] if number >= 0 else 0, end.timestamp())


@dataclass(frozen=True, slots=True)
class WarmupDay:
    """One day of a plan.

    Attributes:
        date: in the plan's time zone.
        cap: mails that may be sent on it.
        ends: when the next day begins, as Unix time.
    """

    date: date
    cap: int
    ends: float


def parse_warmup(value: object, key: str, report: Report) -> WarmupPlan | None:
    """Return the plan in a table; None where something in it is wrong.

    Args:
        value: what stands under `warmup`.
        key: `accounts.NAME.warmup`.
        report: told of each wrong key, the problem and the remedy.
    """
    if not isinstance(value, dict):
        report(key, "wrong type", f"Write a table: [{key}]")
        return None
    for unknown in sorted(value.keys() - set(_KEYS)):
        report(f"{key}.{unknown}", "unknown setting", f"Known are: {', '.join(_KEYS)}")
    start, timezone, caps = value.get("start"), value.get("timezone", "UTC"), _caps(value.get("plan"))
    # a datetime is a date too, of nobody knows which day there
    if not isinstance(start, date) or isinstance(start, datetime):
        report(f"{key}.start", "missing or not a date", "Write the first day without quotes: start = 2026-12-01")
        return None
    if caps is None:
        report(f"{key}.plan", "missing or not a plan", _PLAN_REMEDY)
        return None
    if not isinstance(timezone, str) or not _is_zone(timezone):
        report(f"{key}.timezone", "not a time zone", 'Give an IANA name, for example "Europe/Berlin", or leave it out')
        return None
    return WarmupPlan(start, caps, timezone)


def _caps(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, list):
        fits = 0 < len(value) <= LONGEST_PLAN and all(_mails(cap) for cap in value)
        return tuple(value) if fits else None
    if not isinstance(value, dict) or not all(name.isdecimal() and len(name) <= 3 for name in value):
        return None
    changes = {int(name): cap for name, cap in value.items()}
    last = max(changes, default=0)
    if 1 not in changes or 0 in changes or last > LONGEST_PLAN or not all(map(_mails, changes.values())):
        return None
    caps: list[int] = []
    for day in range(1, last + 1):
        caps.append(changes[day] if day in changes else caps[-1])
    return tuple(caps)


def _mails(value: object) -> bool:
    return whole(value, 0) and isinstance(value, int) and value <= MOST_A_DAY


def _is_zone(name: str) -> bool:
    try:
        _zone(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


@lru_cache(64)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    # costs an import that only plans in other time zones need
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
