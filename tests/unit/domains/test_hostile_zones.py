"""Zones of strangers: bounded questions, bounded time, and nothing that steers a terminal."""

from __future__ import annotations

import json
import random
import re
import socket
import socketserver
import threading
from collections.abc import Iterator

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.domains.as_json import report_as_json
from mailglass.domains.collector import MAX_LEVELS, MAX_QUESTIONS
from mailglass.domains.dkim_record import parse_key, rsa_bits
from mailglass.domains.dmarc_record import parse_dmarc, walk_names
from mailglass.domains.findings import Status, worst
from mailglass.domains.human import lines
from mailglass.domains.names import shown
from mailglass.domains.report import Report
from mailglass.domains.spf_record import parse_spf
from mailglass.domains.subject import Subject
from mailglass.domains.tags import parse_tags
from mailglass.testing.dns_server import DNSServer
from tests.domain_zones import DOMAIN, examined, found, good, selector

# 65,535 octets are all that an answer holds, so a zone's larger records never arrive
BIGGEST = 64_000
HARMLESS = re.compile(r"[\x20-\x7e]*\Z")
SUBJECT = Subject(DOMAIN, selectors=(selector(),), addresses=("192.0.2.1",), hosts=(f"click.{DOMAIN}",))


def everything(report: Report) -> str:
    """Return all that a report can print, one line each."""
    printed = [line.text for line in lines(report, verbose=True)]
    assert all(HARMLESS.match(line) for line in printed)
    text = json.dumps(report_as_json(report), ensure_ascii=False, indent=1)
    assert all(HARMLESS.match(line) for line in text.split("\n"))
    return text


def txt(data: bytes) -> dns.rdata.Rdata:
    pieces = [data[start : start + 255] for start in range(0, len(data), 255)] or [b""]
    return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, pieces)


@pytest.fixture
def server() -> Iterator[DNSServer]:
    with DNSServer(good()) as running:
        yield running


def replace_txt(server: DNSServer, name: str, *records: bytes) -> None:
    owner = dns.name.from_text(name)
    server.zone.setdefault(owner, {})[dns.rdatatype.TXT] = [txt(record) for record in records]


