"""An authoritative DNS server on loopback: real packets over UDP and TCP, and every way to go wrong."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

UDP: Final = 512
TTL: Final = 300
CHAIN: Final = 8

Records = Mapping[str, Sequence[str]]


class DNSServer:
    """Answers from records that a test gives, and does worse where it is told to.

    A name that has records exists, and so do the names above it. `*.` stands for names below that do not exist.

    Args:
        records: `"name TYPE"` with the data of each record as in a zone file. TXT may stand without quotes.
        servfail: names that are answered with SERVFAIL.
        silent: names that are never answered.
        bogus: names that are answered with SERVFAIL and the extended error "DNSSEC bogus".
        refused: names that are answered with REFUSED.
        authenticated: set the AD flag on answers, as a validating resolver.
        udp_only: drop connections over TCP.
    """

    def __init__(
        self,
        records: Records | None = None,
        *,
        servfail: Iterable[str] = (),
        silent: Iterable[str] = (),
        bogus: Iterable[str] = (),
        refused: Iterable[str] = (),
        authenticated: bool = False,
        udp_only: bool = False,
    ) -> None:
        self.zone: dict[dns.name.Name, dict[dns.rdatatype.RdataType, list[dns.rdata.Rdata]]] = {}
        self.queries: list[tuple[str, str, str]] = []
        self.servfail, self.silent = _names(servfail), _names(silent)
        self.bogus, self.refused = _names(bogus), _names(refused)
        self.authenticated, self.udp_only = authenticated, udp_only
        self.add(records or {})
        self._servers: list[socketserver.BaseServer] = []
        self.port = 0

    def add(self, records: Records) -> None:
        """Add records."""
        for owner, values in records.items():
            name, _, kind = owner.rpartition(" ")
            rdtype = dns.rdatatype.from_text(kind)
            rdatas = [dns.rdata.from_text(dns.rdataclass.IN, rdtype, _presented(kind, value)) for value in values]
            self.add_rdatas(dns.name.from_text(name), rdatas)

    def add_rdatas(self, name: dns.name.Name, rdatas: Iterable[dns.rdata.Rdata]) -> None:
        """Add records in wire form: for labels and octets that no zone file can hold."""
        for rdata in rdatas:
            self.zone.setdefault(name, {}).setdefault(rdata.rdtype, []).append(rdata)

    @property
    def address(self) -> str:
        """The address as `--resolver` takes it."""
        return f"127.0.0.1:{self.port}"

    def asked(self, kind: str = "") -> list[str]:
        """Return the names that were asked for, of one type or of all."""
        return [name for name, asked, _ in self.queries if kind in ("", asked)]

    def __enter__(self) -> DNSServer:
        for _ in range(50):
            udp = _UDPServer(("127.0.0.1", 0), _UDPHandler)
            self.port = udp.server_address[1]
            try:
                tcp = _TCPServer(("127.0.0.1", self.port), _TCPHandler)
            except OSError:
                udp.server_close()
                continue
            break
        self._servers = [udp, tcp]
        for server in (udp, tcp):
            server.dns = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        """Return the answer to a query in wire form; None for silence."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        self.queries.append(
            (question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype), transport)
        )
        if question.name in self.silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        if question.name in self.servfail | self.bogus | self.refused:
            response.set_rcode(dns.rcode.REFUSED if question.name in self.refused else dns.rcode.SERVFAIL)
            if question.name in self.bogus:
                response.use_edns(0, 0, 1232, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS)])
        else:
            self._resolve(response, question.name, question.rdtype)
            if self.authenticated:
                response.flags |= dns.flags.AD
        limit = max(UDP, query.payload) if query.edns >= 0 else UDP
        if transport == "tcp":
            return response.to_wire(max_size=65535)
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _resolve(self, response: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> None:
        for _ in range(CHAIN):
            found = self._records(name)
            if found is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                return
            if rdtype in found:
                response.answer.append(dns.rrset.from_rdata_list(name, TTL, found[rdtype]))
                return
            if dns.rdatatype.CNAME not in found:
                return
            alias = found[dns.rdatatype.CNAME][:1]
            response.answer.append(dns.rrset.from_rdata_list(name, TTL, alias))
            name = alias[0].target  # type: ignore[attr-defined]

    def _records(self, name: dns.name.Name) -> dict[dns.rdatatype.RdataType, list[dns.rdata.Rdata]] | None:
        """Return what a name has; nothing for one above others, None for one that does not exist."""
        if name in self.zone:
            return self.zone[name]
        if any(owner.is_subdomain(name) for owner in self.zone):
            return {}
        for labels in range(1, len(name.labels)):
            parent = name.split(len(name.labels) - labels)[1]
            wildcard = dns.name.Name([b"*", *parent.labels])
            if wildcard in self.zone:
                return self.zone[wildcard]
            if any(owner.is_subdomain(parent) for owner in self.zone if not owner.is_wild()):
                # the closest encloser: a wildcard above it does not count (RFC 4592 3.3.1)
                return None
        return None


def _names(names: Iterable[str]) -> set[dns.name.Name]:
    return {dns.name.from_text(name) for name in names}


def _presented(kind: str, value: str) -> str:
    if kind not in ("TXT", "SPF") or value.startswith('"'):
        return value
    pieces = [value[start : start + 255] for start in range(0, len(value), 255)] or [""]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)


class _UDPServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    max_packet_size = 65535
    dns: DNSServer


class _TCPServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    dns: DNSServer


class _UDPHandler(socketserver.BaseRequestHandler):
    server: _UDPServer
    request: tuple[bytes, socket.socket]

    def handle(self) -> None:
        wire, sock = self.request
        answer = self.server.dns.answer(wire, "udp")
        if answer is not None:
            sock.sendto(answer, self.client_address)


class _TCPHandler(socketserver.StreamRequestHandler):
    server: _TCPServer
    timeout: ClassVar[float | None] = 10

    def handle(self) -> None:
        if self.server.dns.udp_only:
            return
        head = self.rfile.read(2)
        if len(head) < 2:
            return
        (length,) = struct.unpack("!H", head)
        answer = self.server.dns.answer(self.rfile.read(length), "tcp")
        if answer is None:
            # silence on an open connection, until the asker gives up
            self.connection.settimeout(10)
            self._wait()
            return
        self.wfile.write(struct.pack("!H", len(answer)) + answer)

    def _wait(self) -> None:
        try:
            self.connection.recv(1)
        except OSError:
            return


def zone_of(records: Iterable[Any]) -> dict[str, list[str]]:
    """Return a server's records from what a finding asks to publish."""
    zone: dict[str, list[str]] = {}
    for record in records:
        zone.setdefault(f"{record.name} {record.rdtype}", []).append(record.value)
    return zone
