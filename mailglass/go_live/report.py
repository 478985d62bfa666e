"""Results of the checklist: one for each of its sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Result of a section. `todo`: a later part of mailglass brings what would prove it."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    TODO = "todo"


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of one section's check.

    Attributes:
        status: the result.
        observed: the fact, on one line.
        remedy: the step that mends it, or "".
        details: more facts, one a line.
    """

    status: Status
    observed: str
    remedy: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One line of the checklist.

    Attributes:
        id: of the section, in `docs/go-live.md` too.
        title: for people.
        command: the command that shows more of it.
        answer: what its check found.
    """

    id: str
    title: str
    command: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Report:
    """All sections of one run, in their order."""

    sections: Sequence[Section]

    @property
    def counts(self) -> dict[str, int]:
        """Number of sections of each status, zeros included."""
        found = Counter(section.answer.status for section in self.sections)
        return {status.value: found[status] for status in Status}

    def as_json(self) -> dict[str, Any]:
        """Return it as `--format json` prints it, without the version of the schema."""
        return {
            "ok": self.ok,
            "summary": self.counts,
            "sections": [
                {
                    "id": section.id,
                    "title": section.title,
                    "command": section.command,
                    **asdict(section.answer),
                    "details": list(section.answer.details),
                }
                for section in self.sections
            ],
        }

    @property
    def ok(self) -> bool:
        """True if no section failed. One that is still to come is no failure."""
        return not any(section.answer.status is Status.FAIL for section in self.sections)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 worker`, `2 workers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def judged(observed: str, problems: Sequence[str], remedy: str, details: Sequence[str] = ()) -> Answer:
    """Return an answer that fails if there are problems, and names the first of them."""
    if not problems:
        return Answer(Status.PASS, observed, details=tuple(details))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Answer(Status.FAIL, f"{problems[0]}{more}", remedy, (*problems[1:], *details))
