"""Every check of the doctor, passed and not passed, by records that a server serves."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from mailglass.domains.findings import Status
from mailglass.domains.hosts import check_zone
from mailglass.domains.lookups import Facts, Lookup, LookupStatus, Question
from mailglass.testing.dns_server import zone_of
from tests.domain_zones import DOMAIN, doctor, ed25519_key, found, good, rsa_key, selector, status

SPF, KEY, DMARC = f"{DOMAIN} TXT", f"s1._domainkey.{DOMAIN} TXT", f"_dmarc.{DOMAIN} TXT"
S2 = f"s2._domainkey.{DOMAIN}"
PASS, INFO, WARN, FAIL, UNKNOWN = Status.PASS, Status.INFO, Status.WARN, Status.FAIL, Status.CANNOT_VERIFY
Changes = Mapping[str, Sequence[str] | None]


class Case(NamedTuple):
    """One check, not passed.

    Attributes:
        check: `area.check`.
        wanted: its status.
        changes: of the good domain's records.
        server: how the server misbehaves.
        subject: what is known of the domain.
    """

    check: str
    wanted: Status
    changes: Changes = MappingProxyType({})
    server: Mapping[str, Any] = MappingProxyType({})
    subject: Mapping[str, Any] = MappingProxyType({})


def spf(text: str, check: str, wanted: Status, **more: Sequence[str] | None) -> Case:
    return Case(f"spf.{check}", wanted, {SPF: [text], **more})


def dmarc(text: str, check: str, wanted: Status) -> Case:
    return Case(f"dmarc.{check}", wanted, {DMARC: [text]})


MANY_MX = {f"many.{DOMAIN} MX": [f"{number} mail.{DOMAIN}." for number in range(11)]}
LONG = " ".join(f"ip4:198.51.100.{number}" for number in range(30))
SPF_CASES = [
    Case("spf.record", FAIL, {SPF: ["other text"]}),
    Case("spf.record", FAIL, {SPF: ["v=spf1 -all", "v=spf1 mx -all"]}),
    Case("spf.record", FAIL, {SPF: ["v=spf10 mx -all"]}),
    Case("spf.record", FAIL, {SPF: ["spf1 mx -all"]}),
    Case("spf.record", UNKNOWN, server={"servfail": [DOMAIN]}),
    spf("v=spf1 ipv4:192.0.2.1 -all", "syntax", FAIL),
    spf("v=spf1 ip4:192.0.2.300 -all", "syntax", FAIL),
    spf("v=spf1 a:%{z}.example.com -all", "syntax", FAIL),
    spf(f"v=spf1 redirect=_spf.{DOMAIN} redirect=_spf.{DOMAIN}", "syntax", FAIL),
    spf("v=spf1 mx +all", "terminal", FAIL),
    spf("v=spf1 mx ?all", "terminal", WARN),
    spf("v=spf1 mx", "terminal", WARN),
    spf("v=spf1 -all", "terminal", FAIL),
    spf(f"v=spf1 mx:many.{DOMAIN} -all", "mx_hosts", FAIL, **MANY_MX),
    spf("v=spf1 mx ptr -all", "ptr", WARN),
    spf(f"v=spf1 include:{DOMAIN} -all", "includes", FAIL),
    spf(f"v=spf1 redirect={DOMAIN}", "includes", FAIL),
    spf(f"v=spf1 include:gone.{DOMAIN} -all", "includes", FAIL),
    spf(f"v=spf1 include:b.{DOMAIN} -all", "includes", FAIL, **{f"b.{DOMAIN} TXT": ["v=spf1 bad:x -all"]}),
    spf(f"v=spf1 include:b.{DOMAIN} -all", "includes", FAIL, **{f"b.{DOMAIN} TXT": ["v=spf1 -all", "v=spf1 ?all"]}),
    Case("spf.includes", UNKNOWN, server={"silent": [f"_spf.{DOMAIN}"]}),
    Case("spf.lookups", UNKNOWN, server={"servfail": [f"_spf.{DOMAIN}"]}),
    spf(f"v=spf1 mx -all redirect=_spf.{DOMAIN}", "redirect", WARN),
    spf("v=spf1 -all mx", "after_all", WARN),
    spf(f"v=spf1 include:_spf.{DOMAIN} include:_spf.{DOMAIN} -all", "duplicates", WARN),
    spf(f"v=spf1 {LONG} -all", "size", WARN),
    spf('"v=spf1 mx" "include:_spf.example.com -all"', "strings", FAIL),
    spf("v=spf1 ip4:10.0.0.0/8 -all", "wide", WARN),
    spf("v=spf1 ip4:0.0.0.0/0 -all", "wide", FAIL),
    spf("v=spf1 ip6:2001::/16 -all", "wide", WARN),
    Case("spf.type99", WARN, {f"{DOMAIN} SPF": ["v=spf1 mx -all"]}),
    Case("provider.include", FAIL, subject={"providers": ("mailgun",)}),
]
DKIM_CASES = [
    Case("dkim.selector", UNKNOWN, subject={"selectors": ()}),
    Case("dkim.key", FAIL, {KEY: None}),
    Case("dkim.key", FAIL, {KEY: None, f"s1._domainkey.{DOMAIN} MX": ["1 a.example."]}),
    Case("dkim.key", FAIL, {KEY: None, f"s1._domainkey.{DOMAIN} CNAME": ["gone.provider.example."]}),
    Case("dkim.key", UNKNOWN, server={"servfail": [f"s1._domainkey.{DOMAIN}"]}),
    Case("dkim.key", FAIL, {KEY: ["v=DKIM1; p=", "v=DKIM1; k=rsa; p="]}),
    Case("dkim.key", WARN, {KEY: [f"v=DKIM1; p={rsa_key(2048)}", "other text"]}),
    Case("dkim.syntax", FAIL, {KEY: ["v=DKIM1; k=rsa; p=not base64!"]}),
    Case("dkim.syntax", FAIL, {KEY: ["v=DKIM1; p=AAAA"]}),
    Case("dkim.syntax", FAIL, {KEY: ["v=DKIM2; p=AAAA"]}),
    Case("dkim.syntax", FAIL, {KEY: ["v=DKIM1; k=ed25519; p=AAAA"]}),
    Case("dkim.syntax", FAIL, {KEY: ["v=DKIM1; k=dsa; p=AAAA"]}),
    Case("dkim.syntax", FAIL, {KEY: ["v=DKIM1; p=AAAA; p=AAAA"]}),
    Case("dkim.revoked", FAIL, {KEY: ["v=DKIM1; p="]}),
    Case("dkim.strength", WARN, {KEY: [f"v=DKIM1; p={rsa_key(1024)}"]}),
    Case("dkim.testing", WARN, {KEY: [f"v=DKIM1; t=y; p={rsa_key(2048)}"]}),
    Case("dkim.hash", FAIL, {KEY: [f"v=DKIM1; h=sha1; p={rsa_key(2048)}"]}),
    Case("dkim.hash", WARN, {KEY: [f"v=DKIM1; h=sha1:sha256; p={rsa_key(2048)}"]}),
    Case("dkim.service", FAIL, {KEY: [f"v=DKIM1; s=other; p={rsa_key(2048)}"]}),
    Case(
        "dkim.shared",
        WARN,
        {f"{S2} TXT": [f"v=DKIM1; k=rsa; p={rsa_key(2048)}"]},
        subject={"selectors": (selector(), selector("s2"))},
    ),
    Case("dkim.wildcard", WARN, {f"*._domainkey.{DOMAIN} TXT": ["v=DKIM1; p="]}),
    Case("dkim.pair", FAIL, subject={"selectors": (selector(public_key=b"0" * 294, record="v=DKIM1; p=MDAw"),)}),
]
DMARC_CASES = [
    Case("dmarc.record", FAIL, {DMARC: None}),
    Case("dmarc.record", FAIL, {DMARC: ["v=DMARC1; p=none", "v=DMARC1; p=reject"]}),
    Case("dmarc.record", FAIL, {DMARC: ["v=DMARC2; p=none"]}),
    Case("dmarc.record", FAIL, {DMARC: ["p=none; v=DMARC1"]}),
    Case("dmarc.record", UNKNOWN, {DMARC: None}, {"servfail": ["_dmarc.com"]}),
    Case("dmarc.misplaced", FAIL, {DMARC: None, SPF: ["v=spf1 mx -all", "v=DMARC1; p=reject"]}),
    Case("dmarc.misplaced", WARN, {SPF: ["v=spf1 mx -all", "v=DMARC1; p=reject"]}),
    dmarc("v=DMARC1; p=none; rua=mailto:d@example.com", "policy", WARN),
    dmarc("v=DMARC1; rua=mailto:d@example.com", "policy", WARN),
    dmarc("v=DMARC1; p=reject; sp=none", "subdomains", WARN),
    dmarc("v=DMARC1; p=reject; np=none", "subdomains", WARN),
    dmarc("v=DMARC1; p=reject; t=y", "testing", WARN),
    dmarc("v=DMARC1; p=reject; pct=50", "removed", WARN),
    dmarc("v=DMARC1; p=reject; pct=100; ri=86400; rf=afrf", "removed", INFO),
    dmarc("v=DMARC1; rua=mailto:d@example.com; p=reject", "order", WARN),
    dmarc("v=DMARC1; p=block", "syntax", FAIL),
    dmarc("v=DMARC1; p=reject; adkim=x", "syntax", WARN),
    dmarc("v=DMARC1; p=reject; rua=d@example.com", "reports", WARN),
    dmarc("v=DMARC1; p=reject; rua=mailto:d@gone.example", "reports", WARN),
    dmarc("v=DMARC1; p=reject; rua=mailto:d@example.com!10m", "reports", INFO),
    dmarc("v=DMARC1; p=reject", "reports", INFO),
    Case("dmarc.external", WARN, {DMARC: ["v=DMARC1; p=reject; rua=mailto:x@reports.example"]}),
    Case(
        "dmarc.external",
        UNKNOWN,
        {DMARC: ["v=DMARC1; p=reject; rua=mailto:x@reports.example"]},
        {"servfail": [f"{DOMAIN}._report._dmarc.reports.example"]},
    ),
    Case("dmarc.suffix", INFO, subject={"public_suffix_domain": "com"}),
    Case("alignment.dkim", WARN, subject={"selectors": (selector(domain="other.example"),)}),
    Case("alignment.dkim", UNKNOWN, {KEY: ["x"]}, subject={"selectors": ()}),
    Case("alignment.spf", WARN, subject={"return_path": "bounces.other.example"}),
    Case("alignment.spf", INFO, subject={"return_path": ""}),
    Case(
        "alignment.dmarc",
        FAIL,
        {"s1._domainkey.other.example TXT": [f"v=DKIM1; p={rsa_key(2048)}"]},
        subject={"selectors": (selector(domain="other.example"),), "return_path": "bounces.other.example"},
    ),
    Case(
        "alignment.spf",
        WARN,
        {DMARC: ["v=DMARC1; p=reject; aspf=s"], f"b.{DOMAIN} TXT": ["v=spf1 mx -all"]},
        subject={"return_path": f"b.{DOMAIN}"},
    ),
    Case(
        "alignment.dkim",
        WARN,
        {DMARC: ["v=DMARC1; p=reject; adkim=s"], f"s1._domainkey.news.{DOMAIN} TXT": [f"p={rsa_key(2048)}"]},
        subject={"selectors": (selector(domain=f"news.{DOMAIN}"),)},
    ),
]
OTHER_CASES = [
    Case("mx.record", WARN, {f"{DOMAIN} MX": None, f"{DOMAIN} A": ["192.0.2.1"]}),
    Case("mx.record", FAIL, {f"{DOMAIN} MX": None}),
    Case("mx.record", FAIL, {f"{DOMAIN} MX": ["0 ."]}),
    Case("mx.record", FAIL, {f"{DOMAIN} MX": ["0 .", f"10 mail.{DOMAIN}."]}),
    Case("mx.target", FAIL, {f"{DOMAIN} MX": ["10 gone.example."]}),
    Case("mx.target", FAIL, {f"{DOMAIN} MX": ["10 192.0.2.1."]}),
    Case("mx.target", WARN, {f"{DOMAIN} MX": [f"10 alias.{DOMAIN}."], f"alias.{DOMAIN} CNAME": [f"mail.{DOMAIN}."]}),
    Case("mx.target", WARN, {f"{DOMAIN} MX": [f"10 mail.{DOMAIN}.", "20 gone.example."]}),
    Case("mx.target", UNKNOWN, server={"servfail": [f"mail.{DOMAIN}"]}),
    Case("mta_sts.record", INFO),
    Case("mta_sts.record", FAIL, {f"_mta-sts.{DOMAIN} TXT": ["v=STSv1; id=1", "v=STSv1; id=2"]}),
    Case("mta_sts.record", FAIL, {f"_mta-sts.{DOMAIN} TXT": ["v=STSv1"]}),
    Case("mta_sts.policy", FAIL, {f"_mta-sts.{DOMAIN} TXT": ["v=STSv1; id=1"]}),
    Case(
        "mta_sts.policy",
        UNKNOWN,
        {f"_mta-sts.{DOMAIN} TXT": ["v=STSv1; id=1"], f"mta-sts.{DOMAIN} A": ["192.0.2.1"]},
    ),
    Case("tls_rpt.record", INFO),
    Case("tls_rpt.record", WARN, {f"_smtp._tls.{DOMAIN} TXT": ["v=TLSRPTv1"]}),
    Case("tls_rpt.record", WARN, {f"_smtp._tls.{DOMAIN} TXT": ["v=TLSRPTv1; rua=mailto:a@b.c", "v=TLSRPTv1; rua=x"]}),
    Case("bimi.record", FAIL, {f"default._bimi.{DOMAIN} TXT": ["v=BIMI1; l=http://example.com/l.svg"]}),
    Case("bimi.record", FAIL, {f"default._bimi.{DOMAIN} TXT": ["v=BIMI1; l=https://e.com/l.svg; a=http://e.com/a"]}),
    Case("bimi.record", INFO, {f"default._bimi.{DOMAIN} TXT": ["v=BIMI1; l=https://example.com/l.svg"]}),
    Case("bimi.record", INFO, {f"default._bimi.{DOMAIN} TXT": ["v=BIMI1; l=; a="]}),
    Case(
        "bimi.dmarc",
        FAIL,
        {
            DMARC: ["v=DMARC1; p=none"],
            f"default._bimi.{DOMAIN} TXT": ["v=BIMI1; l=https://e.com/l.svg; a=https://e.com/a"],
        },
    ),
    Case("ptr.reverse", FAIL, {"1.2.0.192.in-addr.arpa PTR": None}, subject={"addresses": ("192.0.2.1",)}),
    Case(
        "ptr.reverse", FAIL, {"1.2.0.192.in-addr.arpa PTR": [f"ns1.{DOMAIN}."]}, subject={"addresses": ("192.0.2.1",)}
    ),
    Case(
        "ptr.reverse", UNKNOWN, server={"servfail": ["1.2.0.192.in-addr.arpa"]}, subject={"addresses": ("192.0.2.1",)}
    ),
    Case(
        "ptr.generic",
        WARN,
        {"1.2.0.192.in-addr.arpa PTR": ["host-192-0-2-1.isp.example."], "host-192-0-2-1.isp.example A": ["192.0.2.1"]},
        subject={"addresses": ("192.0.2.1",)},
    ),
    Case("ptr.helo", WARN, subject={"helo": ("gone.example.net",)}),
    Case("dane.tlsa", FAIL, {f"_25._tcp.mail.{DOMAIN} TLSA": [f"0 1 1 {'ab' * 32}"]}, {"authenticated": True}),
    Case("dane.tlsa", FAIL, {f"_25._tcp.mail.{DOMAIN} TLSA": [f"1 1 1 {'ab' * 32}"]}, {"authenticated": True}),
    Case("dane.tlsa", WARN, {f"_25._tcp.mail.{DOMAIN} TLSA": [f"3 1 1 {'ab' * 32}"]}),
    Case("dnssec.signed", INFO),
    Case("dnssec.signed", FAIL, server={"bogus": [DOMAIN]}),
    Case("ns.count", WARN, {f"{DOMAIN} NS": [f"ns1.{DOMAIN}."]}),
    Case("ns.resolve", WARN, {f"{DOMAIN} NS": [f"ns1.{DOMAIN}.", "gone.example."]}),
    Case("hosts.address", FAIL, subject={"hosts": ("click.example.net",)}),
    Case(
        "hosts.address",
        FAIL,
        {"click.example.net CNAME": ["gone.provider.example."]},
        subject={"hosts": ("click.example.net",)},
    ),
    Case("hosts.caa", FAIL, {f"{DOMAIN} CAA": ['0 issue ";"']}, subject={"hosts": (f"mail.{DOMAIN}",)}),
    Case("hosts.caa", INFO, {f"{DOMAIN} CAA": ['0 issue "ca.example"']}, subject={"hosts": (f"mail.{DOMAIN}",)}),
    Case("provider.dkim", FAIL, subject={"providers": ("mandrill",), "selectors": (selector("mte1"),)}),
    Case(
        "provider.dkim",
        FAIL,
        {f"mte1._domainkey.{DOMAIN} CNAME": ["dkim2.mandrillapp.com."]},
        subject={"providers": ("mandrill",), "selectors": (selector("mte1"),)},
    ),
    Case("provider.return_path", FAIL, subject={"providers": ("postmark",), "return_path": f"pm.{DOMAIN}"}),
    Case("provider.return_path", FAIL, subject={"providers": ("ses",), "return_path": f"ses.{DOMAIN}"}),
    Case("provider.verification", WARN, subject={"providers": ("brevo",)}),
]
CASES = [*SPF_CASES, *DKIM_CASES, *DMARC_CASES, *OTHER_CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}-{case.wanted}")
def test_a_fault_is_found_by_its_check(case: Case) -> None:
    report = doctor(case.changes, server=case.server, **case.subject)
    finding = found(report, case.check)
    assert finding.status is case.wanted
    assert finding.title
    assert finding.why
    assert finding.observed
    if case.wanted in (WARN, FAIL):
        assert finding.remediation


# where each check passes: the records of a domain that has everything
WHOLE: Changes = {
    f"_mta-sts.{DOMAIN} TXT": ["v=STSv1; id=20260101"],
    f"mta-sts.{DOMAIN} A": ["192.0.2.9"],
    f"_smtp._tls.{DOMAIN} TXT": [f"v=TLSRPTv1; rua=mailto:tls@{DOMAIN},https://{DOMAIN}/tls"],
    f"default._bimi.{DOMAIN} TXT": ["v=BIMI1; l=https://example.com/l.svg; a=https://example.com/c.pem"],
    f"_25._tcp.mail.{DOMAIN} TLSA": [f"3 1 1 {'ab' * 32}"],
    f"{S2} TXT": [f"v=DKIM1; k=ed25519; p={ed25519_key()}"],
    f"mte1._domainkey.{DOMAIN} CNAME": ["dkim1.mandrillapp.com."],
    "dkim1.mandrillapp.com TXT": [f"v=DKIM1; p={rsa_key(4096)}"],
    f"pm.{DOMAIN} CNAME": ["pm.mtasv.net."],
    "pm.mtasv.net TXT": ["v=spf1 ip4:198.51.100.0/24 ~all"],
    f"{DOMAIN} TXT": [f"v=spf1 include:_spf.{DOMAIN} include:spf.mailjet.com mx ~all", "brevo-code:4711"],
    "spf.mailjet.com TXT": ["v=spf1 ip4:203.0.113.0/24 -all"],
    DMARC: [f"v=DMARC1; p=reject; rua=mailto:dmarc@{DOMAIN},mailto:x@reports.example"],
    "reports.example MX": ["10 mail.reports.example."],
    f"{DOMAIN}._report._dmarc.reports.example TXT": ["v=DMARC1"],
    f"click.{DOMAIN} A": ["192.0.2.8"],
}


EVERYTHING: Mapping[str, Any] = {
    "selectors": (selector(), selector("s2"), selector("mte1")),
    "return_path": f"pm.{DOMAIN}",
    "addresses": ("192.0.2.1",),
    "hosts": (f"click.{DOMAIN}",),
    "helo": (f"mail.{DOMAIN}",),
    "providers": ("mandrill", "postmark", "brevo"),
    "public_suffix_domain": DOMAIN,
}
SIGNED = {"authenticated": True}


def test_a_domain_that_has_everything_passes_every_check() -> None:
    report = doctor(WHOLE, server=SIGNED, **EVERYTHING)
    bad = [finding for finding in report.findings if finding.status not in (PASS, INFO)]
    # the Return-Path of one provider cannot be that of another; the policy file is not in DNS
    assert [finding.id for finding in bad] == ["mta_sts.policy", "provider.return_path:mandrill"]
    passed = {finding.code for finding in report.findings if finding.status is PASS}
    # a check of a fault says nothing where there is none
    silent = {
        "spf.mx_hosts",
        "spf.ptr",
        "spf.redirect",
        "spf.after_all",
        "spf.duplicates",
        "spf.size",
        "spf.strings",
        "spf.wide",
        "spf.type99",
        "dkim.revoked",
        "dkim.testing",
        "dkim.hash",
        "dkim.service",
        "dkim.shared",
        "dkim.wildcard",
        "dkim.pair",
        "dkim.selector",
        "dkim.syntax",
        "dmarc.misplaced",
        "dmarc.subdomains",
        "dmarc.testing",
        "dmarc.removed",
        "dmarc.order",
        "dmarc.suffix",
        "ptr.generic",
        "ns.resolve",
        "hosts.caa",
    }
    elsewhere = {"mta_sts.policy", "provider.include"}
    assert {case.check for case in CASES} - passed == silent | elsewhere
    assert not silent & passed


@pytest.mark.parametrize("fault", ["servfail", "refused"])
@pytest.mark.parametrize(
    "name", sorted({name.rpartition(" ")[0] for name in (good() | dict(WHOLE))} | {"_dmarc.com", f"_dmarc.pm.{DOMAIN}"})
)
def test_a_name_that_cannot_be_looked_up_is_never_a_fault_of_the_domain(name: str, fault: str) -> None:
    """Hold for every check: what a resolver's fault hides is `cannot_verify`."""
    healthy = {finding.id: finding.status for finding in doctor(WHOLE, server=SIGNED, **EVERYTHING).findings}
    report = doctor(WHOLE, server={**SIGNED, fault: [name]}, **EVERYTHING)
    for finding in report.findings:
        if finding.status in (WARN, FAIL):
            assert healthy.get(finding.id) is finding.status, finding
    assert UNKNOWN in {finding.status for finding in report.findings}


