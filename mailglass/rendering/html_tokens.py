"""HTML as tags and text, by the tokenizer of the HTML standard: one pass, in linear time.

The standard library's `html.parser` is not used here: it takes quadratic time for some inputs before Python 3.11.14,
and it knows neither foreign elements nor the elements whose content is raw text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from html.entities import html5
from typing import Final

RAW_TEXT: Final = frozenset("script style xmp iframe noembed noframes".split())
ESCAPABLE_RAW_TEXT: Final = frozenset("title textarea".split())
# the attributes that a reader of tokens asks for
_KEPT = frozenset("hidden style href alt start type encoding color face size".split())

_MARKUP = re.compile(r"<(?=[A-Za-z/!?])")
_NAME = re.compile(r"[^\t\n\f\r />]++")
_ATTRIBUTE = re.compile(
    r"""[\t\n\f\r /]*+(?P<name>=?+[^\t\n\f\r />=]*+)"""
    r"""(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+"""
    r"""(?:"(?P<double>[^"]*+)(?P<double_end>"?)|'(?P<single>[^']*+)(?P<single_end>'?)|(?P<bare>[^\t\n\f\r >]*+)))?+"""
)
# a tag as nearly all are written; any other goes the long way, which reads at least as far
_COMMON_TAG = re.compile(
    r"""<(/?+)([A-Za-z][^\t\n\f\r />]*+)((?:[\t\n\f\r ]++[^\t\n\f\r "'<>/=]++(?:="[^"]*+")?+)*+)[\t\n\f\r ]*+(/?+)>"""
)
_COMMON_ATTRIBUTE = re.compile(r"""([^\t\n\f\r "'<>/=]++)(?:="([^"]*+)")?+""")
_COMMENT_END = re.compile(r"--!?>")
_LONG_NUMBER = re.compile(r"&#([0-9]{8,})")
_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9A-Fa-f]++;?|[A-Za-z][A-Za-z0-9]{0,31}+;?)(?P<more>[A-Za-z0-9=]?)")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(slots=True)
class Text:
    """Characters between tags, references decoded."""

    data: str


@dataclass(slots=True)
class StartTag:
    """A start tag.

    Attributes:
        name: in lower case.
        attributes: those that are kept, the first of each name.
        self_closing: whether it ends in `/>`, which means something for foreign elements only.
    """

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    self_closing: bool = False


@dataclass(slots=True)
class EndTag:
    """An end tag; its name in lower case."""

    name: str


Token = Text | StartTag | EndTag


class Tokenizer:
    """Iterate over the tokens of a document or fragment; comments and declarations are left out.

    Args:
        html: any characters.

    Attributes:
        foreign: set by whoever builds the tree: whether the current node is an SVG or MathML element, where there is no
            raw text and CDATA sections are text.
    """

    def __init__(self, html: str) -> None:
        self.foreign = False
        self._html = html
        self._at = 0

    def __iter__(self) -> Iterator[Token]:
        html, size = self._html, len(self._html)
        while self._at < size:
            begun = self._at
            found = _MARKUP.search(html, begun)
            end = found.start() if found else size
            if end > begun:
                self._at = end
                yield Text(decoded(html[begun:end]))
            elif tag := _COMMON_TAG.match(html, begun):
                self._at = tag.end()
                yield _common(tag)
            else:
                yield from self._markup(html, begun)

    def raw_text(self, name: str) -> str:
        """Return what stands up to the end tag of that name and go on after it, or up to the end of the document."""
        begun = self._at
        found = _end_of(name).search(self._html, begun)
        end = found.start() if found else len(self._html)
        if found:
            self._tag(self._html, end + 2)
        else:
            self._at = end
        return self._html[begun:end]

    def rest(self) -> str:
        """Return everything that is left."""
        begun, self._at = self._at, len(self._html)
        return self._html[begun:]

    def _markup(self, html: str, at: int) -> Iterator[Token]:
        mark = html[at + 1]
        if mark in _LETTERS:
            name, attributes, closing = self._tag(html, at + 1)
            if name:
                yield StartTag(name, attributes, closing)
        elif mark == "/" and html[at + 2 : at + 3] in _LETTERS:
            name, _, _ = self._tag(html, at + 2)
            if name:
                yield EndTag(name)
        elif mark == "/" and at + 2 == len(html):
            self._at = len(html)
            yield Text("</")
        elif html.startswith("<!--", at):
            self._at = _after_comment(html, at)
        elif self.foreign and html.startswith("<![CDATA[", at):
            end = html.find("]]>", at)
            self._at = len(html) if end < 0 else end + 3
            yield Text(html[at + 9 : end if end >= 0 else len(html)])
        else:
            # a declaration, or what is read as a comment
            end = html.find(">", at)
            self._at = len(html) if end < 0 else end + 1

    def _tag(self, html: str, at: int) -> tuple[str, dict[str, str], bool]:
        """Read a tag from its name on; an empty name where the document ends within it."""
        named = _NAME.match(html, at)
        assert named is not None
        attributes: dict[str, str] = {}
        at, size = named.end(), len(html)
        while True:
            found = _ATTRIBUTE.match(html, at)
            assert found is not None
            at = found.end()
            if not found["name"]:
                break
            unclosed = found["double_end"] == "" or found["single_end"] == ""
            if unclosed:
                at = size
                break
            name = found["name"].lower()
            if name in _KEPT and name not in attributes:
                value = found["double"] or found["single"] or found["bare"] or ""
                attributes[name] = _attribute_value(value)
        if at >= size:
            self._at = size
            return "", attributes, False
        self._at = at + 1
        return named[0].lower(), attributes, found[0].endswith("/")


def _common(tag: re.Match[str]) -> Token:
    end, name, written, slash = tag.groups()
    name = name.lower()
    if end:
        return EndTag(name)
    attributes: dict[str, str] = {}
    if written:
        for key, value in _COMMON_ATTRIBUTE.findall(written):
            key = key.lower()
            if key in _KEPT and key not in attributes:
                attributes[key] = _attribute_value(value)
    return StartTag(name, attributes, bool(slash))


def decoded(text: str) -> str:
    """Return a text with its character references decoded."""
    if "&" not in text:
        return text
    if "&#" in text:
        # Python refuses to read a number of more than 4300 digits
        text = _LONG_NUMBER.sub(lambda match: "&#" + (match[1].lstrip("0")[:8] or "0"), text)
    return unescape(text)


def _attribute_value(value: str) -> str:
    return _REFERENCE.sub(_reference, value) if "&" in value else value


def _reference(match: re.Match[str]) -> str:
    whole, more = match[0], match["more"]
    reference = whole[: len(whole) - len(more)]
    if reference.startswith("&#"):
        return decoded(reference) + more
    # in an attribute `&copy=1` is a parameter and no reference
    name = reference[1:]
    return html5.get(name, reference) + more if name.endswith(";") or not more else whole


def _after_comment(html: str, at: int) -> int:
    # `<!-->` and `<!--->` are whole comments, `<!--!>` is none
    found = _COMMENT_END.search(html, at + 2)
    while found and found[0] == "--!>" and found.start() < at + 4:
        found = _COMMENT_END.search(html, found.start() + 1)
    return found.end() if found else len(html)


@cache
def _end_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE)
