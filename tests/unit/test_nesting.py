"""The bound on how deep HTML nests, against the parser that it protects."""

from __future__ import annotations

import re
import subprocess
import sys

import css_inline
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.rendering.nesting import bounds, nests_deeper
from tests.growth import LINEAR, exponent

LIMIT = 100
MOST = 10**9
REPEATED = 60
# html, body, and what the standard opens by itself at the end of a document
AROUND = 8
STYLE = "<style>q{color:red}</style>"
INLINER = css_inline.CSSInliner(keep_style_tags=True, load_remote_stylesheets=False)
VOID = "area base br col embed hr img input link meta source track wbr".split()
RAW = "style script xmp iframe noembed noframes plaintext".split()
ELEMENTS = (
    "b i a font p div span li ul ol dd dt dl table tr td th tbody thead svg math g path title style select option "
    "button form h1 br img template section desc foreignObject mi xmp textarea caption colgroup object rp ruby input "
    "source nobr em script noscript iframe center pre"
).split()
MARKUP = re.compile(r'<!--.*?-->|<(/?)([a-zA-Z][^\s/>]*)(?:[^>"]|"[^"]*")*>', re.DOTALL)


def depth(written: str) -> int:
    """How deep a document nests, from what a serializer wrote."""
    return parsed(written)[0]


def parsed(written: str) -> tuple[int, int]:
    """Return the depth of a document and the number of its elements, from what a serializer wrote."""
    now = most = number = position = 0
    while match := MARKUP.search(written, position):
        position = match.end()
        name = (match[2] or "").lower()
        number += bool(name) and not match[1]
        if match[1]:
            now -= 1
        elif name and name not in VOID:
            now += 1
            most = max(most, now)
            if name in RAW and (end := re.compile(f"</{name}>", re.IGNORECASE).search(written, position)):
                position = end.start()
    return most, number


@st.composite
def soups(draw: st.DrawFn) -> str:
    """A few tags of a few elements in any order, with what hides tags from a careless scan, many times over."""
    names = draw(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=6, unique=True))
    forms = ("<{}>", "</{}>", "<{}/>", "<{} a=1>", '<{} a="', "</{} b='/>'>")
    tags = st.builds(lambda form, name: form.format(name), st.sampled_from(forms), st.sampled_from(names))
    others = st.sampled_from(("x", "<!-- </b> -->", "<!-->", "<!--", "-->", "<![CDATA[", "]]>", "'>", "<", "</", "<?"))
    parts = draw(st.lists(tags | tags | others, min_size=1, max_size=10))
    return "".join(parts) * REPEATED


@given(soups())
def test_html_within_the_limit_nests_no_deeper_for_the_parser(html: str) -> None:
    assert nests_deeper(html, LIMIT) or depth(INLINER.inline(f"{STYLE}{html}")) <= LIMIT + AROUND


FORMATTING = "a b i font u nobr code".split()


@st.composite
def reopened(draw: st.DrawFn) -> str:
    """Formatting that is left open, and then a few tags many times over."""
    start = draw(st.sampled_from(("", "<p>", "<div>", "<li>", "<table><tr><td>", "<dd>", "<h1>", "<table>")))
    names = draw(st.lists(st.sampled_from(FORMATTING), max_size=40))
    left = start + "".join(f"<{name} a{number}>" for number, name in enumerate(names))
    tag = st.sampled_from(
        ("<p>", "</p>", "<li>", "<dd>", "<td>", "<tr>", "</div>", "<div>", "</table>", "<table>", "<br>")
    )
    ends = st.sampled_from([f"</{name}>" for name in FORMATTING])
    return left + "".join(draw(st.lists(tag | tag | ends | st.just("x"), min_size=1, max_size=8))) * REPEATED


@given(soups() | reopened())
def test_the_parser_makes_no_more_elements_of_html_than_its_bound(html: str) -> None:
    found = bounds(html, 256, MOST)
    assert found.depth > 256 or parsed(INLINER.inline(f"{STYLE}{html}"))[1] <= found.elements + AROUND


