"""The options of a Brevo account."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mailglass.errors import ConfigError
from mailglass.providers.http_search import SearchOptions
from mailglass.providers.signatures import networks_of
from mailglass.settings import Secret

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")


@dataclass(frozen=True, kw_only=True)
class BrevoOptions(SearchOptions):
    """The options of a Brevo account.

    Brevo signs no webhook. Exactly one of three proofs is chosen, and set up at Brevo with the webhook: a user name and
    password in its URL, a bearer token, or a header of one's own.

    Attributes:
        api_key: a v3 API key.
        search: look at Brevo for mails whose answer was lost. Brevo's list of mails tells of what is ours only the
            tags, so each mail gets one more, with its delivery's id.
        sender_ip: the dedicated IP address to send from.
        metadata: pass metadata on. It travels in the header `X-Mailin-custom`, which recipients can read in the raw
            mail; without it only the delivery's id does.
        webhook_username: the user name in the webhook's URL.
        webhook_passwords: the passwords that are accepted; two at a time while one is replaced.
        webhook_tokens: the bearer tokens that are accepted.
        webhook_header: the name of a header of one's own.
        webhook_header_values: the values of it that are accepted.
        webhook_networks: addresses or networks (CIDR) that webhooks may come from, in addition to the proof. Brevo
            publishes its ranges; they are the same for all its customers.
        blocked_senders: sender addresses from which an address that is pushed to Brevo's list gets no more mail;
            without any, nothing is pushed.
    """

    api_key: Secret
    base_url: str = "https://api.brevo.com"
    search: bool = False
    sender_ip: str | None = None
    metadata: bool = True
    webhook_username: str | None = None
    webhook_passwords: tuple[Secret, ...] = ()
    webhook_tokens: tuple[Secret, ...] = ()
    webhook_header: str | None = None
    webhook_header_values: tuple[Secret, ...] = ()
    webhook_networks: tuple[str, ...] = ()
    blocked_senders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _both("webhook_username", self.webhook_username, "webhook_passwords", self.webhook_passwords)
        _both("webhook_header", self.webhook_header, "webhook_header_values", self.webhook_header_values)
        if ":" in (self.webhook_username or ""):
            raise ConfigError("webhook_username", "holds a colon (RFC 7617)", "Choose another user name")
        if self.webhook_header and not _HEADER.match(self.webhook_header):
            raise ConfigError("webhook_header", "not a header's name", "Use letters, digits and -")
        proofs = {
            "webhook_passwords": self.webhook_passwords,
            "webhook_tokens": self.webhook_tokens,
            "webhook_header_values": self.webhook_header_values,
        }
        if len(chosen := [name for name, secrets in proofs.items() if secrets]) > 1:
            raise ConfigError(chosen[1], f"given beside {chosen[0]}", "Choose one proof and set it up at Brevo")
        if any(not secret.reveal().strip() for secrets in proofs.values() for secret in secrets):
            raise ConfigError(chosen[0], "holds an empty secret", "Give a long random one")
        networks_of("webhook_networks", self.webhook_networks)
        _check_ip(self.sender_ip)


def _both(one: str, first: object, other: str, second: object) -> None:
    if bool(first) != bool(second):
        raise ConfigError(other if first else one, "missing", f"Give {one} and {other}, or neither")


def _check_ip(address: str | None) -> None:
    try:
        ipaddress.ip_address(address or "192.0.2.1")
    except ValueError:
        raise ConfigError("sender_ip", "not an IP address", "Give the dedicated address, or leave it out") from None
