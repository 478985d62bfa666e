"""SMTP under TLS: required means required, and nothing said before it counts."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailglass.clock import monotonic
from mailglass.ids import uuid7
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import SMTPOptions, SMTPProvider
from mailglass.settings import Secret
from mailglass.testing.lab.smtp import SMTPLab
from mailglass.testing.lab.weather import Climate, LabMail

PATIENCE = 20.0


class Certificate(NamedTuple):
    context: ssl.SSLContext
    ca_file: str


def certificate(directory: Path, *, days: int = 30, address: str = "127.0.0.1") -> Certificate:
    """A self-signed one for an address, and the server's context that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{cert.serial_number}.pem"
    public = cert.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(public + private)
    (directory / "ca.pem").write_bytes(public)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return Certificate(context, str(directory / "ca.pem"))


@pytest.fixture
def trusted(tmp_path: Path) -> Certificate:
    return certificate(tmp_path)


@contextmanager
def running_lab(context: ssl.SSLContext | None) -> Iterator[tuple[list[LabMail], int]]:
    mails: list[LabMail] = []
    lab = SMTPLab(mails.append, Climate(), username="ada", password="hunter2", ssl_context=context)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield mails, asyncio.run_coroutine_threadsafe(lab.start(), loop).result(PATIENCE)
    finally:
        asyncio.run_coroutine_threadsafe(lab.stop(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@contextmanager
def one_connection(script: Callable[[socket.socket], None]) -> Iterator[int]:
    """Plays a script on the first connection; fails the test when it fails."""
    errors: list[BaseException] = []

    def play(listener: socket.socket) -> None:
        try:
            sock = listener.accept()[0]
            sock.settimeout(PATIENCE)
            with sock:
                script(sock)
        except BaseException as error:
            errors.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=play, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(PATIENCE)
    if errors:
        raise errors[0]


def send(port: int, count: int = 1, **options: Any) -> list[Outcome]:
    opened = SMTPProvider("relay", SMTPOptions(**{"host": "127.0.0.1", "port": port, "timeout": PATIENCE, **options}))
    mails = [
        Outgoing(
            delivery_id=uuid7(),
            tenant="acme",
            stream="transactional",
            recipient=Address("ada@example.com"),
            sender=Address("shop@example.org"),
            subject="Your order",
            created_at=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
            text="Thank you. " * 5000,
        )
        for _ in range(count)
    ]
    try:
        return opened.send(mails, deadline=monotonic() + PATIENCE)
    finally:
        opened.close()


def brief(outcomes: list[Outcome]) -> list[tuple[str, str | None]]:
    return [(outcome.kind.value, outcome.reason) for outcome in outcomes]


CREDENTIALS: dict[str, Any] = {"username": "ada", "password": Secret("hunter2", "env:PW")}


def test_mail_goes_under_starttls_with_authentication(trusted: Certificate) -> None:
    with running_lab(trusted.context) as (mails, port):
        outcomes = send(port, 10, ca_file=trusted.ca_file, **CREDENTIALS)

    assert brief(outcomes) == [("accepted", None)] * 10
    assert len({mail.delivery_id for mail in mails}) == 10


class OnAnyPort(Controller):
    """Learns the port that the system chose before it waits for its own server there."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Accepting:
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return "250 2.0.0 taken"


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_both_kinds_of_tls_are_spoken_as_others_understand_them(trusted: Certificate, security: str) -> None:
    options = (
        {"ssl_context": trusted.context}
        if security == "tls"
        else {"tls_context": trusted.context, "require_starttls": True}
    )
    controller = OnAnyPort(Accepting(), hostname="127.0.0.1", port=0, **options)
    controller.start()
    try:
        assert brief(send(controller.port, 3, security=security, ca_file=trusted.ca_file)) == [("accepted", None)] * 3
    finally:
        controller.stop()


@pytest.mark.parametrize(
    ("faults", "told"),
    [({}, False), ({"days": -1}, True), ({"address": "127.0.0.2"}, True)],
    ids=["unknown authority", "expired", "another host's"],
)
def test_a_certificate_that_proves_nothing_sends_nothing(tmp_path: Path, faults: dict[str, Any], told: bool) -> None:
    shown = certificate(tmp_path, **faults)

    with running_lab(shown.context) as (mails, port):
        outcomes = send(port, 2, ca_file=shown.ca_file if told else None, **CREDENTIALS)

    assert brief(outcomes) == [("transient", "tls_untrusted")] * 2
    assert mails == []


def test_a_server_without_starttls_gets_neither_password_nor_mail() -> None:
    heard: list[bytes] = []

    def script(sock: socket.socket) -> None:
        sock.sendall(b"220 script\r\n")
        sock.recv(1000)
        sock.sendall(b"250-script\r\n250 AUTH PLAIN\r\n")
        heard.append(sock.recv(1000))

    with one_connection(script) as port:
        outcomes = send(port, **CREDENTIALS)

    assert brief(outcomes) == [("misconfigured", "starttls_unavailable")]
    assert heard == [b""]


def test_a_server_that_cannot_do_tls_for_now_is_transient() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(b"220 script\r\n")
        sock.recv(1000)
        sock.sendall(b"250-script\r\n250 STARTTLS\r\n")
        sock.recv(1000)
        sock.sendall(b"454 4.7.0 TLS not available\r\n")
        assert sock.recv(1000) == b""

    with one_connection(script) as port:
        assert brief(send(port)) == [("transient", "smtp_454")]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_handshake_that_fails_is_transient(security: str) -> None:
    def script(sock: socket.socket) -> None:
        if security == "starttls":
            sock.sendall(b"220 script\r\n")
            sock.recv(1000)
            sock.sendall(b"250-script\r\n250 STARTTLS\r\n")
            sock.recv(1000)
            sock.sendall(b"220 go ahead\r\n")
        sock.recv(1000)
        sock.sendall(b"this is not TLS at all\r\n")

    with one_connection(script) as port:
        assert brief(send(port, security=security)) == [("transient", "tls_failed")]


def test_a_handshake_that_hangs_is_given_up() -> None:
    def script(sock: socket.socket) -> None:
        while sock.recv(1000):
            pass

    with one_connection(script) as port:
        assert brief(send(port, security="tls", timeout=0.3)) == [("transient", "tls_failed")]


def test_bytes_injected_in_the_clear_behind_starttls_are_dropped(trusted: Certificate) -> None:
    commands: list[bytes] = []

    def script(sock: socket.socket) -> None:
        sock.sendall(b"220 script\r\n")
        sock.recv(1000)
        sock.sendall(b"250-script\r\n250 STARTTLS\r\n")
        sock.recv(1000)
        # taken for the answer to EHLO, it would put every later answer one too early: the 235 would be the forger's
        sock.sendall(b"220 go ahead\r\n250-forged\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n235 forged\r\n")
        with trusted.context.wrap_socket(sock, server_side=True) as secure:
            stream = secure.makefile("rwb")

            def answer(reply: bytes) -> None:
                commands.append(stream.readline())
                stream.write(reply + b"\r\n")
                stream.flush()

            answer(b"250-script\r\n250 AUTH LOGIN")
            answer(b"334 VXNlcm5hbWU6")
            answer(b"334 UGFzc3dvcmQ6")
            answer(b"535 5.7.8 no")
            assert stream.readline() == b""

    with one_connection(script) as port:
        outcomes = send(port, ca_file=trusted.ca_file, **CREDENTIALS)

    assert commands[1:] == [b"AUTH LOGIN\r\n", b"YWRh\r\n", b"aHVudGVyMg==\r\n"]
    assert brief(outcomes) == [("misconfigured", "smtp_535")]


def test_the_lab_drops_what_was_injected_behind_starttls(trusted: Certificate) -> None:
    client_context = ssl.create_default_context(cafile=trusted.ca_file)
    with (
        running_lab(trusted.context) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
    ):
        assert plain.recv(1000).startswith(b"220")
        plain.sendall(b"STARTTLS\r\nNOOP\r\n")
        assert plain.recv(1000) == b"220 2.0.0 Go ahead\r\n"
        with client_context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            secure.sendall(b"EHLO me\r\n")
            assert secure.recv(1000).startswith(b"250-lab.mailglass.test")
