"""Upper bounds on what a parser makes of HTML, taken before one in native code recurses over it.

Such a parser overflows the stack of its thread or takes all memory, and the process along, where Python would raise an
error. The scan takes time and memory linear in the text. It follows the tokenizer of the HTML standard (WHATWG,
13.2.5), and counts an element as closed only where the standard's tree construction (13.2.6) closes it for certain.
What it cannot be sure of it counts as open, so broken HTML may count as deeper than it is, and never as less deep. Few
bytes may make many elements: formatting that its block did not close is opened again in every later one (13.2.4.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_BLANK = r"\t\n\f\r "
# possessive throughout: a tag that does not end is given up at its first character that does not fit
_TAG: Final = re.compile(
    rf"<(?P<end>/?)(?P<name>[A-Za-z][^{_BLANK}/>]*+)"
    rf"(?:[{_BLANK}]++|/(?!>)|[^{_BLANK}/>][^{_BLANK}/>=]*+"
    rf"(?:[{_BLANK}]*+=[{_BLANK}]*+(?:\"[^\"]*+\"|'[^']*+'|[^{_BLANK}>\"'][^{_BLANK}>]*+)?+)?+)*+"
    r"(?P<closed>/?)>"
)
_COMMENT_END: Final = re.compile(r"--!?>")
_START: Final = re.compile("<[A-Za-z]")
_STYLE: Final = re.compile("<style", re.IGNORECASE)
_OPAQUE: Final = "?"
# elements that one start tag opens at most: a cell with the row and the body of the table around it
_MOST: Final = 3
# copies that an end tag of formatting makes at most where it is misnested: 8 rounds of 4 (13.2.6.4.7)
_ADOPTED: Final = 32
# in place of a position: only text follows, or nobody can tell what does
_TEXT_ONLY: Final = -1
_DOUBT: Final = -2
_VOID: Final = frozenset(
    "area base basefont bgsound br col embed frame hr image img input link meta param source track wbr".split()
)
# the document has one of each; the standard ignores the others, and closes none before the end
_ROOTS: Final = frozenset("html head body".split())
_FORMATTING: Final = frozenset("a b big code em font i nobr s small strike strong tt u".split())
# elements whose end tag may be left out (13.2.6.3)
_IMPLIED: Final = frozenset("dd dt li optgroup option p rb rp rt rtc".split())
_TABLE_PARTS: Final = frozenset("caption colgroup tbody td tfoot th thead tr".split())
_BLOCKS: Final = frozenset(
    "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer "
    "header hgroup listing main menu nav ol pre search section summary ul applet marquee object template".split()
)
_CELLS: Final = frozenset({"td", "th"})
_GROUPS: Final = frozenset({"tbody", "thead", "tfoot"})
# what a start tag closes, where it is the innermost element but for elements whose end tag may be left out
_CLOSES: Final = {
    "li": frozenset({"li"}),
    "dd": frozenset({"dd", "dt"}),
    "dt": frozenset({"dd", "dt"}),
    **dict.fromkeys(("td", "th"), _CELLS),
    "tr": frozenset({"tr"}),
    **dict.fromkeys(_GROUPS, _GROUPS),
}
# what stands around a part of a table that is really one
_AROUND: Final = {
    **dict.fromkeys(_CELLS, frozenset({"tr", "table", *_GROUPS})),
    "tr": frozenset({"table", *_GROUPS}),
    **dict.fromkeys((*_GROUPS, "caption", "colgroup"), frozenset({"table"})),
}
_ENDS_PARAGRAPH: Final = frozenset({"p", "hr", "form", "h1", "h2", "h3", "h4", "h5", "h6", *_BLOCKS}) - frozenset(
    "applet marquee object template".split()
)
# elements whose content is text (13.2.5.2 to 13.2.5.4), wherever they are HTML
_TEXT: Final = frozenset("iframe noembed noframes script style textarea title xmp".split())
_TEXT_ENDS: Final = {name: re.compile(rf"</{name}(?=[{_BLANK}/>])", re.IGNORECASE) for name in _TEXT}
_FOREIGN: Final = frozenset({"svg", "math"})
# inside of these may be HTML again (13.2.6, integration points)
_INTEGRATION: Final = frozenset("annotation-xml desc foreignobject mi mn mo ms mtext title".split())
# start tags that end SVG and MathML (13.2.6.5)
_BREAKOUT: Final = frozenset(
    "b big blockquote body br center code dd div dl dt em embed font h1 h2 h3 h4 h5 h6 head hr i img li listing menu "
    "meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)


def nests_deeper(html: str, limit: int) -> bool:
    """Return whether HTML may nest deeper than so many elements.

    Args:
        html: a document or a fragment, of any quality.
        limit: elements, 1 or more.
    """
    if html.count("<") <= limit:
        return False
    return any(depth > limit for depth in _depths(html, _Nesting()))


class Bounds(NamedTuple):
    """Upper bounds on what a parser makes of HTML.

    Attributes:
        depth: elements within each other.
        elements: all of them.
        styles: the text of the style sheets, and of what may be one.
    """

    depth: int
    elements: int
    styles: str


def bounds(html: str, deepest: int, most: int) -> Bounds:
    """Return upper bounds on what a parser makes of HTML.

    Args:
        html: a document or a fragment, of any quality.
        deepest: levels beyond which the scan ends.
        most: elements beyond which the scan ends.
    """
    nesting, depth = _Nesting(), 0
    for now in _depths(html, nesting):
        depth = max(depth, now)
        if depth > deepest or nesting.made > most:
            break
    return Bounds(depth, nesting.made + len(nesting.open) + len(_ROOTS), "".join(nesting.styles))


class _Nesting:
    """The elements that may be open, and what was made so far.

    Attributes:
        open: their names, outermost first. Those of SVG and MathML are marked with a colon.
        made: elements at the most.
        styles: texts of style sheets.
    """

    def __init__(self) -> None:
        self.open: list[str] = []
        self.made = 0
        self.styles: list[str] = []
        self._foreign = 0
        self._selects = 0
        self._formatting = 0

    @property
    def ordinary(self) -> bool:
        """True if tags mean here what they mean in the body of a document."""
        return not (self._foreign or self._selects)

    def see(self, name: str, *, end: bool, closed: bool) -> None:
        """Take one tag into account."""
        # formatting that is not closed may be opened again after each tag
        self.made += self._formatting
        if end:
            self.made += name in ("p", "br")
            if name in ("p", "br"):
                self._leave_foreign()
            self._end(name)
        else:
            self.made += _MOST if name in _TABLE_PARTS else 1
            self._start(name, closed)

    def _start(self, name: str, closed: bool) -> None:
        foreign = bool(self.open) and self.open[-1].startswith(":") and self.open[-1][1:] not in _INTEGRATION
        if foreign and name not in _BREAKOUT:
            if not closed:
                self._push(f":{name}")
            return
        if name in _BREAKOUT:
            self._leave_foreign()
        if name in _ROOTS:
            return
        if name in _VOID:
            if self._foreign:
                self._push(_OPAQUE)
            return
        self._close_before(name)
        if name in ("a", "nobr") and self._formatting and name in self.open:
            # one that is open is closed as by its end tag
            self.made += _ADOPTED
        if name in _FOREIGN:
            if not closed:
                self._push(f":{name}")
        elif name in _TABLE_PARTS:
            self._start_table_part(name)
        else:
            self._push(name)

    def _start_table_part(self, name: str) -> None:
        if self.open and self.open[-1] in _AROUND[name]:
            # parts that the standard puts in between
            if name in ("td", "th", "tr") and self.open[-1] == "table":
                self._push("tbody")
            if name in ("td", "th") and self.open[-1] != "tr":
                self._push("tr")
            self._push(name)
        else:
            # where it is a part of a table after all, the parts that the standard puts in between come with it
            self.open += [_OPAQUE] * _MOST

    def _push(self, name: str) -> None:
        self.open.append(name)
        self._foreign += name in (":svg", ":math")
        self._selects += name in ("select", ":select")
        self._formatting += name in _FORMATTING

    def _leave_foreign(self) -> None:
        """Treat open SVG and MathML as possibly closed: nothing closes it for certain."""
        if self._foreign and any(name.startswith(":") for name in self.open):
            self.open = [_OPAQUE if name.startswith(":") else name for name in self.open]

    def _close_before(self, name: str) -> None:
        """Close what this start tag closes."""
        if name in _ENDS_PARAGRAPH and self.open and self.open[-1] == "p":
            self.open.pop()
        if (wanted := _CLOSES.get(name)) is None:
            return
        passed = _IMPLIED - wanted if name in _TABLE_PARTS else frozenset({"p"})
        if name == "tr":
            passed |= _CELLS
        elif name in _GROUPS:
            passed |= _CELLS | {"tr"}
        index = len(self.open) - 1
        while index >= 0 and self.open[index] in passed:
            index -= 1
        if index >= 0 and self.open[index] in wanted:
            del self.open[index:]

    def _end(self, name: str) -> None:
        """Close the innermost element of this name, where everything within it is closed by this end tag too."""
        if not self.open:
            return
        if self.open[-1] == f":{name}":
            self._pop()
            return
        # a form, button or selection may have been closed before, or never have been open
        passed = frozenset() if name in ("form", "button", "select") else _FORMATTING
        if name in _BLOCKS or name in ("dd", "dt", "li", "p"):
            passed |= _IMPLIED
        elif name in _TABLE_PARTS or name == "table":
            passed |= _IMPLIED | _TABLE_PARTS
        index = len(self.open) - 1
        while index >= 0 and self.open[index] != name and self.open[index] in passed:
            index -= 1
        if index < 0 or self.open[index] != name:
            self.made += _ADOPTED if name in _FORMATTING else 0
            return
        self._selects -= name == "select"
        self._formatting -= name in _FORMATTING
        # formatting that was open in it is opened again after it
        kept = [inner for inner in self.open[index + 1 :] if inner in _FORMATTING]
        self.open[index:] = kept

    def _pop(self) -> None:
        name = self.open.pop()
        self._foreign -= name in (":svg", ":math")
        self._selects -= name == ":select"


def _depths(html: str, nesting: _Nesting) -> Iterator[int]:
    """Yield the number of elements that may be open after each tag. Tags in comments and in text elements are none."""
    position = html.find("<")
    while position >= 0:
        tag = _TAG.match(html, position)
        if tag is not None:
            nesting.see(tag["name"].lower(), end=bool(tag["end"]), closed=bool(tag["closed"]))
            yield len(nesting.open)
            end = _after_tag(html, tag, nesting.ordinary)
            if tag["name"].lower() == "style" and not tag["end"] and end != _DOUBT:
                nesting.styles.append(html[tag.end() : None if end == _TEXT_ONLY else end])
        else:
            end = _after_other(html, position)
        if end == _DOUBT:
            # what follows may be text or markup, and whatever closes something here may be text
            begun = len(_START.findall(html, position + 1))
            if style := _STYLE.search(html, position):
                nesting.styles.append(html[style.end() :])
            # each end tag may open again what is open or is begun
            nesting.made += (1 + html.count("</", position)) * (len(nesting.open) + _MOST * begun)
            yield len(nesting.open) + _MOST * begun
            return
        if end == _TEXT_ONLY:
            return
        position = html.find("<", end)


def _after_tag(html: str, tag: re.Match[str], ordinary: bool) -> int:
    """Return the position after a tag."""
    name = tag["name"].lower()
    if tag["end"] or (name not in _TEXT and name not in ("noscript", "plaintext")):
        return tag.end()
    if name == "noscript" or not ordinary:
        # whether a parser takes what follows for text depends on more than is known here
        return _DOUBT
    if name == "plaintext":
        return _TEXT_ONLY
    end = _TEXT_ENDS[name].search(html, tag.end())
    if end is None:
        return _TEXT_ONLY
    # within a comment a script holds further scripts
    return _DOUBT if name == "script" and "<!--" in html[tag.end() : end.start()] else end.start()


def _after_other(html: str, position: int) -> int:
    """Return the position after a `<` that begins no complete tag."""
    if html.startswith("<!--", position):
        start = position + 4
        if html.startswith((">", "->"), start):
            return start + 1
        end = _COMMENT_END.search(html, start)
        return _TEXT_ONLY if end is None else end.end()
    if html.startswith("<![CDATA[", position):
        return _DOUBT
    if html.startswith(("<!", "<?", "</"), position):
        # a bogus comment, or an end tag that never ends
        closing = html.find(">", position)
        return _TEXT_ONLY if closing < 0 else closing + 1
    # a `<` of the text, or a tag that the text ends in
    return _TEXT_ONLY if _START.match(html, position) else position + 1
