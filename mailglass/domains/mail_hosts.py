"""MX and DANE checks: whether replies and bounces reach the domain (RFC 5321 5, RFC 7505, RFC 7672)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mailglass.domains.findings import Area, Finding, Status, ToPublish, in_words, unanswered
from mailglass.domains.lookups import TLSA, Facts, Lookup
from mailglass.domains.names import is_address

MAX_HOSTS: Final = 10
# RFC 7672 3.1: DANE-TA and DANE-EE; what receivers of mail make of the others is undefined
_USAGES: Final = (2, 3)
_DIGITS: Final = {1: 64, 2: 128}

_WHY: Final = {
    "record": "Replies and bounces go to the domain's MX hosts. Many receivers refuse mail from a domain without any.",
    "target": "An MX record must name a host with an address, and not an alias.",
    "tlsa": "DANE lets senders prove the certificate of your mail hosts. Broken records keep mail away.",
}


def check_mx(facts: Facts, domain: str) -> tuple[tuple[Finding, ...], dict[str, Any]]:
    """Check where mail to the domain goes.

    Args:
        facts: the DNS facts.
        domain: the sending domain.

    Returns:
        The findings, and the facts as the JSON report shows them.
    """
    lookup = facts.ask(domain, "MX")
    addresses = (facts.ask(domain, "A"), facts.ask(domain, "AAAA"))
    shown = {"records": [in_words(record) for record in lookup.hosts]}
    if lookup.failed:
        finding = _mx(
            "record",
            Status.CANNOT_VERIFY,
            "The MX records could not be looked up",
            unanswered(lookup),
            (lookup,),
            "Run the check again. If it stays, look at the domain's nameservers.",
        )
        return (finding,), shown
    if not lookup.found:
        return (_without(domain, lookup, addresses),), shown
    null = [record for record in lookup.hosts if not record.host]
    if null and len(lookup.hosts) > 1:
        finding = _mx(
            "record",
            Status.FAIL,
            "A null MX stands beside others",
            ", ".join(in_words(record) for record in lookup.hosts),
            (lookup,),
            "Delete the record `0 .`.",
            reference="RFC 7505 3",
        )
        return (finding,), shown
    if null:
        finding = _mx(
            "record",
            Status.FAIL,
            "A null MX says that the domain takes no mail",
            "0 .",
            (lookup,),
            "Publish the hosts that take replies and bounces. Receivers refuse mail from a domain with a null MX.",
            (ToPublish(domain, "MX", f"10 mail.{domain}."),),
            "RFC 7505 4.2",
        )
        return (finding,), shown
    names = ", ".join(in_words(record) for record in lookup.hosts[:MAX_HOSTS])
    present = _mx("record", Status.PASS, "The domain takes mail", names, (lookup,))
    return (present, *_targets(facts, lookup)), shown


def _without(domain: str, lookup: Lookup, addresses: tuple[Lookup, Lookup]) -> Finding:
    publish = (ToPublish(domain, "MX", f"10 mail.{domain}."),)
    if any(address.found for address in addresses):
        return _mx(
            "record",
            Status.WARN,
            "No MX record",
            f"Mail goes to the address of {domain} itself",
            (lookup, *addresses),
            "Publish the hosts that take replies and bounces.",
            publish,
        )
    if failed := [address for address in addresses if address.failed]:
        return _mx(
            "record",
            Status.CANNOT_VERIFY,
            "The domain's addresses could not be looked up",
            unanswered(failed[0]),
            (lookup, *addresses),
            "Run the check again.",
        )
    return _mx(
        "record",
        Status.FAIL,
        "The domain takes no mail",
        f"{domain} has neither MX nor address records",
        (lookup, *addresses),
        "Publish the hosts that take replies and bounces.",
        publish,
    )


def _targets(facts: Facts, lookup: Lookup) -> list[Finding]:
    hosts = list(dict.fromkeys(record.host for record in lookup.hosts))[:MAX_HOSTS]
    literal = [host for host in hosts if is_address(host)]
    seen = {host: (facts.ask(host, "A"), facts.ask(host, "AAAA")) for host in hosts if host not in literal}
    evidence = tuple(found for both in seen.values() for found in both)
    dead = [host for host, both in seen.items() if not any(map(_may_exist, both))]
    aliases = [f"{host} -> {a.chain[-1]}" for host, (a, _) in seen.items() if a.chain]
    failed = next((lookup for lookup in evidence if lookup.failed), None)
    if literal or (dead and len(dead) == len(hosts)):
        title, remedy = "The MX hosts have no address", "Name hosts with A or AAAA records."
        return [_mx("target", Status.FAIL, title, ", ".join([*literal, *dead]), evidence, remedy)]
    if dead or aliases:
        title = "Some MX hosts are aliases or have no address"
        remedy = "Name hosts that have A or AAAA records themselves."
        observed = ", ".join([*dead, *aliases])
        return [_mx("target", Status.WARN, title, observed, evidence, remedy, reference="RFC 2181 10.3")]
    if failed is not None:
        title, remedy = "Some MX hosts could not be looked up", "Run the check again."
        return [_mx("target", Status.CANNOT_VERIFY, title, unanswered(failed), evidence, remedy)]
    return [_mx("target", Status.PASS, "The MX hosts have addresses", ", ".join(hosts), evidence)]


def _may_exist(lookup: Lookup) -> bool:
    return lookup.failed or lookup.found


def check_dane(facts: Facts, domain: str) -> tuple[Finding, ...]:
    """Check the certificate associations of the MX hosts.

    Args:
        facts: the DNS facts.
        domain: the sending domain.
    """
    lookup = facts.ask(domain, "MX")
    hosts = list(dict.fromkeys(record.host for record in lookup.hosts if record.host))[:MAX_HOSTS]
    checked = [(host, facts.ask(f"_25._tcp.{host}", "TLSA")) for host in hosts]
    published = [(host, found) for host, found in checked if found.found]
    if failed := tuple(found for _, found in checked if found.failed):
        remedy = "Run the check again. Senders that follow DANE keep mail back while the look-up fails."
        title = "TLSA records could not be looked up"
        return (_dane(Status.CANNOT_VERIFY, title, unanswered(failed[0]), failed, remedy),)
    if not published:
        return ()
    return (_dane_of(checked, published),)


def _dane_of(checked: Sequence[tuple[str, Lookup]], published: Sequence[tuple[str, Lookup]]) -> Finding:
    """Return the finding of the associations that are published.

    Args:
        checked: every host with its answer.
        published: those of them that have records.
    """
    evidence = tuple(found for _, found in published)
    names = ", ".join(host for host, _ in published)
    wrong = [
        f"{host}: {in_words(record)}"
        for host, found in published
        for record in found.records
        if isinstance(record, TLSA) and not _is_usable(record)
    ]
    if wrong:
        remedy = "Publish usage 3 (DANE-EE) or 2 (DANE-TA) with SHA-256: `3 1 1 <64 hexadecimal digits>`."
        return _dane(Status.FAIL, "A TLSA record cannot be used", "; ".join(wrong), evidence, remedy)
    if not all(found.authenticated for found in evidence):
        remedy = "Sign the zone of the MX hosts, or ask a validating resolver with --resolver. Senders ignore the rest."
        return _dane(Status.WARN, "TLSA records without DNSSEC", names, evidence, remedy)
    if missing := [host for host, found in checked if not found.found]:
        remedy = "Publish TLSA records for all MX hosts."
        return _dane(Status.WARN, "Some MX hosts have no TLSA record", ", ".join(missing), evidence, remedy)
    return _dane(Status.PASS, "DANE protects the MX hosts", names, evidence)


def _is_usable(record: TLSA) -> bool:
    digits = _DIGITS.get(record.matching)
    fits = len(record.data) == digits if digits else record.matching == 0 and bool(record.data)
    return record.usage in _USAGES and record.selector in (0, 1) and fits


def _dane(status: Status, title: str, observed: str, evidence: tuple[Lookup, ...], remediation: str = "") -> Finding:
    return Finding(
        Area.DANE,
        "tlsa",
        status,
        title,
        _WHY["tlsa"],
        observed,
        remediation,
        evidence=evidence,
        reference="RFC 7672 3.1",
    )


def _mx(
    check: str,
    status: Status,
    title: str,
    observed: str,
    evidence: tuple[Lookup, ...],
    remediation: str = "",
    records: tuple[ToPublish, ...] = (),
    reference: str = "RFC 5321 5.1",
) -> Finding:
    return Finding(
        Area.MX,
        check,
        status,
        title,
        _WHY[check],
        observed,
        remediation,
        records=records,
        evidence=evidence,
        reference=reference,
    )
