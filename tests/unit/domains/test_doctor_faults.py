"""The faults that other doctors have, each with the answer that the standards give."""

from __future__ import annotations

import pytest

from mailglass.domains.findings import Status
from tests.domain_zones import DOMAIN, doctor, ed25519_key, found, rsa_key, selector, status

SPF = f"{DOMAIN} TXT"
KEY = f"s1._domainkey.{DOMAIN} TXT"
DMARC = f"_dmarc.{DOMAIN} TXT"


@pytest.mark.parametrize("fault", ["servfail", "silent", "refused"])
@pytest.mark.parametrize(
    ("name", "check"),
    [
        (DOMAIN, "spf.record"),
        (f"s1._domainkey.{DOMAIN}", "dkim.key"),
        (f"_dmarc.{DOMAIN}", "dmarc.record"),
        (DOMAIN, "mx.record"),
        (f"_mta-sts.{DOMAIN}", "mta_sts.record"),
        (f"default._bimi.{DOMAIN}", "bimi.record"),
        (f"_smtp._tls.{DOMAIN}", "tls_rpt.record"),
    ],
)
def test_a_resolver_fault_cannot_be_verified_and_is_never_missing(fault: str, name: str, check: str) -> None:
    report = doctor(server={fault: [name]})
    assert found(report, check).status is Status.CANNOT_VERIFY
    assert "No " not in found(report, check).title
    assert report.failures


def includes(count: int) -> dict[str, list[str]]:
    parts = {f"_{number}.{DOMAIN} TXT": ["v=spf1 ip4:192.0.2.1 -all"] for number in range(count)}
    return {SPF: [f"v=spf1 {' '.join(f'include:_{number}.{DOMAIN}' for number in range(count))} -all"], **parts}


@pytest.mark.parametrize(
    ("count", "wanted"), [(7, Status.PASS), (8, Status.WARN), (10, Status.WARN), (11, Status.FAIL)]
)
def test_exactly_ten_spf_lookups_are_allowed_and_eleven_are_not(count: int, wanted: Status) -> None:
    assert found(doctor(includes(count)), "spf.lookups").status is wanted


@pytest.mark.parametrize(("count", "wanted"), [(2, Status.PASS), (3, Status.FAIL)])
def test_more_than_two_void_lookups_fail(count: int, wanted: Status) -> None:
    terms = " ".join(f"a:gone{number}.{DOMAIN}" for number in range(count))
    assert found(doctor({SPF: [f"v=spf1 {terms} ip4:192.0.2.1 -all"]}), "spf.voids").status is wanted


@pytest.mark.parametrize(
    "terms", ["a/24", "mx/24", f"a:mail.{DOMAIN}/24", "a/24//64", f"mx:{DOMAIN}//64", "moo=cow", "x-1.y_z=%{d}"]
)
def test_prefix_lengths_without_a_domain_and_unknown_modifiers_are_well_formed(terms: str) -> None:
    assert found(doctor({SPF: [f"v=spf1 {terms} -all"]}), "spf.syntax").status is Status.PASS


@pytest.mark.parametrize("end", ["+all", "all", "ALL", "?all", "?ALL"])
def test_a_record_that_lets_everybody_send_fails(end: str) -> None:
    report = doctor({SPF: [f"v=spf1 MX {end}"], DMARC: ["v=DMARC1; p=none"]})
    finding = found(report, "spf.terminal")
    assert finding.status is Status.FAIL
    assert finding.records[0].value == "v=spf1 MX ~all"


def test_a_record_that_only_redirects_lacks_nothing() -> None:
    report = doctor({SPF: [f"v=spf1 REDIRECT=_spf.{DOMAIN}"]})
    assert found(report, "spf.terminal").status is Status.PASS
    assert status(report, "spf.syntax") is Status.PASS


def test_a_key_without_its_version_is_a_key() -> None:
    report = doctor({KEY: [f"k=rsa; p={rsa_key(2048)}"]})
    assert found(report, "dkim.key").status is Status.PASS
    assert found(report, "dkim.strength").status is Status.PASS


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (lambda: f"v=DKIM1; k=ed25519; p={ed25519_key()}", Status.PASS),
        (lambda: f"v=DKIM1; p={rsa_key(1024)}", Status.WARN),
        (lambda: f"v=DKIM1; p={rsa_key(2048)}", Status.PASS),
        (lambda: f"v=DKIM1; p={SHORT}", Status.FAIL),
    ],
)
def test_a_key_is_measured_by_its_type_and_modulus(record: object, wanted: Status) -> None:
    assert callable(record)
    assert found(doctor({KEY: [record()]}), "dkim.strength").status is wanted


# 512 bits, which libraries of today do not make
SHORT = (
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1P"
    "t8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ=="
)


@pytest.mark.parametrize(
    ("tags", "check", "wanted"),
    [
        ("t=y; ", "dkim.testing", Status.WARN),
        ("t=s; ", "dkim.strict", Status.PASS),
        ("t=y:s; ", "dkim.strict", Status.PASS),
        ("s=tlsrpt; ", "dkim.service", Status.FAIL),
        ("s=email; ", "dkim.service", Status.PASS),
        ("s=*; ", "dkim.service", Status.PASS),
        ("k=dsa; ", "dkim.syntax", Status.FAIL),
    ],
)
def test_flags_services_and_key_types_are_looked_at(tags: str, check: str, wanted: Status) -> None:
    assert status(doctor({KEY: [f"v=DKIM1; {tags}p={rsa_key(2048)}"]}), check) is wanted


