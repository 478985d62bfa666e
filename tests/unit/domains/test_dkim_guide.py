"""The guide to sending domains: the records that it shows are served, and its commands print what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import dns.rdataset
import dns.zonefile
import pytest

from mailglass.cli import run
from mailglass.testing.dns_server import DNSServer

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "dkim.md").read_text(encoding="utf-8")
ZONES = re.findall(r"^```zone\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
CONSOLES = re.findall(r"^```console\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def examples() -> Iterator[tuple[str, list[str]]]:
    """Yield each command of the guide that asks the doctor, with the lines that it shows."""
    for block in CONSOLES:
        for part in block.split("$ ")[1:]:
            command, *shown = part.splitlines()
            if command.startswith("mailglass mail-doctor"):
                yield command, shown


@pytest.fixture
def server() -> Iterator[DNSServer]:
    with DNSServer() as running:
        for text in ZONES:
            for rrset in dns.zonefile.read_rrsets(text, default_ttl=300, origin=".", rdclass="IN"):
                running.add_rdatas(rrset.name, rrset)
        yield running


def test_the_guide_shows_records_of_every_kind_that_it_speaks_of(server: DNSServer) -> None:
    assert len(ZONES) >= 5
    served = {rdtype.name for records in server.zone.values() for rdtype in records}
    assert served == {"MX", "A", "TXT", "PTR"}


@pytest.mark.parametrize(("command", "shown"), list(examples()), ids=lambda value: str(value)[:60])
def test_a_command_of_the_guide_prints_what_the_guide_says(
    server: DNSServer, command: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    extra = [] if "--explain" in words else ["--resolver", server.address]
    code = run([*words, *extra])
    printed = capsys.readouterr().out.splitlines()
    for line in shown:
        assert any(said.startswith(line) for said in printed), (line, printed)
    assert code == (1 if "news.example.net" in command else 0)
