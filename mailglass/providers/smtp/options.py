"""The options of an SMTP account, checked when the account is opened."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Literal

from mailglass.errors import ConfigError
from mailglass.rendering.dkim import DKIMKey, Signer
from mailglass.settings import Secret

_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]\Z")
# RFC 5321 4.5.3.1.3: 254 octets of a path, less the local part
_MAX_BOUNCE_DOMAIN = 189
_LEAST_SECRET = 16
_HELO = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[A-Za-z0-9.:]+\])\Z")


@dataclass(frozen=True, slots=True)
class SMTPOptions:
    """Options of a submission server.

    Args:
        host: name or IP address.
        port: 587 for STARTTLS, 465 for TLS from the start.
        security: starttls (required, never dropped), tls, or none.
        username: for AUTH; needs `password`, or OAuth 2.0.
        password: a reference, `env:NAME` or `file:PATH`.
        oauth2_token: an access token in place of the password; behind `file:PATH` it is read again when it changes.
        oauth2_token_url: where access tokens are fetched, with the four options that follow.
        oauth2_client_id: of the application that is registered there.
        oauth2_client_secret: of that application; without a refresh token it is needed.
        oauth2_refresh_token: of the mailbox; without one the application's own credentials are the grant.
        oauth2_scope: what is asked for, as the server wants it written.
        ca_file: PEM file of the authorities to trust instead of the system's.
        allow_insecure_auth: send the password without TLS to a host that is not this machine.
        max_connections: connections open at once in one process; further sends wait for one.
        pipelining: full, as far as the server offers it (RFC 2920); mail, within one mail only; none.
        max_messages_per_connection: after so many mails a connection is closed and another one opened.
        connect_timeout: seconds for the TCP connection, per address of the host.
        timeout: seconds that each phase may take: opening a session, one mail up to its final dot, the answer to it.
        helo_name: what EHLO says; this host's name, or its address where the name has no dot, when left out.
        dkim: keys to sign with, per sending domain: tables `[[accounts.NAME.dkim]]`.
        bounce_domain: where reports come back to: the envelope sender becomes `bounces+…@<bounce_domain>`.
        bounce_secret: proves that a report is about our mail; the first one is used, the others still count.

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
    pipelining: Literal["full", "mail", "none"] = "full"
    connect_timeout: float = 5.0
    timeout: float = 30.0
    helo_name: str | None = None
    oauth2_token: Secret | None = None
    oauth2_token_url: str | None = None
    oauth2_client_id: str | None = None
    oauth2_client_secret: Secret | None = None
    oauth2_refresh_token: Secret | None = None
    oauth2_scope: str | None = None
    dkim: tuple[DKIMKey, ...] = ()
    bounce_domain: str | None = None
    bounce_secret: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        _check_host(self.host)
        if not 1 <= self.port <= 65535:
            raise ConfigError("port", "not a port number", "Give 1 to 65535, for example 587")
        if self.security not in ("starttls", "tls", "none"):
            raise ConfigError("security", "not an allowed value", "Use starttls, tls or none")
        if self.pipelining not in ("full", "mail", "none"):
            raise ConfigError("pipelining", "not an allowed value", "Use full, mail or none")
        for name in ("max_connections", "max_messages_per_connection", "connect_timeout", "timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, "not above zero", "Give a number above zero, or leave it out")
        if self.helo_name is not None and not _HELO.match(self.helo_name):
            raise ConfigError("helo_name", "neither a host name nor an address literal", "Give this host's full name")
        self._check_oauth2()
        self._check_credentials()
        if self.ca_file is not None:
            if self.security == "none":
                raise ConfigError("ca_file", "given without TLS", "Use security = starttls or tls, or remove it")
            tls_context(self.ca_file)
        Signer(self.dkim)
        self._check_bounces()

    @property
    def uses_oauth2(self) -> bool:
        """True if AUTH takes an access token in place of a password."""
        return self.oauth2_token is not None or self.oauth2_token_url is not None

    def _check_credentials(self) -> None:
        password = self.password
        if self.uses_oauth2 and password is not None:
            raise ConfigError("password", "given beside OAuth 2.0", "Remove it, or the oauth2 options")
        if (self.username is None) is not (password is None and not self.uses_oauth2):
            missing = "username" if self.username is None else "password"
            raise ConfigError(missing, "missing", "Give username and password (or OAuth 2.0) together, or neither")
        if self.username is None:
            return
        values = {"username": self.username} | ({} if password is None else {"password": password.reveal()})
        for name, value in values.items():
            if not value or "\x00" in value or (self.uses_oauth2 and "\x01" in value):
                raise ConfigError(name, "empty, or holds NUL or SOH", "Correct it")
        if self.security == "none" and not self.allow_insecure_auth and not is_loopback(self.host):
            raise ConfigError(
                "security", "the password would travel without TLS", "Use starttls or tls, or set allow_insecure_auth"
            )

    def _check_oauth2(self) -> None:
        of_fetching = ("oauth2_client_id", "oauth2_client_secret", "oauth2_refresh_token", "oauth2_scope")
        given = [name for name in of_fetching if getattr(self, name) is not None]
        if self.oauth2_token_url is None:
            if given:
                raise ConfigError("oauth2_token_url", "missing", f"Give it with {given[0]}, or remove both")
            return
        if self.oauth2_token is not None:
            raise ConfigError("oauth2_token", "given beside oauth2_token_url", "Give one of them")
        if not self.oauth2_client_id:
            raise ConfigError("oauth2_client_id", "missing", "Give the id of the registered application")
        if self.oauth2_client_secret is None and self.oauth2_refresh_token is None:
            raise ConfigError(
                "oauth2_client_secret", "missing", "Give it, or oauth2_refresh_token, as the server wants it"
            )
        from mailglass.providers.http import check_base_url

        try:
            check_base_url(self.oauth2_token_url)
        except ConfigError as error:
            raise ConfigError("oauth2_token_url", error.problem, error.remedy) from None

    def _check_bounces(self) -> None:
        if self.bounce_domain is not None:
            if not _DOMAIN.match(self.bounce_domain) or len(self.bounce_domain) > _MAX_BOUNCE_DOMAIN:
                raise ConfigError("bounce_domain", "not a domain", 'Write it in A-labels, "bounces.example.com"')
            if not self.bounce_secret:
                raise ConfigError("bounce_secret", "missing", "Give a secret: without one no report counts")
        if any(len(secret.reveal()) < _LEAST_SECRET for secret in self.bounce_secret):
            raise ConfigError(
                "bounce_secret", f"shorter than {_LEAST_SECRET} characters", "Draw one, as by `openssl rand -hex 32`"
            )


def is_loopback(host: str) -> bool:
    """Return whether the host, by name or address, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a client's TLS context: certificate and host name are verified, TLS 1.2 or newer.

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
