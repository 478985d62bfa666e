"""Proofs of origin: who is let in, who is not, and with which word."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from mailglass.clock import now
from mailglass.errors import SignatureError, SignatureErrorType
from mailglass.providers.base import WebhookRequest
from mailglass.providers.signatures import ecdsa_p256_key, require_basic, require_ecdsa, require_fresh
from mailglass.settings import Secret

PASSWORDS = (Secret("old-pass"), Secret("new: pässword"))


def basic(credentials: str) -> WebhookRequest:
    encoded = base64.b64encode(credentials.encode()).decode()
    return WebhookRequest({"authorization": f"Basic {encoded}"}, b"{}")


def refused(type: SignatureErrorType, call: Callable[[], object]) -> None:
    with pytest.raises(SignatureError) as caught:
        call()
    assert caught.value.type is type


@pytest.mark.parametrize("password", ["old-pass", "new: pässword"])
def test_any_of_several_passwords_is_accepted_while_one_is_replaced(password: str) -> None:
    require_basic(basic(f"hooks:{password}"), "hooks", PASSWORDS)


def test_the_scheme_is_read_without_regard_to_case() -> None:
    request = basic("hooks:old-pass")
    header = request.headers["authorization"].replace("Basic", "bAsIC")
    require_basic(WebhookRequest({"authorization": header}, b""), "hooks", PASSWORDS)


@pytest.mark.parametrize(
    "credentials", ["hooks:", "hooks:old-pas", "hooks:old-pass ", "other:old-pass", "hooks", "", ":old-pass"]
)
def test_wrong_credentials_are_refused(credentials: str) -> None:
    refused(SignatureErrorType.BAD_CREDENTIALS, lambda: require_basic(basic(credentials), "hooks", PASSWORDS))


def test_no_password_lets_nobody_in() -> None:
    refused(SignatureErrorType.BAD_CREDENTIALS, lambda: require_basic(basic("hooks:"), "hooks", ()))


@pytest.mark.parametrize("header", ["", "Basic", "Bearer abc", "Basic ***", "Basic aGk", "Basic é"])
def test_an_unreadable_authorization_is_malformed_or_wrong(header: str) -> None:
    with pytest.raises(SignatureError) as caught:
        require_basic(WebhookRequest({"authorization": header}, b""), "hooks", PASSWORDS)
    assert caught.value.type in (SignatureErrorType.MALFORMED_HEADER, SignatureErrorType.BAD_CREDENTIALS)


def test_a_missing_authorization_is_named() -> None:
    refused(SignatureErrorType.MISSING_HEADER, lambda: require_basic(WebhookRequest({}, b""), "hooks", PASSWORDS))


@given(st.text(max_size=60))
def test_any_authorization_header_is_answered_by_a_signature_error(header: str) -> None:
    with pytest.raises(SignatureError):
        require_basic(WebhookRequest({"authorization": header}, b""), "hooks", PASSWORDS)


def new_key() -> tuple[ec.EllipticCurvePrivateKey, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, public_text(key.public_key())


def public_text(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> str:
    return base64.b64encode(key.sign(data, ec.ECDSA(SHA256()))).decode()


def test_a_signature_by_any_accepted_key_is_good() -> None:
    (one, one_text), (other, other_text) = new_key(), new_key()
    keys = [ecdsa_p256_key(one_text), ecdsa_p256_key(other_text)]
    require_ecdsa(keys, sign(one, b"data"), b"data")
    require_ecdsa(keys, sign(other, b"data"), b"data")


def test_a_signature_by_a_strange_key_or_over_other_bytes_is_bad() -> None:
    (one, one_text), (strange, _) = new_key(), new_key()
    keys = [ecdsa_p256_key(one_text)]
    refused(SignatureErrorType.BAD_SIGNATURE, lambda: require_ecdsa(keys, sign(strange, b"data"), b"data"))
    refused(SignatureErrorType.BAD_SIGNATURE, lambda: require_ecdsa(keys, sign(one, b"data"), b"data\r\n"))
    refused(SignatureErrorType.BAD_SIGNATURE, lambda: require_ecdsa(keys, "AAAA", b"data"))
    refused(SignatureErrorType.MALFORMED_HEADER, lambda: require_ecdsa(keys, "no base64!", b"data"))


def test_a_key_is_read_with_and_without_its_pem_frame() -> None:
    key, bare = new_key()
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert ecdsa_p256_key(pem.decode()) == ecdsa_p256_key(f"\n {bare}\n") == key.public_key()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAAA",
        "é",
        "-----BEGIN PUBLIC KEY-----",
        public_text(ec.generate_private_key(ec.SECP384R1()).public_key()),
        public_text(ed25519.Ed25519PrivateKey.generate().public_key()),
    ],
    ids=["empty", "short", "not ascii", "frame only", "P-384", "Ed25519"],
)
def test_key_that_is_not_p256_is_malformed(text: str) -> None:
    refused(SignatureErrorType.MALFORMED_KEY, lambda: ecdsa_p256_key(text))


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_a_malformed_one(text: str) -> None:
    refused(SignatureErrorType.MALFORMED_KEY, lambda: ecdsa_p256_key(text))


def test_a_timestamp_is_fresh_on_both_sides_of_now_within_the_tolerance() -> None:
    present = int(now().timestamp())
    require_fresh(str(present - 50), 60)
    require_fresh(str(present + 50), 60)
    for stale in (present - 70, present + 70, 0):
        refused(SignatureErrorType.TIMESTAMP_SKEW, lambda stale=stale: require_fresh(str(stale), 60))
    for wrong in ("", "-5", "1.5", "soon", "9" * 40, "٣"):
        refused(SignatureErrorType.MALFORMED_HEADER, lambda wrong=wrong: require_fresh(wrong, 60))