@pytest.mark.parametrize(
    ("subject", "record", "wanted"),
    [
        ({"return_path": f"b.{DOMAIN}"}, None, WARN),
        ({"return_path": DOMAIN}, None, FAIL),
        ({"providers": ("postmark",)}, None, WARN),
        ({"providers": ("postmark", "smtp")}, None, FAIL),
        ({"providers": ("mailgun",)}, None, FAIL),
        ({}, None, FAIL),
        ({"return_path": f"b.{DOMAIN}"}, "v=spf1 -all", PASS),
        ({"providers": ("postmark",)}, "v=spf1 -all", PASS),
        ({}, "v=spf1 -all", FAIL),
    ],
)
def test_spf_lists_hosts_only_where_the_envelope_has_the_domain(
    subject: Mapping[str, Any], record: str | None, wanted: Status
) -> None:
    changes = {SPF: [record] if record else None, f"b.{DOMAIN} TXT": ["v=spf1 ip4:192.0.2.1 -all"]}
    report = doctor(changes, **subject)
    own = [finding for finding in report.findings if finding.id in ("spf.record", "spf.terminal")]
    assert max((finding.status for finding in own), key=list(Status).index) is wanted
    ready = {row.receiver: row.verdict.value for row in report.receivers}
    assert (ready["Gmail"] == "ready") is (wanted is not FAIL)


