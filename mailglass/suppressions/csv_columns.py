"""Columns of CSV files of suppressed addresses: ours, and those of the providers' exports.

A column is known by its heading, without regard to case, spaces, `-` and `_`. A reason is known by the word that a
provider writes. The exports of a provider that give no reason need one from the caller.

| export | address | reason | since |
| --- | --- | --- | --- |
| mailglass | `value` | `reason` | `created_at` |
| Postmark | `EmailAddress` | `SuppressionReason` | `CreatedAt` |
| Amazon SES | `EmailAddress` | `Reason` | `LastUpdateTime` |
| Brevo | `email` | `reason`, or the code of it | `blockedAt` |
| Mailgun | `address` | from the columns: `code` and `error` of bounces, `tags` of unsubscriptions | `created_at` |
| SendGrid | `email` | none: each of its lists is a file of its own | `created`, in seconds |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_HEADINGS: Final[Mapping[str, frozenset[str]]] = {
    "value": frozenset({"value", "email", "emailaddress", "address", "recipient", "contact"}),
    "reason": frozenset({"reason", "suppressionreason", "reasoncode", "type"}),
    "created_at": frozenset(
        {"createdat", "created", "blockedat", "lastupdatetime", "lastupdatedtime", "date", "timestamp", "time"}
    ),
    "expires_at": frozenset({"expiresat", "expires"}),
    "scope": frozenset({"scope"}),
    "stream": frozenset({"stream"}),
    "tenant": frozenset({"tenant"}),
}
_REASONS: Final[Mapping[str, str]] = {
    "hardbounce": "hard_bounce",
    "bounce": "hard_bounce",
    "bounced": "hard_bounce",
    "invalidemail": "hard_bounce",
    "complaint": "complaint",
    "spamcomplaint": "complaint",
    "spam": "complaint",
    "spamreport": "complaint",
    "contactflaggedasspam": "complaint",
    "unsubscribe": "unsubscribe",
    "unsubscribed": "unsubscribe",
    "unsubscribedviama": "unsubscribe",
    "unsubscribedviaemail": "unsubscribe",
    "unsubscribedviaapi": "unsubscribe",
    "manual": "manual",
    "manualsuppression": "manual",
    "adminblocked": "manual",
    "provider": "provider",
}
_BOUNCES: Final = frozenset({"code", "error"})
_UNSUBSCRIPTIONS: Final = (frozenset({"tag"}), frozenset({"tags"}))


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of what is read from a row.

    Attributes:
        positions: of each known column, by the name it has in our own files.
        reason: for all rows, where the file's columns say it; None where each row does, or nothing.
    """

    positions: Mapping[str, int]
    reason: str | None = None

    def cell(self, row: Sequence[str], name: str) -> str:
        """Return one cell without surrounding space; "" where the file or the row has none."""
        position = self.positions.get(name)
        return row[position].strip() if position is not None and position < len(row) else ""


def columns_of(heading: Sequence[str], renamed: Mapping[str, str]) -> Columns | None:
    """Return the columns of a heading, or None if none of them holds addresses.

    Args:
        heading: the cells of the first row.
        renamed: the caller's own headings, by the name the column has in our files.
    """
    cells = [_plain(cell) for cell in heading]
    positions: dict[str, int] = {}
    for name, known in _HEADINGS.items():
        wanted = frozenset({_plain(renamed[name])}) if name in renamed else known
        for position, cell in enumerate(cells):
            if cell in wanted and name not in positions:
                positions[name] = position
    if "value" not in positions:
        return None
    return Columns(positions, _reason_of(frozenset(cells)) if "reason" not in positions else None)


def reason_of(text: str) -> str | None:
    """Return the reason that a word of a provider's means, or None."""
    return _REASONS.get(_plain(text))


def moment_of(text: str) -> datetime | None:
    """Return the moment that a cell says, or None: ISO 8601, RFC 5322, or seconds since 1970; without zone in UTC."""
    try:
        if text.isdecimal() and len(text) <= 12:
            return datetime.fromtimestamp(int(text), UTC)
        found = datetime.fromisoformat(text) if text[:1].isdecimal() else parsedate_to_datetime(text)
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _reason_of(cells: frozenset[str]) -> str | None:
    if cells >= _BOUNCES:
        return "hard_bounce"
    return "unsubscribe" if any(cells >= columns for columns in _UNSUBSCRIPTIONS) else None


def _plain(text: str) -> str:
    return "".join(text.split()).replace("_", "").replace("-", "").lower()
