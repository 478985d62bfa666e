"""Bytes from strangers cost time and memory in proportion to their number, whatever they say."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from mailglass.bounces.events import read_bounce
from mailglass.bounces.proofs import Proofs
from mailglass.errors import MessageError, WebhookBodyError
from mailglass.mail.addresses import parse_address
from mailglass.providers import forms, parsing
from mailglass.providers.http import MAX_ANSWER, HTTPAnswer, _Huge, _unpacked
from mailglass.providers.postmark import sending as postmark
from mailglass.providers.smtp.replies import Reply, Stage, refusal
from mailglass.rendering.text import html_to_text
from tests.growth import LINEAR, exponent

PROOFS = Proofs(["secret" * 6], "bounces.example.com")

REPORT = b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/%b\n\n%b\n--x--\n"


def read(raw: bytes) -> object:
    return read_bounce(raw, PROOFS)


def rep(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: unit * (size // len(unit))


def in_report(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: REPORT % (b"delivery-status", rep(unit)(size))


def in_header(name: bytes, unit: bytes) -> Callable[[int], bytes]:
    return lambda size: name + b": " + rep(unit)(size) + b"\n\n"


def distinct_groups(kind: bytes) -> Callable[[int], bytes]:
    return lambda size: REPORT % (kind, b"".join(b"a%d: b\n\n" % number for number in range(size // 10)))


BOUNCES: dict[str, Callable[[int], bytes]] = {
    "groups of fields": distinct_groups(b"delivery-status"),
    "groups of a complaint": distinct_groups(b"feedback-report"),
    "recipients": in_report(b"action: failed\nstatus: 5.1.1\n\n"),
    "one long group": in_report(b"x: y\n"),
    "folded lines": in_report(b" y\n"),
    "carriage returns": in_report(b"\r"),
    "digits and dots": in_report(b"5.1."),
    "boundaries": in_report(b"\n--x"),
    "spaces after a boundary": lambda size: b"Content-Type: multipart/mixed; boundary=a\n\n--a" + b" " * size + b"x",
    "nested parts": lambda size: b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number) for number in range(size // 60)
    ),
    "open comments in a date": in_header(b"Date", b"("),
    "comments in a date": in_header(b"Date", b"()"),
    "spaces in a content type": in_header(b"Content-Type", b";  "),
    "base64 padding": lambda size: (
        b"Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\n" + b"=" * size
    ),
    "quoted-printable spaces": lambda size: (
        b"Content-Type: message/delivery-status\nContent-Transfer-Encoding: quoted-printable\n\n" + b" \t" * (size // 2)
    ),
}


@pytest.mark.parametrize("what", BOUNCES)
def test_a_mail_that_came_back_is_read_in_linear_time(what: str) -> None:
    assert exponent(read, BOUNCES[what], 40_000) <= LINEAR


def only(unit: str) -> Callable[[int], str]:
    return lambda size: unit * (size // len(unit))


def mailbox(value: str) -> object:
    return parse_address(value, "to")


MAILBOXES: dict[str, Callable[[int], str]] = {
    "spaces": only(" "),
    "spaces before a bracket": lambda size: " " * size + "<",
    "spaces in a name": lambda size: "a" + " " * size + "<a",
    "quotes": only('"'),
    "an open quote": lambda size: '"' + "\\a" * (size // 2),
    "brackets": only("<"),
    "labels": lambda size: "a@" + "a." * (size // 2),
    "marks": lambda size: "a" + "\u0301\u0327" * (size // 2) + "@x.example",
    "Arabic labels": lambda size: "a@" + "\u0643." * (size // 2),
    "comments": lambda size: "a@x.example" + "(" * size,
}


@pytest.mark.parametrize("what", MAILBOXES)
@pytest.mark.parametrize("size", [200, 50_000])
def test_an_address_is_read_in_linear_time(what: str, size: int) -> None:
    assert exponent(mailbox, MAILBOXES[what], size) <= LINEAR


@pytest.mark.parametrize(
    "value", [" " * 2000 + "a@x.example", ("a" * 2000, "a@x.example"), ("a", "a" * 2000 + "@x.example")]
)
def test_an_address_beyond_any_size_is_refused_by_its_length(value: Any) -> None:
    with pytest.raises(MessageError, match=r"longer than|at most"):
        parse_address(value, "to")


HTML: dict[str, Callable[[int], str]] = {
    **{
        unit: only(unit)
        for unit in (
            "<ol><li>",
            "<b>",
            "<b>a",
            "<p>a",
            "<blockquote>a",
            "<ul><li>a<br>",
            "<div hidden>",
            "</p>",
            "<a href=x>a",
            "<a href=x><p>a</a>",
            "<i><b><div></i></b>",
            "<table>",
            "<table><tr><td>",
            "<table><b>a",
            "<svg>",
            "<svg/>",
            "<svg><desc>",
            "<math><mi>",
            "<select>",
            "<option>",
            "<form>",
            "<button>",
            "<p><b>",
            "<li>a",
            "</li>",
            "<",
            "<a",
            "<a ",
            "<a b",
            "<a b=",
            "<a b='",
            '<a b="',
            "<a b=c ",
            "</",
            "<!",
            "<!-",
            "<!--",
            "<!-- --!",
            "<!--->",
            "<![CDATA[",
            "<?",
            "&",
            "&#",
            "&#1",
            "&#x",
            "&amp",
            "&lt;",
            "<script>",
            "<script></script>",
            "<style></styl",
            "</script",
            "<title>",
            "<textarea></textarea",
            "<pre>\n",
            " ",
            "\n",
            "\u00ad",
            "a b ",
            "<img alt='  '>",
            "<br>",
            "<hr>",
            "<p hidden style='",
            "<dd><dt>",
            "<h1>",
            "<rt><rp>",
            "<plaintext>",
        )
    },
    "style declarations": lambda size: "<p style='" + "display:none;" * (size // 13) + "'>a",
    "style comments": lambda size: "<p style='" + "/*" * (size // 2) + "'>a",
    "attributes": lambda size: "<p " + " ".join(f"a{number}=b" for number in range(size // 8)) + ">a",
    "digits": lambda size: "&#" + "9" * size,
    "a link around everything": lambda size: "<a href=x>" + "<p>a</p>" * (size // 8),
    "misnested": lambda size: "<b hidden><p>" * 60 + "</b>a" * (size // 5),
    "distinct formatting": lambda size: "".join(f"<font size={number}>" for number in range(size // 14)) + "<p>a" * 99,
}


@pytest.mark.parametrize("what", HTML)
def test_html_becomes_text_in_linear_time_and_space(what: str) -> None:
    make = HTML[what]
    assert exponent(html_to_text, make, 3_000) <= LINEAR
    # at worst a mark of a quote on every line, and a blank one before it
    assert len(html_to_text(make(20_000))) <= 16 * 20_000


FORMS: dict[str, bytes] = {
    "percent signs": b"%",
    "escapes": b"%41",
    "escapes between letters": b"%41a",
    "plus signs": b"+",
    "ampersands": b"&",
    "boundaries": b"--abc\r\n",
    "open names": b'--abc\ncontent-disposition:;name="',
    "parameters": b"--abc\r\ncontent-disposition:" + b"; " * 100,
}


@pytest.mark.parametrize("what", FORMS)
def test_a_form_is_read_in_linear_time(what: str) -> None:
    assert exponent(forms.read_form, rep(FORMS[what]), 50_000) <= LINEAR


@pytest.mark.parametrize("unit", [b"%", b"%41", b"%41a", b"%41ab", b"+", b"=%ff"])
def test_a_form_takes_memory_in_proportion_to_its_size(unit: bytes) -> None:
    body = unit * (512 * 1024 // len(unit))
    tracemalloc.start()
    try:
        forms.read_form(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(body)


@pytest.mark.parametrize("unit", [b"[", b"{", b'{"a":', b"{},", b"9", b'"\\u0041', b'{"a":1},'])
def test_json_of_a_webhook_is_read_or_refused_in_linear_time(unit: bytes) -> None:
    assert exponent(parsing.parse_json, lambda size: b"[" + rep(unit)(size), 50_000) <= LINEAR


def test_json_of_more_objects_than_a_batch_has_is_refused_before_it_is_read() -> None:
    many = b"[" + b"{}," * 300_000 + b"{}]"
    with pytest.raises(WebhookBodyError, match="too many"):
        parsing.parse_json(many)
    assert HTTPAnswer(200, {}, many).json() is None


REPLIES = ["daily ", "daily limit ", "rate ", "5.1.1 ", "synchronization ", "inactive addresses: ", " "]


@pytest.mark.parametrize("unit", REPLIES)
def test_an_smtp_reply_is_understood_in_linear_time(unit: str) -> None:
    def understand(text: str) -> object:
        return refusal(Stage.DOT, Reply(450, tuple(text[at : at + 500] for at in range(0, len(text), 500))))

    assert exponent(understand, only(unit), 8_000) <= LINEAR


@pytest.mark.parametrize("unit", REPLIES)
def test_a_refused_postmark_call_is_understood_in_linear_time(unit: str) -> None:
    assert exponent(postmark._inactive, only(unit), 50_000) <= LINEAR


def test_a_compressed_answer_is_bounded_by_its_size_after_unpacking() -> None:
    assert _unpacked(gzip.compress(b'{"id": 1}'), "gzip") == b'{"id": 1}'
    for damaged in (b"no gzip", gzip.compress(b"{}" * 99)[:-9]):
        with pytest.raises(ValueError):
            _unpacked(damaged, "gzip")
    with pytest.raises(_Huge):
        _unpacked(gzip.compress(b"\0" * (MAX_ANSWER + 1)), "gzip")
