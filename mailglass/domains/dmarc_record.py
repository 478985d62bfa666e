"""DMARC records (RFC 9989 4.7) and the tree walk that finds the record that counts (RFC 9989 4.10)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mailglass.domains.lookups import Facts, Lookup
from mailglass.domains.tags import TagList, parse_tags, version_of

POLICIES: Final = ("none", "quarantine", "reject")
REMOVED: Final = ("pct", "rf", "ri")
"""Tags of RFC 7489 that RFC 9989 has taken away."""

MAX_LABELS: Final = 7
MAX_URIS: Final = 20

_MAILTO: Final = re.compile(r"mailto:[^@\s!,;]{1,64}@([^@\s!,;?]{1,255})(!\d{1,20}[kmgt]?)?\Z", re.IGNORECASE)
_VALUES: Final = {
    "p": POLICIES,
    "sp": POLICIES,
    "np": POLICIES,
    "adkim": ("r", "s"),
    "aspf": ("r", "s"),
    "t": ("y", "n"),
    "psd": ("y", "n", "u"),
}


@dataclass(frozen=True, slots=True)
class ReportURI:
    """Destination of reports.

    Attributes:
        text: as published.
        host: the domain of a mailto address; "" for another scheme or a malformed one.
        sized: it has a size limit, which RFC 9990 no longer knows.
        error: what is wrong with it.
    """

    text: str
    host: str = ""
    sized: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class DMARCRecord:
    """A parsed record.

    Attributes:
        text: as published.
        tags: the tag list, names in lower case.
        errors: tags whose value is not allowed, and broken syntax.
    """

    text: str
    tags: TagList
    errors: tuple[str, ...]

    def _policy(self, name: str) -> str | None:
        value = self.tags.get(name).lower()
        return value if value in POLICIES else None

    @property
    def policy(self) -> str:
        """The policy for the domain of the record; `none` where p is missing or not allowed (RFC 9989 4.7, 4.8)."""
        return self._policy("p") or "none"

    def policy_below(self, exists: bool) -> str:
        """Return the policy for names below the domain of the record.

        Args:
            exists: whether the name exists in DNS.
        """
        if not exists and self._policy("np"):
            return self._policy("np") or "none"
        return self._policy("sp") or self.policy

    @property
    def testing(self) -> bool:
        """True if `t=y` asks receivers to apply the next weaker policy."""
        return self.tags.get("t").lower() == "y"

    @property
    def psd(self) -> str:
        """`y`: a public suffix; `n`: an organisational domain; `u`: to be found out."""
        value = self.tags.get("psd", "u").lower()
        return value if value in _VALUES["psd"] else "u"

    def strict(self, name: str) -> bool:
        """Return whether `adkim` or `aspf` asks for strict alignment."""
        return self.tags.get(name).lower() == "s"

    def uris(self, name: str) -> tuple[ReportURI, ...]:
        """Return the URIs of `rua` or `ruf`."""
        value = self.tags.get(name)
        if not value:
            return ()
        return tuple(_uri(item.strip()) for item in value.split(",")[:MAX_URIS])


def _uri(text: str) -> ReportURI:
    if found := _MAILTO.match(text.partition("?")[0]):
        return ReportURI(text, found[1].lower().rstrip("."), bool(found[2]))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,20}:.", text) and not text.lower().startswith("mailto:"):
        return ReportURI(text)
    return ReportURI(text, error="not a mailto: URI" if ":" not in text else "not an address")


def is_dmarc(text: str) -> bool:
    """Return whether a TXT record is a DMARC record: the first tag is `v=DMARC1`, in this case."""
    return version_of(text) == "DMARC1"


def parse_dmarc(text: str) -> DMARCRecord:
    """Parse a DMARC record. Linear in its length; never raises."""
    tags = parse_tags(text, lower_names=True)
    errors = list(tags.errors)
    errors += [f"{name}= occurs twice" for name in tags.duplicates]
    for name, allowed in _VALUES.items():
        if name in tags.tags and tags.get(name).lower() not in allowed:
            errors.append(f"{name}={tags.get(name)[:40]} is not one of {', '.join(allowed)}")
    return DMARCRecord(text, tags, tuple(errors[:10]))


@dataclass(frozen=True, slots=True)
class Step:
    """One query of a tree walk.

    Attributes:
        domain: whose record was looked for.
        lookup: of `_dmarc.<domain>`.
        texts: the DMARC records there.
        record: the record, if there is exactly one.
    """

    domain: str
    lookup: Lookup
    texts: tuple[str, ...]
    record: DMARCRecord | None


@dataclass(frozen=True, slots=True)
class Walk:
    """A tree walk.

    Attributes:
        domain: where it began.
        steps: in order.
        organizational: the organisational domain (RFC 9989 4.10.2).
        found: the step whose record counts (RFC 9989 4.10.1); None if there is none.
        unclear: a lookup failed that may change the answer.
    """

    domain: str
    steps: tuple[Step, ...]
    organizational: str
    found: Step | None
    unclear: Lookup | None


def walk_names(domain: str) -> Iterator[str]:
    """Yield the names of a tree walk: the domain, then at most seven above it (RFC 9989 4.10)."""
    labels = domain.split(".")
    yield domain
    labels = labels[-MAX_LABELS:] if len(labels) > MAX_LABELS else labels[1:]
    while labels:
        yield ".".join(labels)
        labels = labels[1:]


def walk_tree(facts: Facts, domain: str) -> Walk:
    """Walk from a domain towards the root, and find the record and the organisational domain.

    All names are asked for at once, so a walk takes one round trip.

    Args:
        facts: the DNS facts.
        domain: in A-labels.
    """
    lookups = [(name, facts.ask(f"_dmarc.{name}", "TXT")) for name in walk_names(domain)]
    steps: list[Step] = []
    unclear: Lookup | None = None
    for name, lookup in lookups:
        texts = tuple(text for text in lookup.texts if is_dmarc(text))
        record = parse_dmarc(texts[0]) if len(texts) == 1 else None
        steps.append(Step(name, lookup, texts, record))
        if lookup.failed:
            unclear = unclear or lookup
        if record is not None and record.psd in ("y", "n"):
            break
    organizational, psd = _organizational(domain, steps)
    by_domain = {step.domain: step for step in steps if step.record is not None}
    found = by_domain.get(domain) or by_domain.get(organizational) or psd
    return Walk(domain, tuple(steps), organizational, found, unclear)


def _organizational(domain: str, steps: list[Step]) -> tuple[str, Step | None]:
    """Return the organisational domain, and the record of the public suffix above it if there is one."""
    labels = domain.split(".")
    for step in steps:
        if step.record is not None and step.record.psd == "n":
            return step.domain, None
        if step.record is not None and step.record.psd == "y" and step.domain != domain:
            return ".".join(labels[-(step.domain.count(".") + 2) :]), step
    with_record = [step.domain for step in steps if step.record is not None]
    return (with_record[-1] if with_record else domain), None
