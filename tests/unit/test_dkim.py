"""DKIM signatures, verified by dkimpy: what they cover, what they bear, and that they never change."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp.wire import as_data
from mailglass.rendering import dkim as signing
from mailglass.rendering.dkim import SEALED, SIGNED, DKIMKey, Signer, load_key
from mailglass.rendering.mime import build
from mailglass.settings import Secret
from tests.unit.test_mime_properties import mails

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = Ed25519PrivateKey.generate()
# dkimpy heeds t= and x=, so the mails are of today
TODAY = datetime.now(UTC).replace(microsecond=0)
WEEK = timedelta(days=7)


def pem(key: Any, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def der(key: Any) -> str:
    raw = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return base64.b64encode(raw).decode()


def published(name: bytes, timeout: int = 5) -> bytes | None:
    """What DNS says of the two keys, under any domain of these tests."""
    if name.startswith(b"rsa._domainkey.example."):
        public = RSA.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    if name.startswith(b"ed._domainkey.example."):
        raw = ED25519.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(raw)
    return None


def keys(domain: str = "example.org") -> list[DKIMKey]:
    return [DKIMKey(domain, "rsa", Secret(pem(RSA))), DKIMKey(domain, "ed", Secret(der(ED25519)))]


SIGNER = Signer(keys())


def mail(**changes: Any) -> Outgoing:
    plain = Outgoing(
        delivery_id=UUID("0198c0de-0000-7000-8000-000000000001"),
        tenant="acme",
        stream="bulk",
        recipient=Address("ada@example.com", "Ada Lovelace"),
        sender=Address("shop@example.org", "The Shop"),
        subject="Your order, and a subject that is long enough to be folded onto a second line of the header",
        created_at=TODAY,
        text="Thank you.\nYour order is on its way.\n",
        html="<p>Thank you.</p>",
        reply_to=(Address("help@example.org"),),
        cc=(Address("bob@example.com"),),
        headers=(
            ("In-Reply-To", "<order-1@example.org>"),
            ("References", "<order-1@example.org>"),
            ("List-Id", "Orders <orders.example.org>"),
            ("List-Unsubscribe", "<https://example.org/unsubscribe/" + "x" * 80 + ">, <mailto:leave@example.org>"),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ),
    )
    return replace(plain, **changes)


def signed(letter: Outgoing | None = None, signer: Signer = SIGNER) -> bytes:
    letter = letter or mail()
    return signer.sign(build(letter), domain=letter.sender.domain, created_at=letter.created_at)


def verdicts(message: bytes) -> list[bool]:
    """dkimpy's word on every signature of a message."""
    return [_verified(message, index) for index in range(message.count(b"DKIM-Signature: v=1"))]


def _verified(message: bytes, index: int) -> bool:
    try:
        return bool(dkim.DKIM(message).verify(index, dnsfunc=published))
    except dkim.DKIMException:
        return False


def tags(message: bytes, position: int = 0) -> dict[str, str]:
    field = re.split(rb"\r\n(?![ \t])", message)[position].decode().partition(":")[2]
    pairs = (tag.strip().partition("=") for tag in "".join(field.split()).split(";"))
    return {name: value for name, _, value in pairs}


def test_both_signatures_are_verified_by_dkimpy() -> None:
    message = signed()
    assert verdicts(message) == [True, True]
    assert message.endswith(build(mail()))
    assert [tags(message, position)["a"] for position in (0, 1)] == ["rsa-sha256", "ed25519-sha256"]
    assert all(len(line) <= 78 for line in message.partition(b"From:")[0].split(b"\r\n"))
    # what the server sees is what was signed
    assert as_data(message).replace(b"\r\n..", b"\r\n.") == message + b".\r\n"


@pytest.mark.parametrize("key", keys(), ids=["rsa", "ed25519"])
def test_single_key_makes_one_signature(key: DKIMKey) -> None:
    assert verdicts(signed(signer=Signer([key]))) == [True]


def test_every_header_of_the_list_that_is_there_is_signed_and_the_telling_ones_are_sealed() -> None:
    names = tags(signed())["h"].split(":")
    there = {
        name for name in SIGNED if re.search(rb"(?im)^" + name.encode() + rb":", build(mail()).split(b"\r\n\r\n")[0])
    }
    assert there == set(SIGNED) - {"content-transfer-encoding"}  # a multipart has none
    assert set(names) == there
    assert {name for name in names if names.count(name) == 2} == set(SEALED)
    bare = tags(signed(mail(html=None, cc=(), reply_to=(), headers=())))["h"].split(":")
    assert bare.count("cc") == bare.count("reply-to") == 1  # sealed though absent
    assert "content-transfer-encoding" in bare
    assert "list-id" not in bare


