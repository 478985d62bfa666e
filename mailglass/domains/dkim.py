"""DKIM checks: each selector's key as a verifier would see it (RFC 6376, RFC 8301, RFC 8463)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mailglass.domains.dkim_record import ED25519_BYTES, GOOD_BITS, MAX_BITS, MIN_BITS, KeyRecord, is_key, parse_key
from mailglass.domains.findings import Area, Finding, Status, ToPublish, unanswered
from mailglass.domains.lookups import Facts, Lookup, LookupStatus
from mailglass.domains.subject import Selector

_REFERENCES: Final = {
    "selector": "RFC 6376 3.1",
    "key": "RFC 6376 3.6.2.2",
    "syntax": "RFC 6376 3.6.1",
    "strength": "RFC 8301 3.2",
    "revoked": "RFC 6376 3.6.1",
    "testing": "RFC 6376 3.6.1",
    "strict": "RFC 6376 3.6.1",
    "hash": "RFC 8301 3.1",
    "service": "RFC 6376 3.6.1",
    "shared": "RFC 6376 3.1",
    "wildcard": "RFC 6376 6.1.2",
    "pair": "RFC 6376 3.6",
}
_WHY: Final = {
    "selector": "A key can only be found under its selector, and selectors cannot be guessed.",
    "key": "Without the public key no receiver can verify the signature.",
    "syntax": "A verifier that cannot read the key treats the mail as unsigned.",
    "strength": "Verifiers reject RSA keys below 1024 bits, and more and more ask for 2048.",
    "revoked": "An empty p= says that the key is withdrawn: every signature with it fails.",
    "testing": "t=y asks receivers to treat the mail as if it were not signed.",
    "strict": "t=s asks that the signature's identity is of exactly the signing domain.",
    "hash": "rsa-sha1 must not be used. A key that allows only sha1 verifies nothing.",
    "service": "A key whose s= names neither email nor * is not for mail.",
    "shared": "Two selectors with one key cannot be rotated apart.",
    "wildcard": "A wildcard below _domainkey answers for every selector, and a lost key goes unnoticed.",
    "pair": "A public key that does not belong to the private key fails every signature.",
}
ED25519_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True, slots=True)
class DKIMResult:
    """Result of the DKIM checks.

    Attributes:
        findings: of all checks.
        usable: the domains with a key that verifies.
        unclear: the domains of which nothing is known.
        keys: by the name under which each was looked up.
    """

    findings: tuple[Finding, ...]
    usable: frozenset[str]
    unclear: frozenset[str]
    keys: dict[str, KeyRecord | None]

    def summary(self) -> dict[str, Any]:
        """Return the facts as the JSON report shows them."""
        return {
            "selectors": {
                name: None
                if key is None
                else {"key_type": key.key_type, "bits": key.bits, "revoked": key.revoked, "flags": list(key.flags)}
                for name, key in self.keys.items()
            }
        }


def check_dkim(facts: Facts, domain: str, selectors: Sequence[Selector]) -> DKIMResult:
    """Check every selector's key.

    Args:
        facts: the DNS facts.
        domain: the sending domain, where no selector is known.
        selectors: that sign, with the private key's public half where it is at hand.
    """
    probe = f"mailglass-{hashlib.sha256(domain.encode()).hexdigest()[:16]}._domainkey.{domain}"
    wildcard = facts.ask(probe, "TXT")
    if not selectors:
        missing = Finding(
            Area.DKIM,
            "selector",
            Status.CANNOT_VERIFY,
            "No DKIM selector is known",
            _WHY["selector"],
            "Neither the settings nor the command line name one",
            "Give --dkim-selector, or dkim_selectors in the account's settings. A signed mail names it as s=.",
            reference=_REFERENCES["selector"],
        )
        return DKIMResult((missing, *_wildcard(domain, wildcard)), frozenset(), frozenset({domain}), {})
    checked = [(selector, _Key(selector, facts.ask(selector.name, "TXT"))) for selector in selectors]
    findings = [finding for _, key in checked for finding in key.findings()]
    findings += _shared([key for _, key in checked])
    findings += _wildcard(domain, wildcard)
    usable = frozenset(selector.domain for selector, key in checked if key.usable)
    unclear = frozenset(selector.domain for selector, key in checked if key.lookup.failed) - usable
    return DKIMResult(tuple(findings), usable, unclear, {selector.name: key.record for selector, key in checked})


class _Key:
    """One selector's key.

    Args:
        selector: whose.
        lookup: of its name.
    """

    def __init__(self, selector: Selector, lookup: Lookup) -> None:
        self.selector, self.lookup = selector, lookup
        self.texts = tuple(text for text in lookup.texts if is_key(text))
        self.record = parse_key(self.texts[0]) if len(self.texts) == 1 else None

    @property
    def usable(self) -> bool:
        """True if a verifier can use it."""
        return self.record is not None and not any(found.status is Status.FAIL for found in self.findings())

    def _finding(
        self, check: str, status: Status, title: str, observed: str, remediation: str = "", publish: str = ""
    ) -> Finding:
        return Finding(
            Area.DKIM,
            check,
            status,
            title,
            _WHY[check],
            observed,
            remediation,
            self.selector.name,
            (ToPublish(self.selector.name, "TXT", publish),) if publish else (),
            (self.lookup,),
            _REFERENCES[check],
        )

    def findings(self) -> list[Finding]:
        """Run every check of this key."""
        found = self._presence()
        record = self.record
        if record is None or found.status not in (Status.PASS, Status.WARN):
            return [found]
        if record.errors:
            return [
                found,
                self._finding(
                    "syntax",
                    Status.FAIL,
                    "The DKIM key cannot be read",
                    "; ".join(record.errors),
                    "Publish the key again, exactly as your provider shows it.",
                    self._known(),
                ),
            ]
        if record.revoked:
            return [
                found,
                self._finding(
                    "revoked",
                    Status.FAIL,
                    "The DKIM key is revoked",
                    "p= is empty",
                    "Sign with another selector, or publish the key again.",
                    self._known(),
                ),
            ]
        return [found, *self._of_key(record), *self._of_tags(record), *self._pair(record)]

    def _known(self) -> str:
        """Return the record of the signer's own key, if it is at hand."""
        return self.selector.record

    def _presence(self) -> Finding:
        lookup, name = self.lookup, self.selector.name
        if lookup.failed:
            return self._finding(
                "key",
                Status.CANNOT_VERIFY,
                "The DKIM key could not be looked up",
                unanswered(lookup),
                "Run the check again. If it stays, look at the domain's nameservers.",
            )
        if len(self.texts) > 1:
            return self._finding(
                "key",
                Status.FAIL,
                "More than one DKIM key under one selector",
                f"{len(self.texts)} records: which one a receiver uses is undefined",
                "Delete all but the one in use.",
            )
        if self.record is not None and len(lookup.texts) > 1:
            return self._finding(
                "key",
                Status.WARN,
                "Other TXT records stand beside the DKIM key",
                f"{len(lookup.texts)} records: what a receiver makes of several is undefined",
                "Delete all but the key.",
            )
        if self.record is not None:
            return self._finding("key", Status.PASS, "The DKIM key is published", self.texts[0])
        if lookup.chain:
            return self._finding(
                "key",
                Status.FAIL,
                "The DKIM key's CNAME leads nowhere",
                f"{name} is a CNAME of {lookup.chain[-1]}",
                "Correct the CNAME's target, or have your provider publish the key there.",
            )
        status = "the name does not exist" if lookup.status is LookupStatus.NXDOMAIN else "no TXT record there"
        if lookup.texts:
            status = f"{len(lookup.texts)} TXT record(s), none of them a key"
        return self._finding(
            "key",
            Status.FAIL,
            "No DKIM key under this selector",
            f"{name}: {status}",
            "Publish the key that your provider shows for this selector.",
            self._known() or "v=DKIM1; k=rsa; p=<KEY>",
        )

    def _of_key(self, record: KeyRecord) -> list[Finding]:
        if record.key_type == "ed25519":
            return [
                self._finding(
                    "strength",
                    Status.PASS,
                    "Ed25519 key",
                    "256 bits. Not every receiver knows Ed25519: sign with RSA beside it.",
                )
            ]
        if record.key_type != "rsa":
            return [
                self._finding(
                    "syntax",
                    Status.FAIL,
                    "The key's type is unknown",
                    f"k={record.key_type}",
                    "Use k=rsa or k=ed25519.",
                    self._known(),
                )
            ]
        bits = record.bits or 0
        observed = f"RSA of {bits} bits"
        remedy = "Make an RSA key of 2048 bits under a new selector, publish it, then sign with it."
        if bits < MIN_BITS:
            return [self._finding("strength", Status.FAIL, "The DKIM key is too short", observed, remedy)]
        if bits < GOOD_BITS:
            return [self._finding("strength", Status.WARN, "The DKIM key is short", observed, remedy)]
        if bits > MAX_BITS:
            return [
                self._finding(
                    "strength", Status.WARN, "The DKIM key is longer than verifiers need to know", observed, remedy
                )
            ]
        return [self._finding("strength", Status.PASS, "The DKIM key is long enough", observed)]

    def _of_tags(self, record: KeyRecord) -> list[Finding]:
        found: list[Finding] = []
        hashes = record.hashes
        if hashes and "sha256" not in hashes:
            found.append(
                self._finding(
                    "hash",
                    Status.FAIL,
                    "The key does not allow sha256",
                    f"h={':'.join(hashes)}",
                    "Remove h=, or write h=sha256.",
                    _rewritten(record, h=None),
                )
            )
        elif "sha1" in hashes:
            found.append(
                self._finding(
                    "hash",
                    Status.WARN,
                    "The key allows sha1",
                    f"h={':'.join(hashes)}",
                    "Remove h=, or write h=sha256.",
                    _rewritten(record, h=None),
                )
            )
        if not {"*", "email"} & set(record.services):
            found.append(
                self._finding(
                    "service",
                    Status.FAIL,
                    "The key is not for mail",
                    f"s={':'.join(record.services)}",
                    "Remove s=, or write s=email.",
                    _rewritten(record, s=None),
                )
            )
        if "y" in record.flags:
            found.append(
                self._finding(
                    "testing",
                    Status.WARN,
                    "The key is in test mode",
                    "t=y",
                    "Remove t=y once signatures verify.",
                    _rewritten(record, t="s" if "s" in record.flags else None),
                )
            )
        if "s" in record.flags:
            found.append(self._strict())
        return found

    def _strict(self) -> Finding:
        below = [name for name in self.selector.identities if name != self.selector.domain]
        if below:
            return self._finding(
                "strict",
                Status.WARN,
                "The key does not allow subdomains",
                f"t=s, and mail comes from {', '.join(below[:5])}",
                "Remove t=s, or sign with a key of the subdomain. Signatures without i= are not affected.",
            )
        return self._finding("strict", Status.PASS, "The key is for exactly its domain", "t=s")

    def _pair(self, record: KeyRecord) -> list[Finding]:
        """Compare the published key with the signer's own, where that is at hand."""
        expected = self.selector.public_key
        if not expected:
            return []
        published = record.key
        # an Ed25519 key is published bare, and an RSA key may be
        if len(published) >= ED25519_BYTES and expected.endswith(published):
            return [self._finding("pair", Status.PASS, "The key belongs to the signer's private key", "They match")]
        return [
            self._finding(
                "pair",
                Status.FAIL,
                "The published key is not the signer's",
                "The private key of the settings has another public key",
                "Publish the signer's public key under this selector.",
                self._known(),
            )
        ]


