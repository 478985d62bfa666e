"""`mailglass mail-doctor`: its output for people and programs, its exit codes, its usage."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mailglass.cli import run
from mailglass.domains.as_json import report_as_json
from mailglass.settings import configure, load_settings
from mailglass.testing.dns_server import DNSServer
from tests.domain_zones import DOMAIN, doctor, good

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "mail-doctor.json").read_text("utf-8"))


@pytest.fixture
def server() -> Iterator[DNSServer]:
    with DNSServer(good()) as running:
        yield running


def call(server: DNSServer, *arguments: str) -> int:
    return run(["mail-doctor", "--resolver", server.address, *arguments])


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    said = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(SCHEMA).validate(said)
    return said


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_good_domain_exits_with_0_and_prints_the_shape_of_its_schema(
    server: DNSServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call(
        server, "--domain", DOMAIN, "--dkim-selector", "s1", "--return-path", DOMAIN, "--ip", "192.0.2.1", "--json"
    )
    said = printed(capsys)
    assert code == 0
    assert said["schema_version"] == 1
    assert said["domain"] == DOMAIN
    assert said["dkim_selectors"] == ["s1"]
    assert said["summary"]["fail"] == said["summary"]["cannot_verify"] == 0
    assert said["summary"]["pass"] == sum(finding["status"] == "pass" for finding in said["findings"])
    assert set(said["facts"]) >= {"spf", "dkim", "dmarc", "mx", "bimi"}
    assert said["resolver_errors"] == []
    evidence = next(item for item in said["findings"] if item["id"] == "spf.record")["evidence"][0]
    assert (evidence["name"], evidence["type"], evidence["ttl"]) == (DOMAIN, "TXT", 300)
    assert evidence["server"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, {}),
        ({f"{DOMAIN} TXT": None, f"_dmarc.{DOMAIN} TXT": None, f"{DOMAIN} MX": None}, {}),
        ({f"s1._domainkey.{DOMAIN} TXT": ["v=DKIM1; p=\x01\x1b[31m\xff"]}, {"servfail": [f"_dmarc.{DOMAIN}"]}),
    ],
)
def test_every_report_has_the_shape_of_the_schema(changes: dict[str, Any], faults: dict[str, Any]) -> None:
    report = doctor(changes, server=faults, addresses=("192.0.2.1",), hosts=(f"mail.{DOMAIN}",), providers=("mailgun",))
    jsonschema.Draft202012Validator(SCHEMA).validate({"schema_version": 1, **report_as_json(report)})


@pytest.mark.parametrize(
    ("domain", "fail_on", "code"),
    [
        (f"none.{DOMAIN}", "fail", 1),
        (f"none.{DOMAIN}", "never", 0),
        ("warned.example", "fail", 3),
        ("warned.example", "warn", 1),
        ("unclear.example", "fail", 3),
        ("unclear.example", "never", 0),
    ],
)
def test_the_exit_code_says_what_was_found(
    server: DNSServer, domain: str, fail_on: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add(
        {
            "warned.example TXT": ["v=spf1 ip4:192.0.2.1 -all"],
            "warned.example MX": [f"10 mail.{DOMAIN}."],
            "_dmarc.warned.example TXT": ["v=DMARC1; p=none; rua=mailto:d@warned.example"],
            "unclear.example TXT": ["v=spf1 ip4:192.0.2.1 -all"],
            "unclear.example MX": [f"10 mail.{DOMAIN}."],
            "_dmarc.unclear.example TXT": ["v=DMARC1; p=reject; rua=mailto:d@unclear.example"],
        }
    )
    # without a selector DKIM cannot be verified
    assert call(server, "--domain", domain, "--fail-on", fail_on) == code
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--domain", "localhost"],
        ["--domain", "127.0.0.1"],
        ["--domain", "[::1]"],
        ["--domain", "intranet"],
        ["--domain", "a@example.com"],
        ["--domain", "-x-.example"],
        ["--domain", DOMAIN, "--ip", "mail.example.com"],
        ["--domain", DOMAIN, "--return-path", "localhost"],
        ["--domain", DOMAIN, "--resolver", "dns.example.com"],
        ["--domain", DOMAIN, "--resolver", "127.0.0.1:99999"],
        ["--dkim-selector", "s1"],
        [],
        ["--explain", "5.7"],
        ["--no-such-option"],
        ["--fail-on", "info"],
    ],
)
def test_wrong_usage_exits_with_64_and_says_the_remedy(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["mail-doctor", *arguments]) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert "Error" in said.err


def test_the_summary_line_comes_first_and_sections_follow_in_order(
    server: DNSServer, capsys: pytest.CaptureFixture[str]
) -> None:
    call(server, "--domain", DOMAIN, "--dkim-selector", "s1", "--ip", "192.0.2.1", "--verbose")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{DOMAIN}: ")
    assert all(word in said[0] for word in ("pass", "warn", "fail", "cannot_verify"))
    sections = [line for line in said if line in ("SPF", "DKIM", "DMARC", "MX", "BIMI", "Reverse DNS", "Receivers")]
    assert sections == ["SPF", "DKIM", "DMARC", "MX", "BIMI", "Reverse DNS", "Receivers"]
    assert any("Evidence:" in line for line in said)
    assert any(f"TXT {DOMAIN}: answer, TTL 300 from 127.0.0.1" in line for line in said)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)]
)
def test_colour_follows_the_terminal_and_the_environment(
    server: DNSServer,
    environment: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    call(server, "--domain", DOMAIN)
    assert ("\x1b[" in capsys.readouterr().out) is coloured


def test_without_a_domain_every_sending_domain_of_the_settings_is_checked(
    server: DNSServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mailglass.toml"
    path.write_text(
        f"""
[domains]
resolver = "{server.address}"

[accounts.one]
provider = "smtp"
host = "mail.{DOMAIN}"
from = "shop@{DOMAIN}"
helo_name = "mail.{DOMAIN}"

[accounts.one.dns]
dkim_selectors = ["s1"]
return_path = "{DOMAIN}"
ips = ["192.0.2.1"]

[accounts.two]
provider = "mandrill"
api_key = "env:KEY"

[accounts.two.dns]
domains = ["other.example"]
"""
    )
    configure(load_settings({}, path))
    assert run(["mail-doctor", "--json"]) == 1
    first, second = printed(capsys)["reports"]
    assert (first["domain"], first["return_path"], first["addresses"]) == (DOMAIN, DOMAIN, ["192.0.2.1"])
    assert first["summary"]["fail"] == 0
    assert (second["domain"], second["providers"], second["dkim_selectors"]) == (
        "other.example",
        ["mandrill"],
        ["mte1", "mte2"],
    )


def test_a_missing_record_is_printed_as_a_line_of_a_zone_file(
    server: DNSServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(server, "--domain", "other.example", "--dkim-selector", "s1") == 1
    said = capsys.readouterr().out
    assert '    Publish: _dmarc.other.example. TXT "v=DMARC1; p=none; rua=mailto:dmarc@other.example"' in said


def test_help_loads_neither_dns_nor_the_settings() -> None:
    code = (
        "import sys; from mailglass.cli import run; run(['mail-doctor', '--help']); "
        "heavy = {'dns', 'sqlalchemy', 'celery', 'cryptography', 'asyncio', "
        "'mailglass.settings', 'mailglass.domains'}; "
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "--explain" in done.stdout
