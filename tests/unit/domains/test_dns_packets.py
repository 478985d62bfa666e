"""The collector against real packets: what each kind of answer becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mailglass.domains.collector import Collector, Resolver, parse_resolver
from mailglass.domains.lookups import Lookup, LookupStatus, Question
from mailglass.errors import ConfigError
from mailglass.testing.dns_server import DNSServer
from tests.domain_zones import DOMAIN, doctor, found, good, selector

LONG = "x" * 2000


@pytest.fixture
def server() -> Iterator[DNSServer]:
    with DNSServer(good()) as running:
        running.add(
            {
                f"long.{DOMAIN} TXT": [LONG],
                f"a1.{DOMAIN} CNAME": [f"a2.{DOMAIN}."],
                f"a2.{DOMAIN} CNAME": [f"mail.{DOMAIN}."],
                f"dangling.{DOMAIN} CNAME": ["gone.example."],
                f"*.wild.{DOMAIN} TXT": ["answers for all"],
                f"deep.below.{DOMAIN} TXT": ["x"],
            }
        )
        yield running


def ask(server: DNSServer, name: str, rdtype: str = "TXT") -> Lookup:
    lifetime = 2.0 if server.silent else 20.0

    async def run() -> Lookup:
        collector = Collector(parse_resolver(server.address), timeout=lifetime / 2, lifetime=lifetime)
        question = Question(name, rdtype)
        return (await collector.collect([question]))[question]

    return asyncio.run(run())


def test_a_short_answer_comes_over_udp(server: DNSServer) -> None:
    found = ask(server, f"_spf.{DOMAIN}")
    assert (found.status, found.records, found.ttl) == (LookupStatus.ANSWER, ("v=spf1 ip4:192.0.2.0/24 -all",), 300)
    assert [transport for *_, transport in server.queries] == ["udp"]


def test_a_truncated_answer_is_fetched_over_tcp(server: DNSServer) -> None:
    found = ask(server, f"long.{DOMAIN}")
    assert found.records == (LONG,)
    assert found.pieces == ((255,) * 7 + (215,),)
    assert [transport for *_, transport in server.queries] == ["udp", "tcp"]


def test_a_truncated_answer_without_tcp_is_a_failure(server: DNSServer) -> None:
    server.udp_only = True
    assert ask(server, f"long.{DOMAIN}").failed


@pytest.mark.parametrize(
    ("fault", "error"), [("servfail", "SERVFAIL"), ("refused", "REFUSED"), ("silent", "no answer in time")]
)
def test_a_fault_of_the_server_is_a_failure_that_names_it(server: DNSServer, fault: str, error: str) -> None:
    import dns.name

    getattr(server, fault).add(dns.name.from_text(DOMAIN))
    found = ask(server, DOMAIN)
    assert found.failed
    assert error in found.error
    assert not found.bogus


def test_an_extended_error_says_that_dnssec_is_at_fault(server: DNSServer) -> None:
    import dns.name

    server.bogus.add(dns.name.from_text(DOMAIN))
    assert ask(server, DOMAIN).bogus


def test_a_server_that_is_not_there_is_a_failure() -> None:
    fake = DNSServer()
    fake.port = 1
    assert ask(fake, DOMAIN).failed


@pytest.mark.parametrize(
    ("name", "rdtype", "status"),
    [
        (f"gone.{DOMAIN}", "TXT", LookupStatus.NXDOMAIN),
        (f"mail.{DOMAIN}", "TXT", LookupStatus.NODATA),
        (f"below.{DOMAIN}", "TXT", LookupStatus.NODATA),
        (f"any.wild.{DOMAIN}", "TXT", LookupStatus.ANSWER),
        (f"two.labels.wild.{DOMAIN}", "TXT", LookupStatus.ANSWER),
        (f"any.wild.{DOMAIN}", "A", LookupStatus.NODATA),
        (f"wild.{DOMAIN}", "TXT", LookupStatus.NODATA),
    ],
)
def test_a_name_without_records_is_told_from_one_that_does_not_exist(
    server: DNSServer, name: str, rdtype: str, status: LookupStatus
) -> None:
    assert ask(server, name, rdtype).status is status


def test_a_chain_of_aliases_is_followed_and_kept(server: DNSServer) -> None:
    found = ask(server, f"a1.{DOMAIN}", "A")
    assert found.records == ("192.0.2.1",)
    assert found.chain == (f"a2.{DOMAIN}", f"mail.{DOMAIN}")


def test_an_alias_that_leads_nowhere_says_where_it_leads(server: DNSServer) -> None:
    found = ask(server, f"dangling.{DOMAIN}", "A")
    assert (found.status, found.chain) == (LookupStatus.NXDOMAIN, ("gone.example",))


def test_a_resolver_that_validates_says_so() -> None:
    with DNSServer(good(), authenticated=True) as server:
        assert ask(server, DOMAIN).authenticated
        assert ask(server, f"gone.{DOMAIN}").authenticated


@pytest.mark.parametrize("name", ["a" * 64, "a..b", ".".join(["x" * 60] * 5), "\\999.example"])
def test_a_name_that_cannot_be_asked_for_is_a_failure_without_a_packet(server: DNSServer, name: str) -> None:
    assert ask(server, name).failed
    assert server.queries == []


def test_a_run_takes_as_many_round_trips_as_its_records_depend_on_each_other() -> None:
    levels: list[int] = []
    collect = Collector.collect

    async def counted(self: Collector, questions: object) -> dict[Question, Lookup]:
        asked = list(questions)  # type: ignore[call-overload]
        levels.append(len(asked))
        return await collect(self, asked)

    Collector.collect = counted  # type: ignore[method-assign]
    try:
        report = doctor(return_path=DOMAIN, addresses=("192.0.2.1",), selectors=(selector(), selector("s2")))
    finally:
        Collector.collect = collect  # type: ignore[method-assign]
    # names of the domain; what they lead to; the serial numbers at its nameservers
    assert len(levels) == 3
    assert found(report, "spf.includes").status == "pass"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("", Resolver()),
        ("1.1.1.1", Resolver("1.1.1.1")),
        ("1.1.1.1:5353", Resolver("1.1.1.1", 5353)),
        ("::1", Resolver("::1")),
        ("[::1]:5353", Resolver("::1", 5353)),
        ("[::1]", Resolver("::1")),
    ],
)
def test_a_resolver_is_an_address_with_or_without_a_port(value: str, wanted: Resolver) -> None:
    assert parse_resolver(value) == wanted


@pytest.mark.parametrize("value", ["dns.example", "1.1.1.1:0", "1.1.1.1:70000", "1.1.1.1:x", "https://1.1.1.1"])
def test_anything_else_is_no_resolver(value: str) -> None:
    with pytest.raises(ConfigError, match="resolver"):
        parse_resolver(value)
