"""Checks of addresses, hosts and the zone: FCrDNS, HELO, tracking hosts, CAA, DNSSEC, nameservers."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from mailglass.domains.findings import Area, Finding, Status, ToPublish, unanswered
from mailglass.domains.lookups import CAA, Facts, Lookup, LookupStatus
from mailglass.domains.names import parents

MAX_NAMES: Final = 10
MAX_SERVERS: Final = 13

_WHY: Final = {
    "reverse": "Gmail refuses mail from an address whose name and address do not confirm each other.",
    "generic": "A name made of the address looks like a dial-up line to many receivers.",
    "helo": "Receivers distrust a server whose HELO name does not resolve.",
    "address": "Links and unsubscribe buttons in mail that was sent lead to this host for years.",
    "caa": "CAA records say which authorities may issue the host's certificate.",
    "signed": "DNSSEC keeps others from forging your records. A broken signature makes the whole domain unreachable.",
    "count": "A domain with one nameserver cannot be looked up while that one is away.",
    "resolve": "A nameserver that does not resolve answers nobody.",
    "agree": "Nameservers that disagree give some receivers old records.",
}


def check_address(facts: Facts, address: str) -> tuple[Finding, ...]:
    """Check that the name of a sending address leads back to it.

    Args:
        facts: the DNS facts.
        address: IPv4 or IPv6, that sends.
    """
    parsed = ipaddress.ip_address(address)
    lookup = facts.ask(parsed.reverse_pointer, "PTR")
    rdtype = "A" if parsed.version == 4 else "AAAA"
    if lookup.failed:
        title = "The address's name could not be looked up"
        return (_reverse(Status.CANNOT_VERIFY, title, unanswered(lookup), (lookup,), "Run the check again.", address),)
    names = lookup.texts[:MAX_NAMES]
    if not names:
        remedy = "Have whoever owns the address publish a PTR record with the sending host's name."
        publish = (ToPublish(parsed.reverse_pointer, "PTR", "mail.example.com."),)
        observed = f"No PTR record for {parsed}"
        title = "The sending address has no name"
        return (_reverse(Status.FAIL, title, observed, (lookup,), remedy, address, publish),)
    forward = [(name, facts.ask(name, rdtype)) for name in names]
    evidence = (lookup, *(found for _, found in forward))
    confirmed = [name for name, found in forward if any(_same(parsed, text) for text in found.texts)]
    if confirmed:
        title, observed = "Name and address confirm each other", f"{parsed} = {confirmed[0]}"
        passed = _reverse(Status.PASS, title, observed, evidence, "", address)
        return (passed, *_generic(parsed, confirmed[0], lookup))
    if failed := [found for _, found in forward if found.failed]:
        title, observed = "The address's name could not be confirmed", unanswered(failed[0])
        return (_reverse(Status.CANNOT_VERIFY, title, observed, evidence, "Run the check again.", address),)
    title = "The address's name does not lead back to it"
    observed = f"{parsed} is {', '.join(names[:3])}, which has another address"
    remedy = f"Give {names[0]} an {rdtype} record with {parsed}."
    publish = (ToPublish(names[0], rdtype, str(parsed)),)
    return (_reverse(Status.FAIL, title, observed, evidence, remedy, address, publish),)


def _reverse(
    status: Status,
    title: str,
    observed: str,
    evidence: tuple[Lookup, ...],
    remediation: str,
    address: str,
    records: tuple[ToPublish, ...] = (),
) -> Finding:
    return _finding(
        Area.PTR, "reverse", status, title, observed, evidence, remediation, address, records, "RFC 1912 2.1"
    )


def _same(address: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str) -> bool:
    try:
        return ipaddress.ip_address(text) == address
    except ValueError:
        return False


def _generic(address: ipaddress.IPv4Address | ipaddress.IPv6Address, name: str, lookup: Lookup) -> tuple[Finding, ...]:
    if address.version != 4:
        return ()
    octets = str(address).split(".")
    parts = re.split(r"[^0-9]+", name)
    if not (all(octet in parts for octet in octets) or "".join(octet.zfill(3) for octet in octets) in name):
        return ()
    return (
        _finding(
            Area.PTR,
            "generic",
            Status.WARN,
            "The address's name is generic",
            f"{address} is {name}",
            (lookup,),
            "Choose a name of your own, such as mail.example.com.",
            str(address),
        ),
    )


def check_helo(facts: Facts, name: str) -> tuple[Finding, ...]:
    """Check that a HELO name resolves.

    Args:
        facts: the DNS facts.
        name: what EHLO says.
    """
    lookups = (facts.ask(name, "A"), facts.ask(name, "AAAA"))
    if any(lookup.found for lookup in lookups):
        addresses = [text for lookup in lookups for text in lookup.texts]
        return (
            _finding(
                Area.PTR,
                "helo",
                Status.PASS,
                "The HELO name resolves",
                ", ".join(addresses[:5]),
                lookups,
                subject=name,
                reference="RFC 5321 4.1.4",
            ),
        )
    if failed := [lookup for lookup in lookups if lookup.failed]:
        return (
            _finding(
                Area.PTR,
                "helo",
                Status.CANNOT_VERIFY,
                "The HELO name could not be looked up",
                unanswered(failed[0]),
                lookups,
                "Run the check again.",
                name,
                reference="RFC 5321 4.1.4",
            ),
        )
    return (
        _finding(
            Area.PTR,
            "helo",
            Status.WARN,
            "The HELO name does not resolve",
            name,
            lookups,
            "Give it an address, or set helo_name to a name that has one.",
            name,
            reference="RFC 5321 4.1.4",
        ),
    )


def check_host(facts: Facts, name: str) -> tuple[Finding, ...]:
    """Check a host of tracking or unsubscription: that it resolves, and that a certificate may be issued for it.

    Args:
        facts: the DNS facts.
        name: the host.
    """
    lookups = (facts.ask(name, "A"), facts.ask(name, "AAAA"))
    chain = lookups[0].chain
    if any(lookup.found for lookup in lookups):
        addresses = [text for lookup in lookups for text in lookup.texts]
        first = _finding(
            Area.HOSTS,
            "address",
            Status.PASS,
            "The host resolves",
            ", ".join([*chain[-1:], *addresses[:5]]),
            lookups,
            subject=name,
        )
    elif failed := [lookup for lookup in lookups if lookup.failed]:
        first = _finding(
            Area.HOSTS,
            "address",
            Status.CANNOT_VERIFY,
            "The host could not be looked up",
            unanswered(failed[0]),
            lookups,
            "Run the check again.",
            name,
        )
    else:
        led = f", a CNAME of {chain[-1]}," if chain else ""
        first = _finding(
            Area.HOSTS,
            "address",
            Status.FAIL,
            "The host does not resolve",
            f"{name}{led} has no address",
            lookups,
            "Publish the CNAME that your provider shows, or an address.",
            name,
        )
    return (first, *_caa(facts, name))


def _caa(facts: Facts, name: str) -> tuple[Finding, ...]:
    """Find the CAA records that count for a name: the nearest above it (RFC 8659 3)."""
    lookups = [facts.ask(parent, "CAA") for parent in parents(name) if "." in parent]
    for lookup in lookups:
        if lookup.failed:
            return (
                _finding(
                    Area.HOSTS,
                    "caa",
                    Status.CANNOT_VERIFY,
                    "CAA could not be looked up",
                    unanswered(lookup),
                    (lookup,),
                    "Run the check again. Authorities issue nothing while the look-up fails.",
                    name,
                ),
            )
        issuers = [
            record.value.strip() for record in lookup.records if isinstance(record, CAA) and record.tag == "issue"
        ]
        if not lookup.found or not issuers:
            continue
        allowed = [issuer for issuer in issuers if issuer.partition(";")[0].strip()]
        if not allowed:
            return (
                _finding(
                    Area.HOSTS,
                    "caa",
                    Status.FAIL,
                    "No authority may issue a certificate",
                    f"{lookup.question.name}: ;",
                    (lookup,),
                    "Allow the authority that your provider uses.",
                    name,
                    (ToPublish(name, "CAA", '0 issue "letsencrypt.org"'),),
                    "RFC 8659 4.2",
                ),
            )
        return (
            _finding(
                Area.HOSTS,
                "caa",
                Status.INFO,
                "Only some authorities may issue a certificate",
                ", ".join(allowed[:5]),
                (lookup,),
                "Make sure that your provider's authority is among them.",
                name,
                reference="RFC 8659 4.2",
            ),
        )
    return ()


def check_zone(facts: Facts, domain: str) -> tuple[Finding, ...]:
    """Check the zone: its signature and its nameservers.

    Args:
        facts: the DNS facts.
        domain: the sending domain.
    """
    return (*_dnssec(facts, domain), *_nameservers(facts, domain))


def _dnssec(facts: Facts, domain: str) -> tuple[Finding, ...]:
    soa, ds = facts.ask(domain, "SOA"), facts.ask(domain, "DS")

    def finding(status: Status, title: str, observed: str, remedy: str = "") -> tuple[Finding, ...]:
        return (_finding(Area.DNSSEC, "signed", status, title, observed, (soa, ds), remedy, reference="RFC 4035 5"),)

    if soa.bogus or ds.bogus:
        remedy = "Renew the signatures, or remove the DS records at the registrar until they are right."
        return finding(Status.FAIL, "DNSSEC of the domain is broken", soa.error or ds.error, remedy)
    if soa.failed or ds.failed:
        observed = unanswered(soa if soa.failed else ds)
        return finding(Status.CANNOT_VERIFY, "DNSSEC could not be looked up", observed, "Run the check again.")
    if soa.authenticated:
        return finding(Status.PASS, "The zone is signed", "The resolver validates it")
    if ds.found:
        title, remedy = "The zone is signed, and this resolver does not validate", "Ask another one with --resolver."
        return finding(Status.INFO, title, "DS records, and no AD flag", remedy)
    return finding(Status.INFO, "The zone is not signed", "No DS records")


def _nameservers(facts: Facts, domain: str) -> tuple[Finding, ...]:
    lookup = facts.ask(domain, "NS")
    if lookup.failed:
        return (
            _finding(
                Area.NS,
                "count",
                Status.CANNOT_VERIFY,
                "The nameservers could not be looked up",
                unanswered(lookup),
                (lookup,),
                "Run the check again.",
            ),
        )
    if not lookup.found:
        # a name within a zone has none of its own
        return ()
    servers = lookup.texts[:MAX_SERVERS]
    count = _finding(
        Area.NS,
        "count",
        Status.PASS if len(servers) > 1 else Status.WARN,
        f"{len(servers)} nameserver(s)",
        ", ".join(servers),
        (lookup,),
        "" if len(servers) > 1 else "Add a second nameserver in another network.",
        reference="RFC 2182 5",
    )
    seen = [(server, facts.ask(server, "A"), facts.ask(server, "AAAA")) for server in servers]
    dead = [
        server
        for server, a, aaaa in seen
        if LookupStatus.FAILED not in (a.status, aaaa.status) and not a.found and not aaaa.found
    ]
    findings = [count]
    if dead:
        findings.append(
            _finding(
                Area.NS,
                "resolve",
                Status.WARN,
                "A nameserver has no address",
                ", ".join(dead),
                tuple(found for _, *pair in seen for found in pair),
                "Correct the delegation at the registrar.",
            )
        )
    return (*findings, *_agreement(facts, domain, seen))


def _agreement(facts: Facts, domain: str, seen: list[tuple[str, Lookup, Lookup]]) -> tuple[Finding, ...]:
    """Compare the serial numbers that the nameservers give."""
    answers = [(server, facts.ask(domain, "SOA", a.texts[0])) for server, a, _ in seen if a.found and a.texts]
    serials = {text: server for server, found in answers for text in found.texts[:1]}
    evidence = tuple(found for _, found in answers)
    if len(serials) > 1:
        return (
            _finding(
                Area.NS,
                "agree",
                Status.WARN,
                "The nameservers disagree",
                ", ".join(f"{server} has serial {serial}" for serial, server in serials.items()),
                evidence,
                "Wait for the zone's transfer. If it stays, look at the transfer's log.",
                reference="RFC 1034 4.3.5",
            ),
        )
    if serials and not any(found.failed for found in evidence):
        return (
            _finding(
                Area.NS,
                "agree",
                Status.PASS,
                "The nameservers agree",
                f"serial {next(iter(serials))}",
                evidence,
                reference="RFC 1034 4.3.5",
            ),
        )
    return ()


def _finding(
    area: Area,
    check: str,
    status: Status,
    title: str,
    observed: str,
    evidence: tuple[Lookup, ...],
    remediation: str = "",
    subject: str = "",
    records: tuple[ToPublish, ...] = (),
    reference: str = "",
) -> Finding:
    return Finding(
        area, check, status, title, _WHY[check], observed, remediation, subject, records, evidence, reference
    )
