"""Mailgun's webhooks and Mailgun's own SDK: what passes here passes there, and what is forged passes nowhere."""

from __future__ import annotations

import hmac
import json

from hypothesis import given
from hypothesis import strategies as st
from mailgun import security

from mailglass.clock import now
from mailglass.errors import SignatureError
from mailglass.providers.mailgun.events import require_proof
from mailglass.settings import Secret

KEY = "key-of-the-webhooks-4711"
TOLERANCE = 900
tokens = st.text("0123456789abcdef", min_size=50, max_size=50)


def present() -> int:
    return int(now().timestamp())


def signed(timestamp: str, token: str, key: str = KEY) -> str:
    return hmac.digest(key.encode(), (timestamp + token).encode(), "sha256").hex()


def here(timestamp: str, token: str, signature: str) -> bool:
    proof = {"timestamp": timestamp, "token": token, "signature": signature}
    try:
        require_proof(json.dumps({"signature": proof, "event-data": {}}).encode(), [Secret(KEY)], TOLERANCE)
    except SignatureError:
        return False
    return True


def there(timestamp: str, token: str, signature: str) -> bool:
    return bool(security.SecurityGuard.verify_webhook(KEY, token, timestamp, signature, TOLERANCE))


@given(tokens)
def test_a_genuine_proof_passes_here_and_in_mailguns_sdk(token: str) -> None:
    timestamp = str(present())
    proof = (timestamp, token, signed(timestamp, token))
    assert here(*proof) and there(*proof)


@given(tokens, st.integers(0, 63), st.sampled_from("0123456789abcdef"))
def test_a_signature_with_another_digit_passes_in_neither(token: str, place: int, digit: str) -> None:
    timestamp = str(present())
    genuine = signed(timestamp, token)
    forged = genuine[:place] + digit + genuine[place + 1 :]
    proof = (timestamp, token, forged)
    assert here(*proof) is there(*proof) is (forged == genuine)


@given(tokens, st.sampled_from([-100_000, -1000, -500, 0, 500, 1000, 100_000]))
def test_both_agree_on_how_old_a_proof_may_be(token: str, age: int) -> None:
    timestamp = str(present() - age)
    proof = (timestamp, token, signed(timestamp, token))
    assert here(*proof) is there(*proof) is (abs(age) <= TOLERANCE)


@given(tokens, tokens)
def test_another_token_or_another_key_passes_in_neither(token: str, other: str) -> None:
    timestamp = str(present())
    proofs = [
        (timestamp, other, signed(timestamp, token)),
        (timestamp, token, signed(timestamp, token, "another-key")),
    ]
    assert [here(*proof) for proof in proofs] == [there(*proof) for proof in proofs] == [other == token, False]
