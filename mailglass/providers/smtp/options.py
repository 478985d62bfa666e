"""The options of an SMTP account, checked when the account is opened."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Literal

from mailglass.errors import ConfigError
from mailglass.settings import Secret

_HELO = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[A-Za-z0-9.:]+\])\Z")


@dataclass(frozen=True, slots=True)
class SMTPOptions:
    """How to reach a submission server.

    Args:
        host: name or IP address.
        port: 587 for STARTTLS, 465 for TLS from the start.
        security: starttls (required, never dropped), tls, or none.
        username: for AUTH; needs `password`.
        password: a reference, `env:NAME` or `file:PATH`.
        ca_file: PEM file of the authorities to trust instead of the system's.
        allow_insecure_auth: send the password without TLS to a host that is not this machine.
        max_connections: connections open at once in one process; further sends wait for one.
        max_messages_per_connection: after so many mails a connection is closed and another one opened.
        connect_timeout: seconds for the TCP connection, per address of the host.
        timeout: seconds that each phase may take: opening a session, one mail up to its final dot, the answer to it.
        helo_name: what EHLO says; this host's name, or its address where the name has no dot, when left out.

    Raises:
        ConfigError: a value is out of range, or two contradict each other.
    """

    host: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = field(default=None, repr=False)
    password: Secret | None = None
    ca_file: str | None = None
    allow_insecure_auth: bool = False
    max_connections: int = 4
    max_messages_per_connection: int = 100
    connect_timeout: float = 5.0
    timeout: float = 30.0
    helo_name: str | None = None

    def __post_init__(self) -> None:
        _check_host(self.host)
        if not 1 <= self.port <= 65535:
            raise ConfigError("port", "not a port number", "Give 1 to 65535, for example 587")
        if self.security not in ("starttls", "tls", "none"):
            raise ConfigError("security", "not an allowed value", "Use starttls, tls or none")
        for name in ("max_connections", "max_messages_per_connection", "connect_timeout", "timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, "not above zero", "Give a number above zero, or leave it out")
        if self.helo_name is not None and not _HELO.match(self.helo_name):
            raise ConfigError("helo_name", "neither a host name nor an address literal", "Give this host's full name")
        self._check_credentials()
        if self.ca_file is not None:
            if self.security == "none":
                raise ConfigError("ca_file", "given without TLS", "Use security = starttls or tls, or remove it")
            tls_context(self.ca_file)

    def _check_credentials(self) -> None:
        if (self.username is None) is not (self.password is None):
            missing = "username" if self.username is None else "password"
            raise ConfigError(missing, "missing", "Give username and password together, or neither")
        if self.username is None or self.password is None:
            return
        for name, value in (("username", self.username), ("password", self.password.reveal())):
            if not value or "\x00" in value:
                raise ConfigError(name, "empty, or holds NUL", "Correct it")
        if self.security == "none" and not self.allow_insecure_auth and not is_loopback(self.host):
            raise ConfigError(
                "security", "the password would travel without TLS", "Use starttls or tls, or set allow_insecure_auth"
            )


def is_loopback(host: str) -> bool:
    """Whether the host, by name or address, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """A client's TLS context: certificate and host name are verified, TLS 1.2 or newer.

    Raises:
        ConfigError: `ca_file` holds no certificates that can be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise ConfigError("ca_file", "cannot be read as PEM certificates", "Give the path of a PEM file") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _check_host(host: str) -> None:
    try:
        host.encode("idna")
    except UnicodeError:
        host = ""
    if not host or not host.isprintable() or any(mark in host for mark in " /@[]"):
        raise ConfigError("host", "not a host name or IP address", 'Write it alone, for example "smtp.example.com"')