def test_formatting_that_is_opened_again_in_every_block_counts_each_time() -> None:
    html = "<p>" + "".join(f"<b a{number}>" for number in range(200)) + "</p>" + "<p>x</p>" * 1000
    assert parsed(INLINER.inline(f"{STYLE}{html}"))[1] > 200_000
    assert bounds(html, 256, MOST).elements > 200_000


@pytest.mark.parametrize(
    "part", ["<p>x</p>", "<tr><td><font>x</font></td></tr>", "<div><b>x</b> <a href='x'>x</a></div>"]
)
def test_the_bound_of_sound_html_is_close_to_its_elements(part: str) -> None:
    html = "<table>" + part * 1000 + "</table>" if "<td" in part else part * 1000
    assert bounds(html, 256, MOST).elements <= 5 * parsed(INLINER.inline(f"{STYLE}{html}"))[1]


@pytest.mark.parametrize(
    "html",
    [
        "<style>{}</style>",
        "<STYLE a='</style >'>{}</sTyle\n>",
        "<style></stylex>{}</style>",
        "<style>{}",
        "<svg><style><![CDATA[</style>{}]]></style></svg>",
        "<svg><style><!-- </style> -->{}</style></svg>",
        "<noscript><style>{}</style></noscript>",
    ],
)
def test_style_sheets_are_found_wherever_the_parser_may_find_them(html: str) -> None:
    assert "b{color:red}" in bounds(html.format("b{color:red}"), 256, MOST).styles


@pytest.mark.parametrize(
    "html",
    [
        "<p>x" * 5000,
        "<ul>" + "<li>x" * 5000 + "</ul>",
        "<table>" + "<tr><td><p>a<b>b</b><br><td>c</tr>" * 3000 + "</table>",
        "<table><tbody>" + "<tr><td><div><a href='x'><img src=x></a></div></td></tr>" * 3000 + "</tbody></table>",
        "<!-- <b> -->" * 5000,
        "<div>1 < 2</div>" * 5000,
        "<svg><path d='x'/><g><circle/></g></svg>" * 2000,
        "<dl>" + "<dt>a<dd>b" * 5000 + "</dl>",
    ],
)
def test_long_html_that_does_not_nest_is_within_the_limit(html: str) -> None:
    assert not nests_deeper(html, LIMIT)


def test_elements_hidden_in_what_looks_like_their_end_are_counted() -> None:
    for part in (
        "<b><!-- </b> -->",
        "<b><table></b></table>",
        "<b><select></b></select>",
        "<b a='</b>'>",
        "<b/></b >x<b>",
    ):
        assert nests_deeper(part * 500, LIMIT), part


SHAPES = {
    "open tags": lambda size: '<b a="' * size,
    "ends": lambda size: "<p></b>" * size,
    "comments": lambda size: "<!-->" * size,
    "styles": lambda size: "<style></style >" * size,
    "cells": lambda size: "<table>" + "<tr><td>a<td>b" * size + "</table>",
    "formatting": lambda size: "<b>" * 90 + "</div>" * size,
    "equal signs": lambda size: "<a a" + "=a " * size,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_time_grows_with_the_size_alone(shape: str) -> None:
    assert exponent(lambda html: nests_deeper(html, LIMIT), SHAPES[shape], 2_000) <= LINEAR
    assert exponent(lambda html: bounds(html, LIMIT, MOST), SHAPES[shape], 2_000) <= LINEAR


def test_html_at_the_limit_of_a_mailable_fits_into_a_small_stack() -> None:
    program = """
import threading
from mailglass.rendering import content
html = "<style>b{color:red}</style>" + "<b>" * (content.MAX_HTML_DEPTH - 2)
threading.stack_size(512 * 1024)
done = []
thread = threading.Thread(target=lambda: done.append(content._inlined("m:C", html)))
thread.start()
thread.join()
assert done
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
