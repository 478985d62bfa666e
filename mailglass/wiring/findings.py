"""Findings of the doctor, and the exit code that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

WIRED = 0
NOT_WIRED = 1
CANNOT_DIAGNOSE = 2


class Status(StrEnum):
    """Result of one check."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    CANNOT_DIAGNOSE = "cannot_diagnose"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        id: `framework.check`, such as `django.mount`.
        status: the result.
        observed: the fact.
        effect: the consequence for webhooks, or "" where there is none.
        remedy: the step that mends it, or "".
        file: the source file, relative to the project, or None.
        line: its line, from 1, or None.
    """

    id: str
    status: Status
    observed: str
    effect: str = ""
    remedy: str = ""
    file: str | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """`file:line`, `file`, or ""."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings of one project."""

    findings: Sequence[Finding]

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each status, zeros included."""
        found = Counter(finding.status for finding in self.findings)
        return {status.value: found[status] for status in Status}

    @property
    def exit_code(self) -> int:
        """0 if the endpoint is wired, 1 if it is not, 2 if that cannot be told. A failure counts before a doubt."""
        statuses = {finding.status for finding in self.findings}
        if Status.FAIL in statuses:
            return NOT_WIRED
        return CANNOT_DIAGNOSE if Status.CANNOT_DIAGNOSE in statuses or not statuses else WIRED
