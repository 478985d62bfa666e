"""The sending domains of the settings: `[accounts.NAME.dns]`, and what providers' own options tell."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mailglass.domains.configured import public_suffix_domain, sending_domains, subject_for
from mailglass.domains.findings import Status
from mailglass.domains.subject import Subject
from mailglass.errors import ConfigError
from mailglass.settings import Settings, load_settings
from tests.domain_zones import DOMAIN, doctor, found

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "mailglass.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings({}, path)


def only(tmp_path: Path, text: str, **environ: str) -> Subject:
    (subject,) = sending_domains(settings(tmp_path, text), environ)
    return subject


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_an_accounts_table_says_what_is_sent_from_where(tmp_path: Path) -> None:
    subject = only(
        tmp_path,
        """
[accounts.shop]
provider = "postmark"
server_token = "env:T"

[accounts.shop.dns]
domains = ["Bücher.example"]
dkim_selectors = ["S1", "s2._domainkey.xn--bcher-kva.example", "s3._domainkey.other.example"]
return_path = "PM-Bounces.xn--bcher-kva.example"
ips = ["192.0.2.1", "2001:DB8::1"]
hosts = ["click.xn--bcher-kva.example"]
""",
    )
    assert subject.domain == "xn--bcher-kva.example"
    assert [item.name for item in subject.selectors] == [
        "s1._domainkey.xn--bcher-kva.example",
        "s2._domainkey.xn--bcher-kva.example",
    ]
    assert subject.return_path == "pm-bounces.xn--bcher-kva.example"
    assert (subject.addresses, subject.hosts) == (("192.0.2.1", "2001:db8::1"), ("click.xn--bcher-kva.example",))
    assert subject.providers == ("postmark",)


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ('provider = "smtp"\nhost = "h"\nfrom = "a@one.example"', ["one.example"]),
        ('provider = "smtp"\nhost = "h"', ["default.example"]),
        (
            'provider = "mailgun"\napi_key = "env:K"\ndomain = "MG.one.example"\nfrom = "a@one.example"',
            ["one.example", "mg.one.example"],
        ),
        ('provider = "null"', []),
        ('provider = "null"\n[accounts.a.dns]\ndomains = ["one.example"]', ["one.example"]),
    ],
)
def test_sending_domains_are_those_of_from_unless_they_are_named(tmp_path: Path, table: str, wanted: list[str]) -> None:
    loaded = settings(tmp_path, f'default_from = "x@default.example"\n[accounts.a]\n{table}\n')
    assert [subject.domain for subject in sending_domains(loaded, {})] == wanted


@pytest.mark.parametrize(
    ("table", "return_path"),
    [
        ('provider = "smtp"\nhost = "h"\nbounce_domain = "B.one.example"', "b.one.example"),
        ('provider = "mailgun"\napi_key = "env:K"\ndomain = "mg.one.example"', "mg.one.example"),
        ('provider = "sparkpost"\napi_key = "env:K"\nreturn_path = "b@sp.one.example"', "sp.one.example"),
        ('provider = "resend"\napi_key = "env:K"', ""),
    ],
)
def test_the_return_path_is_taken_over_from_a_providers_own_option(
    tmp_path: Path, table: str, return_path: str
) -> None:
    text = f'[accounts.a]\nfrom = "a@one.example"\n{table}\n'
    assert sending_domains(settings(tmp_path, text), {})[0].return_path == return_path


def test_accounts_of_one_domain_are_one_subject(tmp_path: Path) -> None:
    subject = only(
        tmp_path,
        """
default_from = "a@one.example"
[accounts.a]
provider = "sendgrid"
api_key = "env:K"
[accounts.b]
provider = "mandrill"
api_key = "env:K"
[accounts.c]
provider = "smtp"
host = "h"
helo_name = "Out.one.example"
""",
    )
    assert subject.providers == ("sendgrid", "mandrill", "smtp")
    assert [item.selector for item in subject.selectors] == ["s1", "s2", "mte1", "mte2"]
    assert subject.helo == ("out.one.example",)


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_the_signers_own_key_is_the_one_that_has_to_be_published(
    tmp_path: Path, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    text = f"""
[accounts.relay]
provider = "smtp"
host = "h"
from = "a@{DOMAIN}"
[[accounts.relay.dkim]]
domain = "{DOMAIN}"
selector = "S1"
key = "env:DKIM"
"""
    subject = only(tmp_path, text, DKIM=pem(key))
    (selector,) = subject.selectors
    name = f"s1._domainkey.{DOMAIN} TXT"
    lacking = found(doctor({name: None}, selectors=subject.selectors), "dkim.key")
    assert lacking.status is Status.FAIL
    published = doctor({name: [lacking.records[0].value]}, selectors=subject.selectors)
    assert {finding.status for finding in published.findings if finding.area == "dkim"} == {Status.PASS}
    assert found(published, "dkim.pair").status is Status.PASS
    assert found(doctor(selectors=subject.selectors), "dkim.pair").status is Status.FAIL
    if isinstance(key, rsa.RSAPrivateKey):
        # verifiers take a bare RSAPublicKey too
        bare = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode()
        assert found(doctor({name: [f"p={bare}"]}, selectors=subject.selectors), "dkim.pair").status is Status.PASS
    assert only(tmp_path, text).selectors[0].public_key == b""
    assert pem(key) not in repr(selector)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ('domains = ["not a domain"]', "domains"),
        ('domains = "one.example"', "domains"),
        ('dkim_selectors = ["a b"]', "dkim_selectors"),
        ('return_path = "x@"', "return_path"),
        ("return_path = 5", "return_path"),
        ('ips = ["one.example"]', "ips"),
        ('hosts = ["-"]', "hosts"),
        ('selectors = ["s1"]', "selectors"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(tmp_path: Path, table: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"accounts\.a\.dns\.{key}"):
        settings(tmp_path, f'[accounts.a]\nprovider = "null"\n[accounts.a.dns]\n{table}\n')


@pytest.mark.parametrize("table", ['resolver = "dns.example"', "resolver = 1", 'watch = "no"', "every = 5"])
def test_a_wrong_setting_of_the_watch_is_named(tmp_path: Path, table: str) -> None:
    with pytest.raises(ConfigError, match=r"domains\."):
        settings(tmp_path, f"[domains]\n{table}\n")


def test_options_of_the_command_go_before_the_settings(tmp_path: Path) -> None:
    loaded = settings(
        tmp_path,
        """
[accounts.a]
provider = "smtp"
host = "h"
from = "a@one.example"
[accounts.a.dns]
dkim_selectors = ["s1"]
return_path = "b.one.example"
ips = ["192.0.2.1"]
""",
    )
    kept = subject_for(loaded, "one.example")
    assert (kept.return_path, kept.addresses, len(kept.selectors)) == ("b.one.example", ("192.0.2.1",), 1)
    asked = subject_for(
        loaded,
        "ONE.example.",
        selectors=["t1"],
        senders=["News <x@news.one.example>"],
        return_path="bounce@c.one.example",
        addresses=["2001:db8::1"],
    )
    assert [item.name for item in asked.selectors] == ["t1._domainkey.one.example"]
    assert (asked.senders, asked.return_path) == (("news.one.example",), "c.one.example")
    assert asked.addresses == ("2001:db8::1",)


def test_the_public_suffix_list_knows_the_organisational_domain() -> None:
    assert public_suffix_domain("a.b.example.co.uk") == "example.co.uk"
