"""What an application may say with a template, and what is refused before anything is stored."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import MessageError
from mailglass.mail.addresses import Address
from mailglass.mail.mailable import MAX_CONTEXT, Mailable, body_template, check_context, class_path
from mailglass.mail.message import Attachment, Message
from mailglass.mail.streams import Stream


class Receipt(Mailable):
    subject = "Receipt {{ number }}"
    html = "<p>{{ number }}</p>"


class Base(Mailable, abstract=True):
    stream = Stream.BULK
    text = "From the base"


class News(Base):
    subject = "News"
    html_template = "news.html"


def test_envelope_is_checked_and_stored_as_that_of_a_message() -> None:
    envelope: dict[str, Any] = {
        "to": "Ada <ada@example.com>",
        "from_": ("Shop", "shop@example.com"),
        "reply_to": "help@example.com",
        "cc": ["bob@example.com"],
        "bcc": ["eve@example.com"],
        "headers": {"List-Id": "<news.example.com>"},
        "tags": ["receipt"],
        "metadata": {"order": "4711"},
        "attachments": [Attachment("a.txt", b"x")],
        "idempotency_key": "order-4711",
        "provider_options": {"postmark": {"TrackOpens": True}},
    }
    mailable = Receipt(**envelope, context={"number": 1})
    message = Message(**envelope, subject="s", text="t")
    for field in ("to", "from_", "reply_to", "cc", "bcc", "headers", "tags", "metadata", "attachments", "stream"):
        assert getattr(mailable, field) == getattr(message, field)
    assert (mailable.idempotency_key, mailable.provider_options) == ("order-4711", {"postmark": {"TrackOpens": True}})
    stored, plain = mailable.content(), message.content()
    assert stored.pop("mailable") == {"class": f"{__name__}:Receipt", "context": {"number": 1}}
    assert {"subject", "text"} == plain.keys() - stored.keys()
    assert stored == {key: plain[key] for key in stored}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"to": []}, "to"),
        ({"to": ["a@example.com", "b@example.com"], "cc": "c@example.com"}, "cc"),
        ({"headers": {"Subject": "x"}}, "headers"),
        ({"tags": "x"}, "tags"),
        ({"stream": "loud"}, "stream"),
        ({"from_": "nobody"}, "from_"),
        ({"context": [1]}, "context"),
    ],
)
def test_mailable_refuses_what_a_message_refuses(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(MessageError) as caught:
        Receipt(**({"to": "ada@example.com"} | changes))
    assert caught.value.field == field


def test_the_stream_is_the_classs_unless_it_is_said() -> None:
    assert News(to="ada@example.com").stream is Stream.BULK
    assert News(to="ada@example.com", stream="operational").stream is Stream.OPERATIONAL
    assert Receipt(to="ada@example.com").stream is Stream.TRANSACTIONAL


def test_repr_shows_neither_address_nor_context() -> None:
    shown = repr(Receipt(to=Address("ada@example.com", "Ada"), context={"number": "secret"}))
    assert shown == "<Receipt to 1 on transactional>"


def test_the_context_is_a_copy_in_plain_json() -> None:
    items = [{"price": Decimal("9.90"), "id": UUID(int=7)}]
    mailable = Receipt(
        to="ada@example.com",
        context={
            "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
            "day": date(2026, 1, 2),
            "items": tuple(items),
            "s": Stream.BULK,
        },
    )
    items.clear()
    assert mailable.context == {
        "at": "2026-01-02T03:04:00+00:00",
        "day": "2026-01-02",
        "items": [{"price": "9.90", "id": "00000000-0000-0000-0000-000000000007"}],
        "s": "bulk",
    }
    assert type(mailable.context["s"]) is str


@pytest.mark.parametrize(
    ("context", "place"),
    [
        ({"order": {"items": [{"price": 1}, {"price": object()}]}}, "context.order.items[1].price is a object"),
        ({"a": {"ada@example.com": b"secret"}}, "context.a[?] is a bytes"),
        ({"a": float("nan")}, "context.a is not a finite number"),
        ({"a": {1: "secret"}}, "context.a has a key of type int"),
        ({"a": "secret\x00"}, "context.a holds NUL"),
        ({"a": "secret\ud800"}, "context.a holds a lone surrogate"),
        ({"a": 1 << 2000}, "context.a is an integer"),
        ({"a": {"secret"}}, "context.a is a set"),
    ],
)
def test_a_value_that_is_not_json_is_named_by_its_place_and_never_shown(context: dict[str, Any], place: str) -> None:
    with pytest.raises(MessageError) as caught:
        Receipt(to="ada@example.com", context=context)
    assert place in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "ada@" not in str(caught.value)


def test_a_context_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(MessageError, match="nested deeper than"):
        Receipt(to="ada@example.com", context=loop)


def test_a_context_over_one_mebibyte_is_refused() -> None:
    overhead = len('{"a":""}')
    assert check_context({"a": "x" * (MAX_CONTEXT - overhead)})
    with pytest.raises(MessageError, match="larger than"):
        check_context({"a": "ü" * (MAX_CONTEXT // 2)})


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from("abc"), JSON))
def test_json_context_is_kept_as_it_is(context: dict[str, Any]) -> None:
    assert check_context(context) == context == json.loads(json.dumps(check_context(context)))


def test_a_class_without_a_subject_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"NoSubject has no subject: add subject"):
        type("NoSubject", (Mailable,), {"html": "<p>x</p>"})


def test_a_class_without_a_template_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"NoTemplate has no template: add html_template"):
        type("NoTemplate", (Mailable,), {"subject": "x"})


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"subject": 7, "html": "x"}, "subject must be a str"),
        ({"subject": "x", "html": "x", "html_template": "y.html"}, "both html and html_template"),
        ({"subject": "x", "html": "x", "stream": "loud"}, "must be one of"),
    ],
)
def test_a_class_that_contradicts_itself_is_refused(members: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        type("Wrong", (Mailable,), members)


def test_a_base_to_share_needs_no_template_and_is_never_sent() -> None:
    with pytest.raises(MessageError, match="abstract"):
        Base(to="ada@example.com")


def test_the_nearest_class_decides_where_a_body_comes_from() -> None:
    class File(News):
        text_template = "news.txt"

    class Without(News):
        text = None

    assert body_template(News, "text") == ("From the base", None)
    assert body_template(File, "text") == (None, "news.txt")
    assert body_template(Without, "text") == (None, None)


def test_a_class_inside_a_function_is_refused_since_no_worker_can_import_it() -> None:
    class Local(Receipt):
        pass

    with pytest.raises(MessageError, match="cannot be imported by a worker: define the class at the top level"):
        Local(to="ada@example.com")


def test_a_class_of_the_main_script_is_refused_since_no_worker_can_import_it() -> None:
    cls = type("Script", (Receipt,), {"__module__": "__main__", "__qualname__": "Script"})
    assert class_path(cls) == "__main__:Script"
    with pytest.raises(MessageError, match="cannot be imported by a worker"):
        cls(to="ada@example.com")


def test_a_context_that_grows_large_as_json_is_refused_before_it_is_written_out() -> None:
    shared: list[object] = ["a"]
    for _ in range(29):
        shared = [shared, shared]
    for context in ({"x": shared}, {"x": ["y" * 1_000_000] * 100_000}):
        with pytest.raises(MessageError, match="larger than 1048576 bytes as JSON"):
            check_context(context)
    assert len(check_context({"x": [["y"] * 1000] * 200})["x"]) == 200
