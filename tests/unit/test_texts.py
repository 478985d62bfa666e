"""Every text field of a message: a str or a lazy string, on one line where it becomes a header, and no surrogates."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import Attachment, Mailable, Message, MessageError
from mailglass.mail.mailable import check_context
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.mailgun.sending import encode
from mailglass.rendering.outgoing import outgoing
from mailglass.testing.provider_suite.mails import plain


class Lazy:
    """As gettext_lazy answers: no str, with all methods of one."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def __str__(self) -> str:
        return self._read()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._read(), name)


class Greeting(Mailable):
    subject = "Hello {{ name }}"
    text = "Hello {{ name }}"


def build(**fields: Any) -> Message:
    return Message(**{"to": "ada@example.com", "subject": "s", "text": "t", **fields})


# each puts one text into a message; those of `LINES` become part of a header
LINES: dict[str, Callable[[Any], Any]] = {
    "subject": lambda text: build(subject=text),
    "display name": lambda text: build(to=(text, "ada@example.com")),
    "address": lambda text: build(reply_to=text),
    "sender": lambda text: build(from_=(text, "shop@example.com")),
    "header name": lambda text: build(headers={text: "v"}),
    "header value": lambda text: build(headers=[("X-A", text)]),
    "tag": lambda text: build(tags=[text]),
    "metadata key": lambda text: build(metadata={text: "v"}),
    "metadata value": lambda text: build(metadata={"key": text}),
    "filename": lambda text: build(attachments=[Attachment(text, b"x")]),
    "content type": lambda text: build(attachments=[Attachment("a.txt", b"x", text)]),
    "content type's parameter": lambda text: build(attachments=[Attachment("a.txt", b"x", f"text/plain; name={text}")]),
    "content id": lambda text: build(attachments=[Attachment("a.txt", b"x", "text/plain", text)]),
    "idempotency key": lambda text: build(idempotency_key=text),
}
BODIES: dict[str, Callable[[Any], Any]] = {
    "text": lambda text: build(text=text),
    "html": lambda text: build(html=text),
    "provider option": lambda text: build(provider_options={"smtp": {"deep": [text]}}),
    "provider option's name": lambda text: build(provider_options={"smtp": {text: 1}}),
    "context": lambda text: Greeting(to="ada@example.com", context={"name": text}),
}
EVERYWHERE = LINES | BODIES


@pytest.mark.parametrize("place", LINES)
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize(
    "text", ["a{}Bcc: x@example.com", "{}text/plain", "text/plain{}", "text/plain{}; a=b", "text/plain;{} a=b"]
)
def test_a_line_end_is_refused_wherever_it_could_end_a_header(place: str, end: str, text: str) -> None:
    with pytest.raises(MessageError) as caught:
        LINES[place](text.format(end))
    assert "x@example.com" not in str(caught.value)


@pytest.mark.parametrize("place", EVERYWHERE)
@pytest.mark.parametrize("text", ["\ud800", "text/plain; a=\udfff", "a\ud83d@example.com"])
def test_a_lone_surrogate_is_refused_everywhere(place: str, text: str) -> None:
    with pytest.raises(MessageError):
        EVERYWHERE[place](text)


@given(st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp", "L", "P"]), max_size=12))
def test_accepted_content_type_is_a_line_that_can_be_written(text: str) -> None:
    for content_type in (text, f"text/plain{text}", f"text/plain; name={text}"):
        try:
            made = Attachment("a.txt", b"x", content_type).content_type
        except MessageError:
            continue
        assert not set(made) & {"\r", "\n", "\x00"}
        made.encode()


@pytest.mark.parametrize("place", sorted(set(EVERYWHERE) - {"provider option's name"}))
def test_a_lazy_string_is_read_once_where_the_message_is_built(place: str) -> None:
    text = {
        "address": "ada@example.com",
        "content type": "text/plain",
        "header name": "X-A",
        "content id": "logo",
    }.get(place, "Grüße" if "key" not in place and "content" not in place else "key")
    language = [text]
    made = EVERYWHERE[place](Lazy(lambda: language[0]))
    wanted = EVERYWHERE[place](text)
    language[0] = "changed"
    assert json.dumps(made.content()) == json.dumps(wanted.content())
    assert (made.to, made.idempotency_key) == (wanted.to, wanted.idempotency_key)


@pytest.mark.parametrize("place", sorted(set(EVERYWHERE) - {"content type's parameter", "provider option's name"}))
def test_a_lazy_string_that_cannot_be_read_is_a_message_error_without_its_words(place: str) -> None:
    def broken() -> str:
        raise RuntimeError("ada@example.com")

    with pytest.raises(MessageError) as caught:
        EVERYWHERE[place](Lazy(broken))
    assert "example" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [42, 4.2, b"bytes", object(), str, True])
@pytest.mark.parametrize(
    "place", ["subject", "text", "html", "display name", "address", "filename", "content type", "tag"]
)
def test_value_that_is_neither_text_nor_lazy_is_refused(place: str, value: object) -> None:
    with pytest.raises(MessageError):
        EVERYWHERE[place](value)


def test_a_str_of_another_class_becomes_a_plain_one() -> None:
    class Shouting(str):
        def __str__(self) -> str:
            raise RuntimeError

    made = build(subject=Shouting("quiet"), tags=[Shouting("tag")])
    assert (type(made.subject), made.subject, type(made.tags[0])) == (str, "quiet", str)


def test_a_context_takes_lazy_strings_at_any_depth() -> None:
    assert check_context({"a": [Lazy(lambda: "b")]}) == {"a": ["b"]}


STORED = {"v": 1, "from": ["Shop", "shop@example.com"], "subject": "s", "text": "t"}


@pytest.mark.parametrize(
    "stored",
    [
        {"subject": "s\r\nBcc: x@example.com"},
        {"from": ["Shop\r\nBcc: x@example.com", "shop@example.com"]},
        {"headers": [["X-A", "v\r\nBcc: x@example.com"]]},
        {"tags": ["t\r\nBcc: x@example.com"]},
        {"metadata": {"k": "v\r\nBcc: x@example.com"}},
        {"metadata": {"k\r\nBcc: x@example.com": "v"}},
        {"reply_to": [["R\r\nBcc: x", "r@example.com"]]},
        {"headers": [["X\r\nBcc", "v"]]},
    ],
)
def test_stored_content_never_ends_a_line_of_a_form(stored: dict[str, Any]) -> None:
    with pytest.raises(Unsendable):
        encode(stored_mail({**STORED, **stored}))


@pytest.mark.parametrize("field", ["filename", "content_type", "content_id"])
def test_an_attachment_that_was_stored_with_a_line_end_is_refused(field: str) -> None:
    item = {"filename": "a.txt", "content": "", "content_type": "text/plain", "content_id": ""}
    wrong = {**item, field: "text/plain\r\nX: y"}
    with pytest.raises(MessageError):
        stored_mail({**STORED, "attachments": [wrong]})
    good = stored_mail({**STORED, "attachments": [item]})
    object.__setattr__(good.attachments[0], field, "text/plain\r\nX: y")
    with pytest.raises(Unsendable):
        encode(good)


def stored_mail(content: dict[str, Any]) -> Outgoing:
    like = plain()
    return outgoing(
        delivery_id=like.delivery_id,
        tenant=like.tenant,
        stream=like.stream,
        recipient=like.recipient,
        created_at=like.created_at,
        content=content,
        default_sender=None,
    )
