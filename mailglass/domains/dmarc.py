"""DMARC checks (RFC 9989, RFC 9990): the policy that counts for a From domain, and where its reports go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mailglass.domains.dmarc_record import REMOVED, DMARCRecord, Step, Walk, is_dmarc, walk_tree
from mailglass.domains.findings import Area, Finding, Status, ToPublish, unanswered
from mailglass.domains.lookups import Facts, Lookup, LookupStatus
from mailglass.domains.names import is_queryable
from mailglass.domains.tags import version_of

MAX_TARGETS: Final = 5
_WEAKER: Final = {"reject": "quarantine", "quarantine": "none", "none": "none"}
_STRENGTH: Final = {"none": 0, "quarantine": 1, "reject": 2}

_REFERENCES: Final = {
    "record": "RFC 9989 4.10",
    "misplaced": "RFC 9989 4.5",
    "syntax": "RFC 9989 4.8",
    "policy": "RFC 9989 4.7",
    "subdomains": "RFC 9989 4.7",
    "testing": "RFC 9989 4.7",
    "removed": "RFC 9989 C.1",
    "order": "RFC 7489 6.3",
    "reports": "RFC 9990 3",
    "external": "RFC 9990 4",
    "suffix": "RFC 9989 4.10.2",
}
_WHY: Final = {
    "record": "Gmail, Yahoo and Microsoft ask every bulk sender for a DMARC record.",
    "misplaced": "Receivers look for DMARC only below `_dmarc`.",
    "syntax": "Receivers discard a tag that is not well formed and take its default.",
    "policy": "The policy says what receivers make of mail that does not authenticate.",
    "subdomains": "A weaker policy for subdomains lets others send mail from any name below the domain.",
    "testing": "With t=y receivers apply the next weaker policy.",
    "removed": "Tags that the standard has taken away mean nothing to receivers that follow it.",
    "order": "Older receivers read the policy only as the second tag.",
    "reports": "Aggregate reports show who sends mail in your name, and what of it fails.",
    "external": "Reports to another domain are only sent where that domain agrees.",
    "suffix": "Receivers that still use the Public Suffix List may align other domains than those that walk the tree.",
}


@dataclass(frozen=True, slots=True)
class DMARCResult:
    """Result of the DMARC checks for one From domain.

    Attributes:
        domain: of From.
        findings: of all checks.
        walk: the tree walk.
        policy: the effective policy, `t=y` considered; None where there is none or nothing is known.
        unclear: nothing is known about the policy.
    """

    domain: str
    findings: tuple[Finding, ...]
    walk: Walk
    policy: str | None
    unclear: bool

    @property
    def enforced(self) -> bool:
        """True if mail that fails is quarantined or rejected."""
        return self.policy in ("quarantine", "reject")

    @property
    def record(self) -> DMARCRecord | None:
        """The record that counts."""
        return self.walk.found.record if self.walk.found else None

    def summary(self) -> dict[str, Any]:
        """Return the facts as the JSON report shows them."""
        found = self.walk.found
        return {
            "domain": self.domain,
            "record": found.record.text if found and found.record else None,
            "record_domain": found.domain if found else None,
            "organizational_domain": self.walk.organizational,
            "policy": self.policy,
            "walk": [
                {"name": f"_dmarc.{step.domain}", "status": step.lookup.status.value, "records": list(step.texts)}
                for step in self.walk.steps
            ],
        }


def check_dmarc(facts: Facts, domain: str, *, subject: str = "", public_suffix_domain: str = "") -> DMARCResult:
    """Check the DMARC policy of a From domain.

    Args:
        facts: the DNS facts.
        domain: of From.
        subject: names the domain in the findings, where it is not the one under test.
        public_suffix_domain: the organisational domain by the Public Suffix List; "" where that is not at hand.
    """
    return _Checks(facts, domain, subject).run(public_suffix_domain)


class _Checks:
    """The checks of one From domain.

    Args:
        facts: the DNS facts.
        domain: of From.
        subject: of the findings.
    """

    def __init__(self, facts: Facts, domain: str, subject: str) -> None:
        self._facts, self._domain, self._subject = facts, domain, subject
        self._walk = walk_tree(facts, domain)
        self._apex = facts.ask(domain, "TXT")

    def run(self, public_suffix_domain: str) -> DMARCResult:
        """Run every check."""
        first, found, unclear = self._walk.steps[0], self._walk.found, self._walk.unclear
        findings = self._misplaced()
        certain = found is not None and (found is first or unclear is None)
        several = len(first.texts) > 1
        if found is not None and certain and found.record is not None:
            # several records of one name are all discarded, and the walk goes on
            presence = self._several(first) if several else self._present(found)
            findings = [presence, *findings, *self._of_record(found, found.record)]
        elif several:
            findings.insert(0, self._several(first))
        elif unclear is not None:
            findings.insert(0, self._unclear(unclear))
            return DMARCResult(self._domain, tuple(findings), self._walk, None, True)
        else:
            findings.insert(0, self._missing())
        if public_suffix_domain and unclear is None and public_suffix_domain != self._walk.organizational:
            findings.append(self._suffix(public_suffix_domain))
        record = found.record if found is not None and certain else None
        policy = self._policy(found, record) if found is not None and record is not None else None
        return DMARCResult(self._domain, tuple(findings), self._walk, policy, False)

    def _finding(
        self,
        check: str,
        status: Status,
        title: str,
        observed: str,
        remediation: str = "",
        *,
        publish: str = "",
        at: str = "",
        evidence: tuple[Lookup, ...] = (),
    ) -> Finding:
        name = f"_dmarc.{at or self._domain}"
        return Finding(
            Area.DMARC,
            check,
            status,
            title,
            _WHY[check],
            observed,
            remediation,
            self._subject,
            (ToPublish(name, "TXT", publish),) if publish else (),
            evidence or tuple(step.lookup for step in self._walk.steps),
            _REFERENCES[check],
        )

    def _chain(self) -> str:
        return " -> ".join(
            f"_dmarc.{step.domain} ({'record' if step.texts else step.lookup.status.value})"
            for step in self._walk.steps
        )

    def _present(self, found: Step) -> Finding:
        text = found.record.text if found.record else ""
        return self._finding("record", Status.PASS, "A DMARC record applies", f"{text} [{self._chain()}]")

    def _several(self, first: Step) -> Finding:
        return self._finding(
            "record",
            Status.FAIL,
            "More than one DMARC record",
            f"{len(first.texts)} records: receivers use none",
            "Delete all but one.",
            publish=first.texts[0],
        )

    def _unclear(self, lookup: Lookup) -> Finding:
        return self._finding(
            "record",
            Status.CANNOT_VERIFY,
            "DMARC could not be looked up",
            unanswered(lookup),
            "Run the check again. If it stays, look at the domain's nameservers.",
        )

    def _missing(self) -> Finding:
        near = [
            text
            for step in self._walk.steps[:1]
            for text in step.lookup.texts
            if version_of(text).upper().startswith("DMARC") or "dmarc" in text[:12].lower()
        ]
        if near:
            return self._finding(
                "record",
                Status.FAIL,
                "A TXT record is meant to be DMARC and is not",
                near[0],
                "Begin the record with exactly `v=DMARC1;`.",
                publish="v=DMARC1; p=none",
            )
        return self._finding(
            "record",
            Status.FAIL,
            "No DMARC record",
            self._chain(),
            "Publish a record. Begin with p=none and a mailbox for reports, and tighten it once they look good.",
            publish=f"v=DMARC1; p=none; rua=mailto:dmarc@{self._domain}",
        )

    def _misplaced(self) -> list[Finding]:
        here = [text for text in self._apex.texts if is_dmarc(text)]
        if not here:
            return []
        alone = self._walk.found is None
        return [
            self._finding(
                "misplaced",
                Status.FAIL if alone else Status.WARN,
                "A DMARC record stands at the domain itself",
                here[0],
                "Move it to `_dmarc`, and delete it here.",
                publish=here[0] if alone else "",
                evidence=(self._apex,),
            )
        ]

    def _suffix(self, public_suffix_domain: str) -> Finding:
        return self._finding(
            "suffix",
            Status.INFO,
            "The tree walk and the Public Suffix List disagree",
            f"tree walk {self._walk.organizational}, Public Suffix List {public_suffix_domain}",
            "Publish psd=n in the DMARC record of your organisational domain.",
        )

    def _policy(self, found: Step, record: DMARCRecord) -> str:
        stated = self._stated(found, record)
        return _WEAKER[stated] if record.testing else stated

    def _stated(self, found: Step, record: DMARCRecord) -> str:
        if found.domain == self._domain:
            return record.policy
        return record.policy_below(exists=self._apex.status is not LookupStatus.NXDOMAIN)

    def _of_record(self, found: Step, record: DMARCRecord) -> list[Finding]:
        findings = [self._effective(found, record)]
        if record.errors:
            findings.append(
                self._finding(
                    "syntax",
                    Status.FAIL if "p=" in " ".join(record.errors) else Status.WARN,
                    "The DMARC record is malformed",
                    "; ".join(record.errors),
                    "Correct the tags that are named.",
                    at=found.domain,
                )
            )
        else:
            findings.append(
                self._finding("syntax", Status.PASS, "The DMARC record is well formed", ", ".join(record.tags.names))
            )
        below = record.policy_below(exists=True)
        weakest = min((below, record.policy_below(exists=False)), key=lambda name: _STRENGTH[name])
        if found.domain == self._domain and _STRENGTH[weakest] < _STRENGTH[record.policy]:
            findings.append(
                self._finding(
                    "subdomains",
                    Status.WARN,
                    "Subdomains have a weaker policy",
                    f"p={record.policy}, {weakest} below",
                    "Remove sp= and np=, or make them as strict as p=.",
                    publish=_rewritten(record, sp=None, np=None),
                    at=found.domain,
                )
            )
        return [*findings, *self._old_readers(found, record), *self._reports(found, record)]

    def _effective(self, found: Step, record: DMARCRecord) -> Finding:
        stated = self._stated(found, record)
        where = "" if found.domain == self._domain else f", from {found.domain}"
        if record.testing:
            return self._finding(
                "testing",
                Status.WARN,
                "DMARC is in test mode",
                f"t=y: {stated} counts as {_WEAKER[stated]}{where}",
                "Remove t=y once the reports look good.",
                publish=_rewritten(record, t=None),
                at=found.domain,
            )
        if stated == "none":
            return self._finding(
                "policy",
                Status.WARN,
                "DMARC only monitors",
                f"The policy is none{where}",
                "Raise the policy to quarantine, then reject, once the reports look good.",
                publish=_rewritten(record, p="quarantine") if found.domain == self._domain else "",
                at=found.domain,
            )
        return self._finding(
            "policy", Status.PASS, "DMARC is enforced", f"The policy for {self._domain} is {stated}{where}"
        )

    def _old_readers(self, found: Step, record: DMARCRecord) -> list[Finding]:
        findings = []
        gone = [name for name in REMOVED if name in record.tags.tags]
        if gone:
            partly = record.tags.get("pct", "100") not in ("100", "")
            findings.append(
                self._finding(
                    "removed",
                    Status.WARN if partly else Status.INFO,
                    "The DMARC record has tags of the old standard",
                    ", ".join(f"{name}={record.tags.get(name)}" for name in gone),
                    "Remove them. Older receivers apply the policy to a part of the mail while pct is below 100."
                    if partly
                    else "Remove them.",
                    publish=_rewritten(record, pct=None, rf=None, ri=None),
                    at=found.domain,
                )
            )
        names = record.tags.names
        if "p" in names and names[1:2] != ("p",):
            findings.append(
                self._finding(
                    "order",
                    Status.WARN,
                    "p= is not the second tag",
                    ", ".join(names),
                    "Write p= right behind v=.",
                    publish=_rewritten(record),
                    at=found.domain,
                )
            )
        return findings

    def _reports(self, found: Step, record: DMARCRecord) -> list[Finding]:
        uris = (*record.uris("rua"), *record.uris("ruf"))
        if not record.uris("rua"):
            return [
                self._finding(
                    "reports",
                    Status.INFO,
                    "No aggregate reports are asked for",
                    "no rua=",
                    "Add a mailbox that reports are sent to.",
                    publish=_rewritten(record, rua=f"mailto:dmarc@{found.domain}"),
                    at=found.domain,
                )
            ]
        if wrong := [uri for uri in uris if uri.error]:
            return [
                self._finding(
                    "reports",
                    Status.WARN,
                    "A report address is malformed",
                    "; ".join(f"{uri.text}: {uri.error}" for uri in wrong[:5]),
                    "Write addresses as rua=mailto:dmarc@example.com, with a comma between two.",
                    at=found.domain,
                )
            ]
        hosts = list(dict.fromkeys(uri.host for uri in uris if uri.host and is_queryable(uri.host)))[:MAX_TARGETS]
        findings = [self._mailboxes(hosts)]
        if any(uri.sized for uri in uris):
            findings[0] = self._finding(
                "reports",
                Status.INFO,
                "A report address has a size limit",
                ", ".join(uri.text for uri in uris),
                "Remove what begins with `!`: the standard has taken size limits away.",
                at=found.domain,
            )
        return findings + self._external(found, hosts)

    def _mailboxes(self, hosts: list[str]) -> Finding:
        """Check that report mailboxes are at domains that take mail."""
        lookups = [(host, [self._facts.ask(host, rdtype) for rdtype in ("MX", "A", "AAAA")]) for host in hosts]
        evidence = tuple(lookup for _, found in lookups for lookup in found)
        deaf = [
            host
            for host, (mx, *addresses) in lookups
            if not any(lookup.found or lookup.failed for lookup in (mx, *addresses))
            or (mx.found and all(not record.host for record in mx.hosts))
        ]
        if deaf:
            return self._finding(
                "reports",
                Status.WARN,
                "A report address takes no mail",
                ", ".join(deaf),
                "Name a mailbox that exists.",
                evidence=evidence,
            )
        if failed := [lookup for lookup in evidence if lookup.failed]:
            return self._finding(
                "reports",
                Status.CANNOT_VERIFY,
                "A report address could not be checked",
                unanswered(failed[0]),
                "Run the check again.",
                evidence=evidence,
            )
        return self._finding(
            "reports",
            Status.PASS,
            "Aggregate reports are asked for",
            ", ".join(hosts) or "no mailto: address",
            evidence=evidence,
        )

    def _external(self, found: Step, hosts: list[str]) -> list[Finding]:
        """Check that targets under another organisational domain agree to get the reports."""
        own = self._walk.organizational
        findings = []
        for host in hosts:
            if host == found.domain:
                continue
            walk = walk_tree(self._facts, host)
            consent = self._facts.ask(f"{found.domain}._report._dmarc.{host}", "TXT")
            if walk.organizational == own and walk.unclear is None:
                continue
            if any(is_dmarc(text) for text in consent.texts):
                status, title, remedy = Status.PASS, "The report target agrees", ""
            elif consent.failed or (walk.unclear is not None and self._related(host, own)):
                status, title = Status.CANNOT_VERIFY, "The report target's agreement could not be looked up"
                remedy = "Run the check again."
            else:
                status, title = Status.WARN, "The report target has not agreed"
                remedy = "Have the target publish the record, or send the reports to your own domain."
            name = f"{found.domain}._report._dmarc.{host}"
            findings.append(
                Finding(
                    Area.DMARC,
                    "external",
                    status,
                    title,
                    _WHY["external"],
                    name,
                    remedy,
                    host,
                    (ToPublish(name, "TXT", "v=DMARC1"),) if status is Status.WARN else (),
                    (consent,),
                    _REFERENCES["external"],
                )
            )
        return findings

    @staticmethod
    def _related(host: str, own: str) -> bool:
        return host == own or host.endswith(f".{own}") or own.endswith(f".{host}")


def _rewritten(record: DMARCRecord, **changes: str | None) -> str:
    """Return the record with other values; p stands right behind v."""
    tags = {name: value for name, value in record.tags.tags.items() if name not in changes}
    tags |= {name: value for name, value in changes.items() if value}
    tags.pop("v", None)
    policy = tags.pop("p", "none")
    return "; ".join(["v=DMARC1", f"p={policy}", *(f"{name}={value}" for name, value in tags.items())])
