"""SendGrid's webhooks and SendGrid's own SDK: what passes here passes there, and what is forged passes nowhere."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from sendgrid.helpers.eventwebhook import EventWebhook, EventWebhookHeader

from mailglass.errors import SignatureError
from mailglass.providers.base import WebhookRequest
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
from mailglass.settings import Secret

KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
PROVIDER = SendGridProvider("acme-sg", SendGridOptions(api_key=Secret("k"), webhook_public_keys=(PUBLIC,)))
SDK = EventWebhook(PUBLIC)

bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
moments = st.integers(1, 2_000_000_000).map(str)


def signed(body: str, moment: str, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.sign(moment.encode() + body.encode(), ec.ECDSA(SHA256()))


def here(body: str, moment: str, signature: bytes) -> bool:
    headers = {
        EventWebhookHeader.SIGNATURE.lower(): base64.b64encode(signature).decode(),
        EventWebhookHeader.TIMESTAMP.lower(): moment,
    }
    try:
        PROVIDER.verify(WebhookRequest(headers, body.encode()))
    except SignatureError:
        return False
    return True


def there(body: str, moment: str, signature: bytes) -> bool:
    return bool(SDK.verify_signature(body, base64.b64encode(signature).decode(), moment))


@given(bodies, moments)
def test_a_genuine_webhook_passes_here_and_in_sendgrids_sdk(body: str, moment: str) -> None:
    signature = signed(body, moment)
    assert here(body, moment, signature) and there(body, moment, signature)


@given(bodies, moments, bodies, moments)
def test_another_body_or_time_passes_in_neither(body: str, moment: str, other: str, later: str) -> None:
    signature = signed(body, moment)
    # digits moved over from the time to the body are the same bytes to both
    same = moment + body == later + other
    assert here(other, later, signature) is there(other, later, signature) is same


@given(bodies, moments)
def test_a_strangers_signature_passes_in_neither(body: str, moment: str) -> None:
    signature = signed(body, moment, STRANGER)
    assert not here(body, moment, signature) and not there(body, moment, signature)


@given(bodies, moments, st.integers(0, 7), st.integers(0, 200))
def test_a_flipped_bit_passes_in_neither(body: str, moment: str, bit: int, place: int) -> None:
    signature = bytearray(signed(body, moment))
    signature[place % len(signature)] ^= 1 << bit
    assert not here(body, moment, bytes(signature)) and not there(body, moment, bytes(signature))
