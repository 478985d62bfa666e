"""Checks of the records that providers ask for: their include, their CNAME records, their Return-Path."""

from __future__ import annotations

from typing import Final

from mailglass.domains.findings import Area, Finding, Status, ToPublish, unanswered
from mailglass.domains.lookups import Facts, Lookup
from mailglass.domains.names import is_within
from mailglass.domains.providers import PROVIDERS, ProviderDNS
from mailglass.domains.spf_record import VERSION, SPFRecord
from mailglass.domains.spf_tree import Tree, grow, walk
from mailglass.domains.subject import Subject

_WHY: Final = {
    "include": "Without the provider's include its mail fails SPF for this domain.",
    "dkim": "The provider signs with keys behind these records. Without them mail is signed for another domain.",
    "return_path": "A Return-Path of your own makes SPF align. The provider takes bounces there.",
    "verification": "The provider sends for a domain only once its ownership is proved.",
}


def check_providers(facts: Facts, subject: Subject) -> tuple[Finding, ...]:
    """Check what each of the subject's providers asks for.

    Args:
        facts: the DNS facts.
        subject: what sends.
    """
    findings: list[Finding] = []
    for name in subject.providers:
        wanted = PROVIDERS.get(name)
        if wanted is None:
            continue
        findings += _include(facts, subject, name, wanted)
        findings += _dkim(facts, subject, name, wanted)
        findings += _return_path(facts, subject, name, wanted)
        findings += _verification(facts, subject, name, wanted)
    return tuple(findings)


def _include(facts: Facts, subject: Subject, name: str, wanted: ProviderDNS) -> list[Finding]:
    # where the Return-Path is the provider's own, the domain's SPF record is not asked
    domain = subject.return_path or (subject.domain if wanted.include_needed else "")
    if not wanted.include or not domain:
        return []
    tree = grow(facts, domain)
    if any(node.domain == wanted.include for node in walk(tree.root)):
        return [
            _finding(
                "include",
                Status.PASS,
                f"{wanted.title} may send",
                f"include:{wanted.include}",
                name,
                (tree.root.lookup,),
                wanted,
            )
        ]
    if tree.unclear:
        return [
            _finding(
                "include",
                Status.CANNOT_VERIFY,
                f"The include of {wanted.title} could not be looked up",
                unanswered(tree.unclear[0]),
                name,
                (tree.unclear[0],),
                wanted,
                "Run the check again.",
            )
        ]
    publish = (ToPublish(domain, "TXT", _with_include(tree, wanted.include)),)
    return [
        _finding(
            "include",
            Status.FAIL if wanted.include_needed else Status.WARN,
            f"{wanted.title} is missing from SPF",
            f"{domain} does not include {wanted.include}",
            name,
            (tree.root.lookup,),
            wanted,
            "Add the include before `all`.",
            publish,
        )
    ]


def _with_include(tree: Tree, include: str) -> str:
    record: SPFRecord | None = tree.root.record
    if record is None:
        return f"{VERSION} include:{include} ~all"
    end = record.all
    before = [term.text for term in record.terms if end is None or term.position < end.position]
    after = [term.text for term in record.terms if end is not None and term.position >= end.position]
    return " ".join([VERSION, *before, f"include:{include}", *(after or ["~all"])])


def _dkim(facts: Facts, subject: Subject, name: str, wanted: ProviderDNS) -> list[Finding]:
    if not wanted.targets:
        return []
    known = [item for item in subject.selectors if "*" in wanted.targets or item.selector in wanted.targets]
    findings = []
    for item in known:
        targets = wanted.targets.get(item.selector) or wanted.targets.get("*", ())
        lookup = facts.ask(item.name, "CNAME")
        target = lookup.texts[0] if lookup.texts else ""
        if lookup.failed:
            status, title, observed = (
                Status.CANNOT_VERIFY,
                "The provider's CNAME could not be looked up",
                unanswered(lookup),
            )
        elif any(is_within(target, end) for end in targets):
            status, title, observed = Status.PASS, f"{wanted.title} keeps the DKIM key", f"{item.name} -> {target}"
        elif target:
            status, title = Status.FAIL, f"The CNAME does not lead to {wanted.title}"
            observed = f"{item.name} -> {target}"
        else:
            # a key that is published as TXT works until the provider changes it
            keyed = facts.ask(item.name, "TXT")
            status = Status.CANNOT_VERIFY if keyed.failed else Status.WARN if keyed.found else Status.FAIL
            title, observed = f"The CNAME of {wanted.title} is missing", f"{item.name} is no CNAME"
        publish: tuple[ToPublish, ...] = ()
        if status in (Status.FAIL, Status.WARN) and len(targets) == 1 and item.selector in wanted.targets:
            publish = (ToPublish(item.name, "CNAME", f"{_exact(targets[0], item.selector)}."),)
        remedy = "" if status is Status.PASS else f"Publish the CNAME that {wanted.title} shows: {wanted.dkim_hint}."
        findings.append(
            _finding("dkim", status, title, observed, f"{name}:{item.name}", (lookup,), wanted, remedy, publish)
        )
    return findings


