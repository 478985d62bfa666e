"""Forms as webhooks post them: exact bytes out, whatever comes in."""

from __future__ import annotations

import contextlib
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailglass.errors import WebhookBodyError
from mailglass.providers.forms import MAX_FIELDS, first, last, read_form, values


def multipart(fields: list[tuple[str, bytes]], boundary: str = "BoUnD", end: bytes = b"\r\n") -> bytes:
    parts = [
        end.join([f"--{boundary}".encode(), f'Content-Disposition: form-data; name="{name}"'.encode(), b"", value, b""])
        for name, value in fields
    ]
    return b"".join(parts) + f"--{boundary}--".encode() + end


def test_an_urlencoded_form_is_decoded_as_it_was_encoded() -> None:
    assert read_form(b"a=1&b=x+y%21&a=%C3%A9&empty=&bare&&c=1=2") == [
        (b"a", b"1"),
        (b"b", b"x y!"),
        (b"a", "é".encode()),
        (b"empty", b""),
        (b"bare", b""),
        (b"c", b"1=2"),
    ]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_multipart_form_keeps_every_byte_of_its_values(end: bytes) -> None:
    fields = [("a", b" x\xff" + end + b"--no boundary" + end + end), ("b", b""), ("a", "é".encode())]
    assert read_form(multipart(fields, end=end)) == [(name.encode(), value) for name, value in fields]


def test_a_files_name_is_not_taken_for_a_fields() -> None:
    body = (
        b'--B\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name="attachment-1"; '
        b'filename="x; name=y"\r\n\r\nhi\r\n--B--\r\n'
    )
    assert read_form(body) == [(b"attachment-1", b"hi")]


def test_of_several_values_the_first_the_last_or_all_are_had() -> None:
    fields = read_form(b"a=1&b=2&a=3")
    assert (first(fields, "a"), last(fields, "a"), values(fields, "a")) == ("1", "3", ["1", "3"])
    assert (first(fields, "x"), last(fields, "x"), values(fields, "x")) == (None, None, [])
    assert first([(b"a", b"\xff")], "a") == "�"


@pytest.mark.parametrize(
    "body",
    [
        b"--",
        b"--\r\n",
        b"--B",
        b"--B\r\n",
        b"--B\r\nno end of the head",
        b"--B\r\n\r\nno name\r\n--B--",
        b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n',
        b"-" * 200 + b"\r\n",
        b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--Bx\r\n\r\n\r\n--B--',
    ],
)
def test_a_multipart_form_that_is_cut_or_torn_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        read_form(body)


def test_a_form_with_too_many_fields_is_refused_before_it_is_taken_apart() -> None:
    assert len(read_form(b"&".join([b"a=1"] * MAX_FIELDS))) == MAX_FIELDS
    for body in (b"&" * 3_000_000, b"--B\r\n" * 600_000):
        with pytest.raises(WebhookBodyError):
            read_form(body)


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))))
@example([("--", "")])
@example([("--B", "0"), ("--B", "--B--")])
def test_urlencoded_forms_are_read_as_the_standard_library_reads_them(pairs: list[tuple[str, str]]) -> None:
    body = urlencode(pairs).encode()
    expected = parse_qsl(body.decode(), keep_blank_values=True)
    assert [(name.decode(), value.decode()) for name, value in read_form(body)] == expected


@given(st.lists(st.tuples(st.sampled_from(["a", "b-c", "d:e"]), st.binary(max_size=40)), min_size=1, max_size=5))
def test_multipart_forms_are_read_as_the_standard_library_reads_them(fields: list[tuple[str, bytes]]) -> None:
    body = multipart(fields)
    parsed = BytesParser(policy=HTTP).parsebytes(b"Content-Type: multipart/form-data; boundary=BoUnD\r\n\r\n" + body)
    found = read_form(body)
    assert found == [(name.encode(), value) for name, value in fields]
    if fields and not any(b"\n" in value or b"\r" in value for _, value in fields):
        assert [part.get_payload(decode=True) for part in parsed.iter_parts()] == [value for _, value in found]


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"--B\r\n" + tail))
def test_any_bytes_are_a_form_or_a_body_error(body: bytes) -> None:
    with contextlib.suppress(WebhookBodyError):
        assert all(isinstance(part, bytes) for field in read_form(body) for part in field)


@given(st.lists(st.sampled_from([b"%", b"%4", b"%41", b"%zz", b"+", b"a", b"%25", b"x" * 65_533]), max_size=9))
def test_escapes_are_decoded_wherever_a_piece_of_the_body_ends(pieces: list[bytes]) -> None:
    value = b"".join(pieces)
    assert read_form(b"v=" + value) == [(b"v", unquote_to_bytes(value.replace(b"+", b" ")))]
