"""The receiver matrix: what Gmail, Yahoo and Microsoft ask for, and the findings that answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailglass.domains.findings import Finding, Status


class Verdict(StrEnum):
    """Readiness of a receiver for the domain's mail, as far as DNS tells."""

    READY = "ready"
    NOT_READY = "not_ready"
    CANNOT_VERIFY = "cannot_verify"


class RequirementStatus(StrEnum):
    """State of one requirement. `not_checked`: DNS does not tell, or nothing was given to look at."""

    MET = "met"
    NOT_MET = "not_met"
    CANNOT_VERIFY = "cannot_verify"
    NOT_CHECKED = "not_checked"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One rule of a receiver.

    Attributes:
        name: as the receiver calls it; of Gmail the name in the Postmaster Tools API v2.
        checks: the findings that answer it, by `area.check`; of each all have to hold.
        one_of: whether one selector, host or address that holds is enough.
        hint: why DNS does not tell.
    """

    name: str
    checks: tuple[str, ...] = ()
    one_of: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver and its rules for bulk senders.

    Attributes:
        name: for people.
        source: where the rules are published.
        requirements: in the receiver's order.
    """

    name: str
    source: str
    requirements: tuple[Requirement, ...]


_SPF: Final = ("spf.record", "spf.syntax", "spf.lookups", "spf.voids", "spf.includes", "spf.mx_hosts", "spf.terminal")
_DKIM: Final = (
    "dkim.selector",
    "dkim.key",
    "dkim.syntax",
    "dkim.strength",
    "dkim.revoked",
    "dkim.hash",
    "dkim.service",
    "dkim.pair",
)
_POLICY: Final = ("dmarc.record", "dmarc.syntax")
_ALIGNED: Final = ("alignment.dmarc",)
_DNS: Final = ("ptr.reverse",)

