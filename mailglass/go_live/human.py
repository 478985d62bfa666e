"""The checklist as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from mailglass.go_live.report import Report, Section, Status

# details that a section shows when nothing is asked for
_SHOWN: Final = {"routing": 20}


class Line(NamedTuple):
    """One line.

    Attributes:
        text: of it.
        status: of the section that it opens, and which stands before it; None for a line that explains.
    """

    text: str
    status: Status | None = None


def lines(report: Report, *, verbose: bool = False) -> Iterator[Line]:
    """Yield a line for each section, followed by what explains it, and a summary.

    Args:
        report: of a run.
        verbose: explain every section, and not only what failed.
    """
    for section in report.sections:
        yield Line(f"{section.title}: {section.answer.observed}", section.answer.status)
        yield from _explained(section, verbose)
    yield Line("mailglass go-live: " + " ".join(f"{name}={count}" for name, count in report.counts.items()))


def _explained(section: Section, verbose: bool) -> Iterator[Line]:
    answer = section.answer
    everything = verbose or answer.status is Status.FAIL
    shown = len(answer.details) if everything else _SHOWN.get(section.id, 0)
    yield from (Line(f"    {detail}") for detail in answer.details[:shown])
    if 0 < shown < len(answer.details):
        yield Line(f"    {len(answer.details) - shown} more: --verbose")
    if answer.remedy:
        yield Line(f"    {answer.remedy}")