@pytest.mark.parametrize(
    "data",
    [
        b"v=spf1 " + b"a" * BIGGEST,
        b"v=spf1 " + b"include:x.example " * (BIGGEST // 18),
        b"v=spf1 " + b"a:%{d}." * (BIGGEST // 7),
        b"v=spf1 a:" + b"x." * (BIGGEST // 2),
        b"v=spf1 a:example." + b"z" * (BIGGEST - 30) + b"_",
        b"v=spf1 a" + b"/1" * (BIGGEST // 2),
        b"v=spf1" + b" " * BIGGEST,
        b"v=spf1 " + b";=" * (BIGGEST // 2),
    ],
    ids=range(8),
)
def test_the_largest_records_are_read_within_the_budget(server: DNSServer, data: bytes) -> None:
    for name in (DOMAIN, f"_dmarc.{DOMAIN}", f"s1._domainkey.{DOMAIN}", f"default._bimi.{DOMAIN}"):
        prefix = {"_dmarc": b"v=DMARC1; p=none; rua=mailto:", "s1._d": b"v=DKIM1; p=", "defaul": b"v=BIMI1; l="}
        replace_txt(server, name, prefix.get(name[:6], b"") + data)
    report = examined(server, SUBJECT, timeout=5, lifetime=20)
    everything(report)
    assert len(server.queries) <= 2 * MAX_QUESTIONS


def test_thousands_of_records_are_counted_and_few_are_shown(server: DNSServer) -> None:
    replace_txt(server, DOMAIN, *(b"v=spf1 -all %d" % number for number in range(2000)))
    owner = dns.name.from_text(DOMAIN)
    server.zone[owner][dns.rdatatype.MX] = [
        dns.rdtypes.ANY.MX.MX(dns.rdataclass.IN, dns.rdatatype.MX, number, dns.name.from_text(f"m{number}.{DOMAIN}"))
        for number in range(2000)
    ]
    report = examined(server, SUBJECT, timeout=5, lifetime=20)
    assert "2000 records" in found(report, "spf.record").observed
    assert len(everything(report)) < 500_000
    assert len(server.queries) < MAX_QUESTIONS


def test_a_deep_and_wide_tree_of_includes_ends(server: DNSServer) -> None:
    def tree(path: str, depth: int) -> None:
        children = [f"{path}{number}" for number in range(4)]
        terms = " ".join(f"include:{child}.{DOMAIN}" for child in children) if depth else "-all"
        replace_txt(server, f"{path}.{DOMAIN}" if path else DOMAIN, f"v=spf1 {terms}".encode())
        for child in children if depth else ():
            tree(child, depth - 1)

    tree("", 5)
    report = examined(server, SUBJECT, timeout=5, lifetime=20)
    assert found(report, "spf.lookups").status is Status.FAIL
    assert len(server.queries) < MAX_QUESTIONS


def test_a_chain_of_includes_ends_after_a_bounded_number_of_round_trips(server: DNSServer) -> None:
    for number in range(100):
        name = f"c{number}.{DOMAIN}" if number else DOMAIN
        replace_txt(server, name, f"v=spf1 include:c{number + 1}.{DOMAIN} -all".encode())
    report = examined(server, SUBJECT, timeout=5, lifetime=20)
    assert found(report, "spf.lookups").status is Status.FAIL
    assert len([name for name in server.asked("TXT") if re.match(r"c\d+\.", name)]) < MAX_LEVELS


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_loop_of_aliases_is_no_answer(server: DNSServer, length: int) -> None:
    for number in range(length):
        server.add({f"l{number}.{DOMAIN} CNAME": [f"l{(number + 1) % length}.{DOMAIN}."]})
    server.add({f"s9._domainkey.{DOMAIN} CNAME": [f"l0.{DOMAIN}."]})
    report = examined(server, Subject(DOMAIN, selectors=(selector("s9"),)))
    finding = found(report, "dkim.key")
    assert finding.status in (Status.FAIL, Status.CANNOT_VERIFY)
    assert "No DKIM key" not in finding.title


def test_control_bytes_never_reach_the_terminal(server: DNSServer) -> None:
    evil = b"\x1b]0;owned\x07\x1b[2J\r\n\x00\x9b31m\xe2\x80\xae\xff"
    replace_txt(server, DOMAIN, b"v=spf1 " + evil + b" include:" + evil + b".example -all")
    replace_txt(server, f"_dmarc.{DOMAIN}", b"v=DMARC1; p=" + evil + b"; rua=mailto:" + evil + b"@" + evil)
    replace_txt(server, f"s1._domainkey.{DOMAIN}", b"v=DKIM1; k=" + evil + b"; t=" + evil + b"; p=" + evil)
    replace_txt(server, f"default._bimi.{DOMAIN}", b"v=BIMI1; l=" + evil)
    replace_txt(server, f"_mta-sts.{DOMAIN}", b"v=STSv1; id=" + evil)
    bad = dns.name.Name([evil[:20], b"a.b\x1b", b"example", b""])
    owner = dns.name.from_text(DOMAIN)
    server.zone[owner][dns.rdatatype.MX] = [dns.rdtypes.ANY.MX.MX(dns.rdataclass.IN, dns.rdatatype.MX, 1, bad)]
    pointer = dns.name.from_text("1.2.0.192.in-addr.arpa")
    server.zone[pointer] = {dns.rdatatype.PTR: [dns.rdtypes.ANY.PTR.PTR(dns.rdataclass.IN, dns.rdatatype.PTR, bad)]}
    alias = dns.name.from_text(f"click.{DOMAIN}")
    server.zone[alias] = {
        dns.rdatatype.CNAME: [dns.rdtypes.ANY.CNAME.CNAME(dns.rdataclass.IN, dns.rdatatype.CNAME, bad)]
    }
    text = everything(examined(server, SUBJECT))
    assert "owned" in text


def test_a_run_whose_questions_are_spent_says_so(server: DNSServer) -> None:
    report = examined(server, SUBJECT, max_questions=3)
    assert worst(report.findings) is Status.CANNOT_VERIFY
    assert any("budget" in lookup.error for lookup in report.failures)
    assert len(server.queries) <= 3 * 3


def test_nameservers_with_private_addresses_are_not_asked(server: DNSServer) -> None:
    for address in ("10.0.0.1", "169.254.169.254", "192.168.0.1"):
        server.zone[dns.name.from_text(f"ns1.{DOMAIN}")] = {}
        server.add({f"ns1.{DOMAIN} A": [address]})
        report = examined(server, SUBJECT)
        assert [lookup.error for lookup in report.failures] == ["the nameserver's address is not public"]


class _Trickle(socketserver.StreamRequestHandler):
    """Answers over TCP with one octet after the other, for ever."""

    def handle(self) -> None:
        self.connection.settimeout(0.2)
        try:
            self.wfile.write(b"\xff\xff")
            while not self.server.ended.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b"\0")
        except OSError:
            return


def test_a_server_that_trickles_its_answer_does_not_hold_the_run_up(server: DNSServer) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.settimeout(0.1)
    tcp = socketserver.ThreadingTCPServer(("127.0.0.1", udp.getsockname()[1]), _Trickle)
    tcp.daemon_threads, tcp.ended = True, threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=tcp.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def truncate() -> None:
        while not tcp.ended.is_set():  # type: ignore[attr-defined]
            try:
                wire, asker = udp.recvfrom(4096)
            except OSError:
                continue
            udp.sendto(wire[:2] + b"\x83\x80" + wire[4:], asker)

    threading.Thread(target=truncate, daemon=True).start()
    fake = DNSServer()
    fake.port = udp.getsockname()[1]
    report = examined(fake, Subject(DOMAIN, selectors=(selector(),)), timeout=0.2, lifetime=0.3)
    tcp.ended.set()  # type: ignore[attr-defined]
    tcp.shutdown()
    tcp.server_close()
    udp.close()
    assert {finding.status for finding in report.findings if finding.area == "spf"} == {Status.CANNOT_VERIFY}


@given(st.text(max_size=400))
def test_no_text_is_too_strange_to_be_parsed_and_shown(text: str) -> None:
    assert HARMLESS.match(shown(text))
    for parse in (parse_spf, parse_key, parse_dmarc, parse_tags):
        parse(text)
    parse_spf(f"v=spf1 {text}")
    parse_dmarc(f"v=DMARC1; rua={text}").uris("rua")


@given(st.binary(max_size=400))
def test_no_octets_are_too_strange_to_be_measured_as_a_key(data: bytes) -> None:
    bits = rsa_bits(data)
    assert bits is None or bits <= 8 * len(data)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_a_tree_walk_asks_at_most_eight_questions(labels: list[str]) -> None:
    names = list(walk_names(".".join(labels)))
    assert len(names) <= 8
    assert names[0] == ".".join(labels)
    assert names[-1] == labels[-1]


def test_the_same_facts_give_the_same_report_whatever_their_order(server: DNSServer) -> None:
    from mailglass.domains.lookups import Facts
    from mailglass.domains.report import analyse

    facts = Facts()
    reports = []
    report = examined(server, SUBJECT)
    lookups = {lookup.question: lookup for finding in report.findings for lookup in finding.evidence}
    for _ in range(5):
        mixed = list(lookups.items())
        random.Random(len(reports)).shuffle(mixed)
        reports.append([(item.id, item.status) for item in analyse(SUBJECT, facts.with_answers(dict(mixed))).findings])
    assert all(other == reports[0] for other in reports)
