"""From a mailable's stored context to frozen content: subject, HTML with its CSS inlined, text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mailglass.errors import MessageError, TemplateError, TemplateErrorType, failure
from mailglass.mail.mailable import BodyTemplate, Mailable, Renderer, body_template, class_path
from mailglass.mail.message import MAX_BODY, check_bodies, check_subject

if TYPE_CHECKING:
    import css_inline

# css-inline takes 1.4 kB of stack a level; the smallest stack that a thread of CPython has by default is 512 kB
MAX_HTML_DEPTH: Final = 256
# css-inline takes 370 bytes an element, and a mail of a long newsletter has some thousands
MAX_HTML_ELEMENTS: Final = 500_000
# twice Bootstrap's style sheet
MAX_STYLES: Final = 512 * 1024
# of native code that nothing interrupts, by an estimate that counts every rule as one for every element
_MOST_SECONDS: Final = 10.0
_MOST_INLINED: Final = 100_000_000
# ten times what Gmail shows of a mail; the worst that HTML of this length can hold takes two seconds to read
MAX_HTML_FOR_TEXT: Final = 1024 * 1024
# renders a part by its name with a context; None where the mailable has none
PartOf = Callable[[str, Mapping[str, Any]], str | None]
_STYLESHEET = re.compile(r"<(?:style|link)[\s>]", re.IGNORECASE)
_BLANKS = re.compile("[\x00-\x20\x7f\x85\u2028\u2029]+")


def render_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """Render what the ledger stored for a mailable.

    Args:
        content: as `Mailable.content()` wrote it. Content of a plain message, or rendered already, comes back
            unchanged.

    Returns:
        Frozen content in the shape of `Message.content()`; `mailable` keeps the class, the context is gone.

    Raises:
        TemplateError: the class cannot be imported, or a template fails. Names the mailable and the kind of failure,
            never the context or a value.
    """
    mailable = content.get("mailable")
    if not mailable or "context" not in mailable:
        return content if isinstance(content, dict) else dict(content)
    path, context = mailable["class"], mailable["context"]
    frozen: dict[str, Any] = {"v": content.get("v", 1), **_rendered(path, context)}
    frozen.update((key, value) for key, value in content.items() if key not in ("v", "mailable"))
    frozen["mailable"] = {"class": path}
    return frozen


def _rendered(path: str, context: Mapping[str, Any]) -> dict[str, str]:
    cls = _imported(path)
    part_of = _by_renderer(cls, cls.renderer) if cls.renderer is not None else _by_jinja(cls)
    subject = part_of("subject", context)
    parts = {"subject": _BLANKS.sub(" ", subject or "").strip()}
    text, html = part_of("text", context), part_of("html", context)
    if text is not None:
        parts["text"] = text
    if html is not None:
        parts["html"] = _inlined(path, html)
        if text is None:
            parts["text"] = _text(path, parts["html"])
    if "html" in parts and not parts.get("text", "").strip():
        parts.pop("text", None)
    try:
        check_subject(parts["subject"])
        check_bodies(parts.get("text"), parts.get("html"))
    except MessageError as error:
        raise TemplateError(f"{path}: {error}", TemplateErrorType.REFUSED) from None
    return parts


def _by_jinja(cls: type[Mailable]) -> PartOf:
    # Jinja2 is loaded only where mails are rendered: applications that only queue them import this room too
    from mailglass.rendering.templates import render, templates

    found = templates(cls)

    def part_of(part: str, context: Mapping[str, Any]) -> str | None:
        template = getattr(found, part)
        return None if template is None else render(cls, part, template, context)

    return part_of


def _by_renderer(cls: type[Mailable], renderer: Renderer) -> PartOf:
    """Return the parts of a mailable with a template engine of its own."""
    sources = {
        "subject": BodyTemplate(cls.subject, None),
        "html": body_template(cls, "html"),
        "text": body_template(cls, "text"),
    }

    def part_of(part: str, context: Mapping[str, Any]) -> str | None:
        if not any(sources[part]):
            return None
        try:
            return renderer.render(part, sources[part], context)
        except BaseException as error:
            problem, kind = failure(error), renderer.type_of(error)
        # outside of the handler: the engine's error quotes values
        named = f" ({sources[part].file})" if sources[part].file else ""
        raise TemplateError(
            f"{class_path(cls)}: {part}{named}: {problem}; render it with the same context locally", kind
        )

    return part_of


def with_text(content: dict[str, Any]) -> dict[str, Any]:
    """Return a plain message's content with the text part that is made from its HTML where it brings none.

    Args:
        content: as `Message.content()` wrote it. An empty text beside HTML stands for none and is taken out.
    """
    html, text = content.get("html"), content.get("text")
    if html is None or text:
        return content
    if text is None and len(html) <= MAX_HTML_FOR_TEXT:
        from mailglass.rendering.text import html_to_text

        text = html_to_text(html)
    rest = {key: value for key, value in content.items() if key != "text"}
    return rest | {"text": text} if text and len(text) <= MAX_BODY else rest


def _imported(path: str) -> type[Mailable]:
    module, _, qualname = path.partition(":")
    try:
        target: Any = import_module(module)
        for name in qualname.split("."):
            target = getattr(target, name)
    except BaseException as error:
        problem = failure(error)
    else:
        if isinstance(target, type) and issubclass(target, Mailable):
            return target
        problem = "not a Mailable"
    # retryable: the application's next version may come to the workers after its mails do
    raise TemplateError(
        f"{path}: cannot be imported ({problem}); install the application that defines it where the worker runs",
        TemplateErrorType.NOT_INSTALLED,
    )


def _inlined(path: str, html: str) -> str:
    if not _STYLESHEET.search(html):
        return html
    _check_for_native_code(path, html)
    try:
        return _inliner().inline(html)
    except BaseException as error:
        problem = failure(error)
    raise TemplateError(
        f"{path}: html: {problem} while inlining CSS; correct its style sheet", TemplateErrorType.STYLESHEET
    )


def _check_for_native_code(path: str, html: str) -> None:
    """Refuse HTML that css-inline would overflow its thread's stack with, or take too much memory or time for.

    Raises:
        TemplateError: it is too large, nests too deep, or its style sheets are too much for its elements.
    """
    problem = _too_large(html)
    if problem is not None:
        raise TemplateError(f"{path}: html: {problem}", TemplateErrorType.REFUSED)


def _too_large(html: str) -> str | None:
    """Return in which way HTML is too large to inline its style sheets, with the remedy, or None if it is not."""
    from mailglass.rendering.inlining import cost
    from mailglass.rendering.nesting import bounds

    if len(html) > MAX_BODY:
        return f"longer than {MAX_BODY} characters; leave something out"
    found = bounds(html, MAX_HTML_DEPTH, MAX_HTML_ELEMENTS)
    if found.depth > MAX_HTML_DEPTH:
        return f"elements nest deeper than {MAX_HTML_DEPTH} levels; close them, or clean HTML that users wrote"
    if found.elements > MAX_HTML_ELEMENTS:
        return f"may be more than {MAX_HTML_ELEMENTS} elements; close what is open, or clean HTML that users wrote"
    if len(found.styles) > MAX_STYLES:
        return f"style sheets longer than {MAX_STYLES} characters; leave out what the mail does not use"
    seconds, characters = cost(html, found.elements, found.styles)
    if seconds > _MOST_SECONDS or characters > _MOST_INLINED:
        return "too many style rules for so many elements; leave out rules, or clean HTML that users wrote"
    return None


def _text(path: str, html: str) -> str:
    from mailglass.rendering.text import html_to_text

    try:
        return html_to_text(html) if len(html) <= MAX_HTML_FOR_TEXT else ""
    except BaseException as error:
        problem = failure(error)
    raise TemplateError(f"{path}: text: {problem} while making it from the HTML; add a text_template")


@cache
def _inliner() -> css_inline.CSSInliner:
    import css_inline

    # never fetch: a link in a template must not make a worker call out
    return css_inline.CSSInliner(keep_style_tags=True, remove_inlined_selectors=True, load_remote_stylesheets=False)
