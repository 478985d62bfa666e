"""The bound on what inlining style sheets costs, against the inliner that it protects."""

from __future__ import annotations

from collections.abc import Callable

import css_inline
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import TemplateError
from mailglass.rendering.content import _check_for_native_code
from mailglass.rendering.inlining import cost
from mailglass.rendering.nesting import bounds
from tests.growth import LINEAR, exponent

MOST = 10**9
INLINER = css_inline.CSSInliner(keep_style_tags=True, load_remote_stylesheets=False)


def page(styles: str, body: str) -> str:
    return f"<html><head><style>{styles}</style></head><body>{body}</body></html>"


def cost_of(html: str) -> tuple[float, int]:
    found = bounds(html, 256, MOST)
    return cost(html, found.elements, found.styles)


NAMES = st.sampled_from(["a", "b", "color", "--x", "A", "1a/*;*/", "a/* : */", "x-\\61", "background"])
VALUES = st.sampled_from(
    ["1", "red", "url(data:image/png;base64,AAAA)", "'a;b'", "red !important", "{a:b}", "", "1}i{b:2"]
)
SELECTORS = st.sampled_from(["i", "*", ".x", "i,b", "i:not(.y)", "@media print{i", "#x", "i>b", "i:has(b)", "u"])
RULES = st.tuples(SELECTORS, st.lists(st.tuples(NAMES, VALUES), max_size=5))


def rule(selector: str, declarations: list[tuple[str, str]]) -> str:
    return selector + "{" + ";".join(f"{name}:{value}" for name, value in declarations) + "}"


@given(st.lists(RULES, max_size=6), st.integers(1, 20), st.integers(1, 20))
def test_no_more_is_written_into_elements_than_the_bound(
    rules: list[tuple[str, list[tuple[str, str]]]], times: int, elements: int
) -> None:
    html = page("".join(rule(*each) for each in rules) * times, "<i class=x id=x><b></b></i>" * elements)
    # a name and a value are parted by a colon and a space, and closed by a semicolon; quotes are escaped
    written = len(INLINER.inline(html)) - len(INLINER.inline(page("", "<i class=x id=x><b></b></i>" * elements)))
    room = 12 * bounds(html, 256, MOST).elements * (1 + bounds(html, 256, MOST).styles.count(":"))
    assert written <= 6 * cost_of(html)[1] + room


COSTLY: dict[str, Callable[[int], str]] = {
    "declarations at each element": lambda n: page("".join(f"i{{a{k}:1}}" for k in range(n)), "<i></i>" * n),
    "one long block": lambda n: page("i{" + "".join(f"a{k}:1;" for k in range(n)) + "}", "<i></i>" * n),
    "rules at each element": lambda n: page("*{color:red}" * n, "<i></i>" * n),
    "a list of selectors": lambda n: page(",".join(["i"] * n) + "{color:red}", "<i></i>" * n),
    "a long selector": lambda n: page("i" + ":not(.b)" * n + "{color:red}", "<i></i>" * n),
    "a long value": lambda n: page("i{a:" + "x" * n + "}", "<i></i>" * n),
    "relatives": lambda n: page("i:has(~ b){color:red}" * n, "<i></i>" * n),
    "escaped relatives": lambda n: page("i:\\68 as(~ b){color:red}" * n, "<i></i>" * n),
}


@pytest.mark.parametrize("what", COSTLY)
def test_html_that_would_take_minutes_or_gigabytes_is_refused_with_the_remedy(what: str) -> None:
    with pytest.raises(TemplateError, match="leave out"):
        _check_for_native_code("app:Mail", COSTLY[what](30_000))


@pytest.mark.parametrize("what", COSTLY)
def test_a_cost_is_estimated_in_linear_time(what: str) -> None:
    assert exponent(cost_of, lambda size: COSTLY[what](size // 20), 40_000) <= LINEAR


def test_a_large_newsletter_with_a_framework_of_styles_is_within_the_bound() -> None:
    names = [f"property-{number}" for number in range(150)]
    styles = "".join(
        f".block-{number} td.column, .block-{number} th {{ {names[number % 150]}: '1px'; {names[number % 149]}: red }}"
        for number in range(600)
    )
    row = "<tr><td class='column block-1' style='color: red; padding: 0'><a href='https://x.example'>More</a></td></tr>"
    _check_for_native_code("app:Mail", page(styles, "<table>" + row * 700 + "</table>"))
