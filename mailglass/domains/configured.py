"""The sending domains of the settings: what each account's mail says of its origin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mailglass.domains.dkim import key_record
from mailglass.domains.names import is_address, sending_domain
from mailglass.domains.providers import PROVIDERS
from mailglass.domains.subject import Selector, Subject
from mailglass.errors import ConfigError, MailglassError
from mailglass.settings import AccountSettings, Settings, resolve_secret

_KEY_MARK: Final = "._domainkey."


@dataclass(slots=True)
class _Draft:
    """A subject under construction."""

    domain: str
    selectors: dict[str, Selector] = field(default_factory=dict)
    return_path: str = ""
    addresses: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)
    helo: dict[str, None] = field(default_factory=dict)
    providers: dict[str, None] = field(default_factory=dict)

    def finished(self) -> Subject:
        return Subject(
            self.domain,
            return_path=self.return_path,
            selectors=tuple(self.selectors.values()),
            addresses=tuple(self.addresses),
            hosts=tuple(self.hosts),
            helo=tuple(self.helo),
            providers=tuple(self.providers),
        )


def sending_domains(settings: Settings, environ: Mapping[str, str] | None = None) -> tuple[Subject, ...]:
    """Return every sending domain of every account, in the order of the settings.

    Args:
        settings: the process's settings.
        environ: where references to DKIM keys are looked up; os.environ when left out. A key that cannot be read is
            not compared with what is published.
    """
    drafts: dict[str, _Draft] = {}
    for account in settings.accounts.values():
        for domain in _domains(account, settings):
            draft = drafts.setdefault(domain, _Draft(domain))
            _fill(draft, account, os.environ if environ is None else environ)
    return tuple(draft.finished() for draft in drafts.values())


def subject_for(
    settings: Settings | None,
    domain: str,
    *,
    selectors: Sequence[str] = (),
    senders: Sequence[str] = (),
    return_path: str = "",
    addresses: Sequence[str] = (),
) -> Subject:
    """Return what is to be checked of one domain: what was asked for, else what the settings say.

    Args:
        settings: the process's settings; None where there are none.
        domain: as a person wrote it.
        selectors: of DKIM; they replace those of the settings.
        senders: From, as addresses or domains.
        return_path: the envelope's sender, as an address or a domain.
        addresses: IP addresses that send.

    Raises:
        ConfigError: one of them is not what it should be.
    """
    name = sending_domain(domain)
    configured = {subject.domain: subject for subject in sending_domains(settings)} if settings else {}
    subject = configured.get(name, Subject(name))
    wrong = [address for address in addresses if not is_address(address)]
    if wrong:
        raise ConfigError("--ip", "not an IP address", "Write for example --ip 192.0.2.1")
    if selectors:
        known = {selector.name: selector for selector in subject.selectors}
        chosen = [_selector(item.strip().lower(), name) for item in selectors]
        subject = replace(subject, selectors=tuple(known.get(item.name, item) for item in chosen))
    if senders:
        domains = tuple(sending_domain(_domain_of(item), "--from") for item in senders)
        identities = tuple(replace(item, identities=domains) for item in subject.selectors)
        subject = replace(subject, from_domains=domains, selectors=identities)
    if return_path:
        subject = replace(subject, return_path=sending_domain(_domain_of(return_path), "--return-path"))
    if addresses:
        subject = replace(subject, addresses=tuple(dict.fromkeys(addresses)))
    return replace(subject, public_suffix_domain=public_suffix_domain(name))


def _domain_of(mailbox: str) -> str:
    """Return the domain of an address with or without a display name; a domain as it is."""
    return mailbox.rpartition("@")[2].strip("<> ")


def public_suffix_domain(domain: str) -> str:
    """Return the organisational domain by the Public Suffix List; "" where `publicsuffixlist` is not installed."""
    try:
        from publicsuffixlist import PublicSuffixList
    except ImportError:
        return ""
    return str(PublicSuffixList().privatesuffix(domain) or "")


def _domains(account: AccountSettings, settings: Settings) -> Iterable[str]:
    if account.dns.domains:
        return account.dns.domains
    if account.provider == "null":
        return ()
    found = []
    sender = account.sender or settings.default_from
    if sender is not None:
        found.append(sender.domain)
    if account.provider == "mailgun" and isinstance(account.options.get("domain"), str):
        found.append(account.options["domain"].lower())
    return dict.fromkeys(found)


def _fill(draft: _Draft, account: AccountSettings, environ: Mapping[str, str]) -> None:
    draft.providers[account.provider] = None
    for selector in _selectors(draft.domain, account, environ):
        draft.selectors[selector.name] = selector
    draft.return_path = draft.return_path or account.dns.return_path or _return_path(account)
    draft.addresses |= dict.fromkeys(account.dns.ips)
    draft.hosts |= dict.fromkeys(account.dns.hosts)
    helo = account.options.get("helo_name")
    if account.provider == "smtp" and isinstance(helo, str) and "." in helo and not is_address(helo.strip("[]")):
        draft.helo[helo.lower()] = None


def _return_path(account: AccountSettings) -> str:
    """Return the Return-Path's domain as far as the provider's own options tell."""
    name = {"smtp": "bounce_domain", "mailgun": "domain", "sparkpost": "return_path"}.get(account.provider)
    value = account.options.get(name) if name else None
    return value.rpartition("@")[2].lower() if isinstance(value, str) else ""


def _selectors(domain: str, account: AccountSettings, environ: Mapping[str, str]) -> Iterable[Selector]:
    signing = account.options.get("dkim") if account.provider == "smtp" else None
    for table in signing if isinstance(signing, list) else ():
        if isinstance(table, Mapping) and (found := _signing_key(domain, table, environ)) is not None:
            yield found
    named = account.dns.dkim_selectors
    preset = PROVIDERS.get(account.provider)
    for item in named or (preset.selectors if preset is not None else ()):
        selector = _selector(item, domain)
        if selector.domain == domain or domain.endswith(f".{selector.domain}"):
            yield selector


def _selector(item: str, domain: str) -> Selector:
    """Return a selector of the domain, or of the domain that its full name says."""
    selector, mark, named = item.partition(_KEY_MARK)
    return Selector(named if mark else domain, selector, identities=(domain,))


def _signing_key(domain: str, table: Mapping[str, Any], environ: Mapping[str, str]) -> Selector | None:
    """Return a key that mailglass signs with itself, with its public half if the private one can be read."""
    name, selector = table.get("domain"), table.get("selector")
    if not isinstance(name, str) or not isinstance(selector, str):
        return None
    name = name.lower()
    if domain != name and not domain.endswith(f".{name}"):
        return None
    public = _public_key(table.get("key"), environ)
    return Selector(name, selector.lower(), public, key_record(public) if public else "", (domain,))


def _public_key(reference: object, environ: Mapping[str, str]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from mailglass.rendering.dkim import load_key

    try:
        secret = resolve_secret(reference, "key", environ, lambda *_: None)
        if secret is None:
            return b""
        return load_key(secret).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except MailglassError:
        return b""
