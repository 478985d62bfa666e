"""Subject of a check: a sending domain with its selectors, Return-Path, addresses, hosts and providers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Selector:
    """A DKIM key by its place in DNS.

    Attributes:
        domain: that signs (d=).
        selector: its name (s=).
        public_key: DER of the SubjectPublicKeyInfo that belongs to the signer's private key; empty if it is not known.
        record: the TXT record of that public key; "" if it is not known.
        identities: the From domains that are signed with it.
    """

    domain: str
    selector: str
    public_key: bytes = field(default=b"", repr=False)
    record: str = field(default="", repr=False)
    identities: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name at which the key is published."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A sending domain and what is known of how it sends.

    Attributes:
        domain: in lower-case A-labels.
        from_domains: the domains of From; the sending domain itself where none is given.
        return_path: the domain of the envelope's sender; "" if it is not known.
        selectors: of DKIM.
        addresses: IP addresses that send.
        hosts: of tracking and unsubscription.
        helo: names that EHLO says.
        providers: the providers that send for it.
        public_suffix_domain: the organisational domain by the Public Suffix List; "" where that is not at hand.
        online: whether files may be fetched over HTTPS.
    """

    domain: str
    from_domains: tuple[str, ...] = ()
    return_path: str = ""
    selectors: tuple[Selector, ...] = ()
    addresses: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    helo: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    public_suffix_domain: str = ""
    online: bool = False

    @property
    def senders(self) -> tuple[str, ...]:
        """The domains of From."""
        return self.from_domains or (self.domain,)
