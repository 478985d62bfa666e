"""DKIM key records (RFC 6376 3.6.1, RFC 8301, RFC 8463): parsed, and the key measured."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from mailglass.domains.tags import TagList, parse_tags

# RFC 8301 3.2
MIN_BITS: Final = 1024
GOOD_BITS: Final = 2048
MAX_BITS: Final = 4096
ED25519_BYTES: Final = 32
MAX_KEY: Final = 8192

_RSA_OID: Final = bytes.fromhex("2a864886f70d010101")
_SEQUENCE, _INTEGER, _BITS, _OID = 0x30, 0x02, 0x03, 0x06


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A parsed key record.

    Attributes:
        tags: the tag list.
        key_type: `rsa`, `ed25519`, or what else is published.
        revoked: `p=` is empty.
        bits: of an RSA modulus; None for other keys and for what cannot be read.
        key: the decoded `p=`.
        errors: what keeps verifiers from using the key.
    """

    tags: TagList
    key_type: str = "rsa"
    revoked: bool = False
    bits: int | None = None
    key: bytes = b""
    errors: tuple[str, ...] = ()

    @property
    def hashes(self) -> tuple[str, ...]:
        """The hash algorithms that `h=` allows; empty for all."""
        return _listed(self.tags.get("h"))

    @property
    def services(self) -> tuple[str, ...]:
        """The services that `s=` allows; `*` for all."""
        return _listed(self.tags.get("s")) or ("*",)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of `t=`."""
        return _listed(self.tags.get("t"))


def _listed(value: str) -> tuple[str, ...]:
    return tuple(item.strip().lower() for item in value.split(":") if item.strip())


def is_key(text: str) -> bool:
    """Return whether a TXT record looks like a DKIM key: `v=` is only recommended (RFC 6376 3.6.1)."""
    tags = parse_tags(text)
    return "p" in tags.tags or tags.get("v").upper().startswith("DKIM")


def parse_key(text: str) -> KeyRecord:
    """Parse a key record. Linear in its length; never raises."""
    tags = parse_tags(text)
    errors = list(tags.errors)
    if tags.duplicates:
        errors.append(f"tags that occur twice: {', '.join(tags.duplicates)}")
    if "v" in tags.tags and (tags.get("v") != "DKIM1" or tags.names[0] != "v"):
        errors.append("v= is not DKIM1, or is not the first tag")
    key_type = tags.get("k", "rsa").lower() or "rsa"
    if "p" not in tags.tags:
        errors.append("no p= tag")
        return KeyRecord(tags, key_type, errors=tuple(errors))
    encoded = "".join(tags.get("p").split())
    if not encoded:
        return KeyRecord(tags, key_type, revoked=True, errors=tuple(errors))
    key, problem = _decoded(encoded)
    bits = None
    if problem:
        errors.append(problem)
    elif key_type == "rsa":
        bits = rsa_bits(key)
        if bits is None:
            errors.append("p= is not an RSA public key in DER")
    elif key_type == "ed25519" and len(key) != ED25519_BYTES:
        errors.append(f"p= holds {len(key)} octets, an Ed25519 key has {ED25519_BYTES}")
    return KeyRecord(tags, key_type, bits=bits, key=key, errors=tuple(errors[:10]))


def _decoded(encoded: str) -> tuple[bytes, str]:
    if len(encoded) > MAX_KEY:
        return b"", f"p= has more than {MAX_KEY} characters"
    try:
        return base64.b64decode(encoded.encode("ascii"), validate=True), ""
    except (binascii.Error, UnicodeEncodeError):
        return b"", "p= is not base64"


def rsa_bits(der: bytes) -> int | None:
    """Return the length of an RSA modulus in bits; None for what is no RSA public key.

    Reads a SubjectPublicKeyInfo (RFC 5280 4.1) and, as verifiers do, a bare RSAPublicKey (RFC 8017 A.1.1).

    Args:
        der: the decoded `p=`.
    """
    outer = _element(der, _SEQUENCE)
    if outer is None or outer[1]:
        return None
    content = outer[0]
    algorithm = _element(content, _SEQUENCE)
    if algorithm is not None:
        oid = _element(algorithm[0], _OID)
        wrapped = _element(algorithm[1], _BITS)
        if oid is None or oid[0] != _RSA_OID or wrapped is None or wrapped[0][:1] != b"\0":
            return None
        inner = _element(wrapped[0][1:], _SEQUENCE)
        if inner is None:
            return None
        content = inner[0]
    modulus = _element(content, _INTEGER)
    exponent = _element(modulus[1], _INTEGER) if modulus is not None else None
    if modulus is None or exponent is None or not modulus[0]:
        return None
    return int.from_bytes(modulus[0], "big").bit_length()


def _element(data: bytes, tag: int) -> tuple[bytes, bytes] | None:
    """Return the content of the element that data begins with and what follows it; None if it has another tag."""
    if len(data) < 2 or data[0] != tag:
        return None
    length, start = data[1], 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 3 or len(data) < 2 + octets:
            return None
        length, start = int.from_bytes(data[2 : 2 + octets], "big"), 2 + octets
    if len(data) < start + length:
        return None
    return data[start : start + length], data[start + length :]
