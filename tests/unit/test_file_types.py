"""File names and content types: what contradicts itself is told from what is merely unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.mail.message import Attachment
from mailglass.providers.file_types import bare_type, name_agrees


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("a.pdf", "application/pdf"),
        ("A.PDF", "application/pdf"),
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.jpeg", "image/jpeg"),
        ("a.jpg", "image/jpg"),
        ("a.xml", "application/xml"),
        ("a.xml", "text/xml"),
        ("a.js", "text/javascript"),
        ("a.wav", "audio/wav"),
        ("a.pdf", "application/octet-stream"),
        ("a.log", "text/plain"),
        ("a.unheard-of", "text/csv"),
        ("noextension", "text/csv"),
        ("a.pdf", "x/unheard-of"),
        ("a.tar.gz", "application/gzip"),
        ("a.htm", "TEXT/HTML"),
    ],
)
def test_same_or_unknown_type_agrees(filename: str, content_type: str) -> None:
    assert name_agrees(Attachment(filename, b"", content_type))


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [("data.txt", "text/csv"), ("a.png", "image/jpeg"), ("a.pdf", "text/plain"), ("b.html", "application/pdf")],
)
def test_other_known_type_disagrees(filename: str, content_type: str) -> None:
    assert not name_agrees(Attachment(filename, b"", content_type))


@pytest.mark.parametrize(
    "extension",
    "pdf csv png jpg jpeg gif bmp tif webp svg txt html ics zip xml json doc docx xls ppt rtf eml mp3 mp4 wav".split(),
)
def test_a_type_that_was_guessed_from_the_name_agrees_with_it(extension: str) -> None:
    assert name_agrees(Attachment(f"name.{extension}", b""))


@given(st.text(min_size=1, max_size=20).filter(lambda name: not set(name) & set("/\\\r\n\0")))
def test_any_name_can_be_looked_at(filename: str) -> None:
    assert name_agrees(Attachment(filename, b"")) in (True, False)


def test_a_type_is_read_without_its_parameters() -> None:
    assert bare_type(Attachment("a.txt", b"", "Text/Plain ; charset=utf-8")) == "text/plain"
