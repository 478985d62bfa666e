"""SPF checks (RFC 7208)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mailglass.domains.findings import Area, Finding, Status, ToPublish, unanswered
from mailglass.domains.lookups import Facts, Lookup
from mailglass.domains.spf_record import MAX_LOOKUPS, MAX_VOIDS, VERSION, SPFRecord, Term, is_spf
from mailglass.domains.spf_tree import Node, Tree, grow, walk

NEAR_LIMIT: Final = 8
# RFC 7208 3.4: what keeps an answer within 512 octets over UDP
LONG: Final = 450
TOO_LONG: Final = 512
WIDE4: Final = 15
WIDE6: Final = 19
TYPE_99: Final = "SPF"

_REFERENCES: Final = {
    "record": "RFC 7208 4.5",
    "syntax": "RFC 7208 4.6",
    "terminal": "RFC 7208 5.1",
    "lookups": "RFC 7208 4.6.4",
    "voids": "RFC 7208 4.6.4",
    "mx_hosts": "RFC 7208 4.6.4",
    "ptr": "RFC 7208 5.5",
    "includes": "RFC 7208 5.2",
    "redirect": "RFC 7208 6.1",
    "after_all": "RFC 7208 5.1",
    "duplicates": "RFC 7208 4.6.4",
    "size": "RFC 7208 3.4",
    "strings": "RFC 7208 3.3",
    "wide": "RFC 7208 5.6",
    "type99": "RFC 7208 3.1",
}
_WHY: Final = {
    "record": "Receivers look here for the hosts that may send mail with this domain in the envelope.",
    "syntax": "A receiver that cannot read the record ends with permerror, and SPF never passes.",
    "terminal": "The last term says what receivers make of mail from hosts that are not listed.",
    "lookups": "A receiver that needs more than 10 lookups ends with permerror, and SPF never passes.",
    "voids": "Many receivers end with permerror after more than 2 lookups that find nothing.",
    "mx_hosts": "An `mx` term with more than 10 hosts is a permerror.",
    "ptr": "`ptr` is slow and unreliable. Receivers are told not to use it.",
    "includes": "One broken include breaks the whole record: the result is permerror.",
    "redirect": "Receivers ignore `redirect=` where the record has an `all`.",
    "after_all": "Receivers evaluate nothing behind `all`.",
    "duplicates": "A term that stands twice spends lookups and says nothing new.",
    "size": "A long answer does not fit a UDP packet, and some receivers then see no record.",
    "strings": "Receivers join the strings of a TXT record without a space.",
    "wide": "A wide network lets many strangers send mail that passes SPF.",
    "type99": "Receivers ignore records of the type SPF. A second copy is easily forgotten.",
}


@dataclass(frozen=True, slots=True)
class SPFResult:
    """Result of the SPF checks for one domain.

    Attributes:
        findings: of all checks.
        tree: the record with what it includes.
    """

    findings: tuple[Finding, ...]
    tree: Tree

    def summary(self) -> dict[str, Any]:
        """Return the facts as the JSON report shows them."""
        root = self.tree.root
        return {
            "domain": root.domain,
            "records": list(root.records),
            "lookup_count": root.cost,
            "void_lookup_count": len(self.tree.voids),
            "terminal": _terminal(root.record),
            "tree": [
                {"domain": node.domain, "term": node.term.text if node.term else "", "lookups": node.cost}
                for node in walk(root)
            ],
        }


def check_spf(
    facts: Facts, domain: str, *, subject: str = "", enforced: bool = False, envelope: bool = True
) -> SPFResult:
    """Check a domain's SPF record and all that it includes.

    Args:
        facts: the DNS facts.
        domain: of the envelope's sender.
        subject: names the domain in the findings, where it is not the one under test.
        enforced: whether the domain's DMARC policy is quarantine or reject.
        envelope: whether mail leaves with this domain in the envelope; otherwise nobody has to be listed.
    """
    tree = grow(facts, domain)
    type99 = facts.ask(domain, TYPE_99)
    checks = _Checks(domain, subject, tree, enforced, envelope)
    record = checks.record()
    findings = [record]
    if tree.root.record is not None:
        findings += checks.all(tree.root.record)
    if type99.found:
        findings.append(
            checks.finding(
                "type99",
                Status.WARN,
                "An SPF record is published with the type SPF",
                f"{len(type99.records)} record(s) of type 99",
                "Delete the record of the type SPF. The TXT record is the one that counts.",
                evidence=(type99,),
            )
        )
    return SPFResult(tuple(findings), tree)


class _Checks:
    """The checks of one record.

    Args:
        domain: whose record.
        subject: of the findings.
        tree: the record with what it includes.
        enforced: whether DMARC is enforced.
        envelope: whether mail leaves with this domain in the envelope.
    """

    def __init__(self, domain: str, subject: str, tree: Tree, enforced: bool, envelope: bool) -> None:
        self._domain, self._subject, self._tree = domain, subject, tree
        self._enforced, self._envelope = enforced, envelope

    def finding(
        self,
        check: str,
        status: Status,
        title: str,
        observed: str,
        remediation: str = "",
        *,
        publish: str = "",
        evidence: tuple[Lookup, ...] = (),
    ) -> Finding:
        """Return a finding of one check."""
        return Finding(
            Area.SPF,
            check,
            status,
            title,
            _WHY[check],
            observed,
            remediation,
            self._subject,
            (ToPublish(self._domain, "TXT", publish),) if publish else (),
            evidence or (self._tree.root.lookup,),
            _REFERENCES[check],
        )

    def record(self) -> Finding:
        """Check that there is exactly one record."""
        root = self._tree.root
        if root.lookup.failed:
            return self.finding(
                "record",
                Status.CANNOT_VERIFY,
                "SPF could not be looked up",
                unanswered(root.lookup),
                "Run the check again. If it stays, look at the domain's nameservers.",
            )
        if len(root.records) > 1:
            return self.finding(
                "record",
                Status.FAIL,
                "More than one SPF record",
                f"{len(root.records)} records: receivers use none",
                "Merge them into one record and delete the others.",
                publish=_merged(root.records),
            )
        if root.record is not None:
            return self.finding("record", Status.PASS, "One SPF record", root.record.text)
        near = [text for text in root.lookup.texts if _is_near(text)]
        if near:
            return self.finding(
                "record",
                Status.FAIL,
                "A TXT record is meant to be SPF and is not",
                near[0],
                "Begin the record with exactly `v=spf1` and a space.",
                publish=_mended(near[0]),
            )
        if not self._envelope:
            return self.finding(
                "record",
                Status.WARN,
                "No SPF record",
                f"{self._domain} has none. Your mail has another domain in its envelope, and others may use this one",
                "Publish that nobody sends with this domain in the envelope.",
                publish="v=spf1 -all",
            )
        return self.finding(
            "record",
            Status.FAIL,
            "No SPF record",
            f"{self._domain} has {len(root.lookup.texts)} TXT record(s), none of SPF",
            "Publish a record that lists the hosts that send for this domain. Replace `mx` by your provider's include.",
            publish="v=spf1 mx ~all",
        )

    def all(self, record: SPFRecord) -> list[Finding]:
        """Run every check of a record that is there."""
        findings = [self._syntax(record), self._terminal(record), self._lookups(), self._voids()]
        findings += self._includes()
        findings += [
            found
            for found in (
                self._crowded(),
                self._pointers(),
                self._redirect(record),
                self._after_all(record),
                self._duplicates(record),
                self._size(record),
                self._strings(record),
                self._wide(record),
            )
            if found is not None
        ]
        return findings

    def _syntax(self, record: SPFRecord) -> Finding:
        if not record.errors:
            return self.finding("syntax", Status.PASS, "The SPF record is well formed", f"{len(record.terms)} term(s)")
        terms = [term for term in record.terms if not term.error]
        once = {(term.name if term.modifier else term.text): term.text for term in reversed(terms)}
        good = " ".join([VERSION, *reversed(once.values())])
        return self.finding(
            "syntax",
            Status.FAIL,
            "The SPF record is malformed",
            "; ".join(record.errors),
            "Mend or remove the terms that are named.",
            publish=good,
        )

    def _terminal(self, record: SPFRecord) -> Finding:
        end, redirect = record.all, record.redirect
        if end is None and redirect is not None:
            return self.finding("terminal", Status.PASS, "Another record decides", redirect.text)
        if end is None:
            return self.finding(
                "terminal",
                Status.WARN,
                "The SPF record has no `all`",
                "Hosts that are not listed are neutral",
                "End the record with `~all`.",
                publish=f"{record.text.rstrip()} ~all",
            )
        others = [term for term in record.terms if not term.modifier and term.name != "all"]
        if end.qualifier == "-" and not others and self._envelope:
            return self.finding(
                "terminal",
                Status.FAIL,
                "The SPF record says that this domain sends no mail",
                record.text,
                "List the hosts that send for this domain before `-all`.",
                publish="v=spf1 mx -all",
            )
        if end.qualifier == "+":
            return self.finding(
                "terminal",
                Status.FAIL,
                "The SPF record lets everybody send",
                f"It ends with `{end.text}`",
                "End the record with `~all` or `-all`.",
                publish=_with_end(record, "~all"),
            )
        if end.qualifier == "?":
            return self.finding(
                "terminal",
                Status.WARN if self._enforced else Status.FAIL,
                "The SPF record says nothing of other hosts",
                f"It ends with `{end.text}`"
                + (", and DMARC rejects what does not align" if self._enforced else ", and DMARC enforces nothing"),
                "End the record with `~all` or `-all`.",
                publish=_with_end(record, "~all"),
            )
        if end.qualifier == "~":
            note = " DMARC is enforced, so softfail is enough." if self._enforced else ""
            return self.finding("terminal", Status.PASS, "Other hosts softfail", f"It ends with `{end.text}`.{note}")
        return self.finding("terminal", Status.PASS, "Other hosts fail", f"It ends with `{end.text}`")

    def _lookups(self) -> Finding:
        count, unclear = self._tree.root.cost, self._tree.unclear
        more = "more than " if self._tree.cut else ""
        parts = [f"{child.domain} {child.cost + 1}" for child in self._tree.root.children]
        observed = f"{more}{count} of {MAX_LOOKUPS} lookups" + (f" ({', '.join(parts[:15])})" if parts else "")
        evidence = tuple(node.lookup for node in walk(self._tree.root) if not node.loop)
        remedy = "Remove includes that nobody sends by, or list the networks with ip4: and ip6: instead."
        if count > MAX_LOOKUPS or self._tree.cut:
            return self.finding(
                "lookups", Status.FAIL, "SPF needs more than 10 lookups", observed, remedy, evidence=evidence
            )
        if unclear:
            return self.finding(
                "lookups",
                Status.CANNOT_VERIFY,
                "SPF lookups could not be counted",
                f"at least {observed}; {unanswered(unclear[0])}",
                "Run the check again.",
                evidence=(*unclear,),
            )
        if count >= NEAR_LIMIT:
            return self.finding(
                "lookups", Status.WARN, "SPF is near the limit of 10 lookups", observed, remedy, evidence=evidence
            )
        return self.finding("lookups", Status.PASS, "SPF stays within 10 lookups", observed, evidence=evidence)

    def _voids(self) -> Finding:
        both = self._tree.voids
        most = max(self._tree.voids4, self._tree.voids6, key=len)
        remedy = "Remove the terms whose names do not resolve."
        if len(both) > MAX_VOIDS or len(self._tree.voids4) > MAX_VOIDS:
            found = self._tree.voids4 if len(self._tree.voids4) > MAX_VOIDS else both
            return self.finding(
                "voids", Status.FAIL, "More than 2 SPF lookups find nothing", "; ".join(found[:10]), remedy
            )
        if self._tree.unclear:
            return self.finding(
                "voids",
                Status.CANNOT_VERIFY,
                "Void lookups could not be counted",
                unanswered(self._tree.unclear[0]),
                "Run the check again.",
                evidence=(*self._tree.unclear,),
            )
        if len(most) > MAX_VOIDS:
            return self.finding(
                "voids",
                Status.WARN,
                "More than 2 SPF lookups find nothing for senders with IPv6",
                "; ".join(most[:10]),
                "Add AAAA records, or list the networks with ip6:.",
            )
        return self.finding(
            "voids",
            Status.PASS,
            "SPF lookups find what they look for",
            f"{len(both)} of {MAX_VOIDS} void lookups" + (f": {'; '.join(both)}" if both else ""),
        )

    def _includes(self) -> list[Finding]:
        root = self._tree.root
        broken = [(node, reason) for node, reason in self._tree.broken() if node is not root]
        found = (
            [
                self.finding(
                    "includes",
                    Status.FAIL,
                    "A part of the SPF record is broken",
                    "; ".join(f"{node.domain}: {reason}" for node, reason in broken[:10]),
                    f"Remove {_leading(root, broken[0][0])} from the record, or have its owner mend it.",
                    publish=_without(root.record, _leading(root, broken[0][0])),
                    evidence=tuple(node.lookup for node, _ in broken),
                )
            ]
            if broken
            else []
        )
        failed = [node for node in walk(root) if node.lookup.failed and node is not root and not node.loop]
        if failed and not broken:
            return [
                self.finding(
                    "includes",
                    Status.CANNOT_VERIFY,
                    "A part of the SPF record could not be looked up",
                    "; ".join(unanswered(node.lookup) for node in failed[:10]),
                    "Run the check again.",
                    evidence=tuple(node.lookup for node in failed),
                )
            ]
        if not found and root.children:
            domains = ", ".join(child.domain for child in root.children[:15])
            found = [self.finding("includes", Status.PASS, "All parts of the SPF record are there", domains)]
        return found

    def _crowded(self) -> Finding | None:
        if not self._tree.crowded:
            return None
        return self.finding(
            "mx_hosts",
            Status.FAIL,
            "An `mx` term has more than 10 hosts",
            "; ".join(self._tree.crowded[:5]),
            "List the networks with ip4: and ip6: instead of `mx`.",
        )

    def _pointers(self) -> Finding | None:
        if not self._tree.pointers:
            return None
        return self.finding(
            "ptr",
            Status.WARN,
            "The SPF record uses `ptr`",
            "; ".join(self._tree.pointers[:5]),
            "Replace `ptr` by the networks or hosts that send.",
        )

    def _redirect(self, record: SPFRecord) -> Finding | None:
        redirect = next((term for term in record.terms if term.modifier and term.name == "redirect"), None)
        if redirect is None or record.all is None:
            return None
        return self.finding(
            "redirect",
            Status.WARN,
            "`redirect=` stands beside `all`",
            f"{redirect.text} and {record.all.text}",
            "Remove one of the two.",
            publish=_without(record, redirect.text),
        )

    def _after_all(self, record: SPFRecord) -> Finding | None:
        if not record.ignored:
            return None
        terms = [term for term in record.terms if term not in record.ignored and term is not record.all]
        end = record.all.text if record.all else ""
        return self.finding(
            "after_all",
            Status.WARN,
            "Terms stand behind `all`",
            " ".join(term.text for term in record.ignored[:10]),
            "Move them before `all`.",
            publish=" ".join([VERSION, *(term.text for term in [*terms, *record.ignored]), end]),
        )

    def _duplicates(self, record: SPFRecord) -> Finding | None:
        seen: set[str] = set()
        twice: list[Term] = []
        for term in record.terms:
            key = term.text.lower().lstrip("+")
            if key in seen:
                twice.append(term)
            seen.add(key)
        if not twice:
            return None
        kept = [term.text for term in record.terms if term not in twice]
        return self.finding(
            "duplicates",
            Status.WARN,
            "Terms stand twice",
            " ".join(term.text for term in twice[:10]),
            "Remove the second of each.",
            publish=" ".join([VERSION, *kept]),
        )

    def _size(self, record: SPFRecord) -> Finding | None:
        size = len(record.text)
        if size <= LONG:
            return None
        limit = TOO_LONG if size > TOO_LONG else LONG
        return self.finding(
            "size",
            Status.WARN,
            "The SPF record is long",
            f"{size} octets, above {limit}",
            "Move a part of it into a record of its own and include that.",
        )

    def _strings(self, record: SPFRecord) -> Finding | None:
        """Check that no term is broken by the end of a string: the field's usual slip is a missing space."""
        lookup = self._tree.root.lookup
        position = next((number for number, text in enumerate(lookup.texts) if text == record.text), None)
        if position is None or position >= len(lookup.pieces):
            return None
        end = 0
        for length in lookup.pieces[position][:-1]:
            end += length
            if " " in (record.text[end - 1 : end], record.text[end : end + 1]):
                continue
            if record.errors and any(record.text.startswith(name, end) for name in _BEGINNINGS):
                joined = f"{record.text[:end]} {record.text[end:]}"
                return self.finding(
                    "strings",
                    Status.FAIL,
                    "Two strings of the SPF record run together",
                    record.text[max(0, end - 30) : end + 30],
                    "Put a space at the end of the first string.",
                    publish=joined,
                )
        return None

    def _wide(self, record: SPFRecord) -> Finding | None:
        wide = [term for term in record.evaluated if term.qualifier == "+" and _is_wide(term)]
        if not wide:
            return None
        whole = any(term.prefix4 == 0 or term.prefix6 == 0 for term in wide)
        return self.finding(
            "wide",
            Status.FAIL if whole else Status.WARN,
            "The SPF record allows a wide network",
            " ".join(term.text for term in wide[:10]),
            "List only the networks that send for this domain.",
            publish=" ".join([VERSION, *(term.text for term in record.terms if term not in wide)]) if whole else "",
        )


