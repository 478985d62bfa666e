"""What a signing and proving account puts on the wire."""

from __future__ import annotations

import base64
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailglass.bounces.proofs import Proofs
from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.rendering import mime
from mailglass.rendering.dkim import DKIMKey
from mailglass.settings import Secret
from tests.integration.test_smtp_scripted import ALL, PATIENCE, Peer, brief, mail, provider, send, server

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
SIGNING: dict[str, Any] = {"dkim": (DKIMKey("example.org", "r1", Secret(PEM)),)}
SECRET = "sixteen letters!"
PROVING: dict[str, Any] = {"bounce_domain": "bounces.example.net", "bounce_secret": (Secret(SECRET),)}
PROOFS = Proofs([SECRET], "bounces.example.net")


def published(name: bytes, timeout: int = 5) -> bytes | None:
    if name != b"r1._domainkey.example.org.":
        return None
    public = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def test_received_mail_is_verified_by_dkimpy() -> None:
    contents: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        for _ in range(2):
            contents.append(peer.take_mail())
        peer.hear_the_end()

    letters = [mail(text=".\n..\n. dots\n\n\n"), mail(html="<p>Grüße</p>", headers=(("List-Id", "<a.example.org>"),))]
    with server(script) as port:
        assert brief(send(port, *letters, **SIGNING, **PROVING)) == [("accepted", None)] * 2
    assert [dkim.verify(content, dnsfunc=published) for content in contents] == [True, True]
    assert not dkim.verify(contents[1].replace(b"List-Id", b"X-List-Id"), dnsfunc=published)


def test_every_attempt_sends_the_same_bytes() -> None:
    letter, contents = mail(), []

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        contents.append(peer.take_mail("451 4.3.0 later"))
        peer.hear_the_end()

    for _ in range(2):
        with server(script) as port:
            assert brief(send(port, letter, **SIGNING, **PROVING)) == [("transient", "smtp_451")]
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"DKIM-Signature: ")
    assert contents[0].endswith(mime.build(letter))


def test_the_size_that_is_told_counts_the_signature() -> None:
    letter = mail()

    def script(peer: Peer) -> None:
        peer.greet("SIZE 100000")
        line = peer.hear("MAIL FROM")
        peer.say("250 ok")
        for verb, reply in (("RCPT TO", "250 ok"), ("DATA", "354 go on")):
            peer.hear(verb)
            peer.say(reply)
        assert line.endswith(f"SIZE={len(peer.content())}")
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, letter, **SIGNING)) == [("accepted", None)]


@pytest.mark.parametrize("features", [(*ALL, "DSN"), ALL])
def test_the_envelope_and_the_header_carry_the_proof(features: tuple[str, ...]) -> None:
    letter = mail()
    token = PROOFS.token(letter)
    contents: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet(*features)
        line = peer.hear(f"MAIL FROM:<bounces+{token}@bounces.example.net> SIZE=")
        assert (f" ENVID={token}" in line) == ("DSN" in features)
        peer.hear("RCPT TO", "DATA")
        peer.say("250 ok", "250 ok", "354 go on")
        contents.append(peer.content())
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, letter, **PROVING)) == [("accepted", None)]
    assert contents == [f"X-Mailglass-Proof: {token}\r\n".encode() + mime.build(letter)]


def test_a_mail_with_copies_carries_its_id_and_no_proof() -> None:
    letters = [mail(cc=(Address("bob@example.com"),)), mail(bcc=(Address("jörg@example.com"),))]
    contents: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet("8BITMIME", "DSN")  # without SMTPUTF8 the blind copy cannot be addressed and is left out
        for letter, copies in zip(letters, (1, 0), strict=True):
            line = peer.hear(f"MAIL FROM:<bounces+{letter.delivery_id.hex}@bounces.example.net>")
            assert "ENVID" not in line
            peer.say("250 ok")
            for _ in range(1 + copies):
                peer.hear("RCPT TO")
                peer.say("250 ok")
            peer.hear("DATA")
            peer.say("354 go on")
            contents.append(peer.content())
            peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, *letters, **PROVING)) == [("accepted", None)] * 2
    assert not any(b"Proof" in content for content in contents)


def test_without_a_domain_the_envelope_stays_and_the_header_proves() -> None:
    letter = mail()

    def script(peer: Peer) -> None:
        peer.greet(*ALL)
        peer.hear("MAIL FROM:<shop@example.org>", "RCPT TO", "DATA")
        peer.say("250 ok", "250 ok", "354 go on")
        assert b"X-Mailglass-Proof: " in peer.content()
        peer.say("250 ok")
        peer.hear_the_end()

    with server(script) as port, provider(port, bounce_secret=(Secret(SECRET),)) as opened:
        assert brief(opened.send([letter], deadline=monotonic() + PATIENCE)) == [("accepted", None)]


def test_an_account_without_keys_and_secrets_sends_the_mail_as_it_is() -> None:
    letter, contents = mail(), []

    def script(peer: Peer) -> None:
        peer.greet(*ALL, "DSN")
        contents.append(peer.take_mail())
        peer.hear_the_end()

    with server(script) as port:
        assert brief(send(port, letter)) == [("accepted", None)]
    assert contents == [mime.build(letter)]
