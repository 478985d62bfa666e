"""DNS of the demo's sending domains: what each shop and its provider would publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mailglass.testing.dns_server import DNSServer

_ADDRESS: Final = "192.0.2.10"
# an RSA key of 2048 bits, of which nobody keeps the private half
_KEY: Final = (
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1lBG3Vq+FaDM+/EBmM8U6sfKLpKAftuW9lF9Yk54yTr3qLySHepOW+MlSI+pt6/U4yGb"
    "G8tBEQ8OVzxyUy2Gz9dj59jd4uOnLgVpFGblkjeZn0wfSU98FKRUoo3D4L35+pXyPkIGF5wmOm0fI1bCCp+XNb66eeV3W4B8KeBhIWir+j5WoHUM"
    "Gx3271aNbNZHy0Sdw5ikx6NP6j6qSPbHQPAdHbEc55nZJcSqM7jPUC0Q7rD3+5slfEWohR0eBi9OjT/Ey5H3mwmF9WCyJlvH3ahvPl3oTfAp1pf9"
    "ly+mQEg9AQkf9yZjr7gC3S7xNNMIoKr5E0m4TtIwsGc5HCna/wIDAQAB"
)


_DKIM: Final = [f"v=DKIM1; k=rsa; p={_KEY}"]
_SPF: Final = [f"v=spf1 ip4:{_ADDRESS} -all"]
_MX: Final = ["10 mail.bookshop.example."]
# as the providers show them in their own pages
_RECORDS: Final[Mapping[str, Sequence[str]]] = {
    "pm-bounces.acme.example CNAME": ["pm.mtasv.net."],
    "pm.mtasv.net TXT": _SPF,
    "pm.mtasv.net MX": _MX,
    "20260101pm._domainkey.acme.example TXT": _DKIM,
    "em1.globex.example CNAME": ["u1.wl001.sendgrid.net."],
    "u1.wl001.sendgrid.net TXT": _SPF,
    "u1.wl001.sendgrid.net MX": _MX,
    "s1._domainkey.globex.example CNAME": ["s1.domainkey.u1.wl001.sendgrid.net."],
    "s1.domainkey.u1.wl001.sendgrid.net TXT": _DKIM,
    "bounces.bookshop.example TXT": _SPF,
    "bounces.bookshop.example MX": _MX,
    "s2026._domainkey.bookshop.example TXT": _DKIM,
    "mail.bookshop.example A": [_ADDRESS],
    "10.2.0.192.in-addr.arpa PTR": ["mail.bookshop.example."],
}


def lab_dns() -> DNSServer:
    """Return a server that has the records of the demo's domains. Start it by `with`."""
    server = DNSServer(_RECORDS)
    for domain in ("acme.example", "globex.example", "bookshop.example"):
        server.add(_of_every(domain))
    return server


def _of_every(domain: str) -> dict[str, Sequence[str]]:
    return {
        f"{domain} NS": [f"ns1.{domain}.", f"ns2.{domain}."],
        f"ns1.{domain} A": ["127.0.0.1"],
        f"ns2.{domain} A": ["127.0.0.1"],
        f"{domain} TXT": _SPF,
        f"{domain} MX": _MX,
        f"_dmarc.{domain} TXT": [f"v=DMARC1; p=reject; rua=mailto:dmarc@{domain}"],
    }
