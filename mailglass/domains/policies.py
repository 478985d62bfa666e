"""MTA-STS, TLS-RPT and BIMI checks: policies that a domain publishes beside its mail (RFC 8461, RFC 8460)."""

from __future__ import annotations

import re
from typing import Any, Final

from mailglass.domains.dmarc import DMARCResult
from mailglass.domains.findings import Area, Finding, Status, ToPublish, unanswered
from mailglass.domains.lookups import Facts, Lookup
from mailglass.domains.policy_file import PATH, POLICY, parse_policy
from mailglass.domains.tags import parse_tags, version_of

_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_EXAMPLE_ID: Final = "20260101000000"
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


def check_mta_sts(facts: Facts, domain: str, *, online: bool = False) -> tuple[Finding, ...]:
    """Check the record of MTA-STS, and the policy file where it may be fetched.

    Args:
        facts: the DNS facts.
        domain: the sending domain.
        online: whether the policy file is fetched over HTTPS.
    """
    lookup = facts.ask(f"_mta-sts.{domain}", "TXT")
    publish = (ToPublish(f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={_EXAMPLE_ID}"),)
    if lookup.failed:
        return (_unclear(Area.MTA_STS, lookup),)
    records = [text for text in lookup.texts if version_of(text) == "STSv1"]
    if not records:
        observed = "Senders may deliver to you without TLS"
        return (_finding(Area.MTA_STS, "record", Status.INFO, "No MTA-STS", observed, lookup),)
    if len(records) > 1:
        title, observed = "More than one MTA-STS record", f"{len(records)} records"
        remedy = "Delete all but one."
        return (_finding(Area.MTA_STS, "record", Status.FAIL, title, observed, lookup, remedy, publish),)
    tags = parse_tags(records[0])
    if tags.errors or not _ID.match(tags.get("id")):
        title, remedy = "The MTA-STS record is malformed", "Give an id of up to 32 letters and digits."
        return (_finding(Area.MTA_STS, "record", Status.FAIL, title, records[0], lookup, remedy, publish),)
    present = _finding(Area.MTA_STS, "record", Status.PASS, "MTA-STS is announced", records[0], lookup)
    return (present, _mta_sts_policy(facts, domain, online))


def _mta_sts_policy(facts: Facts, domain: str, online: bool) -> Finding:
    host = f"mta-sts.{domain}"
    url = f"https://{host}{PATH}"
    a, aaaa = facts.ask(host, "A"), facts.ask(host, "AAAA")

    def finding(status: Status, title: str, observed: str, lookup: Lookup, remedy: str = "") -> Finding:
        return _finding(Area.MTA_STS, "policy", status, title, observed, lookup, remedy)

    if not a.failed and not aaaa.failed and not a.found and not aaaa.found:
        return finding(Status.FAIL, "The host of the MTA-STS policy does not resolve", host, a, f"Serve {url}.")
    if not online:
        title, remedy = (
            "The MTA-STS policy was not fetched",
            "Run the check with --online: it should be `mode: enforce`.",
        )
        return finding(Status.CANNOT_VERIFY, title, "Only DNS is asked. `mode: testing` enforces nothing.", a, remedy)
    file = facts.ask(host, POLICY)
    mx = facts.ask(domain, "MX")
    if file.failed:
        title = "The MTA-STS policy could not be fetched"
        return finding(Status.CANNOT_VERIFY, title, unanswered(file), file, f"Look at {url}, and run the check again.")
    policy = parse_policy(file.texts[0] if file.texts else "")
    if policy.errors:
        title = "The MTA-STS policy is malformed"
        return finding(Status.FAIL, title, "; ".join(policy.errors), file, f"Correct {url} (RFC 8461 3.2).")
    if policy.mode != "enforce":
        title, remedy = "The MTA-STS policy does not enforce TLS", "Set `mode: enforce` once TLS reports look good."
        return finding(Status.WARN, title, f"mode: {policy.mode}", file, remedy)
    if mx.failed:
        title = "The MX records could not be looked up"
        return finding(Status.CANNOT_VERIFY, title, unanswered(mx), mx, "Run the check again.")
    strangers = [record.host for record in mx.hosts if record.host and not policy.allows(record.host)]
    if strangers:
        title, remedy = (
            "The MTA-STS policy does not allow an MX host",
            "Add it as `mx:` to the policy, and change the id.",
        )
        return finding(Status.FAIL, title, ", ".join(strangers), file, remedy)
    return finding(Status.PASS, "The MTA-STS policy enforces TLS", f"mx: {', '.join(policy.patterns[:5])}", file)


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