def test_several_headers_of_one_name_are_signed_in_their_order() -> None:
    message = signed(mail(headers=(("List-Id", "<a.example.org>"), ("X-A", "b"), ("List-Id", "<b.example.org>"))))
    assert verdicts(message) == [True, True]
    swapped = message.replace(b"<a.ex", b"<c.ex").replace(b"<b.ex", b"<a.ex").replace(b"<c.ex", b"<b.ex")
    assert verdicts(swapped) == [False, False]


@pytest.mark.parametrize("name", [name for name in SIGNED if name != "content-transfer-encoding"])
def test_a_changed_header_breaks_both_signatures(name: str) -> None:
    changed = re.sub(rb"(?im)^(" + name.encode() + rb": ?)(\r\n )?(.)", rb"\1\2\3X", signed(), count=1)
    assert changed != signed()
    assert verdicts(changed) == [False, False]


@pytest.mark.parametrize("name", sorted(SEALED))
def test_a_further_header_of_a_telling_name_breaks_both_signatures(name: str) -> None:
    for letter in (mail(), mail(cc=(), reply_to=())):
        message = signed(letter)
        assert verdicts(message) == [True, True]
        assert verdicts(f"{name}: eve@example.net\r\n".encode() + message) == [False, False]
        assert verdicts(message.replace(b"MIME-Version", f"{name}: eve\r\nMIME-Version".encode(), 1)) == [False, False]


def test_a_removed_header_breaks_both_signatures() -> None:
    message = signed()
    for name in (b"List-Unsubscribe-Post", b"Reply-To", b"MIME-Version"):
        assert verdicts(re.sub(rb"(?m)^" + name + rb":.*\r\n", b"", message)) == [False, False]


def test_a_changed_body_breaks_both_signatures() -> None:
    message = signed()
    start = message.index(b"\r\n\r\n") + 4
    for place in range(start, len(message) - 2, 37):
        if message[place : place + 1] not in b"\r\n":
            changed = message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]
            assert verdicts(changed) == [False, False]
    assert verdicts(message + b"P.S.\r\n") == [False, False]
    assert verdicts(message.replace(b"Thank you.\r\n", b"Thank you. \r\n", 1)) == [False, False]


def test_a_changed_signature_field_breaks_it() -> None:
    message = signed(signer=Signer(keys()[:1]))
    for old, new in ((b"x=", b"x=1"), (b"d=example.org", b"d=example.net"), (b"h=from:from", b"h=from")):
        assert verdicts(message.replace(old, new, 1)) == [False]


def test_folding_whitespace_and_case_of_header_names_do_not_matter() -> None:
    message = signed()
    head, _, body = message.partition(b"\r\n\r\n")
    unfolded = re.sub(rb"\r\n[ \t]+", b" ", head)
    refolded = re.sub(rb"(?<=[a-z]) (?=[a-z])", b"\r\n\t ", head)
    spaced = re.sub(rb"(?m)^(Subject|To):", lambda found: found[1].upper() + b":   ", head)
    for other in (unfolded, refolded, spaced):
        assert other != head
        assert verdicts(other + b"\r\n\r\n" + body) == [True, True]


@pytest.mark.parametrize("text", ["", "\n", "\n\n\n", "one", "one\n", "one\n\n\n", " \n \n", "\t", "one\n \n\n"])
def test_empty_lines_at_the_end_do_not_matter(text: str) -> None:
    message = signed(mail(text=text, html=None))
    assert verdicts(message) == [True, True]
    assert verdicts(message + b"\r\n\r\n") == [True, True]


@cache
def signer_of(domain: str) -> Signer:
    return Signer(keys(domain))


@given(mails(), st.sampled_from(["\n" * 3, "", " ", "."]))
@settings(deadline=None, max_examples=60)
def test_signatures_of_any_mail_hold(letter: Outgoing, tail: str) -> None:
    letter = replace(letter, created_at=TODAY, text=None if letter.text is None else letter.text + tail)
    message = signer_of("example.com").sign(build(letter), domain=letter.sender.domain, created_at=letter.created_at)
    assert verdicts(message) == [True, True]


def test_a_large_attachment_is_covered() -> None:
    letter = mail(attachments=(Attachment("a.bin", bytes(range(256)) * 4096),))
    message = signed(letter)
    assert verdicts(message) == [True, True]
    assert verdicts(message.replace(b"AAECAwQF", b"AAECAwQG", 1)) == [False, False]


