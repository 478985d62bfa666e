"""Upper bounds on what it costs to inline style sheets, taken before native code begins, which nothing interrupts.

Its time and memory grow with products: each rule is held against each element, each declaration against those that the
element has already, and each element gets its declarations written out. So 40 kB can take minutes and gigabytes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# nanoseconds, as css-inline 0.24 takes them at most on a machine of 2024
_ELEMENT: Final = 400.0
_RULE_AT_ELEMENT: Final = 20.0
_SELECTOR_AT_ELEMENT: Final = 2.0
_DECLARATION_AT_DECLARATION: Final = 1.5
_OWN_DECLARATION: Final = 4.0
_RULE_AT_CHARACTER: Final = 1.0
_SIBLING: Final = 4.0
_PIECE: Final = re.compile(r"[^;{}]+|[{}]")
# comments and strings, which hide what they hold (CSS Syntax 3, section 4)
_OPAQUE: Final = re.compile(r"/\*.*?\*/|\"[^\"\\\n\r\f]*\"|'[^'\\\n\r\f]*'", re.DOTALL)
# what may hide something else: an escape, a comment or string that does not end, a URL without quotes
_UNCLEAR: Final = re.compile(r"[\"'\\]|/\*|url\((?!x)", re.IGNORECASE)
# a relative selector looks at all siblings of each element; an escape may hide one
_RELATIVE: Final = re.compile(r"has\(|\\", re.IGNORECASE)


class Cost(NamedTuple):
    """Upper bounds on what inlining costs.

    Attributes:
        seconds: of CPU.
        characters: of declarations that are written into elements.
    """

    seconds: float
    characters: int


def cost(html: str, elements: int, styles: str) -> Cost:
    """Return upper bounds on what it costs to inline the style sheets of HTML.

    Args:
        html: the document.
        elements: its number of elements, or more.
        styles: the text of its style sheets, or more.
    """
    rules = styles.count("{") + styles.count(",")
    declarations = styles.count("{") + styles.count(";")
    names, written = _distinct(styles)
    each = _ELEMENT + _RULE_AT_ELEMENT * (rules + declarations) + _SELECTOR_AT_ELEMENT * len(styles)
    each += _DECLARATION_AT_DECLARATION * declarations * min(names, declarations)
    if _RELATIVE.search(styles):
        each += _SIBLING * rules * elements
    whole = _OWN_DECLARATION * declarations * html.count(";") + _RULE_AT_CHARACTER * rules * len(html)
    return Cost((each * elements + whole) / 1e9, elements * written)


def _distinct(styles: str) -> tuple[int, int]:
    """Return how many properties the style sheets name, and how long a declaration of each is at the most together.

    An element has one declaration of each property. What a selector says is not written into it.
    """
    plain = _OPAQUE.sub(lambda found: " " if found[0].startswith("/*") else "x" * len(found[0]), styles)
    if not _UNCLEAR.search(plain) and (counted := _counted(plain, selectors=False)):
        return counted
    names, written = _counted(styles, selectors=True) or (0, 0)
    # a comment may hide the name of the declaration that it stands in
    comments = styles.count("/*")
    return names + comments, len(styles) if comments else written


def _counted(styles: str, *, selectors: bool) -> tuple[int, int] | None:
    """Return the count of what declares something, or None where braces may be no braces.

    Args:
        styles: the style sheets.
        selectors: count what stands outside of all braces too.
    """
    longest: dict[str, int] = {}
    level = other = 0
    for found in _PIECE.finditer(styles):
        piece = found[0]
        if piece in "{}":
            level = max(0, level + (1 if piece == "{" else -1))
            continue
        if not selectors and (piece.count("(") != piece.count(")") or piece.count("[") != piece.count("]")):
            return None
        if level == 0 and not selectors:
            continue
        name, colon, _ = piece.partition(":")
        if colon:
            longest[name.strip()] = max(longest.get(name.strip(), 0), len(piece))
        else:
            other += len(piece)
    return len(longest), sum(longest.values()) + other
