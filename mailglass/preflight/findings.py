"""Findings: the result of one check, and a run of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Result of one check."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    CANNOT_CHECK = "cannot_check"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        id: `area.check`, or `area.check.NAME` where a check has a finding for each account or queue.
        status: the result.
        observed: the fact, without a secret and without a URL.
        remedy: the step that mends it, or "" where nothing needs to be done.
    """

    id: str
    status: Status
    observed: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings of one run, in the order of the checks."""

    findings: Sequence[Finding]

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each status, zeros included."""
        found = Counter(finding.status for finding in self.findings)
        return {status.value: found[status] for status in Status}

    @property
    def ok(self) -> bool:
        """True if nothing failed and everything could be checked. A warning is no failure."""
        return not any(finding.status in (Status.FAIL, Status.CANNOT_CHECK) for finding in self.findings)


def passed(id: str, observed: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(id, Status.PASS, observed)


def warned(id: str, observed: str, remedy: str) -> Finding:
    """Return a finding that should be looked at."""
    return Finding(id, Status.WARN, observed, remedy)


def failed(id: str, observed: str, remedy: str) -> Finding:
    """Return a finding that must be mended."""
    return Finding(id, Status.FAIL, observed, remedy)


def unchecked(id: str, observed: str, remedy: str) -> Finding:
    """Return a finding of a check that could not be made."""
    return Finding(id, Status.CANNOT_CHECK, observed, remedy)
