"""Zones of domains for the doctor's tests, and a run of the doctor against a server that has them."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailglass.domains.collector import Collector, examine, parse_resolver
from mailglass.domains.findings import Finding, Status
from mailglass.domains.report import Report
from mailglass.domains.subject import Selector, Subject
from mailglass.testing.dns_server import DNSServer

DOMAIN: Final = "example.com"


@functools.cache
def rsa_key(bits: int) -> str:
    """Return `p=` of an RSA key."""
    key = rsa.generate_private_key(65537, bits).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@functools.cache
def ed25519_key() -> str:
    """Return `p=` of an Ed25519 key."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def good() -> dict[str, list[str]]:
    """Return the records of a domain that every receiver takes mail from."""
    return {
        f"{DOMAIN} SOA": [f"ns1.{DOMAIN}. hostmaster.{DOMAIN}. 7 3600 600 86400 300"],
        f"{DOMAIN} NS": [f"ns1.{DOMAIN}.", f"ns2.{DOMAIN}."],
        f"{DOMAIN} TXT": [f"v=spf1 include:_spf.{DOMAIN} mx -all"],
        f"_spf.{DOMAIN} TXT": ["v=spf1 ip4:192.0.2.0/24 -all"],
        f"{DOMAIN} MX": [f"10 mail.{DOMAIN}."],
        f"mail.{DOMAIN} A": ["192.0.2.1"],
        f"mail.{DOMAIN} AAAA": ["2001:db8::1"],
        f"ns1.{DOMAIN} A": ["127.0.0.1"],
        f"ns2.{DOMAIN} A": ["127.0.0.1"],
        f"_dmarc.{DOMAIN} TXT": [f"v=DMARC1; p=reject; rua=mailto:dmarc@{DOMAIN}"],
        f"s1._domainkey.{DOMAIN} TXT": [f"v=DKIM1; k=rsa; p={rsa_key(2048)}"],
        "1.2.0.192.in-addr.arpa PTR": [f"mail.{DOMAIN}."],
    }


def selector(name: str = "s1", domain: str = DOMAIN, **more: Any) -> Selector:
    """Return a selector of the domain."""
    return Selector(domain, name, **more)


def examined(server: DNSServer, subject: Subject, **limits: Any) -> Report:
    """Run the doctor against a server."""
    # a busy machine may hold any answer up; only silence is waited for
    limits.setdefault("timeout", 1.0 if server.silent else 10.0)
    limits.setdefault("lifetime", 2.0 if server.silent else 20.0)

    async def run() -> Report:
        return await examine(subject, Collector(parse_resolver(server.address), **limits))

    return asyncio.run(run())


def doctor(
    changes: Mapping[str, Sequence[str] | None] | None = None,
    *,
    without: Iterable[str] = (),
    server: Mapping[str, Any] | None = None,
    domain: str = DOMAIN,
    selectors: Sequence[Selector] | None = None,
    **subject: Any,
) -> Report:
    """Run the doctor against the good domain with changed records.

    Args:
        changes: records by `"name TYPE"`; None takes them away.
        without: records to take away.
        server: how the server misbehaves.
        domain: to be checked.
        selectors: that sign; `s1` where left out.
        subject: what else is known of the domain.
    """
    records: dict[str, Sequence[str]] = {**good(), **{name: value for name, value in (changes or {}).items() if value}}
    gone = {*without, *(name for name, value in (changes or {}).items() if value is None)}
    kept = {name: value for name, value in records.items() if name not in gone}
    chosen = (selector(),) if selectors is None else tuple(selectors)
    with DNSServer(kept, **(server or {})) as running:
        return examined(running, Subject(domain, selectors=chosen, **subject))


def found(report: Report, identity: str) -> Finding:
    """Return the finding with an id, or the only one of a check."""
    matching = [finding for finding in report.findings if identity in (finding.id, finding.code)]
    assert matching, f"no {identity} among {[finding.id for finding in report.findings]}"
    assert len(matching) == 1, [finding.id for finding in matching]
    return matching[0]


def status(report: Report, identity: str) -> Status:
    """Return a finding's status; `pass` where a check that only speaks of faults says nothing."""
    matching = [finding for finding in report.findings if identity in (finding.id, finding.code)]
    return max((finding.status for finding in matching), key=list(Status).index, default=Status.PASS)