# times


def test_the_signature_is_the_same_at_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = set()
    for hours in (-1, 0, 1, 24, 80):
        monkeypatch.setattr(signing, "now", lambda hours=hours: TODAY + timedelta(hours=hours))
        messages.add(signed(signer=Signer(keys())))
    (message,) = messages
    assert tags(message)["t"] == str(int(TODAY.timestamp()))
    assert tags(message)["x"] == str(int((TODAY + WEEK).timestamp()))


@given(st.integers(0, 400 * 24))
@settings(deadline=None)
def test_a_mail_that_is_sent_long_after_it_was_recorded_is_not_signed_as_expired(hours: int) -> None:
    moment = TODAY + timedelta(hours=hours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signing, "now", lambda: moment)
        found = tags(signed(signer=ONLY_ED25519))
    left = datetime.fromtimestamp(int(found["x"]), UTC) - moment
    assert WEEK / 2 <= left <= WEEK * 1.5
    assert (int(found["x"]) - int(found["t"])) % WEEK.total_seconds() == 0


ONLY_ED25519 = Signer(keys()[1:])


# keys


def test_a_domain_without_a_key_is_left_to_the_relay() -> None:
    for domain in ("example.net", "org", "notexample.org"):
        letter = mail(sender=Address(f"shop@{domain}"))
        assert signed(letter) == build(letter)
    assert signed(signer=Signer([])) == build(mail())


def test_a_parent_domains_key_signs_and_the_nearest_one_goes_before() -> None:
    letter = mail(sender=Address("shop@news.eu.example.org"))
    assert tags(signed(letter))["d"] == "example.org"
    assert verdicts(signed(letter)) == [True, True]
    nearer = Signer([*keys(), DKIMKey("Eu.Example.org", "RSA", Secret(pem(RSA)))])
    assert tags(signed(letter, nearer)) | {"d": "eu.example.org", "s": "rsa"} == tags(signed(letter, nearer))
    assert tags(signed(mail(), nearer))["d"] == "example.org"


@pytest.mark.parametrize(
    "text",
    [
        pem(RSA),
        pem(RSA, serialization.PrivateFormat.TraditionalOpenSSL),
        der(RSA),
        re.sub("(.{64})", r"\1\n", der(RSA)),
        pem(ED25519),
        der(ED25519),
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
    ],
    ids=["pem", "pem of PKCS#1", "base64", "base64 in lines", "ed25519 pem", "ed25519 base64", "ed25519 seed"],
)
def test_keys_are_read_in_every_form(text: str) -> None:
    load_key(Secret(text))


def test_a_bare_ed25519_seed_is_the_key_of_rfc_8032() -> None:
    key = load_key(Secret("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert base64.b64encode(raw) == b"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


LOCKED = RSA.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
).decode()


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"domain": "example"}, "domain", "A-labels"),
        ({"domain": "bücher.example"}, "domain", "A-labels"),
        ({"domain": "a b.example"}, "domain", "A-labels"),
        ({"selector": ""}, "selector", "selector"),
        ({"selector": "a;b"}, "selector", "selector"),
        ({"selector": "a\r\nb"}, "selector", "selector"),
        ({"key": pem(rsa.generate_private_key(65537, 1024))}, "key", "RSA of 1024 bits. Make one of 2048 to 4096"),
        ({"key": pem(ec.generate_private_key(ec.SECP256R1()))}, "key", "neither RSA nor Ed25519"),
        ({"key": LOCKED}, "key", "unencrypted"),
        ({"key": "hunter2"}, "key", "PKCS#8"),
        ({"key": "aHVudGVyMg=="}, "key", "PKCS#8"),
        ({"key": "-----BEGIN PRIVATE KEY-----"}, "key", "PKCS#8"),
        ({"key": "é"}, "key", "PKCS#8"),
    ],
)
def test_a_key_that_cannot_sign_is_refused(changes: dict[str, str], key: str, words: str) -> None:
    values = {"domain": "example.org", "selector": "s", "key": pem(ED25519), **changes}
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        DKIMKey(values["domain"], values["selector"], Secret(values["key"]))
    assert caught.value.key == key
    assert "hunter2" not in str(caught.value)


def test_two_keys_of_one_algorithm_for_one_domain_are_refused() -> None:
    with pytest.raises(ConfigError, match="two rsa-sha256 keys for example"):
        Signer([*keys(), DKIMKey("EXAMPLE.org", "other", Secret(pem(RSA)))])
