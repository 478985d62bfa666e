"""The policy file of MTA-STS: fetched over real TLS where that is asked for, and from public addresses alone."""

from __future__ import annotations

import asyncio
import functools
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mailglass import clock
from mailglass.domains.collector import Collector, examine, parse_resolver
from mailglass.domains.findings import Finding, Status
from mailglass.domains.policy_file import MAX_FILE, PolicyFileError, fetch, is_public, parse_policy
from mailglass.domains.subject import Subject
from mailglass.testing.dns_server import DNSServer
from tests.domain_zones import DOMAIN, found, good

HOST = f"mta-sts.{DOMAIN}"
GOOD = f"version: STSv1\r\nmode: enforce\r\nmx: mail.{DOMAIN}\r\nmx: *.{DOMAIN}\r\nmax_age: 604800\r\n"
ZONE = {f"_mta-sts.{DOMAIN} TXT": ["v=STSv1; id=1"], f"{HOST} A": ["127.0.0.1"]}
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def certificate(directory: Path, host: str) -> Path:
    """Write a certificate that is its own authority, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(days=1))
        .not_valid_after(clock.now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{host}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path


class Site:
    """An HTTPS server of a policy file.

    Args:
        directory: where its certificate is written.
        name: that the certificate is for.
    """

    def __init__(self, directory: Path, name: str = HOST) -> None:
        self.path = certificate(directory, name)
        self.answer: Answer = text_of(GOOD)
        self.hosts: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                site.hosts.append(f"{self.headers['Host']}{self.path}")
                site.answer(self)

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # clients that hang up in the middle are what some tests are about
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def get(self, addresses: tuple[str, ...] = ("127.0.0.1",), timeout: float = 10) -> str:
        """Fetch from it."""
        return asyncio.run(self.fetcher()(HOST, addresses, timeout))

    def fetcher(self) -> Callable[..., object]:
        trusting = ssl.create_default_context(cafile=str(self.path))
        port = self.server.server_address[1]
        return functools.partial(fetch, port=port, verify=trusting, allowed=lambda _: True)


def text_of(text: str, status: int = 200, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text.encode("latin-1"))

    return answer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


def policy(site: Site, records: dict[str, list[str]] | None = None) -> Finding:
    with DNSServer({**good(), **ZONE, **(records or {})}) as server:

        async def run() -> Finding:
            collector = Collector(parse_resolver(server.address), timeout=10, lifetime=20, fetch=site.fetcher())
            return found(await examine(Subject(DOMAIN, online=True), collector), "mta_sts.policy")

        return asyncio.run(run())


def test_file_is_asked_for_by_the_name_of_its_host(site: Site) -> None:
    assert site.get() == GOOD
    assert site.hosts == [f"{HOST}/.well-known/mta-sts.txt"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (GOOD, Status.PASS),
        (GOOD.replace("enforce", "testing"), Status.WARN),
        (GOOD.replace("enforce", "none"), Status.WARN),
        (GOOD.replace("STSv1", "STSv2"), Status.FAIL),
        (GOOD.replace("enforce", "always"), Status.FAIL),
        (GOOD.replace("604800", "never"), Status.FAIL),
        (f"version: STSv1\nmode: enforce\nmax_age: 1\nmx: other.{DOMAIN}", Status.FAIL),
        ("<html>\x1b[2J", Status.FAIL),
    ],
)
def test_policy_that_does_not_enforce_or_allow_is_found(site: Site, text: str, wanted: Status) -> None:
    site.answer = text_of(text)
    finding = policy(site)
    assert finding.status is wanted
    assert "\x1b" not in str(finding)


def test_policy_file_that_is_not_served_cannot_be_verified(site: Site) -> None:
    site.answer = text_of("no", 404)
    finding = policy(site)
    assert (finding.status, "404" in finding.observed) == (Status.CANNOT_VERIFY, True)


def test_redirect_is_not_followed(site: Site) -> None:
    site.answer = text_of("", 301, Location="https://127.0.0.1:1/")
    with pytest.raises(PolicyFileError, match="301"):
        site.get()
    assert len(site.hosts) == 1


def test_large_file_is_cut_off(site: Site) -> None:
    site.answer = text_of("x" * (MAX_FILE + 1))
    with pytest.raises(PolicyFileError, match="octets"):
        site.get()


def test_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    other = Site(tmp_path, "other.example")
    with pytest.raises(PolicyFileError, match="certificate"):
        other.get()
    other.server.shutdown()
    other.server.server_close()
    assert other.hosts == []


def test_silent_server_is_given_up(site: Site) -> None:
    gone = threading.Event()
    site.answer = lambda _: gone.wait(10) and None
    with pytest.raises(PolicyFileError, match="in time"):
        site.get(timeout=0.5)
    gone.set()


def test_server_that_trickles_its_file_does_not_hold_the_run_up(site: Site) -> None:
    gone = threading.Event()

    def trickle(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not gone.wait(0.1):
            handler.wfile.write(b"x")

    site.answer = trickle
    with DNSServer({**good(), **ZONE}) as server:

        async def run() -> Finding:
            collector = Collector(parse_resolver(server.address), timeout=5, lifetime=5, fetch=site.fetcher())
            # no read waits for long, and all of them together do
            collector._lifetime = 1
            return found(await examine(Subject(DOMAIN, online=True), collector), "mta_sts.policy")

        finding = asyncio.run(run())
    gone.set()
    assert (finding.status, "in time" in finding.observed) == (Status.CANNOT_VERIFY, True)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "224.0.0.1",
        "ff02::1",
    ],
)
def test_private_address_is_never_connected_to(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(PolicyFileError, match="no public address"):
        asyncio.run(fetch(HOST, [address], 1))


def test_nothing_is_fetched_unless_it_is_asked_for(site: Site) -> None:
    with DNSServer({**good(), **ZONE}) as server:

        async def run() -> Finding:
            collector = Collector(parse_resolver(server.address), timeout=10, lifetime=20, fetch=site.fetcher())
            return found(await examine(Subject(DOMAIN), collector), "mta_sts.policy")

        assert asyncio.run(run()).status is Status.CANNOT_VERIFY
    assert site.hosts == []


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("mail.example.com", True), ("a.example.com", True), ("a.b.example.com", False), ("example.com", False)],
)
def test_pattern_stands_for_one_label(host: str, allowed: bool) -> None:
    assert parse_policy(GOOD).allows(host) is allowed
