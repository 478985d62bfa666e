"""The text part of a mail, made from its HTML: what a reader would see, without the looks."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SKIPPED = frozenset("head title style script template svg object iframe video audio canvas map select".split())
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
# how many line ends stand before and after; 2 leaves a blank line
_MARGIN = {
    **dict.fromkeys("p h1 h2 h3 h4 h5 h6 ul ol dl blockquote pre table figure address".split(), 2),
    **dict.fromkeys(
        "html body div section article header footer main nav aside center form fieldset tr thead tbody tfoot caption "
        "li dt dd figcaption details summary hr".split(),
        1,
    ),
}
_ENDED_BY: dict[str, frozenset[str]] = {
    "p": frozenset(tag for tag in _MARGIN if tag not in ("html", "body")),
    "li": frozenset({"li"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "td": frozenset({"td", "th", "tr", "tbody", "tfoot"}),
    "th": frozenset({"td", "th", "tr", "tbody", "tfoot"}),
    "tr": frozenset({"tr", "tbody", "tfoot"}),
}
_HIDDEN = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\r\n\f]+")
# soft hyphen, grapheme joiner, zero-width space, byte order mark: fillers that only HTML needs
_FILLERS = re.compile("[\u00ad\u034f\u200b\ufeff]")
_ORDINAL = re.compile(r"[0-9]{1,6}\Z")
_CELL_GAP = "  "
_RULE = "-" * 24


def html_to_text(html: str) -> str:
    """The plain text of an HTML body.

    Links become `text (url)`, list items get `-` or a number, cells of a row stand side by side, quotes are marked
    with `>`. Left out is what a reader does not see: head, style, script, comments, and every element with
    `display:none`, `visibility:hidden` or `hidden`, such as a preheader. Lines are not wrapped.

    Args:
        html: a document or fragment, with its CSS inlined, so that hidden elements say so themselves.
    """
    walker = _Walker()
    walker.feed(html)
    walker.close()
    return walker.text()


class _Walker(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._open: list[str] = []
        self._hidden_at: int | None = None
        self._breaks = 0
        self._space = ""
        self._prefixes: list[str] = []
        self._written_prefixes: list[str] = []
        self._marker = ""
        self._lists: list[int | None] = []
        self._links: list[tuple[str, int]] = []
        self._preformatted = 0

    def text(self) -> str:
        lines = [line.rstrip() for line in "".join(self._out).split("\n")]
        text = "\n".join(lines).strip("\n")
        return text + "\n" if text else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self._open and tag in _ENDED_BY.get(self._open[-1], ()):
            self._leave()
        values = {name: value or "" for name, value in attrs}
        if tag in _VOID:
            if self._hidden_at is None and not _is_hidden(values):
                self._void(tag, values)
            return
        self._open.append(tag)
        if self._hidden_at is not None:
            return
        if tag in _SKIPPED or _is_hidden(values):
            self._hidden_at = len(self._open)
            return
        self._break(_MARGIN.get(tag, 0) if tag not in ("ul", "ol") or not self._lists else 1)
        self._enter(tag, values)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "br":
            self.handle_starttag(tag, [])
        if tag not in self._open:
            return
        while self._open[-1] != tag:
            self._leave()
        self._leave()

    def handle_data(self, data: str) -> None:
        if self._hidden_at is not None:
            return
        data = _FILLERS.sub("", data)
        if self._preformatted:
            self._write_preformatted(data)
            return
        data = _SPACES.sub(" ", data)
        words = data.strip(" ")
        if data.startswith(" ") and not self._space:
            self._space = " "
        if words:
            self._write(words.replace("\u00a0", " "))
            self._space = " " if data.endswith(" ") else ""

    def _void(self, tag: str, values: dict[str, str]) -> None:
        if tag == "br":
            self._breaks = self._breaks + 1 if self._out or self._breaks else 0
            self._space = ""
        elif tag == "hr":
            self._break(1)
            self._write(_RULE)
            self._break(1)
        elif tag == "img" and (alt := _SPACES.sub(" ", values.get("alt", "")).strip()):
            self._write(alt)

    def _enter(self, tag: str, values: dict[str, str]) -> None:
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
                self._prefixes.append("> ")
            case "pre":
                self._preformatted += 1
            case "a":
                self._links.append((_target(values.get("href", "")), len(self._out)))

    def _enter_item(self) -> None:
        number = self._lists[-1] if self._lists else None
        marker = "- "
        if number is not None:
            marker = f"{number}. "
            self._lists[-1] = number + 1
        self._prefixes.append(" " * len(marker))
        self._marker = marker

    def _leave(self) -> None:
        tag = self._open.pop()
        if self._hidden_at is not None:
            if len(self._open) < self._hidden_at:
                self._hidden_at = None
            return
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
            case "pre":
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
        start = prefix[: len(prefix) - len(self._marker)] + self._marker
        self._marker = ""
        return start

    def _write_preformatted(self, data: str) -> None:
        for position, line in enumerate(data.replace("\r\n", "\n").split("\n")):
            if position and self._out:
                self._breaks += 1
            if line:
                self._write(line.replace("\u00a0", " "))


def _is_hidden(values: dict[str, str]) -> bool:
    return "hidden" in values or _HIDDEN.search(values.get("style", "")) is not None


def _bare(target: str) -> str:
    return target.removeprefix("https://").removeprefix("http://").removeprefix("tel:").rstrip("/")


def _target(href: str) -> str:
    """What is worth showing of a link: not an anchor within the mail, not a script."""
    href = href.strip()
    if href.startswith("#") or href.lower().startswith(("javascript:", "cid:", "data:")):
        return ""
    return href[len("mailto:") :].partition("?")[0] if href.lower().startswith("mailto:") else href