def _rewritten(record: KeyRecord, **changes: str | None) -> str:
    tags = {name: value for name, value in record.tags.tags.items() if name not in changes}
    tags |= {name: value for name, value in changes.items() if value}
    last = tags.pop("p", "")
    return "; ".join([*(f"{name}={value}" for name, value in tags.items()), f"p={last}"])


def _shared(keys: Sequence[_Key]) -> list[Finding]:
    by_key: dict[bytes, list[_Key]] = {}
    for key in keys:
        if key.record is not None and key.record.key:
            by_key.setdefault(key.record.key, []).append(key)
    return [
        Finding(
            Area.DKIM,
            "shared",
            Status.WARN,
            "Two selectors have the same key",
            _WHY["shared"],
            ", ".join(key.selector.name for key in same),
            "Make a key of its own for each selector.",
            same[0].selector.name,
            evidence=tuple(key.lookup for key in same),
            reference=_REFERENCES["shared"],
        )
        for same in by_key.values()
        if len({key.selector.name for key in same}) > 1
    ]


def _wildcard(domain: str, lookup: Lookup) -> list[Finding]:
    if lookup.failed:
        return [
            Finding(
                Area.DKIM,
                "wildcard",
                Status.CANNOT_VERIFY,
                "A wildcard below _domainkey could not be looked for",
                _WHY["wildcard"],
                unanswered(lookup),
                "Run the check again.",
                evidence=(lookup,),
                reference=_REFERENCES["wildcard"],
            )
        ]
    if not lookup.found:
        return []
    return [
        Finding(
            Area.DKIM,
            "wildcard",
            Status.WARN,
            "A wildcard answers for every selector",
            _WHY["wildcard"],
            f"{lookup.question.name} has {len(lookup.records)} TXT record(s)",
            f"Delete the wildcard below {domain}, or publish each selector by its name.",
            evidence=(lookup,),
            reference=_REFERENCES["wildcard"],
        )
    ]


def key_record(public_key: bytes) -> str:
    """Return the TXT record of a public key.

    Args:
        public_key: DER of its SubjectPublicKeyInfo; of Ed25519 the 32 octets are published alone (RFC 8463 4.2).
    """
    if public_key.startswith(ED25519_PREFIX):
        raw = base64.b64encode(public_key[len(ED25519_PREFIX) :]).decode("ascii")
        return f"v=DKIM1; k=ed25519; p={raw}"
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public_key).decode('ascii')}"