_BEGINNINGS: Final = ("include:", "ip4:", "ip6:", "a:", "mx:", "exists:", "redirect=", "~all", "-all", "?all", "+all")


def _is_wide(term: Term) -> bool:
    return (term.prefix4 is not None and term.prefix4 <= WIDE4) or (term.prefix6 is not None and term.prefix6 <= WIDE6)


def _is_near(text: str) -> bool:
    start = text[:40].strip(" \"'\t").lower()
    return not is_spf(text) and start.startswith(("v=spf", "spf1", "spf=", "v = spf", "v=spf1"))


def _mended(text: str) -> str:
    rest = text.strip(" \"'\t").partition(" ")[2]
    return f"{VERSION} {rest}".rstrip() if rest else f"{VERSION} mx ~all"


def _merged(records: tuple[str, ...]) -> str:
    """Return one record with the terms of several; the strictest `all` of theirs at the end."""
    terms: dict[str, None] = {}
    ends: list[str] = []
    for text in records:
        for piece in text.split(" ")[1:]:
            if piece.lower().lstrip("+-~?") == "all":
                ends.append(piece)
            elif piece:
                terms[piece] = None
    end = next((choice for choice in ("-all", "~all") if choice in ends), "~all")
    return " ".join([VERSION, *terms, end])


def _with_end(record: SPFRecord, end: str) -> str:
    kept = [term.text for term in record.terms if term.modifier or term.name != "all"]
    return " ".join([VERSION, *kept, end])


def _without(record: SPFRecord | None, text: str) -> str:
    if record is None:
        return ""
    return " ".join([VERSION, *(term.text for term in record.terms if term.text != text)])


def _leading(root: Node, broken: Node) -> str:
    """Return the term of the root's own record that leads to a broken part."""
    for child in root.children:
        if any(node is broken for node in walk(child)) and child.term is not None:
            return child.term.text
    return broken.term.text if broken.term else broken.domain


def _terminal(record: SPFRecord | None) -> str | None:
    if record is None:
        return None
    end = record.all or record.redirect
    return end.text if end else None