def test_a_key_for_exactly_its_domain_warns_where_mail_comes_from_a_subdomain() -> None:
    report = doctor({KEY: [f"v=DKIM1; t=s; p={rsa_key(2048)}"]}, selectors=[selector(identities=(f"news.{DOMAIN}",))])
    assert found(report, "dkim.strict").status is Status.WARN


def test_a_subdomain_has_the_policy_of_the_domain_above_it() -> None:
    report = doctor({f"news.{DOMAIN} TXT": ["v=spf1 -all"]}, domain=f"news.{DOMAIN}")
    assert found(report, "dmarc.record").status is Status.PASS
    assert found(report, "dmarc.policy").status is Status.PASS
    assert report.facts["dmarc"]["organizational_domain"] == DOMAIN


@pytest.mark.parametrize(
    ("name", "record", "policy"),
    [
        ("news", "v=DMARC1; p=reject; sp=quarantine; np=none", "quarantine"),
        ("gone", "v=DMARC1; p=none; sp=quarantine; np=reject", "reject"),
        ("gone", "v=DMARC1; p=reject; sp=quarantine", "quarantine"),
        ("news", "v=DMARC1; p=reject; t=y", "quarantine"),
    ],
)
def test_the_policy_of_a_subdomain_follows_sp_np_and_t(name: str, record: str, policy: str) -> None:
    report = doctor({DMARC: [record], f"news.{DOMAIN} TXT": ["v=spf1 -all"]}, domain=f"{name}.{DOMAIN}")
    assert report.facts["dmarc"]["policy"] == policy


def test_a_public_suffix_ends_the_walk_one_label_below_it() -> None:
    report = doctor({DMARC: None, "_dmarc.com TXT": ["v=DMARC1; p=reject; psd=y"]}, domain=f"a.b.{DOMAIN}")
    assert report.facts["dmarc"]["organizational_domain"] == DOMAIN
    assert report.facts["dmarc"]["record_domain"] == "com"


def test_a_record_that_ends_the_walk_needs_nothing_above_it() -> None:
    changes = {DMARC: ["v=DMARC1; p=reject; psd=n"], f"news.{DOMAIN} TXT": ["v=spf1 -all"]}
    report = doctor(changes, domain=f"news.{DOMAIN}", server={"servfail": ["_dmarc.com"]})
    assert found(report, "dmarc.record").status is Status.PASS
    assert report.facts["dmarc"]["organizational_domain"] == DOMAIN


def test_a_good_dmarc_record_is_not_warned_about_for_its_defaults() -> None:
    report = doctor({DMARC: [f"v=DMARC1; p=reject; rua=mailto:dmarc@{DOMAIN}"]})
    assert {finding.status for finding in report.findings if finding.area == "dmarc"} == {Status.PASS}


@pytest.mark.parametrize(("consent", "wanted"), [(["v=DMARC1"], Status.PASS), (None, Status.WARN)])
def test_reports_to_another_domain_need_its_consent(consent: list[str] | None, wanted: Status) -> None:
    report = doctor(
        {
            DMARC: ["v=DMARC1; p=reject; rua=mailto:x@reports.example"],
            "reports.example MX": ["10 mail.reports.example."],
            f"{DOMAIN}._report._dmarc.reports.example TXT": consent,
        }
    )
    finding = found(report, "dmarc.external")
    assert finding.status is wanted
    assert (finding.records == ()) is (wanted is Status.PASS)


def test_more_than_spf_dkim_and_dmarc_is_looked_at() -> None:
    report = doctor(
        {
            f"_mta-sts.{DOMAIN} TXT": ["v=STSv1; id=1"],
            f"mta-sts.{DOMAIN} A": ["192.0.2.9"],
            f"_smtp._tls.{DOMAIN} TXT": [f"v=TLSRPTv1; rua=mailto:t@{DOMAIN}"],
            f"_25._tcp.mail.{DOMAIN} TLSA": [f"3 1 1 {'ab' * 32}"],
        },
        addresses=("192.0.2.1",),
        server={"authenticated": True},
    )
    for check in (
        "mta_sts.record",
        "tls_rpt.record",
        "ptr.reverse",
        "dnssec.signed",
        "mx.target",
        "dane.tlsa",
        "ns.agree",
    ):
        assert found(report, check).status is Status.PASS, check
    assert [row.verdict.value for row in report.receivers] == ["ready"] * 3


def test_a_domain_without_bimi_is_not_warned_about_it() -> None:
    report = doctor()
    assert found(report, "bimi.record").status is Status.INFO
    whole = doctor(
        {f"default._bimi.{DOMAIN} TXT": ["v=BIMI1; l=https://example.com/l.svg; a=https://example.com/c.pem"]}
    )
    assert {finding.status for finding in whole.findings if finding.area == "bimi"} == {Status.PASS}
