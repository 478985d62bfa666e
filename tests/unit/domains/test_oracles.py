"""The doctor against checkdmarc, pyspf, dkimpy and authheaders, over 200 generated zones.

Each zone is served by a DNS server of its own, and all of them ask it. Where they disagree, an explanation below cites
the rule. A disagreement that nobody explains fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import checkdmarc.dmarc
import checkdmarc.spf
import dkim
import dns.exception
import dns.resolver
import pytest
import spf
from authheaders.dmarc_lookup import receiver_record_walk

from mailglass.domains.findings import Status
from mailglass.domains.report import Report
from mailglass.domains.spf_record import is_spf
from mailglass.domains.subject import Selector, Subject
from mailglass.testing.dns_server import DNSServer
from tests.domain_generator import OUTSIDER, SELECTOR, Generated, generate
from tests.domain_zones import examined

ZONES: Final = 200
# so many share a test: the oracles ask one question after the other, which takes seconds
TOGETHER: Final = 20
PERMANENT: Final = ("spf.syntax", "spf.lookups", "spf.includes", "spf.mx_hosts", "spf.voids")


@dataclass
class Zone:
    """A generated zone with what the doctor says of it.

    Attributes:
        generated: the records.
        report: of the doctor.
        resolver: asks the zone's server.
    """

    generated: Generated
    report: Report
    resolver: dns.resolver.Resolver

    @property
    def domain(self) -> str:
        return self.generated.domain

    @property
    def facts(self) -> Any:
        return self.report.facts

    def texts(self) -> list[str]:
        """Return all TXT records that may be part of its SPF."""
        return [text for name, texts in self.generated.records.items() if name.endswith(" TXT") for text in texts]

    def spf(self) -> str:
        """Return what SPF would end with, as far as it does not depend on the message: none, permerror or ok."""
        own = [text for text in self.generated.records[f"{self.domain} TXT"] if is_spf(text)]
        failed = {finding.code for finding in self.report.findings if finding.status is Status.FAIL}
        if not own:
            return "none"
        return "permerror" if len(own) > 1 or failed & set(PERMANENT) else "ok"


def zones(chunk: int) -> Iterator[Zone]:
    for seed in range(chunk * TOGETHER, (chunk + 1) * TOGETHER):
        generated = generate(seed)
        with DNSServer(generated.records) as server:
            resolver = dns.resolver.Resolver(configure=False)
            resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], server.port, 20
            subject = Subject(generated.domain, selectors=(Selector(generated.domain, SELECTOR),))
            yield Zone(generated, examined(server, subject), resolver)


chunks = pytest.mark.parametrize("chunk", range(ZONES // TOGETHER))


def lookup_of(zone: Zone) -> Callable[..., list[Any]]:
    """Return pyspf's own lookup function, at the zone's server."""
    values: dict[str, Callable[[Any], Any]] = {
        "A": lambda rdata: rdata.address,
        "AAAA": lambda rdata: rdata.address,
        "MX": lambda rdata: (rdata.preference, rdata.exchange.to_text(True)),
        "PTR": lambda rdata: rdata.target.to_text(True),
    }

    def lookup(name: str, qtype: str, strict: object = True, timeout: float = 0) -> list[Any]:
        try:
            answer = zone.resolver.resolve(name, qtype, search=False)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return []
        except dns.exception.DNSException:
            raise spf.TempError("DNS") from None
        return [((name, qtype), values.get(qtype, lambda rdata: rdata.strings)(rdata)) for rdata in answer]

    return lookup


@chunks
def test_spf_ends_as_pyspf_evaluates_it(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    for zone in zones(chunk):
        monkeypatch.setattr(spf, "DNSLookup", lookup_of(zone))
        query = spf.query(i=OUTSIDER, s=f"a@{zone.domain}", h=f"mail.{zone.domain}", timeout=20, querytime=0)
        result = query.check()[0]
        theirs = result if result in ("none", "permerror", "temperror") else "ok"
        # RFC 7208 5.5, 7.2: `ptr` and %{i} look the client's address up, so whether that is void is not known before
        depends = any("%{i}" in text or " ptr" in text for text in zone.texts())
        if theirs == "permerror" and zone.spf() == "ok" and depends and "Void" in query.check()[2]:
            continue
        assert zone.spf() == theirs, (zone.generated, query.check())
        compared += 1
    assert compared >= TOGETHER - 2


@chunks
def test_spf_is_valid_and_counted_as_checkdmarc_does(chunk: int) -> None:
    compared = 0
    for zone in zones(chunk):
        theirs = checkdmarc.spf.check_spf(zone.domain, resolver=zone.resolver)
        texts = zone.texts()
        # RFC 5234 2.3: a literal string of the grammar is compared without case, so "V=SPF1" begins a record
        if not theirs["valid"] and zone.spf() == "ok" and any(text.startswith("V=SPF1") for text in texts):
            continue
        # RFC 7208 7.2: %{d} is the domain whose record is read. checkdmarc follows no macro
        if theirs["valid"] and zone.spf() == "permerror" and any("%{d}.gone" in text for text in texts):
            continue
        assert theirs["valid"] is (zone.spf() == "ok"), (zone.generated, theirs)
        compared += 1
        if not theirs["valid"]:
            continue
        ours = zone.facts["spf"]
        assert theirs["dns_lookups"] == ours["lookup_count"], zone.generated
        # RFC 7208 4.6.4: `exists` is a lookup that may be void, which checkdmarc leaves out; the lookup of `ptr` is of
        # the client's address, which nobody knows before
        if not any("exists:" in text or " ptr" in text for text in texts):
            assert theirs["void_dns_lookups"] == ours["void_lookup_count"], zone.generated
    assert compared >= TOGETHER // 2


@chunks
def test_the_dmarc_record_that_counts_is_that_of_checkdmarc(chunk: int) -> None:
    for zone in zones(chunk):
        theirs: Any = checkdmarc.dmarc.check_dmarc(zone.domain, resolver=zone.resolver, ignore_unrelated_records=True)
        ours = zone.facts["dmarc"]
        # RFC 9989 4.10 step 2: several records of one name are discarded, and the walk goes on above it
        several = any(len(step["records"]) > 1 for step in ours["walk"])
        if several and not theirs["valid"]:
            continue
        assert theirs["valid"] is (ours["record"] is not None), zone.generated
        if not theirs["valid"]:
            continue
        assert (theirs["location"], theirs["record"].strip()) == (ours["record_domain"], ours["record"].strip())
        stated = theirs["tags"]["p" if theirs["location"] == zone.domain else "sp"]["value"]
        weaker = {"reject": "quarantine", "quarantine": "none", "none": "none"}
        if theirs["tags"].get("t", {}).get("value") == "y":
            stated = weaker[stated]
        # RFC 9989 4.7: np is for names that do not exist, and the domain of each zone does
        assert ours["policy"] == stated, zone.generated


@chunks
def test_the_tree_walk_meets_the_records_that_authheaders_meets(chunk: int) -> None:
    compared = 0
    for zone in zones(chunk):

        def text_of(host: str, resolver: dns.resolver.Resolver = zone.resolver) -> str:
            try:
                answer = resolver.resolve(host, "TXT", search=False)
            except dns.exception.DNSException:
                return ""
            found = [b"".join(rdata.strings).decode() for rdata in answer]
            # RFC 9989 4.8: space around the equals sign, and the tag's name in upper case, are allowed
            found = [f"v=DMARC1;{text.partition(';')[2]}" if text.startswith("V = DMARC1") else text for text in found]
            found = [text for text in found if text.startswith("v=DMARC1")]
            return found[0] if len(found) == 1 else ""

        theirs = list(receiver_record_walk(zone.domain, text_of))
        steps = zone.facts["dmarc"]["walk"]
        ours = [step["name"].removeprefix("_dmarc.") for step in steps if len(step["records"]) == 1]
        # RFC 9989 4.10: the walk asks at most eight names, seven labels and less above the first one. authheaders
        # follows an older draft, which goes on with four
        if zone.domain.count(".") >= 5:
            continue
        # RFC 9989 4.10 steps 2 and 7: a record with psd=n or psd=y ends the walk
        if any("psd=" in record for step in steps for record in step["records"]):
            theirs = theirs[: len(ours)]
        assert ours == theirs, zone.generated
        compared += 1
    assert compared >= TOGETHER // 2


@chunks
def test_a_dkim_key_is_read_and_measured_as_dkimpy_does(chunk: int) -> None:
    for zone in zones(chunk):
        name = f"{SELECTOR}._domainkey.{zone.domain}"
        (text,) = zone.generated.records[f"{name} TXT"]
        try:
            _, size, kind, _ = dkim.evaluate_pk(name, text)
            theirs: object = (kind.decode(), size)
        except (dkim.DKIMException, ValueError):
            theirs = "unusable"
        failed = {
            finding.check
            for finding in zone.report.findings
            if finding.area == "dkim" and finding.status is Status.FAIL
        }
        key = zone.facts["dkim"]["selectors"][name]
        size = 256 if key["key_type"] == "ed25519" else key["bits"]
        ours = "unusable" if failed & {"key", "syntax", "revoked"} else (key["key_type"], size)
        assert ours == theirs, text
