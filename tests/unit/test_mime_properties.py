"""Whatever a message says, the standard library reads it back, and no line breaks a limit of the RFCs."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from functools import cache
from uuid import UUID

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mailglass.errors import MessageError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outgoing import Outgoing
from mailglass.rendering.mime import build

ENCODED_WORD = re.compile(rb"=\?utf-8\?[bq]\?[^? ]*\?=")
NEVER = "\r\n\x00"
# unusual but allowed: the alphabet leans towards what breaks mail software
TRICKY = st.sampled_from(list(" \t\"\\<>@,;:=?()[]._-'%éßü€漢字😀\u00a0\u200b\x07\x0b\x0c\x1c\x85\u2028aZ09"))
ONE_LINE = st.text(st.one_of(TRICKY, st.characters(exclude_characters=NEVER, exclude_categories=["Cs"])), max_size=200)
WORDS = st.lists(
    st.one_of(st.from_regex(r"[!-~]{1,60}", fullmatch=True), st.text(TRICKY, min_size=1, max_size=60))
).map(" ".join)
LINE = st.one_of(ONE_LINE, WORDS)
FILENAME = st.text(
    st.one_of(TRICKY, st.characters(exclude_characters=NEVER, exclude_categories=["Cs"])), min_size=1, max_size=120
).map(lambda name: re.sub(r"[/\\]", "_", name))
BODY = st.text(st.one_of(TRICKY, st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), max_size=600)
ADDRESS = st.builds(
    Address,
    st.from_regex(r"[a-z0-9.+_-]{1,30}", fullmatch=True).map(lambda local: local.replace(".", "x") + "@example.com"),
    LINE.map(lambda name: name[:256]),
)
HEADER = st.tuples(
    st.from_regex(r"X-[A-Za-z-]{1,30}", fullmatch=True).filter(lambda name: name.lower() != "x-mailglass-id"),
    st.from_regex(r"[!-~]{1,40}(?:[ \t]{1,3}[!-~]{1,90}){0,9}", fullmatch=True),
)


@st.composite
def mails(draw: st.DrawFn) -> Outgoing:
    text, html = draw(st.one_of(st.tuples(BODY, st.none()), st.tuples(st.none(), BODY), st.tuples(BODY, BODY)))
    files = st.builds(
        Attachment,
        FILENAME,
        st.binary(max_size=300),
        st.sampled_from(["application/pdf", "text/csv; charset=utf-8", "image/png", ""]),
        st.sampled_from(["", "logo@shop"]),
    )
    return Outgoing(
        delivery_id=draw(st.uuids()),
        tenant="acme",
        stream="bulk",
        recipient=draw(ADDRESS),
        sender=draw(ADDRESS),
        subject=draw(LINE)[:998],
        created_at=draw(st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC))),  # noqa: DTZ001
        text=text,
        html=html,
        reply_to=tuple(draw(st.lists(ADDRESS, max_size=3))),
        cc=tuple(draw(st.lists(ADDRESS, max_size=5))),
        bcc=(Address("hidden-copy@example.org"),),
        headers=tuple(draw(st.lists(HEADER, max_size=4))),
        attachments=tuple(draw(st.lists(files, max_size=2, unique_by=lambda item: item.content_id or item.filename))),
    )


def read(data: bytes) -> EmailMessage:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def lines(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text).rstrip("\n")


def raw(message: EmailMessage, name: str) -> str:
    return "".join(value for key, value in message.raw_items() if key == name)


def names(value: str) -> list[str]:
    """The display names by the older of the two parsers: the newer one leaves the space between encoded words."""
    unfolded = re.sub(r"\r?\n", "", value)
    return [blank(str(make_header(decode_header(name)))) for name, _ in getaddresses([unfolded]) if value]


def blank(name: str) -> str:
    """The parsers write any whitespace of a phrase as one space."""
    return re.sub(r"\s+", " ", name).strip()


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return lines(payload.decode())


def says_what_was_said(mail: Outgoing, message: EmailMessage) -> None:
    assert message["Subject"] == mail.subject.strip(" \t")
    for name, expected in (
        ("From", (mail.sender,)),
        ("To", (mail.recipient,)),
        ("Cc", mail.cc),
        ("Reply-To", mail.reply_to),
    ):
        found = message[name].addresses if expected else ()
        assert [item.addr_spec for item in found] == [item.email for item in expected]
        assert names(raw(message, name)) == [blank(item.name) for item in expected]
    assert message["Date"].datetime == mail.created_at.replace(microsecond=0)
    if mail.text is not None:
        assert body(message, "plain") == lines(mail.text)
    if mail.html is not None:
        assert body(message, "html") == lines(mail.html)
    files = [part for part in message.walk() if part.get_content_disposition()]
    assert sorted((part.get_filename(), part.get_payload(decode=True)) for part in files) == sorted(
        (item.filename.strip(), item.content) for item in mail.attachments
    )
    own = [(name, value) for name, value in message.raw_items() if name.lower().startswith("x-")]
    unfolded = [(name, re.sub(r"\r?\n", "", value)) for name, value in own]
    assert unfolded == [*mail.headers, ("X-Mailglass-Id", str(mail.delivery_id))]


def keeps_within_every_limit(data: bytes, message: EmailMessage) -> None:
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", data) is None
    assert data.endswith(b"\r\n")
    head, _, rest = data.partition(b"\r\n\r\n")
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))
    assert all(line.strip() for line in head.split(b"\r\n"))
    assert all(len(word) <= 75 for word in ENCODED_WORD.findall(head))
    assert all(len(line) <= 76 for line in head.split(b"\r\n") if ENCODED_WORD.search(line))
    if not message.is_multipart():
        assert all(len(line) <= 76 for line in rest.split(b"\r\n"))
    assert all(len(line) <= 998 for line in rest.split(b"\r\n"))


def has_the_fields_that_were_meant(mail: Outgoing, message: EmailMessage) -> None:
    expected = ["From", "To"]
    expected += ["Cc"] if mail.cc else []
    expected += ["Reply-To"] if mail.reply_to else []
    expected += ["Subject", "Date", "Message-ID", *(name for name, _ in mail.headers)]
    expected += ["X-Mailglass-Id", "MIME-Version", "Content-Type"]
    assert [name for name in message if name != "Content-Transfer-Encoding"] == expected


@given(mails())
@settings(deadline=None)
def test_any_mail_is_read_back_as_it_was_meant_and_keeps_within_every_limit(mail: Outgoing) -> None:
    # one mail for all of it: to think of a mail takes longer than to check it
    data = build(mail)
    message = read(data)
    says_what_was_said(mail, message)
    keeps_within_every_limit(data, message)
    has_the_fields_that_were_meant(mail, message)
    assert b"hidden-copy" not in data


@given(
    st.sampled_from(["subject", "name", "header", "filename"]),
    LINE,
    st.sampled_from(list(NEVER)),
    LINE,
)
def test_a_line_end_anywhere_in_a_header_is_refused(place: str, before: str, end: str, after: str) -> None:
    evil = before + end + after
    file = Attachment("a.txt", b"")
    object.__setattr__(file, "filename", evil if place == "filename" else "a.txt")
    mail = Outgoing(
        delivery_id=UUID(int=7),
        tenant="acme",
        stream="bulk",
        recipient=Address("ada@example.com", evil if place == "name" else "Ada"),
        sender=Address("shop@example.com"),
        subject=evil if place == "subject" else "Hello",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        text="x",
        headers=(("X-A", evil if place == "header" else "x"),),
        attachments=(file,),
    )
    try:
        build(mail)
    except MessageError:
        return
    raise AssertionError("a line end was written into a header")


@cache
def key_pair() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])


@given(mails())
@settings(deadline=None, max_examples=40)
def test_dkimpy_verifies_its_own_signature_over_the_message(mail: Outgoing) -> None:
    private, record = key_pair()
    data = build(mail)
    names = [b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type"]
    for canonicalize in ((b"relaxed", b"simple"), (b"relaxed", b"relaxed"), (b"simple", b"simple")):
        signature = dkim.sign(data, b"mg", b"example.com", private, canonicalize=canonicalize, include_headers=names)
        assert dkim.verify(signature + data, dnsfunc=lambda *_, **__: record)
