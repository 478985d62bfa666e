"""The text part that is made from HTML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.rendering.text import html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("plain", "plain\n"),
        ("<p>one  \n two</p><p>three</p>", "one two\n\nthree\n"),
        ("<h1>Title</h1>Body", "Title\n\nBody\n"),
        ("<div>a</div><div>b</div>", "a\nb\n"),
        ("a<br>b<br/><br>c", "a\nb\n\nc\n"),
        ("a <b> b</b>", "a b\n"),
        ("<b>a</b><i>b</i>", "ab\n"),
        ("a&nbsp;&amp;&nbsp;b &euro;", "a & b €\n"),
        ("<p>a</p><hr><p>b</p>", "a\n\n------------------------\n\nb\n"),
    ],
)
def test_blocks_and_spaces_read_as_in_a_browser(html: str, text: str) -> None:
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('<a href="https://x.example/a">Shop</a> now', "Shop (https://x.example/a) now\n"),
        ('<a href="https://x.example/">x.example</a>', "x.example\n"),
        ('<a href="https://x.example/a">https://x.example/a</a>', "https://x.example/a\n"),
        ('<a href="mailto:help@x.example?subject=Hi">write us</a>', "write us (help@x.example)\n"),
        ('<a href="mailto:help@x.example">help@x.example</a>', "help@x.example\n"),
        ('<a href="#top">top</a>', "top\n"),
        ('<a href="javascript:alert(1)">x</a>', "x\n"),
        ("<a>x</a>", "x\n"),
        ('<a href="https://x.example/a"><img src="b.png"></a>', "https://x.example/a\n"),
        ('<a href="https://x.example/a"><img src="b.png" alt="Our  logo"></a>', "Our logo (https://x.example/a)\n"),
        (
            '<a href="https://x.example/a"><table><tr><td>Buy</td></tr></table></a><p>x</p>',
            "Buy (https://x.example/a)\n\nx\n",
        ),
    ],
)
def test_a_link_shows_where_it_leads_unless_it_says_so_itself(html: str, text: str) -> None:
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b\n"),
        ("<ul><li>a<li>b</ul>c", "- a\n- b\n\nc\n"),
        ("<ol><li>a</li><li>b</li></ol>", "1. a\n2. b\n"),
        ('<ol start="9"><li>a</li><li>b<br>c</li></ol>', "9. a\n10. b\n    c\n"),
        ("<ul><li>a<ol><li>b</li></ol></li><li>c</li></ul>", "- a\n  1. b\n- c\n"),
        ("<ul><li><p>a</p></li><li><p>b</p></li></ul>", "- a\n\n- b\n"),
        ("<ul><li>a</li><li><p>b</p></li></ul>", "- a\n- b\n"),
    ],
)
def test_lists_keep_their_markers_and_indent(html: str, text: str) -> None:
    assert html_to_text(html) == text


def test_the_cells_of_a_row_stand_side_by_side() -> None:
    html = "<table><tr><th>Item</th>\n<th>Price</th></tr><tr><td>Tea</td><td>3 €</td></tr></table>"
    assert html_to_text(html) == "Item  Price\nTea  3 €\n"


def test_blocks_in_cells_stand_below_each_other() -> None:
    assert html_to_text("<table><tr><td><p>a</p></td><td><p>b</p></td></tr></table>") == "a\n\nb\n"


def test_a_quote_is_marked_on_every_line() -> None:
    html = "<p>He said:</p><blockquote>a<p>b</p></blockquote><p>c</p>"
    assert html_to_text(html) == "He said:\n\n> a\n>\n> b\n\nc\n"


def test_preformatted_text_keeps_its_lines_and_spaces() -> None:
    assert html_to_text("<pre>a\n  b\n\nc</pre>") == "a\n  b\n\nc\n"


@pytest.mark.parametrize(
    "hidden",
    [
        '<div style="display:none">X<br>X</div>',
        '<div style="color:red; DISPLAY : none !important;max-height:0">X<p>X</div>',
        '<span style="visibility:hidden">X</span>',
        "<div hidden>X</div>",
        "<head><title>X</title><style>X</style></head>",
        "<script>X</script>",
        "<!-- X -->",
        "<!--[if mso]><p>X</p><![endif]-->",
        "<![if !mso]>",
        '<img src="x.png" alt="X" style="display:none">',
        '<p style="display:none">X',
        "<svg><text>X</text></svg>",
        '<table style="display:none"><tr><td>X<td>X</table>',
    ],
)
def test_hidden_content_is_left_out(hidden: str) -> None:
    assert html_to_text(f"{hidden}<p>Body</p>") == "Body\n"


def test_fillers_of_a_preheader_vanish() -> None:
    assert html_to_text("a&#847;&#8203;&shy;b&#65279;") == "ab\n"


def test_a_stray_end_tag_changes_nothing() -> None:
    assert html_to_text("</td></p><div>a</span></div></ul>b</a>") == "a\nb\n"


TAGS = st.sampled_from(
    "<p> </p> <div> </div> <a href='https://x.example'> </a> <ul> <ol start='99999999999'> </ul> </ol> <li> </li> "
    "<table> <tr> <td> </td> </tr> </table> <pre> </pre> <blockquote> </blockquote> <br> <hr> <!-- --> <![if> "
    "<style> </style> </br> &nbsp; &lt; &#0; < word".split()
) | st.sampled_from(["<div hidden>", "<p style='display:none'>", " ", "\n", "<img alt=x>"])


@given(st.lists(TAGS, max_size=40).map("".join))
def test_no_html_however_broken_makes_it_fail_or_leave_ragged_lines(html: str) -> None:
    text = html_to_text(html)
    assert text == "" or text.endswith("\n")
    assert all(line == line.rstrip() for line in text.split("\n"))
