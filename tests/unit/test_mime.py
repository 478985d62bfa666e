"""The serialiser: what the bytes of a message look like, and what it refuses to write."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from uuid import UUID

import pytest

from mailglass.errors import MessageError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outgoing import Outgoing
from mailglass.rendering.mime import build, message_id, needs_smtputf8

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
ADA = Address("ada@example.com", "Ada Lovelace")
SHOP = Address("no-reply@shop.example", "Shop")


def mail(**changes: object) -> Outgoing:
    values: dict[str, object] = {
        "delivery_id": ID,
        "tenant": "acme",
        "stream": "transactional",
        "recipient": ADA,
        "sender": SHOP,
        "subject": "Your receipt",
        "created_at": datetime(2026, 3, 1, 9, 5, 7, tzinfo=UTC),
        "text": "Hello Ada",
    }
    return Outgoing(**(values | changes))  # type: ignore[arg-type]


def parsed(outgoing: Outgoing) -> EmailMessage:
    message = email.message_from_bytes(build(outgoing), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def field(outgoing: Outgoing, name: str) -> str:
    """The raw field with its folds."""
    block = build(outgoing).partition(b"\r\n\r\n")[0].decode()
    found = re.search(rf"^{name}:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", block, re.MULTILINE)
    assert found is not None
    return found[0]


def shape(part: EmailMessage) -> object:
    if part.is_multipart():
        return (part.get_content_subtype(), [shape(child) for child in part.iter_parts()])  # type: ignore[arg-type]
    return part.get_content_type()


def test_a_plain_message_is_written_byte_for_byte_as_expected() -> None:
    assert build(mail(text="Hello Ada\n", reply_to=(Address("help@shop.example"),))) == (
        b"From: Shop <no-reply@shop.example>\r\n"
        b"To: Ada Lovelace <ada@example.com>\r\n"
        b"Reply-To: help@shop.example\r\n"
        b"Subject: Your receipt\r\n"
        b"Date: Sun, 01 Mar 2026 09:05:07 +0000\r\n"
        b"Message-ID: <01890a5d-ac96-774b-bcce-b302099a8057@shop.example>\r\n"
        b"X-Mailglass-Id: 01890a5d-ac96-774b-bcce-b302099a8057\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hello Ada\r\n"
    )


def test_every_attempt_writes_the_same_bytes() -> None:
    files = (Attachment("a.pdf", b"%PDF"), Attachment("logo.png", b"\x89PNG", content_id="logo"))
    assert build(mail(html="<p>Hi</p>", attachments=files)) == build(mail(html="<p>Hi</p>", attachments=files))


def test_the_date_is_the_deliverys_own_in_utc() -> None:
    moment = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert field(mail(created_at=moment), "Date") == "Date: Sat, 28 Feb 2026 22:30:00 +0000"


def test_the_message_id_is_the_delivery_at_the_senders_domain() -> None:
    assert message_id(mail()) == f"<{ID}@shop.example>" == field(mail(), "Message-ID").partition(": ")[2]


def test_bcc_never_appears() -> None:
    outgoing = mail(bcc=(Address("secret@example.org", "Secret"),), cc=(Address("bob@example.org"),))
    assert b"ecret" not in build(outgoing)
    assert b"Bcc" not in build(outgoing)
    assert parsed(outgoing)["Cc"] == "bob@example.org"


@pytest.mark.parametrize("name", ["List-Unsubscribe", "X-Campaign-Reference", "X-Tracking"])
def test_a_long_ascii_token_is_neither_encoded_nor_broken(name: str) -> None:
    token = "<https://shop.example/u/" + "a1B2" * 60 + "?x=1&y=%3D>"
    raw = field(mail(headers=((name, f"{token}, <mailto:u@shop.example?subject=stop>"),)), name)
    assert raw == f"{name}: {token},\r\n <mailto:u@shop.example?subject=stop>"


def test_text_in_angle_brackets_is_never_folded() -> None:
    value = "A list of very good news for everybody <news and much more that is long " + "x" * 40 + ".shop.example>"
    folded = field(mail(headers=(("List-Id", value),)), "List-Id")
    assert "\r\n <news and much more" in folded
    assert folded.replace("\r\n", "") == f"List-Id: {value}"


def test_a_token_over_998_octets_is_refused_because_no_line_can_carry_it() -> None:
    assert build(mail(headers=(("X-Id", "a" * 997),)))
    with pytest.raises(MessageError, match="998 octets"):
        build(mail(headers=(("X-Id", "a" * 998),)))


def test_an_international_unsubscribe_link_is_percent_encoded_and_stays_a_link() -> None:
    value = "<https://shop.example/ü?a=%20b>"
    assert field(mail(headers=(("List-Unsubscribe", value),)), "List-Unsubscribe") == (
        "List-Unsubscribe: <https://shop.example/%C3%BC?a=%20b>"
    )


def test_message_ids_outside_ascii_are_refused() -> None:
    with pytest.raises(MessageError, match="plain ASCII"):
        build(mail(headers=(("References", "<ü@example.com>"),)))


def test_only_the_words_that_need_it_are_encoded() -> None:
    assert field(mail(subject="Your order from Zürich is on its way"), "Subject") == (
        "Subject: Your order from =?utf-8?b?WsO8cmljaA==?= is on its way"
    )


def test_the_whitespace_between_a_plain_and_an_encoded_word_is_kept() -> None:
    assert field(mail(subject="a\tü  b"), "Subject") == "Subject: a\t=?utf-8?b?w7w=?=  b"


def test_a_very_long_field_name_leaves_the_encoded_words_to_the_next_lines() -> None:
    name = "X-" + "Long" * 18
    outgoing = mail(headers=((name, "größe " * 20),))
    assert all(len(line) <= 76 for line in field(outgoing, name).split("\r\n"))
    assert re.search(r"\?[bq]\?\?=", field(outgoing, name)) is None
    assert parsed(outgoing)[name].strip() == ("größe " * 20).strip()


def test_text_that_looks_like_an_encoded_word_arrives_as_it_was_written() -> None:
    subject = "Pay =?utf-8?q?now?= please"
    assert parsed(mail(subject=subject))["Subject"] == subject


def test_a_subject_without_spaces_longer_than_a_line_is_encoded() -> None:
    outgoing = mail(subject="x" * 998)
    assert parsed(outgoing)["Subject"] == "x" * 998
    assert max(map(len, build(outgoing).split(b"\r\n"))) <= 76


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("Lovelace, Ada", '"Lovelace, Ada"'),
        ('Ada "the" Countess', r'"Ada \"the\" Countess"'),
        ("a@b", '"a@b"'),
        ("Shop (Zurich)", '"Shop (Zurich)"'),
        ("J. Doe", '"J. Doe"'),
        ("back\\slash", r'"back\\slash"'),
        ("Björk", "=?utf-8?b?QmrDtnJr?="),
        ("=?utf-8?q?x?=", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?="),
    ],
)
def test_a_display_name_is_an_atom_quoted_or_encoded_as_it_needs(name: str, written: str) -> None:
    outgoing = mail(recipient=Address("ada@example.com", name))
    assert field(outgoing, "To").replace("\r\n", "") == f"To: {written} <ada@example.com>"
    assert parsed(outgoing)["To"].addresses[0].display_name == name


def test_many_copies_fold_between_addresses() -> None:
    people = tuple(Address(f"person{number}@example.com", f"Person {number}") for number in range(9))
    outgoing = mail(cc=people)
    assert all(len(line) <= 76 for line in field(outgoing, "Cc").split("\r\n"))
    assert [item.addr_spec for item in parsed(outgoing)["Cc"].addresses] == [item.email for item in people]


def test_an_international_local_part_is_written_raw_and_asks_for_smtputf8() -> None:
    outgoing = mail(recipient=Address("dörte@xn--bcher-kva.example"))
    assert needs_smtputf8(outgoing)
    assert "To: dörte@xn--bcher-kva.example\r\n".encode() in build(outgoing)
    assert not needs_smtputf8(mail())
    assert needs_smtputf8(mail(bcc=(Address("jörg@example.com"),)))


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x00"])
@pytest.mark.parametrize(
    "place", ["subject", "name", "address", "header value", "header name", "filename", "content id", "content type"]
)
def test_nothing_can_break_out_of_its_header(place: str, end: str) -> None:
    evil = f"x{end}Bcc: eve@example.org"
    file = Attachment("a.txt", b"")
    match place:
        case "subject":
            outgoing = mail(subject=evil)
        case "name":
            outgoing = mail(recipient=Address("ada@example.com", evil))
        case "address":
            outgoing = mail(reply_to=(Address(evil),))
        case "header value":
            outgoing = mail(headers=(("X-A", evil),))
        case "header name":
            outgoing = mail(headers=((evil, "x"),))
        case "filename":
            object.__setattr__(file, "filename", evil)
            outgoing = mail(attachments=(file,))
        case "content id":
            object.__setattr__(file, "content_id", evil)
            outgoing = mail(attachments=(file,), html="<p>x</p>")
        case _:
            object.__setattr__(file, "content_type", f"text/plain; a={evil}")
            outgoing = mail(attachments=(file,))
    with pytest.raises(MessageError) as caught:
        build(outgoing)
    assert "eve" not in str(caught.value)


@pytest.mark.parametrize("name", ["Bcc", "content-type", "Date", "X-Mailglass-Id"])
def test_a_header_that_mailglass_writes_itself_cannot_be_forged(name: str) -> None:
    with pytest.raises(MessageError, match="written by mailglass"):
        build(mail(headers=((name, "x"),)))


@pytest.mark.parametrize("name", ["", "X A", "X:A", "Ü", "X\tA"])
def test_a_header_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(MessageError, match="name"):
        build(mail(headers=((name, "x"),)))


def test_a_lone_surrogate_is_refused_with_a_message_error() -> None:
    with pytest.raises(MessageError, match="surrogate"):
        build(mail(subject="\ud800"))


FILE = Attachment("report.pdf", b"%PDF-1.7")
LOGO = Attachment("logo.png", b"\x89PNG", content_id="logo")


@pytest.mark.parametrize(
    ("bodies", "files", "expected"),
    [
        ({"text": "t"}, (), "text/plain"),
        ({"text": None, "html": "<p>h</p>"}, (), "text/html"),
        ({"text": "t", "html": "<p>h</p>"}, (), ("alternative", ["text/plain", "text/html"])),
        ({"text": "t"}, (FILE,), ("mixed", ["text/plain", "application/pdf"])),
        (
            {"text": "t", "html": "<p>h</p>"},
            (LOGO, FILE),
            (
                "mixed",
                [("alternative", ["text/plain", ("related", ["text/html", "image/png"])]), "application/pdf"],
            ),
        ),
        ({"text": None, "html": "<p>h</p>"}, (LOGO,), ("related", ["text/html", "image/png"])),
        ({"text": "t"}, (LOGO,), ("mixed", ["text/plain", "image/png"])),
    ],
)
def test_the_parts_nest_as_mail_clients_expect(
    bodies: dict[str, str], files: tuple[Attachment, ...], expected: object
) -> None:
    assert shape(parsed(mail(**bodies, attachments=files))) == expected


def test_an_inline_image_carries_its_content_id_and_a_file_its_name() -> None:
    message = parsed(mail(html='<img src="cid:logo">', attachments=(LOGO, FILE)))
    image, file = [part for part in message.walk() if part.get_filename()]
    assert (image["Content-ID"], image.get_content_disposition()) == ("<logo>", "inline")
    assert (file.get_filename(), file.get_content_disposition(), file.get_content()) == (
        "report.pdf",
        "attachment",
        b"%PDF-1.7",
    )


@pytest.mark.parametrize(
    ("filename", "written"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ('a "b".txt', r'attachment; filename="a \"b\".txt"'),
        ("größe.txt", "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"),
    ],
)
def test_a_filename_is_quoted_or_by_rfc_2231(filename: str, written: str) -> None:
    outgoing = mail(attachments=(Attachment(filename, b"x"),))
    assert f"Content-Disposition: {written}" in build(outgoing).decode().replace("\r\n ", " ")


def test_a_long_international_filename_is_continued_over_several_lines() -> None:
    name = "Rechnung für März " * 10 + ".pdf"
    outgoing = mail(attachments=(Attachment(name, b"x"),))
    part = next(iter(parsed(outgoing).iter_attachments()))
    assert part.get_filename() == name
    assert b"filename*0*=UTF-8''" in build(outgoing)
    assert max(map(len, build(outgoing).split(b"\r\n"))) <= 76


def test_a_forwarded_message_is_carried_as_it_is_when_it_is_clean() -> None:
    forwarded = b"Subject: inner\n\nHello\n"
    part = list(parsed(mail(attachments=(Attachment("m.eml", forwarded, "message/rfc822"),))).iter_parts())[1]
    assert (part.get_content_type(), part["Content-Transfer-Encoding"]) == ("message/rfc822", "7bit")
    assert part.get_payload(0)["Subject"] == "inner"  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("message/rfc822", "Subject: grüße\n\n".encode()),
        ("message/rfc822", b"Subject: a\n\n" + b"x" * 999),
        ("message/rfc822", b"Subject: a\n\n--=_mixed_" + ID.hex.encode() + b"--\n"),
        ("multipart/mixed; boundary=a", b"--a--"),
    ],
)
def test_a_composite_attachment_that_needs_encoding_becomes_an_octet_stream(content_type: str, content: bytes) -> None:
    part = next(iter(parsed(mail(attachments=(Attachment("m.eml", content, content_type),))).iter_attachments()))
    assert (part.get_content_type(), part.get_filename()) == ("application/octet-stream", "m.eml")
    assert part.get_content() == content


@pytest.mark.parametrize("name", ["Einladung.ics", "Größe.ics", '"Größe; \\"x\\".ics"', "世界" * 15])
def test_every_parameter_of_a_content_type_arrives(name: str) -> None:
    file = Attachment("i.ics", b"BEGIN", f"text/calendar; charset=utf-8; name={name}; method=REQUEST")
    (found,) = parsed(mail(attachments=(file,))).iter_attachments()
    plain = name.strip('"').replace("\\", "")
    assert dict(found["Content-Type"].params) == {"charset": "utf-8", "name": plain, "method": "REQUEST"}
    assert found["Content-Type"].content_type == "text/calendar"


def test_a_message_id_of_the_messages_own_takes_the_place_of_ours() -> None:
    own = mail(headers=(("X-Order", "7"), ("message-id", "<thread-7@shop.example>")))
    assert message_id(own) == "<thread-7@shop.example>"
    assert parsed(own).get_all("Message-ID") == ["<thread-7@shop.example>"]


def test_text_that_holds_a_boundary_cannot_end_its_part() -> None:
    text = f"--=_alternative_{ID.hex}--\nafter"
    first = next(iter(parsed(mail(text=text, html="<p>x</p>")).iter_parts()))
    assert first.get_content().splitlines() == text.splitlines()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("short and plain\n", "7bit"),
        ("x" * 76, "7bit"),
        ("x" * 77, "quoted-printable"),
        ("trailing \n", "quoted-printable"),
        ("trailing\t", "quoted-printable"),
        ("bell \x07", "quoted-printable"),
        ("größe", "quoted-printable"),
    ],
)
def test_text_is_encoded_only_when_it_must_be(text: str, encoding: str) -> None:
    assert parsed(mail(text=text))["Content-Transfer-Encoding"] == encoding
    assert parsed(mail(text=text)).get_content().rstrip("\r\n") == text.rstrip("\n")


def test_every_kind_of_line_end_becomes_crlf() -> None:
    assert build(mail(text="a\rb\nc\r\nd")).endswith(b"\r\n\r\na\r\nb\r\nc\r\nd\r\n")
