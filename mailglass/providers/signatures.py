"""Proofs that a webhook comes from its provider: each compares in constant time and says what failed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailglass.clock import now
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType
from mailglass.providers.base import WebhookRequest
from mailglass.settings import Secret

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# making one anew takes a fiftieth of a verification
_ECDSA_SHA256: Final = ec.ECDSA(SHA256())

# Svix's own names and those of the Standard Webhooks specification; what they hold is the same
_STANDARD_PREFIXES: Final = ("svix", "webhook")
STANDARD_WEBHOOK_HEADERS: Final = tuple(
    f"{prefix}-{part}" for prefix in _STANDARD_PREFIXES for part in ("id", "timestamp", "signature")
)


def missing_secret(account: str, option: str) -> ConfigError:
    """Return the error of an account whose webhooks cannot be proved because `option` is not set."""
    return ConfigError(
        f"accounts.{account}.{option}", "not set, so no webhook of this account can be verified", f"Set {option}"
    )


def require_basic(request: WebhookRequest, username: str, passwords: Sequence[Secret]) -> Secret:
    """Require HTTP Basic authentication (RFC 7617) with any of several passwords; return the one that was given.

    Raises:
        SignatureError: no credentials, unreadable ones, or wrong ones.
    """
    scheme, _, encoded = request.header("authorization").partition(" ")
    if scheme.lower() != "basic":
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "authorization is not Basic")
    given = _base64(encoded.strip(), "authorization")
    return passwords[_require_one_of(given, [f"{username}:{password.reveal()}" for password in passwords])]


def require_bearer(request: WebhookRequest, tokens: Sequence[Secret]) -> Secret:
    """Require a bearer token (RFC 6750 2.1), any of several; return the one that was given.

    Raises:
        SignatureError: no token, or a wrong one.
    """
    scheme, _, token = request.header("authorization").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "authorization is not Bearer")
    return tokens[_require_one_of(_bytes(token.strip()), [one.reveal() for one in tokens])]


def require_header(request: WebhookRequest, name: str, values: Sequence[Secret]) -> Secret:
    """Require a header that holds one of several secrets; return the one that was given.

    Raises:
        SignatureError: it is missing or holds another value.
    """
    return values[_require_one_of(_bytes(request.header(name).strip()), [value.reveal() for value in values])]


def networks_of(option: str, texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks in CIDR notation.

    Raises:
        ConfigError: one is neither; names `option`.
    """
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError:
        raise ConfigError(option, "not a network", "Write CIDR notation, for example 203.0.113.0/24") from None


def require_ip(request: WebhookRequest, networks: Sequence[Network]) -> None:
    """Require a peer in one of these networks.

    This only adds to another proof: a provider's addresses serve all its customers.

    Raises:
        SignatureError: type `ip_disallowed`; also where the peer's address is not known.
    """
    try:
        peer = ipaddress.ip_address(request.remote_addr)
    except ValueError:
        raise SignatureError(SignatureErrorType.IP_DISALLOWED, "the peer's address is not known") from None
    mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
    if not any((mapped or peer) in network for network in networks):
        raise SignatureError(SignatureErrorType.IP_DISALLOWED)


def ecdsa_p256_key(text: str) -> ec.EllipticCurvePublicKey:
    """Return a P-256 public key from base64 SubjectPublicKeyInfo DER, with or without PEM's frame.

    Raises:
        SignatureError: type `malformed_key`.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    encoded = "".join(line for line in lines if not line.startswith("-----"))
    try:
        key = load_der_public_key(base64.b64decode(encoded, validate=True))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SignatureError(SignatureErrorType.MALFORMED_KEY, "not base64 of a public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError(SignatureErrorType.MALFORMED_KEY, "not a P-256 key")
    return key


def require_ecdsa(keys: Sequence[ec.EllipticCurvePublicKey], signature: str, signed: bytes) -> int:
    """Require an ECDSA signature with SHA-256, base64 of ASN.1 DER, by any of several keys; return the key's index.

    Raises:
        SignatureError: not base64, or no key's signature over these bytes.
    """
    given = _base64(signature, "signature")
    for index, key in enumerate(keys):
        try:
            key.verify(given, signed, _ECDSA_SHA256)
        except InvalidSignature:
            continue
        return index
    raise SignatureError(SignatureErrorType.BAD_SIGNATURE)


def require_fresh(timestamp: str, tolerance: float) -> None:
    """Require a Unix time in whole seconds at most `tolerance` seconds from now, in either direction.

    Raises:
        SignatureError: not a time, or too far away.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "the timestamp is not Unix seconds")
    if abs(now().timestamp() - int(timestamp)) > tolerance:
        raise SignatureError(SignatureErrorType.TIMESTAMP_SKEW)


