"""One domain's report: every analyser over the collected facts, in the order of its sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mailglass.domains.alignment import check_alignment
from mailglass.domains.dkim import check_dkim
from mailglass.domains.dmarc import DMARCResult, check_dmarc
from mailglass.domains.findings import Area, Finding, Status
from mailglass.domains.hosts import check_address, check_helo, check_host, check_zone
from mailglass.domains.lookups import PENDING, Facts, Lookup
from mailglass.domains.mail_hosts import check_dane, check_mx
from mailglass.domains.policies import check_bimi, check_mta_sts, check_tls_rpt
from mailglass.domains.provider_checks import check_providers
from mailglass.domains.providers import PROVIDERS
from mailglass.domains.receivers import MatrixRow, matrix
from mailglass.domains.spf import check_spf
from mailglass.domains.subject import Subject

_ORDER: Final = {area: number for number, area in enumerate(Area)}


@dataclass(frozen=True, slots=True)
class Report:
    """Results of a run for one domain.

    Attributes:
        subject: what was checked.
        findings: in the order of their sections.
        receivers: the matrix.
        facts: parsed facts by section, for the JSON report.
        failures: the lookups that failed.
    """

    subject: Subject
    findings: tuple[Finding, ...]
    receivers: tuple[MatrixRow, ...]
    facts: Mapping[str, Any]
    failures: tuple[Lookup, ...]

    def counts(self) -> dict[str, int]:
        """Return how many findings have each status, in the order of the summary line."""
        order = (Status.PASS, Status.WARN, Status.FAIL, Status.CANNOT_VERIFY, Status.INFO)
        return {status.value: sum(finding.status is status for finding in self.findings) for status in order}


def analyse(subject: Subject, facts: Facts) -> Report:
    """Run every analyser.

    Pure: the same subject and facts give the same report. What the facts lack is noted in `facts.wanted`.

    Args:
        subject: what sends.
        facts: what is collected so far.
    """
    senders = list(dict.fromkeys((subject.domain, *subject.senders)))
    policies = [_policy(facts, subject, sender) for sender in senders]
    dmarc = policies[0]
    own = check_spf(facts, subject.domain, enforced=dmarc.enforced, envelope=_in_envelope(subject))
    envelope = own
    findings = list(own.findings)
    if subject.return_path and subject.return_path != subject.domain:
        envelope = check_spf(facts, subject.return_path, subject=subject.return_path, enforced=dmarc.enforced)
        findings += envelope.findings
    dkim = check_dkim(facts, subject.domain, subject.selectors)
    findings += dkim.findings
    for policy in policies:
        findings += policy.findings
        if policy.domain in subject.senders:
            findings += check_alignment(facts, subject, policy, dkim, envelope if subject.return_path else None)
    mx, mx_facts = check_mx(facts, subject.domain)
    bimi, bimi_facts = check_bimi(facts, subject.domain, dmarc)
    findings += [
        *mx,
        *bimi,
        *check_mta_sts(facts, subject.domain, online=subject.online),
        *check_tls_rpt(facts, subject.domain),
    ]
    findings += [*check_dane(facts, subject.domain), *check_zone(facts, subject.domain)]
    findings += [found for address in subject.addresses for found in check_address(facts, address)]
    findings += [found for name in subject.helo for found in check_helo(facts, name)]
    findings += [found for host in subject.hosts for found in check_host(facts, host)]
    findings += check_providers(facts, subject)
    ordered = tuple(sorted(findings, key=lambda finding: _ORDER[finding.area]))
    shown = {
        "spf": own.summary(),
        "dkim": dkim.summary(),
        "dmarc": dmarc.summary(),
        "mx": mx_facts,
        "bimi": bimi_facts,
    }
    failures = tuple(lookup for lookup in facts.lookups.values() if lookup.failed and lookup.error != PENDING)
    return Report(subject, ordered, matrix(ordered), shown, failures)


def _in_envelope(subject: Subject) -> bool:
    """Return whether mail leaves with the sending domain in its envelope, as far as that is known."""
    if subject.return_path:
        return subject.return_path == subject.domain
    known = [PROVIDERS.get(name) for name in subject.providers]
    # these have a Return-Path of their own unless one of yours is set up
    return not known or any(provider is None or provider.include_needed for provider in known)


def _policy(facts: Facts, subject: Subject, sender: str) -> DMARCResult:
    name = "" if sender == subject.domain else sender
    suffix = "" if name else subject.public_suffix_domain
    return check_dmarc(facts, sender, subject=name, public_suffix_domain=suffix)
