"""Messages, addresses and attachments: checked when they are built, refused by field, never echoed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import Address, Attachment, Message, MessageError, Stream
from mailglass.mail.addresses import parse_address


def build(**fields: object) -> Message:
    return Message(**{"to": "ada@example.com", "subject": "s", "text": "t", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_as", "email", "name"),
    [
        ("ada@example.com", "ada@example.com", ""),
        ("Ada@EXAMPLE.com", "Ada@example.com", ""),
        ("Ada Lovelace <ada@example.com>", "ada@example.com", "Ada Lovelace"),
        ('"Lovelace, Ada" <ada@example.com>', "ada@example.com", "Lovelace, Ada"),
        ('"Ada \\"Countess\\"" <ada@example.com>', "ada@example.com", 'Ada "Countess"'),
        (("Ada", "ada@example.com"), "ada@example.com", "Ada"),
        (Address("ada@example.com", "Ada"), "ada@example.com", "Ada"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example", ""),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example", ""),
        ("jörg@example.com", "jörg@example.com", ""),
        ("ada+news@mail.example.co.uk", "ada+news@mail.example.co.uk", ""),
        ("ada@host.test", "ada@host.test", ""),
    ],
)
def test_an_address_is_understood_and_its_domain_becomes_a_labels(given_as: object, email: str, name: str) -> None:
    address = parse_address(given_as, "to")
    assert (address.email, address.name) == (email, name)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@example",
        "ada@@example.com",
        "a da@example.com",
        "ada@exa mple.com",
        "ada@-example.com",
        "ada@example..com",
        ".ada@example.com",
        "ada.@example.com",
        "ada@example.com, grace@example.com",
        "ada@example.com\nBcc: grace@example.com",
        "Ada\r\n <ada@example.com>",
        "ada\x00@example.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 250 + ".com",
        None,
        42,
        b"ada@example.com",
    ],
)
def test_invalid_address_is_refused_without_echo(wrong: object) -> None:
    with pytest.raises(MessageError) as caught:
        build(to=wrong if wrong is not None else [None])
    assert caught.value.field == "to"
    assert "ada" not in str(caught.value)
    assert "grace" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", "a\nb"),
        ("subject", "a\rb"),
        ("subject", "a\x00b"),
        ("subject", "x" * 999),
        ("subject", 5),
        ("subject", "\ud800"),
        ("to", "\ud800 <ada@example.com>"),
        ("headers", {"X-A": "x" * 851}),
        ("text", 5),
        ("text", "a\x00b"),
        ("text", "\ud800"),
        ("html", "x" * (5 * 1024 * 1024 + 1)),
        ("headers", {"X-A": "b\r\nX-C: d"}),
        ("headers", {"X-A": "b\x00"}),
        ("headers", {"X-A\r\n": "b"}),
        ("headers", {"X A": "b"}),
        ("headers", {"X:A": "b"}),
        ("headers", {"": "b"}),
        ("headers", {"Subject": "b"}),
        ("headers", {"bcc": "b"}),
        ("headers", {"X-Mailglass-Id": "b"}),
        ("headers", {"X-A": 5}),
        ("headers", [("X-A",)]),
        ("headers", [(f"X-{n}", "v") for n in range(101)]),
        ("reply_to", "nobody"),
        ("from_", "nobody"),
        ("cc", ["x@example.com", "nobody"]),
        ("tags", "one"),
        ("tags", [""]),
        ("tags", ["a\nb"]),
        ("tags", ["x"] * 11),
        ("metadata", {"a b": "c"}),
        ("metadata", {"mailglass_id": "c"}),
        ("metadata", {"a": 1}),
        ("metadata", {"a": "b\nc"}),
        ("metadata", [("a", "b")]),
        ("attachments", [b"bytes"]),
        ("stream", "marketing"),
        ("idempotency_key", ""),
        ("idempotency_key", "a\nb"),
        ("idempotency_key", "x" * 257),
        ("to", []),
        ("to", ["a@example.com", "A@example.com"]),
        ("to", [f"u{n}@example.com" for n in range(51)]),
    ],
)
def test_refusal_names_its_field(field: str, value: object) -> None:
    with pytest.raises(MessageError) as caught:
        build(**{field: value})
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)


def test_a_message_without_a_body_is_refused() -> None:
    with pytest.raises(MessageError, match="text"):
        Message(to="ada@example.com", subject="s")


def test_copies_need_exactly_one_recipient_so_that_nobody_gets_one_per_recipient() -> None:
    assert build(cc="c@example.com").cc == (Address("c@example.com"),)
    with pytest.raises(MessageError) as caught:
        build(to=["a@example.com", "b@example.com"], bcc="c@example.com")
    assert caught.value.field == "bcc"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"filename": "../etc/passwd"}, "slash"),
        ({"filename": "a\nb"}, "CR"),
        ({"filename": ""}, "filename"),
        ({"content": "text"}, "bytes"),
        ({"content_type": "pdf"}, "type/subtype"),
        ({"content_type": "text/plain\r\nX: y"}, "type/subtype"),
        ({"content_id": "<a>"}, "content_id"),
    ],
)
def test_an_attachment_is_checked(fields: dict, problem: str) -> None:
    with pytest.raises(MessageError, match=problem):
        Attachment(**{"filename": "a.pdf", "content": b"x", **fields})


def test_an_attachments_type_is_guessed_from_its_name() -> None:
    assert Attachment("invoice.pdf", b"x").content_type == "application/pdf"
    assert Attachment("data.unheard-of", b"x").content_type == "application/octet-stream"


def test_the_whole_message_is_bounded() -> None:
    with pytest.raises(MessageError, match="larger"):
        build(attachments=[Attachment("a.bin", bytes(20 * 1024 * 1024))])


def test_a_message_shows_neither_addresses_nor_content() -> None:
    message = build(to="private@example.com", subject="secret", attachments=[Attachment("secret.pdf", b"x")])
    assert repr(message) == "<Message to 1 on transactional>"
    assert "secret" not in repr(message.attachments)
    assert "private" not in repr(message.to)


def test_the_content_leaves_out_the_recipients_and_what_is_empty() -> None:
    message = build(tags=["receipt"], headers={"X-A": "b"}, stream=Stream.BULK)
    assert message.content() == {
        "v": 1,
        "subject": "s",
        "text": "t",
        "tags": ["receipt"],
        "headers": [["X-A", "b"]],
    }


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_clear_refusal(text: str) -> None:
    try:
        address = parse_address(text, "to")
    except MessageError:
        return
    assert address.domain.isascii()
    assert not set("\r\n\x00") & set(address.email + address.name)
    assert parse_address(address, "to") == address


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_value_carries_a_line_end(name: str, value: str) -> None:
    try:
        message = build(headers=[(name, value)], subject=value)
    except MessageError:
        return
    assert not any(character in part for pair in message.headers for part in pair for character in "\r\n\x00")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("provider_options", {"postmark": "x"}),
        ("provider_options", {"postmark": {"At": object()}}),
        ("provider_options", {"postmark": {"Weight": float("nan")}}),
        ("provider_options", {"postmark": {"Name": "\ud800"}}),
        ("provider_options", ["postmark"]),
        ("tags", ["\ud800"]),
        ("metadata", {"order": "\ud800"}),
    ],
)
def test_text_that_no_ledger_can_keep_is_refused_when_the_message_is_built(field: str, value: object) -> None:
    with pytest.raises(MessageError) as caught:
        Message(to="ada@example.com", subject="s", text="t", **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("report.csv", "text/csv"),
        ("report.csv.gz", "application/gzip"),
        ("x.tar.gz", "application/gzip"),
        ("x.tgz", "application/gzip"),
        ("x.tar.bz2", "application/x-bzip2"),
        ("x.tar.xz", "application/x-xz"),
        ("image.svgz", "application/gzip"),
        ("x.csv.br", "application/octet-stream"),
        ("data:text;html,x", "application/octet-stream"),
        ("no-extension", "application/octet-stream"),
    ],
)
def test_the_type_of_a_file_is_that_of_its_bytes(filename: str, content_type: str) -> None:
    assert Attachment(filename, b"x").content_type == content_type


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("<https://bücher.example/größe?ä=1>", "<https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe?%C3%A4=1>"),
        ("<https://u@bücher.example:8443>", "<https://u@xn--bcher-kva.example:8443>"),
        (
            "<mailto:u@bücher.example?subject=ü>, <https://bücher.example>",
            "<mailto:u@xn--bcher-kva.example?subject=%C3%BC>, <https://xn--bcher-kva.example>",
        ),
        ("<https://plain.example/%C3%BC>", "<https://plain.example/%C3%BC>"),
        ("<https://ü ü/>", "<https://%C3%BC %C3%BC/>"),
    ],
)
def test_a_url_in_a_header_is_ascii_with_its_host_in_a_labels(value: str, written: str) -> None:
    message = Message(to="ada@example.com", subject="S", text="x", headers={"List-Unsubscribe": value})
    assert message.headers == (("List-Unsubscribe", written),)


@pytest.mark.parametrize("name", ["In-Reply-To", "References", "Message-ID"])
def test_a_message_id_that_no_header_can_hold_is_refused_when_the_message_is_built(name: str) -> None:
    with pytest.raises(MessageError, match="plain ASCII"):
        Message(to="ada@example.com", subject="S", text="x", headers={name: "<ü@example.com>"})


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("Reply-To", "use `reply_to`"), ("From", "use `from_`"), ("Date", "cannot be set"), ("Sender", "cannot be set")],
)
def test_a_header_that_is_refused_names_the_field_for_it_where_there_is_one(name: str, remedy: str) -> None:
    with pytest.raises(MessageError, match=remedy):
        Message(to="ada@example.com", subject="S", text="x", headers={name: "x"})


@pytest.mark.parametrize("value", ["x", "<a>", "<a@b", "<a@b> <c@d>", "<a b@c>", "<a@b\u200b>"])
def test_a_message_id_is_one_id_in_brackets(value: str) -> None:
    with pytest.raises(MessageError, match="message-id"):
        Message(to="ada@example.com", subject="S", text="x", headers={"Message-ID": value})


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"to": ["a@example.com", "b@example.com"], "cc": "c@example.com"}, "cc: allowed with exactly one `to`"),
        ({"to": [], "bcc": "c@example.com"}, "to: at least one recipient is needed; beside `bcc` alone"),
        ({"to": ["ada@example.com", "Ada@EXAMPLE.com"]}, "to: a recipient is named twice"),
        ({"to": "root@localhost"}, "to: the domain has no dot"),
        ({"to": "ada@example.com", "cc": "root@localhost"}, "cc: the domain has no dot"),
    ],
)
def test_recipients_that_no_mail_can_show_alike_are_refused_with_a_remedy(fields: dict, problem: str) -> None:
    with pytest.raises(MessageError) as caught:
        Message(subject="S", text="x", **fields)
    assert problem in str(caught.value)


def test_provider_options_that_grow_large_as_json_are_refused_before_they_are_written() -> None:
    shared: list[object] = ["a"]
    for _ in range(28):
        shared = [shared, shared]
    for options in ({"x": shared}, {"x": "y" * 2_000_000}, {"y" * 600_000: 1, "z" * 600_000: 1}):
        with pytest.raises(MessageError, match="longer than 1048576 characters as JSON"):
            Message(to="ada@example.com", subject="s", text="t", provider_options={"smtp": options})
    Message(to="ada@example.com", subject="s", text="t", provider_options={"smtp": {"x": ["y" * 500_000] * 2}})
