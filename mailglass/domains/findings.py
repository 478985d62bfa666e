"""Findings: what one check saw, why it matters, and the exact record that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mailglass.domains.lookups import CAA, MX, TLSA, Lookup, Record
from mailglass.domains.names import shown

MAX_EVIDENCE: Final = 20
MAX_ANSWERS: Final = 20


class Status(StrEnum):
    """Result of a check."""

    PASS = "pass"  # noqa: S105 - a verdict
    INFO = "info"
    CANNOT_VERIFY = "cannot_verify"
    WARN = "warn"
    FAIL = "fail"


RANKS: Final = {status: rank for rank, status in enumerate(Status)}
"""Gravity of each status: the higher the worse."""


class Area(StrEnum):
    """A section of the report, in the order in which they are shown."""

    SPF = "spf"
    DKIM = "dkim"
    DMARC = "dmarc"
    ALIGNMENT = "alignment"
    MX = "mx"
    BIMI = "bimi"
    MTA_STS = "mta_sts"
    TLS_RPT = "tls_rpt"
    DANE = "dane"
    PTR = "ptr"
    DNSSEC = "dnssec"
    NS = "ns"
    HOSTS = "hosts"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class ToPublish:
    """A record to publish.

    Attributes:
        name: the owner, without a final dot.
        rdtype: the type.
        value: as it stands in a zone file, TXT without its quotes.
    """

    name: str
    rdtype: str
    value: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", shown(self.name))
        object.__setattr__(self, "value", shown(self.value, 4096))

    @property
    def zone_line(self) -> str:
        """The record as a line of a zone file; TXT in strings of at most 255 octets (RFC 1035 3.3.14)."""
        value = quoted(self.value) if self.rdtype == "TXT" else self.value
        return f"{self.name}. {self.rdtype} {value}"


def quoted(text: str) -> str:
    """Return a TXT record's text as quoted strings of at most 255 octets."""
    escaped = [text[start : start + 255] for start in range(0, len(text), 255)] or [""]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in escaped)


@dataclass(frozen=True, slots=True)
class Finding:
    """Observation of one check. Everything in it is printable: what strangers publish is escaped here.

    Attributes:
        area: the section.
        check: the check's name within its area.
        status: what it came to.
        title: one line.
        why: why it matters.
        observed: what was seen.
        remediation: what to do; empty where nothing is to be done.
        subject: what it is about, where an area looks at several: a selector, a host, an address.
        records: to publish, exactly as written.
        evidence: the lookups that it rests on.
        reference: the rule, for example `RFC 7208 4.6.4`.
    """

    area: Area
    check: str
    status: Status
    title: str
    why: str
    observed: str
    remediation: str = ""
    subject: str = ""
    records: tuple[ToPublish, ...] = ()
    evidence: tuple[Lookup, ...] = field(default=(), repr=False)
    reference: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "why", "observed", "remediation", "subject"):
            object.__setattr__(self, name, shown(getattr(self, name)))
        object.__setattr__(self, "evidence", self.evidence[:MAX_EVIDENCE])

    @property
    def code(self) -> str:
        """The check with its area, as `--explain` names it: `spf.lookups`."""
        return f"{self.area}.{self.check}"

    @property
    def id(self) -> str:
        """The same at every run, whatever the status: `spf.lookups`, `dkim.key:s1._domainkey.example.com`."""
        return f"{self.code}:{self.subject}" if self.subject else self.code


def worst(findings: Iterable[Finding]) -> Status:
    """Return the worst status; `pass` where there is none."""
    return max((finding.status for finding in findings), key=lambda status: RANKS[status], default=Status.PASS)


def in_words(record: Record) -> str:
    """Return a record of an answer as text that may be shown."""
    if isinstance(record, MX):
        return shown(f"{record.preference} {record.host or '.'}")
    if isinstance(record, TLSA):
        return shown(f"{record.usage} {record.selector} {record.matching} {record.data}")
    if isinstance(record, CAA):
        return shown(f"{record.flags} {record.tag} {record.value}")
    return shown(record)


def unanswered(lookup: Lookup) -> str:
    """Return why a lookup told nothing, for people."""
    return f"{lookup.question.rdtype} {lookup.question.name}: {lookup.error or 'no answer'}"
