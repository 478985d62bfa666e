"""The report for people: a summary line, sections in a fixed order, the receivers at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from mailglass.domains.findings import MAX_ANSWERS, Area, Finding, Status, in_words
from mailglass.domains.lookups import Lookup
from mailglass.domains.names import shown
from mailglass.domains.receivers import MatrixRow, RequirementStatus, Verdict
from mailglass.domains.report import Report

TITLES: Final = {
    Area.SPF: "SPF",
    Area.DKIM: "DKIM",
    Area.DMARC: "DMARC",
    Area.ALIGNMENT: "Alignment",
    Area.MX: "MX",
    Area.BIMI: "BIMI",
    Area.MTA_STS: "MTA-STS",
    Area.TLS_RPT: "TLS-RPT",
    Area.DANE: "DANE",
    Area.PTR: "Reverse DNS",
    Area.DNSSEC: "DNSSEC",
    Area.NS: "Nameservers",
    Area.HOSTS: "Hosts",
    Area.PROVIDER: "Providers",
}
COLOURS: Final = {
    Status.PASS: "green",
    Status.INFO: "blue",
    Status.WARN: "yellow",
    Status.FAIL: "red",
    Status.CANNOT_VERIFY: "magenta",
}
_VERDICTS: Final = {
    Verdict.READY: ("ready", Status.PASS),
    Verdict.NOT_READY: ("not ready", Status.FAIL),
    Verdict.CANNOT_VERIFY: ("cannot verify", Status.CANNOT_VERIFY),
}
_SHORT: Final = 400


class Line(NamedTuple):
    """A line of output.

    Attributes:
        text: printable ASCII.
        marked: the part at its beginning that has a colour.
        colour: of that part; "" for none.
        bold: the whole line is a heading.
    """

    text: str
    marked: str = ""
    colour: str = ""
    bold: bool = False


def summary(report: Report) -> str:
    """Return the report's first line."""
    counts = ", ".join(f"{count} {status}" for status, count in report.counts().items())
    return f"{report.subject.domain}: {counts}"


def lines(report: Report, *, verbose: bool = False) -> Iterator[Line]:
    """Yield the report line by line.

    Args:
        report: of one domain.
        verbose: with the evidence of every finding.
    """
    yield Line(summary(report), bold=True)
    for area, title in TITLES.items():
        findings = [finding for finding in report.findings if finding.area is area]
        if not findings:
            continue
        yield Line("")
        yield Line(title, bold=True)
        for finding in findings:
            yield from _finding(finding, verbose)
    yield Line("")
    yield Line("Receivers", bold=True)
    for row in report.receivers:
        yield from _receiver(row, verbose)


def _finding(finding: Finding, verbose: bool) -> Iterator[Line]:
    mark = f"[{finding.status}]"
    about = f" ({finding.subject})" if finding.subject else ""
    yield Line(f"{mark} {finding.title}{about}", mark, COLOURS[finding.status])
    if finding.status in (Status.PASS, Status.INFO) and not verbose:
        yield Line(f"    Observed: {shown(finding.observed, _SHORT)}")
        return
    yield Line(f"    Why it matters: {finding.why}")
    yield Line(f"    Observed: {finding.observed if verbose else shown(finding.observed, _SHORT)}")
    if finding.remediation:
        yield Line(f"    Remediation: {finding.remediation}")
    for record in finding.records:
        yield Line(f"    Publish: {record.zone_line}")
    if not verbose:
        return
    yield Line(f"    Id: {finding.id}" + (f" ({finding.reference})" if finding.reference else ""))
    if finding.evidence:
        yield Line("    Evidence:")
    for lookup in finding.evidence:
        yield from _evidence(lookup)


def _evidence(lookup: Lookup) -> Iterator[Line]:
    question = f"{lookup.question.rdtype} {shown(lookup.question.name, _SHORT)}"
    where = f" from {shown(lookup.server)}" if lookup.server else ""
    ttl = f", TTL {lookup.ttl}" if lookup.ttl is not None else ""
    error = f" ({shown(lookup.error)})" if lookup.error else ""
    yield Line(f"      {question}: {lookup.status}{error}{ttl}{where}, {lookup.duration_ms:g} ms")
    for name in lookup.chain:
        yield Line(f"        CNAME {shown(name, _SHORT)}")
    for record in lookup.records[:MAX_ANSWERS]:
        yield Line(f"        {shown(in_words(record), _SHORT)}")
    if len(lookup.records) > MAX_ANSWERS:
        yield Line(f"        and {len(lookup.records) - MAX_ANSWERS} more")


def _receiver(row: MatrixRow, verbose: bool) -> Iterator[Line]:
    text, status = _VERDICTS[row.verdict]
    mark = f"{row.receiver}: {text}"
    because = f" ({', '.join(row.findings)})" if row.verdict is not Verdict.READY else ""
    yield Line(f"{mark}{because}", mark, COLOURS[status])
    for answer in row.answers:
        if answer.status is RequirementStatus.NOT_CHECKED:
            if verbose or answer.hint.startswith("give"):
                yield Line(f"    {answer.name}: not checked, {answer.hint}")
        elif verbose or answer.status is not RequirementStatus.MET:
            yield Line(f"    {answer.name}: {answer.status.replace('_', ' ')} ({', '.join(answer.findings)})")
