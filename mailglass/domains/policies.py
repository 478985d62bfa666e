"""MTA-STS, TLS-RPT and BIMI checks: policies that a domain publishes beside its mail (RFC 8461, RFC 8460)."""

from __future__ import annotations

import re
from typing import Any, Final

from mailglass.domains.dmarc import DMARCResult
from mailglass.domains.findings import Area, Finding, Status, ToPublish, unanswered
from mailglass.domains.lookups import Facts, Lookup
from mailglass.domains.tags import parse_tags, version_of

_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_WHY: Final = {
    Area.MTA_STS: "MTA-STS lets senders insist on TLS with a valid certificate when they deliver to you.",
    Area.TLS_RPT: "TLS reports tell when others cannot deliver to you over TLS.",
    Area.BIMI: "BIMI shows your logo beside mail that passes DMARC.",
}
_REFERENCES: Final = {
    Area.MTA_STS: "RFC 8461 3.1",
    Area.TLS_RPT: "RFC 8460 3",
    Area.BIMI: "draft-brand-indicators-for-message-identification",
}


def check_mta_sts(facts: Facts, domain: str, day: str = "20260101000000") -> tuple[Finding, ...]:
    """Check the record of MTA-STS. Its policy file needs HTTPS, which is not asked for.

    Args:
        facts: the DNS facts.
        domain: the sending domain.
        day: of the `id=` that is proposed.
    """
    lookup = facts.ask(f"_mta-sts.{domain}", "TXT")
    host = facts.ask(f"mta-sts.{domain}", "A")
    host6 = facts.ask(f"mta-sts.{domain}", "AAAA")
    publish = (ToPublish(f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={day}"),)
    if lookup.failed:
        return (_unclear(Area.MTA_STS, lookup),)
    records = [text for text in lookup.texts if version_of(text) == "STSv1"]
    if not records:
        return (
            _finding(
                Area.MTA_STS, "record", Status.INFO, "No MTA-STS", "Senders may deliver to you without TLS", lookup
            ),
        )
    if len(records) > 1:
        return (
            _finding(
                Area.MTA_STS,
                "record",
                Status.FAIL,
                "More than one MTA-STS record",
                f"{len(records)} records",
                lookup,
                "Delete all but one.",
                publish,
            ),
        )
    tags = parse_tags(records[0])
    if tags.errors or not _ID.match(tags.get("id")):
        return (
            _finding(
                Area.MTA_STS,
                "record",
                Status.FAIL,
                "The MTA-STS record is malformed",
                records[0],
                lookup,
                "Give an id of up to 32 letters and digits.",
                publish,
            ),
        )
    present = _finding(Area.MTA_STS, "record", Status.PASS, "MTA-STS is announced", records[0], lookup)
    if not host.failed and not host6.failed and not host.found and not host6.found:
        return (
            present,
            _finding(
                Area.MTA_STS,
                "policy",
                Status.FAIL,
                "The host of the MTA-STS policy does not resolve",
                f"mta-sts.{domain}",
                host,
                f"Serve https://mta-sts.{domain}/.well-known/mta-sts.txt.",
            ),
        )
    return (
        present,
        _finding(
            Area.MTA_STS,
            "policy",
            Status.CANNOT_VERIFY,
            "The MTA-STS policy was not fetched",
            "Only DNS is asked. A policy in `mode: testing` enforces nothing.",
            host,
            f"Look at https://mta-sts.{domain}/.well-known/mta-sts.txt: it should say `mode: enforce`.",
        ),
    )


def check_tls_rpt(facts: Facts, domain: str) -> tuple[Finding, ...]:
    """Check the record that asks for TLS reports.

    Args:
        facts: the DNS facts.
        domain: the sending domain.
    """
    lookup = facts.ask(f"_smtp._tls.{domain}", "TXT")
    publish = (ToPublish(f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua=mailto:tls-reports@{domain}"),)
    if lookup.failed:
        return (_unclear(Area.TLS_RPT, lookup),)
    records = [text for text in lookup.texts if version_of(text) == "TLSRPTv1"]
    if not records:
        return (
            _finding(
                Area.TLS_RPT,
                "record",
                Status.INFO,
                "No TLS reports are asked for",
                "No record",
                lookup,
                "Publish where reports go.",
                publish,
            ),
        )
    if len(records) > 1:
        return (
            _finding(
                Area.TLS_RPT,
                "record",
                Status.WARN,
                "More than one TLS-RPT record",
                f"{len(records)} records",
                lookup,
                "Delete all but one: senders use none.",
                publish,
            ),
        )
    targets = [item.strip() for item in parse_tags(records[0]).get("rua").split(",") if item.strip()]
    if not targets or not all(target.startswith(("mailto:", "https:")) for target in targets):
        return (
            _finding(
                Area.TLS_RPT,
                "record",
                Status.WARN,
                "The TLS-RPT record is malformed",
                records[0],
                lookup,
                "Give rua= a mailto: or https: address.",
                publish,
            ),
        )
    return (_finding(Area.TLS_RPT, "record", Status.PASS, "TLS reports are asked for", records[0], lookup),)


def check_bimi(facts: Facts, domain: str, dmarc: DMARCResult) -> tuple[tuple[Finding, ...], dict[str, Any]]:
    """Check the logo's record and what it needs.

    Args:
        facts: the DNS facts.
        domain: the sending domain.
        dmarc: its policy.

    Returns:
        The findings, and the facts as the JSON report shows them.
    """
    own = facts.ask(f"default._bimi.{domain}", "TXT")
    organizational = dmarc.walk.organizational
    lookup = own
    if not own.failed and not own.found and organizational != domain:
        lookup = facts.ask(f"default._bimi.{organizational}", "TXT")
    records = [text for text in lookup.texts if version_of(text).upper() == "BIMI1"]
    shown = {"records": list(records)}
    if lookup.failed:
        return (_unclear(Area.BIMI, lookup),), shown
    if not records:
        return (_finding(Area.BIMI, "record", Status.INFO, "No BIMI record", "No logo is shown", lookup),), shown
    if len(records) > 1:
        finding = _finding(
            Area.BIMI,
            "record",
            Status.FAIL,
            "More than one BIMI record",
            f"{len(records)} records",
            lookup,
            "Delete all but one.",
        )
        return (finding,), shown
    tags = parse_tags(records[0])
    logo, evidence = tags.get("l"), tags.get("a")
    if "l" in tags.tags and not logo and not evidence:
        return (_finding(Area.BIMI, "record", Status.INFO, "The domain declines BIMI", records[0], lookup),), shown
    return (*_logo(lookup, records[0], logo, evidence), _prerequisite(dmarc, lookup)), shown


def _logo(lookup: Lookup, record: str, logo: str, evidence: str) -> list[Finding]:
    path = logo.partition("?")[0].lower()
    if not logo.lower().startswith("https://") or not path.endswith((".svg", ".svgz")):
        return [
            _finding(
                Area.BIMI,
                "record",
                Status.FAIL,
                "The BIMI logo is no https address of an SVG",
                record,
                lookup,
                "Write l=https://HOST/logo.svg, of the profile SVG Tiny PS.",
            )
        ]
    if evidence and not evidence.lower().startswith("https://"):
        return [
            _finding(
                Area.BIMI,
                "record",
                Status.FAIL,
                "The BIMI certificate is no https address",
                record,
                lookup,
                "Write a=https://HOST/certificate.pem.",
            )
        ]
    if not evidence:
        return [
            _finding(
                Area.BIMI,
                "record",
                Status.INFO,
                "The BIMI logo has no certificate",
                record,
                lookup,
                "Gmail and Apple show only logos with a mark certificate: a=https://HOST/certificate.pem.",
            )
        ]
    return [_finding(Area.BIMI, "record", Status.PASS, "BIMI names a logo and its certificate", record, lookup)]


def _prerequisite(dmarc: DMARCResult, lookup: Lookup) -> Finding:
    record = dmarc.record
    if dmarc.unclear:
        return _finding(
            Area.BIMI,
            "dmarc",
            Status.CANNOT_VERIFY,
            "DMARC could not be looked up",
            "BIMI needs DMARC to be enforced",
            lookup,
            "Run the check again.",
        )
    partly = record is not None and record.tags.get("pct", "100") not in ("100", "")
    open_below = record is not None and record.policy_below(exists=True) == "none"
    if dmarc.enforced and not partly and not open_below:
        return _finding(
            Area.BIMI, "dmarc", Status.PASS, "DMARC is enforced, as BIMI needs it", str(dmarc.policy), lookup
        )
    return _finding(
        Area.BIMI,
        "dmarc",
        Status.FAIL,
        "BIMI needs DMARC to be enforced",
        f"policy {dmarc.policy or 'missing'}" + (", for a part of the mail" if partly else ""),
        lookup,
        "Set p=quarantine or p=reject, without pct below 100 and without sp=none.",
    )


def _unclear(area: Area, lookup: Lookup) -> Finding:
    return _finding(
        area,
        "record",
        Status.CANNOT_VERIFY,
        "The record could not be looked up",
        unanswered(lookup),
        lookup,
        "Run the check again.",
    )


def _finding(
    area: Area,
    check: str,
    status: Status,
    title: str,
    observed: str,
    lookup: Lookup,
    remediation: str = "",
    records: tuple[ToPublish, ...] = (),
) -> Finding:
    return Finding(
        area,
        check,
        status,
        title,
        _WHY[area],
        observed,
        remediation,
        records=records,
        evidence=(lookup,),
        reference=_REFERENCES[area],
    )
