"""The tree of an HTML document as its visible part needs it: which elements open and close, and what is not shown.

The tree construction of the HTML standard, with two bounds. Elements nested deeper than `MAX_DEPTH` are not nested
further, and formatting elements that the standard would open again are not. Where this may make a difference, what
is marked as hidden is shown: a reader rather sees a word too much than misses one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from mailglass.rendering.html_tokens import ESCAPABLE_RAW_TEXT, RAW_TEXT, EndTag, StartTag, Text, Tokenizer, decoded

# browsers nest no deeper than 512; a search through the open elements is bounded by it
MAX_DEPTH: Final = 128

VOID: Final = frozenset(
    "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr".split()
)
_NEVER_SHOWN = frozenset("title style script template iframe noembed noframes".split())
_NEVER_SHOWN_FOREIGN = frozenset({("svg", "svg"), ("math", "annotation"), ("math", "annotation-xml")})
_IGNORED = frozenset("html head body frameset frame".split())
_FORMATTING = frozenset("a b big code em font i nobr s small strike strong tt u".split())
_HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
_CLOSES_PARAGRAPH = _HEADINGS | frozenset(
    "address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form "
    "header hgroup hr li listing main menu nav ol p plaintext pre search section summary table ul xmp".split()
)
_ENDED_IN_SCOPE = frozenset(
    "address applet article aside blockquote button center details dialog dir div dl fieldset figcaption figure footer "
    "form header hgroup listing main marquee menu nav object ol pre search section summary ul".split()
)
_SPECIAL = (
    _CLOSES_PARAGRAPH
    | _ENDED_IN_SCOPE
    | VOID
    | _NEVER_SHOWN
    | frozenset("caption colgroup noscript select tbody td textarea tfoot th thead tr".split())
) - frozenset("dialog figcaption hgroup main search summary".split())  # younger elements: older parsers pass by them
_TABLE_SCOPE = frozenset({"table", "template"})
_SCOPE = _TABLE_SCOPE | frozenset("applet caption td th marquee object".split())
_BUTTON_SCOPE = _SCOPE | {"button"}
_LIST_SCOPE = _SCOPE | {"ol", "ul"}
_CELL_MARKS = frozenset("td th caption".split())
_TABLE_MODE = frozenset("table tbody thead tfoot tr".split())
# a start tag of a table's structure, and what it is put into
_TABLE_PARENTS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("caption", "colgroup", "col", "tbody", "thead", "tfoot"), frozenset({"table", "template"})),
    "tr": frozenset("table template tbody thead tfoot".split()),
    **dict.fromkeys(("td", "th"), frozenset("table template tbody thead tfoot tr".split())),
}
_ROW_PARTS = frozenset("caption tbody thead tfoot tr td th".split())
_IMPLIED = frozenset("dd dt li optgroup option p rb rp rt rtc".split())
_LEAVES_FOREIGN = frozenset(
    "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta "
    "nobr ol p pre ruby s small span strike strong sub sup table tt u ul var".split()
)
_MATH_TEXT = frozenset("mi mo mn ms mtext".split())
_SVG_HTML = frozenset("foreignobject desc title".split())
_CSS_COMMENT = re.compile(r"/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)")


class Reader(Protocol):
    """Receiver of the visible content, in order."""

    def enter(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle the beginning of an element."""

    def leave(self, tag: str) -> None:
        """Handle its end."""

    def void(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle an element without content."""

    def text(self, data: str) -> None:
        """Characters, spaces as they are."""


@dataclass(slots=True)
class _Open:
    """An open element.

    Attributes:
        space: "html", "svg" or "math".
        takes_html: a foreign element whose content is HTML.
        gone: `display: none`, here or further up.
        unseen: `visibility: hidden`, which an element below may undo.
        told: whether the reader was told of it.
    """

    tag: str
    space: str = "html"
    takes_html: bool = False
    gone: bool = False
    unseen: bool = False
    told: bool = False

    @property
    def hidden(self) -> bool:
        return self.gone or self.unseen


_ROOT = _Open("html")


def read_html(html: str, reader: Reader, *, show_inline: bool = False) -> bool:
    """Tell a reader of the visible part of a document or fragment.

    Args:
        html: any characters; time and memory grow with their number alone.
        reader: is told of every element it entered that it ends, at the end of the document at the latest.
        show_inline: show what is hidden by an inline element.

    Returns:
        Whether nothing that a browser shows was left out. If not, misnested tags moved something out of a hidden inline
        element after it was passed over: read it again with `show_inline`, which returns True.
    """
    return _Builder(Tokenizer(html), reader, show_inline).build()


class _Builder:
    def __init__(self, tokens: Tokenizer, reader: Reader, show_inline: bool) -> None:
        self._tokens = tokens
        self._reader = reader
        self._show_inline = show_inline
        self._complete = True
        self._stack: list[_Open] = []
        self._count: Counter[str] = Counter()
        self._form = False
        # whether the standard may have elements open that are closed here
        self._approximate = False

    def build(self) -> bool:
        for token in self._tokens:
            if isinstance(token, Text):
                self._text(token.data)
            elif isinstance(token, StartTag):
                self._start(token)
            else:
                self._end(token)
            self._tokens.foreign = self._foreign
        self._pop_to(0)
        return self._complete

    @property
    def _top(self) -> _Open:
        return self._stack[-1] if self._stack else _ROOT

    @property
    def _foreign(self) -> bool:
        top = self._top
        return top.space != "html" and not top.takes_html

    def _text(self, data: str) -> None:
        if data.isspace() and self._top.tag in ("colgroup", *_TABLE_MODE):
            return
        self._end_columns("")
        top = self._top
        if top.space == "html" and top.tag in _TABLE_MODE:
            top = self._foster_parent()
        if not top.hidden:
            self._reader.text(data)

    def _end_columns(self, tag: str) -> None:
        if self._top.tag == "colgroup" and self._top.space == "html" and tag not in ("col", "template"):
            self._pop_to(len(self._stack) - 1)

    def _foster_parent(self) -> _Open:
        """Return the element that content in the wrong place of a table goes to: the one around the table."""
        at = self._find(frozenset({"table"}), frozenset({"template"}))
        return self._stack[at - 1] if at is not None and at > 0 else _ROOT

    # start tags

    def _start(self, token: StartTag) -> None:
        tag, top = token.name, self._top
        in_math = top.space == "math" and top.tag in _MATH_TEXT and tag in ("mglyph", "malignmark")
        if in_math or (self._foreign and not self._leaves_foreign(token)):
            self._push(token, top.space)
            if token.self_closing and self._stack[-1].tag == tag:
                self._pop_to(len(self._stack) - 1)
            return
        if tag in _IGNORED:
            return
        if tag == "image":
            token = StartTag("img", token.attributes, token.self_closing)
        if self._count["select"] and not self._in_select(tag):
            return
        self._end_columns(tag)
        if self._count["table"] and not self._in_table(token):
            return
        if tag in _TABLE_PARENTS:
            # a part of a table outside of any
            return
        self._in_body(token)

    def _leaves_foreign(self, token: StartTag) -> bool:
        """End the foreign elements at an HTML tag that cannot stand in them."""
        plain_font = token.name == "font" and not token.attributes.keys() & {"color", "face", "size"}
        if token.name not in _LEAVES_FOREIGN and (token.name != "font" or plain_font):
            return False
        self._leave_foreign()
        return True

    def _leave_foreign(self) -> None:
        while self._foreign:
            self._pop_to(len(self._stack) - 1)

    def _in_select(self, tag: str) -> bool:
        """Return whether a start tag means something within a select, which holds options and text only."""
        if tag in ("option", "optgroup", "script", "template"):
            return True
        if tag == "hr" or self._top.tag in _NEVER_SHOWN:
            return True
        in_table = self._count["table"] > 0 and (tag == "table" or tag in _TABLE_PARENTS)
        if in_table or tag in ("select", "input", "keygen", "textarea"):
            self._close(frozenset({"select"}), frozenset({"template"}))
            return tag != "select"
        return False

    def _in_table(self, token: StartTag) -> bool:
        """Put a start tag into the table it stands in; False where nothing is left to be done with it."""
        tag = token.name
        mark = self._find(_CELL_MARKS | _TABLE_MODE, frozenset({"template"}))
        if mark is None:
            return True
        in_cell = self._stack[mark].tag in _CELL_MARKS
        if tag in _TABLE_PARENTS:
            at = self._find(_TABLE_PARENTS[tag], frozenset())
            assert at is not None
            self._pop_to(at + 1)
            if tag in ("tr", "td", "th") and self._top.tag == "table":
                self._push(StartTag("tbody"))
            if tag in ("td", "th") and self._top.tag in ("tbody", "thead", "tfoot"):
                self._push(StartTag("tr"))
            if tag != "col":
                self._push(token)
            return False
        if in_cell:
            return True
        if tag == "table":
            self._close(frozenset({"table"}), frozenset({"template"}))
            return True
        # the standard does not keep a form open here
        return tag != "form"

    def _in_body(self, token: StartTag) -> None:
        tag = token.name
        if tag == "form":
            if self._form:
                return
            self._form = True
        if tag in ("li", "dd", "dt"):
            self._end_item(frozenset({"li"}) if tag == "li" else frozenset({"dd", "dt"}))
        if tag in _CLOSES_PARAGRAPH and self._count["p"]:
            closed = self._close(frozenset({"p"}), _BUTTON_SCOPE)
            # without a doctype a table may stay in its paragraph
            self._approximate |= closed and tag == "table"
        if (tag in _HEADINGS and self._top.tag in _HEADINGS) or (
            tag in ("option", "optgroup") and self._top.tag == "option"
        ):
            self._pop_to(len(self._stack) - 1)
        if tag == "optgroup" and self._top.tag == "optgroup" and self._count["select"]:
            self._pop_to(len(self._stack) - 1)
        elif tag in ("a", "nobr"):
            self._end_formatting(tag)
        elif tag == "button" and self._count["button"]:
            self._close(frozenset({"button"}), _SCOPE)
        elif tag in ("rb", "rp", "rt", "rtc") and self._count["ruby"]:
            self._end_implied()
        self._open(token)

    def _open(self, token: StartTag) -> None:
        tag = token.name
        if tag in VOID:
            entry = self._entry(token, "html")
            if not entry.hidden:
                self._reader.void(tag, token.attributes)
        elif tag in RAW_TEXT or tag in ESCAPABLE_RAW_TEXT:
            content = self._tokens.raw_text(tag)
            if not self._entry(token, "html").hidden:
                self._reader.enter(tag, token.attributes)
                self._reader.text(decoded(content) if tag in ESCAPABLE_RAW_TEXT else content)
                self._reader.leave(tag)
        elif tag == "plaintext":
            self._push(token)
            self._text(self._tokens.rest())
        elif tag in ("svg", "math"):
            self._push(token, tag)
            if token.self_closing and self._stack[-1].tag == tag:
                self._pop_to(len(self._stack) - 1)
        else:
            self._push(token)

    def _end_item(self, tags: frozenset[str]) -> None:
        for at in range(len(self._stack) - 1, -1, -1):
            entry = self._stack[at]
            if entry.space == "html" and entry.tag in tags:
                self._pop_to(at)
                return
            if _is_special(entry) and entry.tag not in ("address", "div", "p"):
                return

    def _end_implied(self) -> None:
        while self._top.space == "html" and self._top.tag in _IMPLIED:
            self._pop_to(len(self._stack) - 1)

    # end tags

    def _end(self, token: EndTag) -> None:
        tag = token.name
        if self._end_in_foreign(tag):
            return
        if tag == "br":
            self._start(StartTag("br"))
        elif tag in _IGNORED or (self._count["select"] and not self._ends_in_select(tag)):
            return
        elif tag == "template":
            self._close(frozenset({tag}), frozenset())
        elif tag in _ROW_PARTS or tag in ("table", "select"):
            self._close(frozenset({tag}), frozenset({"template"}) if tag == "table" else _TABLE_SCOPE)
        elif tag in _FORMATTING:
            self._end_formatting(tag)
        elif tag == "form":
            self._form = False
            # the standard takes it alone out of the open elements
            self._approximate |= self._top.tag != "form"
            self._close(frozenset({"form"}), _SCOPE)
        elif tag in _HEADINGS:
            self._close(_HEADINGS, _SCOPE)
        elif tag == "p":
            self._close(frozenset({"p"}), _BUTTON_SCOPE)
        elif tag == "li":
            self._close(frozenset({"li"}), _LIST_SCOPE)
        elif tag in _ENDED_IN_SCOPE or tag in ("dd", "dt"):
            self._close(frozenset({tag}), _SCOPE)
        else:
            self._end_other(tag)

    def _end_in_foreign(self, tag: str) -> bool:
        """Close an open element of SVG or MathML, or leave them; return whether that was all."""
        for at in range(len(self._stack) - 1, -1, -1):
            entry = self._stack[at]
            if entry.space == "html":
                break
            if entry.tag == tag:
                self._pop_to(at)
                return True
        if self._foreign and tag in ("br", "p"):
            # as browsers do; older parsers stay
            self._leave_foreign()
            self._approximate = True
        return False

    def _end_other(self, tag: str) -> None:
        for at in range(len(self._stack) - 1, -1, -1):
            if self._stack[at].tag == tag:
                self._pop_to(at)
                return
            if _is_special(self._stack[at]):
                break
        if self._approximate:
            self._show_all()

    def _ends_in_select(self, tag: str) -> bool:
        if tag in ("option", "optgroup", "select", "template"):
            return True
        if (tag in _ROW_PARTS or tag == "table") and self._count[tag]:
            self._close(frozenset({"select"}), frozenset({"template"}))
            return True
        return False

    def _end_formatting(self, tag: str) -> None:
        """End a formatting element, and with it those it is misnested with; blocks that began in it stay open."""
        at = self._find(frozenset({tag}), _SCOPE) if self._count[tag] else None
        if at is None:
            if self._approximate:
                self._show_all()
            return
        if not any(_is_special(entry) for entry in self._stack[at + 1 :]):
            self._pop_to(at)
            return
        self._approximate = True
        around = self._stack[at - 1] if at and self._stack[at - 1].tag not in _TABLE_MODE else _ROOT
        self._complete &= around.hidden or not any(entry.hidden for entry in self._stack[at:])
        for entry in self._stack[at:]:
            entry.gone, entry.unseen = around.gone, around.unseen
            if entry.tag in _FORMATTING and entry.space == "html":
                self._forget(entry)
        kept = [entry for entry in self._stack[at:] if not (entry.tag in _FORMATTING and entry.space == "html")]
        del self._stack[at:]
        self._stack += kept

    def _show_all(self) -> None:
        """Hide nothing that is open: the standard may have ended it here, or moved something out of it."""
        for entry in self._stack:
            self._complete &= not entry.hidden or _is_special(entry)
            if entry.tag != "template":
                entry.gone = entry.unseen = False

    # open elements

    def _find(self, tags: frozenset[str], scope: frozenset[str]) -> int | None:
        """Return the innermost open HTML element of these, unless one of the scope is further in."""
        for at in range(len(self._stack) - 1, -1, -1):
            entry = self._stack[at]
            if entry.space == "html":
                if entry.tag in tags:
                    return at
                if entry.tag in scope:
                    return None
        return None

    def _close(self, tags: frozenset[str], scope: frozenset[str]) -> bool:
        """End an element and all that is open in it. Whether there was one in scope."""
        at = self._find(tags, scope) if any(self._count[tag] for tag in tags) else None
        if at is not None:
            self._pop_to(at)
        elif self._approximate:
            self._show_all()
        return at is not None

    def _push(self, token: StartTag, space: str = "html") -> None:
        entry = self._entry(token, space)
        if len(self._stack) >= MAX_DEPTH:
            self._approximate = True
            if not entry.hidden and token.name != "a":
                # what follows still begins on a line of its own
                self._reader.enter(token.name, token.attributes)
                self._reader.leave(token.name)
            return
        self._stack.append(entry)
        self._count[entry.tag] += entry.space == "html"
        if not entry.hidden:
            entry.told = True
            self._reader.enter(entry.tag, token.attributes)

    def _entry(self, token: StartTag, space: str) -> _Open:
        tag, attributes = token.name, token.attributes
        parent = self._top
        if parent.space == "html" and parent.tag in _TABLE_MODE and tag not in _TABLE_PARENTS:
            parent = self._foster_parent()
        entry = _Open(tag, space, gone=parent.gone, unseen=parent.unseen)
        if space == "svg":
            entry.takes_html = tag in _SVG_HTML
        elif space == "math":
            kind = attributes.get("encoding", "").lower()
            entry.takes_html = tag in _MATH_TEXT or (
                tag == "annotation-xml" and kind in ("text/html", "application/xhtml+xml")
            )
        if _is_never_shown(entry):
            entry.gone = True
        elif tag != "noscript" and (not self._show_inline or _is_special(entry)):
            _apply_looks(entry, attributes)
        return entry

    def _pop_to(self, size: int) -> None:
        while len(self._stack) > size:
            entry = self._stack.pop()
            # the standard opens a formatting element again where the next text stands, and may end none of an image's
            self._approximate |= len(self._stack) > size and (entry.tag in _FORMATTING or entry.takes_html)
            self._forget(entry)

    def _forget(self, entry: _Open) -> None:
        self._count[entry.tag] -= entry.space == "html"
        if entry.told:
            self._reader.leave(entry.tag)


def _is_never_shown(entry: _Open) -> bool:
    return entry.tag in _NEVER_SHOWN if entry.space == "html" else (entry.space, entry.tag) in _NEVER_SHOWN_FOREIGN


def _is_special(entry: _Open) -> bool:
    return entry.space == "html" and entry.tag in _SPECIAL


def _apply_looks(entry: _Open, attributes: Mapping[str, str]) -> None:
    display, visibility = _declared(attributes.get("style", "")) if "style" in attributes else ("", "")
    if display == "none" or ("hidden" in attributes and not display and entry.space == "html"):
        entry.gone = True
    if visibility:
        entry.unseen = visibility in ("hidden", "collapse")


def _declared(style: str) -> tuple[str, str]:
    """Return the values of `display` and `visibility` that count, or ""."""
    if "/*" in style:
        style = _CSS_COMMENT.sub(" ", style)
    values = {"display": "", "visibility": ""}
    important: set[str] = set()
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        name = name.strip().lower()
        if name not in values:
            continue
        value, mark, _ = value.strip().lower().partition("!")
        if name in important and not mark:
            continue
        if mark:
            important.add(name)
        values[name] = value.strip()
    return values["display"], values["visibility"]
