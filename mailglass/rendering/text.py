"""The text part of a mail, made from its HTML: what a reader would see, without the looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mailglass.rendering.html_tree import read_html

# how many line ends stand before and after; 2 leaves a blank line
_MARGIN = {
    **dict.fromkeys("p h1 h2 h3 h4 h5 h6 ul ol dl blockquote pre table figure address".split(), 2),
    **dict.fromkeys(
        "html body div section article header footer nav aside center form fieldset tr thead tbody tfoot caption "
        "li dt dd figcaption details summary hr dialog dir hgroup legend listing main menu optgroup option search "
        "select textarea xmp".split(),
        1,
    ),
}
_SPACES = re.compile(r"[ \t\r\n\f]+")
# soft hyphen, grapheme joiner, zero-width space, byte order mark: fillers that only HTML needs
_FILLERS = re.compile("[\u00ad\u034f\u200b\ufeff]")
_ORDINAL = re.compile(r"[0-9]{1,6}\Z")
_CELL_GAP = "  "
_RULE = "-" * 24
# what quotes and lists put before each line: nested further they add nothing, or short lines in many of them would
# grow to a multiple of their HTML
_MAX_PREFIX: Final = 24


def html_to_text(html: str) -> str:
    """Return the plain text of an HTML body.

    Links become `text (url)`, list items get `-` or a number, cells of a row stand side by side, quotes are marked
    with `>`. Left out is what a reader does not see: title, style, script, comments, SVG images, and every element
    with `display:none`, `visibility:hidden` or `hidden`, such as a preheader. Lines are not wrapped.

    Args:
        html: a document or fragment, with its CSS inlined, so that hidden elements say so themselves. Broken HTML is
            read as a browser reads it. Time and memory grow with its length alone.
    """
    layout = _Layout()
    if not read_html(html, layout):
        layout = _Layout()
        read_html(html, layout, show_inline=True)
    return layout.finish()


class _Layout:
    """Lays what is shown of an HTML document out as lines."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._breaks = 0
        self._space = ""
        self._prefixes: list[str] = []
        self._written_prefixes: list[str] = []
        self._marker = ""
        self._lists: list[int | None] = []
        self._links: list[tuple[str, int]] = []
        self._preformatted = 0
        self._first_line = False

    def finish(self) -> str:
        """Return the whole text; one line end after the last line."""
        lines = [line.rstrip() for line in "".join(self._out).split("\n")]
        text = "\n".join(lines).strip("\n")
        return text + "\n" if text else ""

    def enter(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle the beginning of an element."""
        self._first_line = False
        self._break(_MARGIN.get(tag, 0) if tag not in ("ul", "ol") or not self._lists else 1)
        self._enter(tag, attributes)

    def text(self, data: str) -> None:
        """Characters, spaces as they are."""
        if not data.isascii():
            data = _FILLERS.sub("", data)
        if self._preformatted:
            self._write_preformatted(data.removeprefix("\n") if self._first_line else data)
            self._first_line = False
            return
        data = _SPACES.sub(" ", data)
        words = data.strip(" ")
        if data.startswith(" ") and not self._space:
            self._space = " "
        if words:
            self._write(words.replace("\u00a0", " "))
            self._space = " " if data.endswith(" ") else ""

    def void(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle an element without content."""
        if tag == "br":
            self._breaks = self._breaks + 1 if self._out or self._breaks else 0
            self._space = ""
        elif tag == "hr":
            self._break(1)
            self._write(_RULE)
            self._break(1)
        elif tag == "img" and (alt := _SPACES.sub(" ", _FILLERS.sub("", attributes.get("alt", ""))).strip()):
            self._write(alt)

    def _enter(self, tag: str, values: Mapping[str, str]) -> None:
        match tag:
            case "td" | "th":
                if not self._breaks and self._out:
                    self._space = _CELL_GAP
            case "ul":
                self._lists.append(None)
            case "ol":
                start = values.get("start", "")
                self._lists.append(int(start) if _ORDINAL.match(start) else 1)
            case "li":
                self._enter_item()
            case "blockquote":
                self._indent("> ")
            case "pre" | "listing" | "xmp" | "plaintext" | "textarea":
                self._preformatted += 1
                self._first_line = tag not in ("xmp", "plaintext")
            case "a":
                self._links.append((_target(values.get("href", "")), len(self._out)))

    def _enter_item(self) -> None:
        number = self._lists[-1] if self._lists else None
        marker = "- "
        if number is not None:
            marker = f"{number}. "
            self._lists[-1] = number + 1
        self._indent(" " * len(marker))
        self._marker = marker

    def _indent(self, prefix: str) -> None:
        room = _MAX_PREFIX - sum(map(len, self._prefixes))
        self._prefixes.append(prefix if len(prefix) <= room else "")

    def leave(self, tag: str) -> None:
        """Handle the end of an element."""
        self._first_line = False
        match tag:
            case "a":
                self._leave_link()
            case "li":
                self._prefixes.pop()
                self._marker = ""
            case "blockquote":
                self._prefixes.pop()
            case "ul" | "ol":
                self._lists.pop()
            case "pre" | "listing" | "xmp" | "plaintext" | "textarea":
                self._preformatted -= 1
        self._break(_MARGIN.get(tag, 0) if tag not in ("ul", "ol") or not self._lists else 1)

    def _leave_link(self) -> None:
        target, start = self._links.pop()
        if not target:
            return
        label = "".join(self._out[start:]).strip()
        if not label:
            self._write(target)
        elif _bare(label) != _bare(target):
            # straight to the end of what was written, so that it stays with the label whatever breaks follow
            self._out.append(f" ({target})")

    def _break(self, count: int) -> None:
        if count:
            # what follows a list marker at once stays on its line
            self._breaks = max(self._breaks, 1 if self._marker else count)
            self._space = ""

    def _write(self, text: str) -> None:
        if not self._out:
            self._out.append(self._line_start())
        elif self._breaks:
            shared = [now for now, before in zip(self._prefixes, self._written_prefixes, strict=False) if now == before]
            blank_line = "".join(shared).rstrip() + "\n"
            self._out.append("\n" + blank_line * (self._breaks - 1) + self._line_start())
        else:
            self._out.append(self._space)
        self._breaks = 0
        self._space = ""
        self._out.append(text)

    def _line_start(self) -> str:
        self._written_prefixes = list(self._prefixes)
        prefix = "".join(self._prefixes)
        if not self._marker:
            return prefix
        # the item's own prefix is as wide as its marker, or there is none
        start = (prefix[: -len(self._marker)] if self._prefixes[-1] else prefix) + self._marker
        self._marker = ""
        return start

    def _write_preformatted(self, data: str) -> None:
        for position, line in enumerate(data.replace("\r\n", "\n").split("\n")):
            if position and self._out:
                self._breaks += 1
            if line:
                self._write(line.replace("\u00a0", " "))


def _bare(target: str) -> str:
    return target.removeprefix("https://").removeprefix("http://").removeprefix("tel:").rstrip("/")


def _target(href: str) -> str:
    """Return the part of a link worth showing: no anchor within the mail, no script."""
    href = href.strip()
    if href.startswith("#") or href.lower().startswith(("javascript:", "cid:", "data:")):
        return ""
    return href[len("mailto:") :].partition("?")[0] if href.lower().startswith("mailto:") else href