def test_a_provider_that_is_included_may_send() -> None:
    report = doctor(WHOLE, providers=("mailjet",))
    assert status(report, "provider.include") is PASS


def test_bounces_of_a_return_path_at_amazon_go_to_amazon() -> None:
    report = doctor(
        {
            f"send.{DOMAIN} MX": ["10 feedback-smtp.eu-west-1.amazonses.com."],
            f"send.{DOMAIN} TXT": ["v=spf1 include:amazonses.com ~all"],
            "amazonses.com TXT": ["v=spf1 ip4:199.255.192.0/22 -all"],
        },
        providers=("resend",),
        return_path=f"send.{DOMAIN}",
    )
    assert {finding.status for finding in report.findings if finding.area == "provider"} == {PASS}
    assert found(report, "alignment.spf").status is PASS


@pytest.mark.parametrize(("serials", "wanted"), [(("7", "7"), PASS), (("7", "8"), WARN)])
def test_nameservers_have_to_give_the_same_serial_number(serials: tuple[str, str], wanted: Status) -> None:
    answers = {
        Question(DOMAIN, "SOA"): ("7",),
        Question(DOMAIN, "DS"): (),
        Question(DOMAIN, "NS"): ("ns1.example.net", "ns2.example.net"),
        **{Question(f"ns{number}.example.net", "A"): (f"192.0.2.{number}",) for number in (1, 2)},
        **{Question(f"ns{number}.example.net", "AAAA"): () for number in (1, 2)},
        **{Question(DOMAIN, "SOA", f"192.0.2.{number}"): (serials[number - 1],) for number in (1, 2)},
    }
    facts = Facts(
        {
            question: Lookup(question, LookupStatus.ANSWER if records else LookupStatus.NODATA, records)
            for question, records in answers.items()
        }
    )
    (finding,) = [finding for finding in check_zone(facts, DOMAIN) if finding.code == "ns.agree"]
    assert finding.status is wanted
    assert facts.wanted == ()


