"""DKIM: sign a finished message (RFC 6376) with RSA and Ed25519 keys (RFC 8301, RFC 8463).

The same message gets the same signature at every attempt: both algorithms are deterministic, and the times in the
signature come from the delivery and not from the moment of sending.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from mailglass.clock import now
from mailglass.errors import ConfigError
from mailglass.settings import Secret

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

# RFC 6376 5.4.1, and RFC 8058 4 for the two of one-click unsubscription
SIGNED: Final = (
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "reply-to",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
)
# named once more than they occur, so that a further one breaks the signature: readers may show the added one
# (RFC 6376 8.15)
SEALED: Final = frozenset({"from", "to", "cc", "subject", "date", "reply-to", "content-type"})
VALIDITY: Final = timedelta(days=7)
# RFC 8301 3.2: signers should use 2048 bits or more, and verifiers need to know no more than 4096
MIN_BITS: Final = 2048
MAX_BITS: Final = 4096

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+\Z")
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_WHITESPACE = re.compile(rb"[ \t\r\n]+")
_SIGNATURE_LINE: Final = 72
_ED25519_SEED: Final = 32


@dataclass(frozen=True, slots=True)
class DKIMKey:
    """One key of one sending domain: a table of `[[accounts.NAME.dkim]]`.

    Args:
        domain: that signs (d=), in A-labels; mail from it and from its subdomains is signed.
        selector: under which the public key is published: `<selector>._domainkey.<domain>`.
        key: the private key: PEM, or base64 of PKCS#8; RSA of 2048 to 4096 bits, or Ed25519.

    Raises:
        ConfigError: a part of it cannot be used.
    """

    domain: str
    selector: str
    key: Secret

    def __post_init__(self) -> None:
        object.__setattr__(self, "domain", self.domain.lower())
        object.__setattr__(self, "selector", self.selector.lower())
        if not _DOMAIN.match(self.domain):
            raise ConfigError("domain", "not a domain in A-labels", 'Write for example "example.com" or "xn--….com"')
        if not _SELECTOR.match(self.selector):
            raise ConfigError("selector", "not a selector", 'Write for example "s2026", as it is published in DNS')
        load_key(self.key)


def load_key(secret: Secret) -> PrivateKey:
    """Return the private key behind a secret.

    Raises:
        ConfigError: it cannot be read, or is of no use for DKIM.
    """
    text = secret.reveal()
    try:
        if "-----BEGIN" in text:
            key = load_pem_private_key(text.encode(), password=None)
        else:
            der = base64.b64decode("".join(text.split()), validate=True)
            key = (
                Ed25519PrivateKey.from_private_bytes(der)
                if len(der) == _ED25519_SEED
                else load_der_private_key(der, password=None)
            )
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        raise ConfigError(
            "key", "cannot be read as a private key", "Give unencrypted PEM, or base64 of PKCS#8"
        ) from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError("key", "neither RSA nor Ed25519", "Make an RSA key of 2048 bits, an Ed25519 key, or both")
    if not MIN_BITS <= key.key_size <= MAX_BITS:
        raise ConfigError(
            "key", f"RSA of {key.key_size} bits", f"Make one of {MIN_BITS} to {MAX_BITS} bits (RFC 8301 3.2)"
        )
    return key


class Signer:
    """Signs messages of the domains it has keys for. Safe to use from several threads.

    Args:
        keys: at most one of each algorithm per domain; where a domain has both, a message gets both signatures,
            as not every receiver knows Ed25519 (RFC 8463 3).

    Raises:
        ConfigError: two keys of one algorithm for one domain.
    """

    def __init__(self, keys: Sequence[DKIMKey]) -> None:
        self._keys: dict[str, dict[str, tuple[DKIMKey, PrivateKey]]] = {}
        for item in keys:
            private = load_key(item.key)
            algorithm = "rsa-sha256" if isinstance(private, RSAPrivateKey) else "ed25519-sha256"
            of_domain = self._keys.setdefault(item.domain, {})
            if algorithm in of_domain:
                raise ConfigError("dkim", f"two {algorithm} keys for {item.domain}", "Remove the older one")
            of_domain[algorithm] = item, private

    def sign(self, message: bytes, *, domain: str, created_at: datetime) -> bytes:
        """Return the message with its signatures before it; as it is where there is no key for its domain.

        Args:
            message: complete, with CRLF line ends.
            domain: of its From, in lower-case A-labels; a parent domain's key signs too, which satisfies DMARC's
                relaxed alignment.
            created_at: of the delivery (t=). The signature holds for a week from then, and where the message is sent
                much later for so many weeks that half a week is left at least.
        """
        keys = self._keys_for(domain)
        if not keys:
            return message
        head, _, body = message.partition(b"\r\n\r\n")
        names, canonical = _canonical_head(head)
        body_hash = base64.b64encode(hashlib.sha256(_canonical_body(body)).digest()).decode("ascii")
        times = f"t={int(created_at.timestamp())}; x={int(_expiry(created_at, now()).timestamp())};"
        signatures = []
        for algorithm, (item, private) in keys.items():
            field = (
                f"DKIM-Signature: v=1; a={algorithm}; c=relaxed/simple;\r\n d={item.domain};\r\n"
                f" s={item.selector};\r\n {times}\r\n h={_folded_names(names)};\r\n bh={body_hash};\r\n b="
            ).encode("ascii")
            signature = base64.b64encode(_signature(private, canonical + _relaxed(field)))
            signatures.append(field + _folded(signature) + b"\r\n")
        return b"".join([*signatures, message])

    def _keys_for(self, domain: str) -> dict[str, tuple[DKIMKey, PrivateKey]]:
        while domain:
            if found := self._keys.get(domain):
                return found
            domain = domain.partition(".")[2]
        return {}


def _signature(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, RSAPrivateKey):
        return key.sign(data, PKCS1v15(), hashes.SHA256())
    return key.sign(hashlib.sha256(data).digest())  # RFC 8463 3: what is signed is the hash


def _canonical_head(head: bytes) -> tuple[list[str], bytes]:
    """Return the names for h= and their fields in relaxed form, of several of one name the last one first."""
    fields: dict[str, list[bytes]] = {}
    for field in _FIELD_END.split(head):
        name = field.partition(b":")[0].strip(b" \t").lower().decode("ascii", "replace")
        if name in SIGNED:
            fields.setdefault(name, []).append(_relaxed(field))
    names: list[str] = []
    lines: list[bytes] = []
    for name in SIGNED:
        found = fields.get(name, [])
        lines += reversed(found)
        names += [name] * (len(found) + (name in SEALED))
    return names, b"".join(line + b"\r\n" for line in lines)


def _relaxed(field: bytes) -> bytes:
    """RFC 6376 3.4.2, without a CRLF at the end."""
    name, _, value = field.partition(b":")
    return name.strip(b" \t").lower() + b":" + _WHITESPACE.sub(b" ", value).strip(b" ")


def _canonical_body(body: bytes) -> bytes:
    """RFC 6376 3.4.3: empty lines at the end do not count, and one CRLF ends it."""
    end = len(body)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[: end + 2] if end < len(body) else body + b"\r\n"


def _expiry(created_at: datetime, moment: datetime) -> datetime:
    """Return a week after `created_at`, or as many as leave half of one: the same for all attempts of that time."""
    weeks = math.ceil((moment - created_at + VALIDITY / 2) / VALIDITY)
    return created_at + max(1, weeks) * VALIDITY


def _folded_names(names: Sequence[str]) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) + 1 > _SIGNATURE_LINE:
            lines.append("")
        lines[-1] += f"{name}:"
    return "\r\n ".join(lines).removesuffix(":")


def _folded(signature: bytes) -> bytes:
    return b"\r\n ".join(
        signature[start : start + _SIGNATURE_LINE] for start in range(0, len(signature), _SIGNATURE_LINE)
    )
