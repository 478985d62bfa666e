"""The report as JSON: `schema_version` 1, described by docs/schemas/mail-doctor.json."""

from __future__ import annotations

from typing import Any

from mailglass.domains.findings import MAX_ANSWERS, Finding, in_words
from mailglass.domains.lookups import Lookup
from mailglass.domains.names import shown
from mailglass.domains.report import Report

MAX_ERRORS = 100


def report_as_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values. A key may be added within a schema version, never changed.

    Args:
        report: of one domain.
    """
    subject = report.subject
    return {
        "domain": subject.domain,
        "dkim_selectors": [selector.selector for selector in subject.selectors],
        "from_domains": list(subject.senders),
        "return_path": subject.return_path or None,
        "addresses": list(subject.addresses),
        "hosts": list(subject.hosts),
        "providers": list(subject.providers),
        "summary": report.counts(),
        "findings": [finding_as_json(finding) for finding in report.findings],
        "receivers": [
            {
                "receiver": row.receiver,
                "verdict": row.verdict.value,
                "findings": list(row.findings),
                "requirements": [
                    {
                        "name": answer.name,
                        "status": answer.status.value,
                        "findings": list(answer.findings),
                        "hint": answer.hint or None,
                    }
                    for answer in row.answers
                ],
                "source": row.source,
            }
            for row in report.receivers
        ],
        "facts": _clean(report.facts),
        "resolver_errors": [
            {"name": shown(lookup.question.name), "type": lookup.question.rdtype, "error": shown(lookup.error)}
            for lookup in report.failures[:MAX_ERRORS]
        ],
    }


def finding_as_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as plain values."""
    return {
        "id": finding.id,
        "area": finding.area.value,
        "check": finding.check,
        "subject": finding.subject or None,
        "status": finding.status.value,
        "title": finding.title,
        "why_it_matters": finding.why,
        "observed": finding.observed,
        "remediation": finding.remediation,
        "records": [
            {"name": record.name, "type": record.rdtype, "value": record.value, "zone_line": record.zone_line}
            for record in finding.records
        ],
        "reference": finding.reference or None,
        "evidence": [evidence_as_json(lookup) for lookup in finding.evidence],
    }


def evidence_as_json(lookup: Lookup) -> dict[str, Any]:
    """Return a lookup as plain values."""
    return {
        "name": shown(lookup.question.name),
        "type": lookup.question.rdtype,
        "status": lookup.status.value,
        "answers": [in_words(record) for record in lookup.records[:MAX_ANSWERS]],
        "cname_chain": [shown(name) for name in lookup.chain],
        "ttl": lookup.ttl,
        "authenticated": lookup.authenticated,
        "server": shown(lookup.server) or None,
        "ms": lookup.duration_ms,
        "error": shown(lookup.error) or None,
    }


def _clean(value: Any) -> Any:
    """Return facts with every text printable."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if hasattr(value, "items"):
        return {shown(str(key)): _clean(item) for key, item in value.items()}
    return value