def standard_webhooks_key(secret: Secret) -> bytes:
    """Return the key in a `whsec_` secret, whose base64 may lack its padding.

    Raises:
        SignatureError: type `malformed_key`.
    """
    text = secret.reveal().strip()
    encoded = text.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise SignatureError(SignatureErrorType.MALFORMED_KEY, "not base64, with or without whsec_ before it")
    return key


def standard_webhook_id(headers: Mapping[str, str]) -> str | None:
    """Return the id of a request by Standard Webhooks, the one its signature covers; None where it has none."""
    return headers.get(f"{_standard_prefix(headers)}-id") or None


def require_standard_webhook(request: WebhookRequest, keys: Sequence[bytes], tolerance: float) -> int:
    """Require a signature by Standard Webhooks, as Svix makes it: `v1`, HMAC-SHA256 over id, time and raw body.

    Several keys are tried, and of the several signatures a header may hold one has to fit. Other versions, such as
    the asymmetric `v1a`, prove nothing here.

    Args:
        request: its headers are named `svix-*` or `webhook-*`.
        keys: from `standard_webhooks_key`.
        tolerance: seconds that the signed time may lie from now, in either direction.

    Returns:
        The index of the key.

    Raises:
        SignatureError: a header is missing or malformed, no signature fits, or the time is too far away.
    """
    prefix = _standard_prefix(request.headers)
    identity, timestamp = request.header(f"{prefix}-id"), request.header(f"{prefix}-timestamp")
    given = _version_1(request.header(f"{prefix}-signature"), f"{prefix}-signature")
    if not identity or not identity.isascii():
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, f"{prefix}-id")
    if not timestamp.isascii() or not timestamp.isdigit():
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, f"{prefix}-timestamp")
    signed = f"{identity}.{timestamp}.".encode("ascii") + request.body
    expected = [hmac.digest(key, signed, "sha256") for key in keys]
    # all are compared, so that the time does not tell which one matched
    matches = [sum(hmac.compare_digest(mine, theirs) for theirs in given) > 0 for mine in expected]
    if not any(matches):
        raise SignatureError(SignatureErrorType.BAD_SIGNATURE)
    require_fresh(timestamp, tolerance)
    return matches.index(True)


def _standard_prefix(headers: Mapping[str, str]) -> str:
    """Return the family of names that is complete, else the one that is there at all: svix goes first."""

    def there(prefix: str) -> int:
        return sum(f"{prefix}-{part}" in headers for part in ("id", "timestamp", "signature"))

    return max(_STANDARD_PREFIXES, key=there)


def _version_1(header: str, name: str) -> list[bytes]:
    """Return the well-formed `v1` signatures of a list; empty where all are of other versions."""
    entries = [entry.partition(",") for entry in header.split(" ") if entry]
    signatures: list[bytes] = []
    for version, _, encoded in entries:
        if version == "v1" and encoded:
            try:
                signatures.append(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                continue
    if not signatures and not any(comma and version != "v1" for version, comma, _ in entries):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, f"{name} holds no signature")
    return signatures


def _require_one_of(given: bytes, secrets: Sequence[str]) -> int:
    # every secret is compared, so that the time tells neither which one matched nor how many there are ahead of it
    matches = [_same(given, _bytes(secret)) for secret in secrets]
    if not any(matches):
        raise SignatureError(SignatureErrorType.BAD_CREDENTIALS)
    return matches.index(True)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _same(one: bytes, other: bytes) -> bool:
    # digests are of one length, so that not even the length of the secret shows in the time
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, f"{what} is not base64") from None