RECEIVERS: Final = (
    Receiver(
        "Gmail",
        "https://support.google.com/mail/answer/81126, Postmaster Tools API v2 ComplianceRowData",
        (
            Requirement("SPF", _SPF),
            Requirement("DKIM", _DKIM, one_of=True),
            Requirement("SPF_AND_DKIM", (*_SPF, *_DKIM), one_of=True),
            Requirement("DMARC_POLICY", _POLICY),
            Requirement("DMARC_ALIGNMENT", _ALIGNED),
            Requirement("DNS_RECORDS", _DNS, hint="give the sending addresses with --ip"),
            Requirement("MESSAGE_FORMATTING", hint="seen in the mail, not in DNS"),
            Requirement("ENCRYPTION", hint="seen in the SMTP session, not in DNS"),
            Requirement("USER_REPORTED_SPAM_RATE", hint="shown by Postmaster Tools"),
            Requirement("ONE_CLICK_UNSUBSCRIBE", hint="seen in the mail, not in DNS"),
            Requirement("HONOR_UNSUBSCRIBE", hint="shown by Postmaster Tools"),
        ),
    ),
    Receiver(
        "Yahoo",
        "https://senders.yahooinc.com/best-practices/",
        (
            Requirement("SPF", _SPF),
            Requirement("DKIM", _DKIM, one_of=True),
            Requirement("DMARC", _POLICY),
            Requirement("DMARC alignment", _ALIGNED),
            Requirement("Forward and reverse DNS", _DNS, hint="give the sending addresses with --ip"),
            Requirement("One-click unsubscribe", hint="seen in the mail, not in DNS"),
            Requirement("Spam rate below 0.3 %", hint="shown by Yahoo's Sender Hub"),
        ),
    ),
    Receiver(
        "Microsoft",
        "https://learn.microsoft.com/en-us/defender-office-365/email-authentication-about",
        (
            Requirement("SPF", _SPF),
            Requirement("DKIM", _DKIM, one_of=True),
            Requirement("DMARC", _POLICY),
            Requirement("DMARC alignment", _ALIGNED),
            Requirement("Valid From and Reply-To", ("mx.record", "mx.target")),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of one requirement.

    Attributes:
        name: as the receiver calls it.
        status: whether it is met.
        findings: the ids that say so.
        hint: why it was not checked.
    """

    name: str
    status: RequirementStatus
    findings: tuple[str, ...]
    hint: str = ""


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One receiver's verdict.

    Attributes:
        receiver: its name.
        verdict: as far as DNS tells.
        answers: for each requirement.
        source: where the rules are published.
    """

    receiver: str
    verdict: Verdict
    answers: tuple[Answer, ...]
    source: str

    @property
    def findings(self) -> tuple[str, ...]:
        """The ids that keep the receiver from being ready; where it is, those that say so."""
        wanted = {
            Verdict.NOT_READY: RequirementStatus.NOT_MET,
            Verdict.CANNOT_VERIFY: RequirementStatus.CANNOT_VERIFY,
            Verdict.READY: RequirementStatus.MET,
        }[self.verdict]
        found = [identity for answer in self.answers if answer.status is wanted for identity in answer.findings]
        return tuple(dict.fromkeys(found))


def matrix(findings: Sequence[Finding]) -> tuple[MatrixRow, ...]:
    """Return every receiver's verdict.

    Args:
        findings: of all checks.
    """
    rows = []
    for receiver in RECEIVERS:
        answers = tuple(_answer(requirement, findings) for requirement in receiver.requirements)
        statuses = {answer.status for answer in answers}
        if RequirementStatus.NOT_MET in statuses:
            verdict = Verdict.NOT_READY
        elif RequirementStatus.CANNOT_VERIFY in statuses:
            verdict = Verdict.CANNOT_VERIFY
        else:
            verdict = Verdict.READY
        rows.append(MatrixRow(receiver.name, verdict, answers, receiver.source))
    return tuple(rows)


def _answer(requirement: Requirement, findings: Sequence[Finding]) -> Answer:
    relevant = [finding for finding in findings if finding.code in requirement.checks]
    if not relevant:
        return Answer(requirement.name, RequirementStatus.NOT_CHECKED, (), requirement.hint)
    keyed = [item for item in relevant if _is_of_selector(item, requirement)]
    common = [item for item in relevant if item not in keyed]
    failed, unclear = _of_selectors(keyed)
    failed = [*_with(Status.FAIL, common), *failed]
    unclear = [*_with(Status.CANNOT_VERIFY, common), *unclear]
    if failed:
        return Answer(requirement.name, RequirementStatus.NOT_MET, _ids(failed))
    if unclear:
        return Answer(requirement.name, RequirementStatus.CANNOT_VERIFY, _ids(unclear))
    met = [item for item in relevant if item.status is not Status.FAIL]
    return Answer(requirement.name, RequirementStatus.MET, _ids(met))


def _is_of_selector(finding: Finding, requirement: Requirement) -> bool:
    return bool(requirement.one_of and finding.code.startswith("dkim.") and finding.subject)


def _of_selectors(findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Return the failed and the unclear findings of DKIM selectors, both empty if one selector holds.

    The findings of one selector stand or fall together, and one selector that holds is enough. If one is unclear, none
    counts as failed.
    """
    by_selector: dict[str, list[Finding]] = {}
    for finding in findings:
        by_selector.setdefault(finding.subject, []).append(finding)
    worst = [max(items, key=_severity) for items in by_selector.values()]
    if not all(_severity(item) for item in worst):
        return [], []
    unclear = _with(Status.CANNOT_VERIFY, findings)
    is_unclear = any(item.status is Status.CANNOT_VERIFY for item in worst)
    return [] if is_unclear else _with(Status.FAIL, findings), unclear


def _with(status: Status, findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status is status]


def _severity(finding: Finding) -> int:
    return {Status.FAIL: 2, Status.CANNOT_VERIFY: 1}.get(finding.status, 0)


def _ids(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.id for finding in findings))