def _exact(target: str, selector: str) -> str:
    """Return a CNAME's target; with a placeholder where it differs by customer."""
    return target if target.startswith("dkim") else f"{selector}.domainkey.<ACCOUNT>.wl.{target}"


def _return_path(facts: Facts, subject: Subject, name: str, wanted: ProviderDNS) -> list[Finding]:
    if not subject.return_path or not (wanted.return_path_target or wanted.return_path_mx):
        return []
    if wanted.return_path_mx:
        return [_by_mx(facts, subject.return_path, name, wanted)]
    lookup = facts.ask(subject.return_path, "CNAME")
    target = lookup.texts[0] if lookup.texts else ""
    if lookup.failed:
        return [
            _finding(
                "return_path",
                Status.CANNOT_VERIFY,
                "The Return-Path could not be looked up",
                unanswered(lookup),
                name,
                (lookup,),
                wanted,
                "Run the check again.",
            )
        ]
    if any(is_within(target, end) for end in wanted.return_path_target):
        return [
            _finding(
                "return_path",
                Status.PASS,
                f"The Return-Path leads to {wanted.title}",
                f"{subject.return_path} -> {target}",
                name,
                (lookup,),
                wanted,
            )
        ]
    end = wanted.return_path_target[0]
    publish = (ToPublish(subject.return_path, "CNAME", f"{end}."),) if end != "sendgrid.net" else ()
    return [
        _finding(
            "return_path",
            Status.FAIL,
            f"The Return-Path does not lead to {wanted.title}",
            f"{subject.return_path} -> {target or 'no CNAME'}",
            name,
            (lookup,),
            wanted,
            f"Publish the CNAME that {wanted.title} shows for the Return-Path.",
            publish,
        )
    ]


def _by_mx(facts: Facts, domain: str, name: str, wanted: ProviderDNS) -> Finding:
    lookup = facts.ask(domain, "MX")
    if lookup.failed:
        return _finding(
            "return_path",
            Status.CANNOT_VERIFY,
            "The Return-Path could not be looked up",
            unanswered(lookup),
            name,
            (lookup,),
            wanted,
            "Run the check again.",
        )
    hosts = [record.host for record in lookup.hosts]
    if hosts and all(any(is_within(host, end) for end in wanted.return_path_mx) for host in hosts):
        return _finding(
            "return_path",
            Status.PASS,
            f"{wanted.title} takes the bounces",
            ", ".join(hosts[:3]),
            name,
            (lookup,),
            wanted,
        )
    return _finding(
        "return_path",
        Status.FAIL,
        f"{wanted.title} does not take the bounces",
        f"{domain}: {', '.join(hosts[:3]) or 'no MX record'}",
        name,
        (lookup,),
        wanted,
        "Publish the one MX record with the host of your region.",
        (ToPublish(domain, "MX", "10 feedback-smtp.<REGION>.amazonses.com."),),
    )


def _verification(facts: Facts, subject: Subject, name: str, wanted: ProviderDNS) -> list[Finding]:
    if not wanted.verification:
        return []
    lookup = facts.ask(subject.domain, "TXT")
    if lookup.failed:
        return []
    if any(text.startswith(wanted.verification) for text in lookup.texts):
        return [
            _finding(
                "verification",
                Status.PASS,
                f"{wanted.title} knows the domain",
                wanted.verification,
                name,
                (lookup,),
                wanted,
            )
        ]
    return [
        _finding(
            "verification",
            Status.WARN,
            f"The domain is not verified at {wanted.title}",
            f"No TXT record begins with {wanted.verification}",
            name,
            (lookup,),
            wanted,
            f"Publish the record that {wanted.title} shows: {wanted.dkim_hint}.",
            (ToPublish(subject.domain, "TXT", f"{wanted.verification}<CODE>"),),
        )
    ]


def _finding(
    check: str,
    status: Status,
    title: str,
    observed: str,
    about: str,
    evidence: tuple[Lookup, ...],
    wanted: ProviderDNS,
    remediation: str = "",
    records: tuple[ToPublish, ...] = (),
) -> Finding:
    return Finding(
        Area.PROVIDER, check, status, title, _WHY[check], observed, remediation, about, records, evidence, wanted.source
    )
