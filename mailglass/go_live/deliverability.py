"""Deliverability: the DNS of every sending domain."""

from __future__ import annotations

from dataclasses import replace

from mailglass.domains.configured import public_suffix_domain, sending_domains
from mailglass.domains.findings import Status as DNSStatus
from mailglass.domains.report import Report
from mailglass.domains.together import examine_all
from mailglass.go_live.report import Answer, Status, judged
from mailglass.go_live.site import Site


def deliverability(site: Site) -> Answer:
    """Check that each sending domain's records let its mail be accepted."""
    subjects = sending_domains(site.settings)
    if not subjects:
        return Answer(Status.FAIL, "the settings name no sending domain", "Give the accounts a `from`, or default_from")
    wanted = [replace(item, public_suffix_domain=public_suffix_domain(item.domain)) for item in subjects]
    reports = examine_all(wanted, site.resolver, online=site.online)
    problems = [problem for problem in map(_problem, reports) if problem]
    names = ", ".join(report.subject.domain for report in reports)
    return judged(
        f"{names}: no check failed",
        problems,
        "`mailglass mail-doctor` shows the records to publish",
        [f"{report.subject.domain}: {_counts(report)}" for report in reports],
    )


def _problem(report: Report) -> str:
    """Return what keeps a domain from passing, or an empty text."""
    failed = [finding.id for finding in report.findings if finding.status is DNSStatus.FAIL]
    unknown = [finding.id for finding in report.findings if finding.status is DNSStatus.CANNOT_VERIFY]
    if failed:
        return f"{report.subject.domain} fails {', '.join(dict.fromkeys(failed))}"
    if unknown:
        return f"{report.subject.domain} cannot be verified: {', '.join(dict.fromkeys(unknown))}"
    return ""


def _counts(report: Report) -> str:
    return ", ".join(f"{count} {status}" for status, count in report.counts().items())
