"""Proofs that a webhook comes from its provider: each compares in constant time and says what failed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailglass.clock import now
from mailglass.errors import ConfigError, SignatureError, SignatureErrorType
from mailglass.providers.base import WebhookRequest
from mailglass.settings import Secret


def missing_secret(account: str, option: str) -> ConfigError:
    """The error of an account whose webhooks cannot be proved because `option` is not set."""
    return ConfigError(
        f"accounts.{account}.{option}", "not set, so no webhook of this account can be verified", f"Set {option}"
    )


def require_basic(request: WebhookRequest, username: str, passwords: Sequence[Secret]) -> None:
    """HTTP Basic authentication (RFC 7617) with any of several passwords, so that one can be replaced without a gap.

    Raises:
        SignatureError: no credentials, unreadable ones, or wrong ones.
    """
    scheme, _, encoded = request.header("authorization").partition(" ")
    if scheme.lower() != "basic":
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "authorization is not Basic")
    given = _base64(encoded.strip(), "authorization")
    # every password is compared, so that the time tells neither which one matched nor how many there are ahead of it
    matches = [_same(given, f"{username}:{password.reveal()}".encode()) for password in passwords]
    if not any(matches):
        raise SignatureError(SignatureErrorType.BAD_CREDENTIALS)


def ecdsa_p256_key(text: str) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from base64 SubjectPublicKeyInfo DER, with or without PEM's frame.

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


def require_ecdsa(keys: Sequence[ec.EllipticCurvePublicKey], signature: str, signed: bytes) -> None:
    """An ECDSA signature with SHA-256, base64 of ASN.1 DER, by any of several keys.

    Raises:
        SignatureError: not base64, or no key's signature over these bytes.
    """
    given = _base64(signature, "signature")
    for key in keys:
        try:
            key.verify(given, signed, ec.ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return
    raise SignatureError(SignatureErrorType.BAD_SIGNATURE)


def require_fresh(timestamp: str, tolerance: float) -> None:
    """A Unix time in whole seconds at most `tolerance` seconds from now, in either direction.

    Raises:
        SignatureError: not a time, or too far away.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, "the timestamp is not Unix seconds")
    if abs(now().timestamp() - int(timestamp)) > tolerance:
        raise SignatureError(SignatureErrorType.TIMESTAMP_SKEW)


def _same(one: bytes, other: bytes) -> bool:
    # digests are of one length, so that not even the length of the secret shows in the time
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(SignatureErrorType.MALFORMED_HEADER, f"{what} is not base64") from None