def test_the_signers_own_key_is_compared_with_what_is_published() -> None:
    public = base64.b64decode(rsa_key(2048))
    report = doctor(selectors=(selector(public_key=public),))
    assert found(report, "dkim.pair").status is PASS


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.wanted in (WARN, FAIL) and not case.server], ids=lambda case: case.check
)
def test_publishing_what_a_finding_says_mends_it(case: Case) -> None:
    first = found(doctor(case.changes, **case.subject), case.check)
    mended = zone_of(first.records)
    if not mended or any("<" in value for values in mended.values() for value in values):
        # nothing to publish, or a value that only the provider knows
        assert first.remediation
        return
    kept: dict[str, Sequence[str] | None] = {**case.changes}
    for name, values in mended.items():
        owner, _, kind = name.rpartition(" ")
        # records of other kinds at the name stay, a CNAME stands alone
        others = [
            value for value in kept.get(name) or good().get(name) or [] if kind == "TXT" and not _same(value, values[0])
        ]
        kept[name] = [*others, *values]
        if kind == "CNAME":
            kept |= {other: None for other in [*kept, *good()] if other.rpartition(" ")[0] == owner and other != name}
    after = status(doctor(kept, **case.subject), first.id)
    assert list(Status).index(after) < list(Status).index(first.status) or after is PASS


def _same(one: str, other: str) -> bool:
    """Return whether two TXT records are of one kind."""
    kinds = ("spf", "dmarc", "dkim", "sts", "tlsrpt", "bimi")
    return any(kind in one.lower()[:14] and kind in other.lower()[:14] for kind in kinds)
