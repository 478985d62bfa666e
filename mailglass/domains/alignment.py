"""Alignment: whether the configured From, Return-Path and d= belong together (RFC 9989 4.4)."""

from __future__ import annotations

from typing import Final

from mailglass.domains.dkim import DKIMResult
from mailglass.domains.dmarc import DMARCResult
from mailglass.domains.dmarc_record import Walk, walk_tree
from mailglass.domains.findings import Area, Finding, Status
from mailglass.domains.lookups import Facts, Lookup
from mailglass.domains.spf import SPFResult
from mailglass.domains.subject import Subject

_WHY: Final = {
    "dkim": "DMARC passes by DKIM only where d= belongs to the From domain.",
    "spf": "DMARC passes by SPF only where the Return-Path belongs to the From domain.",
    "dmarc": "Mail that aligns neither by DKIM nor by SPF fails DMARC, whatever else is right.",
}
_REFERENCE: Final = "RFC 9989 4.4"


def check_alignment(
    facts: Facts, subject: Subject, dmarc: DMARCResult, dkim: DKIMResult, spf: SPFResult | None
) -> tuple[Finding, ...]:
    """Check whether mail from one From domain aligns.

    Args:
        facts: the DNS facts.
        subject: what sends.
        dmarc: the policy of the From domain.
        dkim: the keys.
        spf: of the Return-Path's domain; None where that is not known.
    """
    sender = dmarc.domain
    name = "" if sender == subject.domain else sender
    by_dkim = _by_dkim(facts, dmarc, dkim, name)
    by_spf = _by_spf(facts, dmarc, subject, spf, name)
    return (by_dkim, by_spf, _together(sender, by_dkim, by_spf, dmarc, name))


def _by_dkim(facts: Facts, dmarc: DMARCResult, dkim: DKIMResult, name: str) -> Finding:
    strict = dmarc.record is not None and dmarc.record.strict("adkim")
    signing = sorted(dkim.usable | dkim.unclear)
    judged = [(domain, *_aligned(facts, dmarc.walk, domain, strict)) for domain in signing]
    evidence = tuple(lookup for _, _, lookups in judged for lookup in lookups)
    mode = "strict" if strict else "relaxed"
    good = [domain for domain, aligned, _ in judged if aligned and domain in dkim.usable]
    if good:
        return _finding(
            "dkim", Status.PASS, "DKIM aligns", f"From {dmarc.domain}, d={good[0]} ({mode})", name, evidence
        )
    if any(aligned is None or domain in dkim.unclear for domain, aligned, _ in judged):
        return _finding(
            "dkim",
            Status.CANNOT_VERIFY,
            "DKIM alignment could not be verified",
            f"From {dmarc.domain}, d={', '.join(signing[:5])} ({mode})",
            name,
            evidence,
            "Name the selectors that sign, and run the check again.",
        )
    observed = f"From {dmarc.domain}, d={', '.join(signing[:5]) or 'none'} ({mode})"
    return _finding(
        "dkim",
        Status.WARN,
        "DKIM does not align",
        observed,
        name,
        evidence,
        f"Sign with a key of {dmarc.domain}" + (", or remove adkim=s." if strict else "."),
    )


def _by_spf(facts: Facts, dmarc: DMARCResult, subject: Subject, spf: SPFResult | None, name: str) -> Finding:
    if spf is None or not subject.return_path:
        return _finding(
            "spf",
            Status.INFO,
            "The Return-Path is not known",
            "Neither the settings nor the command line name it",
            name,
            (),
            "Give --return-path, or return_path in the account's settings.",
        )
    strict = dmarc.record is not None and dmarc.record.strict("aspf")
    aligned, evidence = _aligned(facts, dmarc.walk, subject.return_path, strict)
    mode = "strict" if strict else "relaxed"
    observed = f"From {dmarc.domain}, Return-Path {subject.return_path} ({mode})"
    if aligned is None or spf.tree.root.lookup.failed:
        return _finding(
            "spf",
            Status.CANNOT_VERIFY,
            "SPF alignment could not be verified",
            observed,
            name,
            evidence,
            "Run the check again.",
        )
    if not aligned:
        return _finding(
            "spf",
            Status.WARN,
            "SPF does not align",
            observed,
            name,
            evidence,
            f"Use a Return-Path below {dmarc.walk.organizational}" + (", or remove aspf=s." if strict else "."),
        )
    broken = [finding for finding in spf.findings if finding.status is Status.FAIL]
    if broken:
        return _finding(
            "spf",
            Status.WARN,
            "The Return-Path aligns, and its SPF record fails",
            f"{observed}; {broken[0].title}",
            name,
            evidence,
            "Mend the SPF record of the Return-Path's domain.",
        )
    return _finding("spf", Status.PASS, "SPF aligns", observed, name, evidence)


def _together(sender: str, by_dkim: Finding, by_spf: Finding, dmarc: DMARCResult, name: str) -> Finding:
    statuses = {by_dkim.status, by_spf.status}
    observed = f"DKIM: {by_dkim.title}. SPF: {by_spf.title}."
    if Status.PASS in statuses:
        return _finding("dmarc", Status.PASS, f"Mail from {sender} aligns", observed, name, ())
    # an unknown Return-Path may align
    if statuses & {Status.CANNOT_VERIFY, Status.INFO} or dmarc.unclear:
        return _finding(
            "dmarc",
            Status.CANNOT_VERIFY,
            f"Whether mail from {sender} aligns is not known",
            observed,
            name,
            (),
            "Name the selectors that sign and the Return-Path, and run the check again.",
        )
    return _finding(
        "dmarc",
        Status.FAIL,
        f"Mail from {sender} does not align",
        observed,
        name,
        (),
        f"Sign with a DKIM key of {sender}, or use a Return-Path below it.",
    )


def _aligned(facts: Facts, walk: Walk, domain: str, strict: bool) -> tuple[bool | None, tuple[Lookup, ...]]:
    """Return whether a domain aligns with the one that was walked from; None where nobody can tell."""
    if domain == walk.domain:
        return True, ()
    if strict:
        return False, ()
    other = walk_tree(facts, domain)
    evidence = tuple(step.lookup for step in other.steps)
    if walk.unclear is not None or other.unclear is not None:
        return None, evidence
    return walk.organizational == other.organizational, evidence


def _finding(
    check: str, status: Status, title: str, observed: str, name: str, evidence: tuple[Lookup, ...], remedy: str = ""
) -> Finding:
    return Finding(
        Area.ALIGNMENT,
        check,
        status,
        title,
        _WHY[check],
        observed,
        remedy,
        name,
        evidence=evidence,
        reference=_REFERENCE,
    )
