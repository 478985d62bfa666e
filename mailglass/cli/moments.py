"""Moments in commands: an option's type, and their form in tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click


class Moment(click.ParamType[datetime]):
    """Option type of an ISO 8601 moment with its zone."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse a moment; fails without a zone."""
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail("give a moment with its zone, such as 2030-01-31T09:00Z or 2030-01-31T09:00+02:00", param, ctx)
        return moment


def format_moment(moment: datetime | None, timespec: str = "seconds") -> str:
    """Return a moment as a table shows it; "" for None.

    Args:
        moment: aware.
        timespec: precision, as for `datetime.isoformat`.
    """
    return "" if moment is None else moment.isoformat(sep=" ", timespec=timespec)
