"""Records that each provider asks of a sending domain: data, with the page that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class ProviderDNS:
    """The records that a provider asks for.

    Attributes:
        title: the provider's name for people.
        source: the page that says so.
        include: the SPF include of the domain in the envelope; "" where none is asked for.
        include_needed: whether mail fails SPF without it. Others send with a Return-Path of their own.
        selectors: of DKIM, where they are the same for every customer.
        targets: what the CNAME records of selectors end with, by selector; `*` for any selector.
        return_path_target: what the CNAME of a custom Return-Path ends with; "" where it is no CNAME.
        return_path_mx: what the MX of a custom Return-Path ends with; "" where there is none.
        verification: what the TXT record begins with that proves the domain; "" where there is none.
        dkim_hint: where the selector is found.
    """

    title: str
    source: str
    include: str = ""
    include_needed: bool = False
    selectors: tuple[str, ...] = ()
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    return_path_target: tuple[str, ...] = ()
    return_path_mx: tuple[str, ...] = ()
    verification: str = ""
    dkim_hint: str = ""


_SES_MX: Final = ("amazonses.com",)

PROVIDERS: Final[Mapping[str, ProviderDNS]] = MappingProxyType(
    {
        "postmark": ProviderDNS(
            "Postmark",
            "https://postmarkapp.com/support/article/1046-how-do-i-verify-a-domain",
            return_path_target=("pm.mtasv.net",),
            dkim_hint="Sender Signatures, DNS Settings: the name that ends with pm._domainkey",
        ),
        "sendgrid": ProviderDNS(
            "SendGrid",
            "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/how-to-set-up-domain-authentication",
            selectors=("s1", "s2"),
            targets=MappingProxyType({"s1": ("sendgrid.net",), "s2": ("sendgrid.net",)}),
            return_path_target=("sendgrid.net",),
            dkim_hint="Settings, Sender Authentication",
        ),
        "mailgun": ProviderDNS(
            "Mailgun",
            "https://documentation.mailgun.com/docs/mailgun/user-manual/domains/domains-verify",
            include="mailgun.org",
            include_needed=True,
            dkim_hint="Send, Sending, Domain settings, DNS records",
        ),
        "ses": ProviderDNS(
            "Amazon SES",
            "https://docs.aws.amazon.com/ses/latest/dg/mail-from.html",
            targets=MappingProxyType({"*": ("amazonses.com",)}),
            include="amazonses.com",
            return_path_mx=_SES_MX,
            dkim_hint="Identities, Authentication: three CNAME records",
        ),
        "resend": ProviderDNS(
            "Resend",
            "https://resend.com/docs/dashboard/domains/introduction",
            selectors=("resend",),
            include="amazonses.com",
            return_path_mx=_SES_MX,
            dkim_hint="Domains, DNS Records",
        ),
        "brevo": ProviderDNS(
            "Brevo",
            "https://developers.brevo.com/docs/domain-authentication-and-verification",
            verification="brevo-code:",
            dkim_hint="Senders, Domains & Dedicated IPs, Domains: mail._domainkey, or brevo1 and brevo2",
        ),
        "mailjet": ProviderDNS(
            "Mailjet",
            "https://documentation.mailjet.com/hc/en-us/articles/360049641733",
            include="spf.mailjet.com",
            include_needed=True,
            selectors=("mailjet",),
            dkim_hint="Account settings, Sender domains & addresses",
        ),
        "sparkpost": ProviderDNS(
            "SparkPost",
            "https://developers.sparkpost.com/api/sending-domains/",
            return_path_target=("sparkpostmail.com", "sparkpost.com"),
            dkim_hint="Configuration, Domains: the name that begins with scph",
        ),
        "mandrill": ProviderDNS(
            "Mandrill",
            "https://mailchimp.com/developer/transactional/docs/authentication-delivery/",
            selectors=("mte1", "mte2"),
            targets=MappingProxyType({"mte1": ("dkim1.mandrillapp.com",), "mte2": ("dkim2.mandrillapp.com",)}),
            return_path_target=("mandrillapp.com",),
            dkim_hint="Settings, Domains, View DKIM settings",
        ),
    }
)
"""By the provider's name in the settings. An SMTP server is nobody's in particular and asks for nothing."""
