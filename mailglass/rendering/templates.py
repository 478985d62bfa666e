"""Templates: where a mailable's Jinja2 sources are found; compiled once per class and process."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from mailglass.errors import TemplateError, TemplateErrorType, failure
from mailglass.mail.mailable import BodyTemplate, Mailable, body_template, class_path
from mailglass.settings import get_settings

_REMEDIES: dict[type[Exception], str] = {
    jinja2.UndefinedError: "pass what is missing in the context, or give it a default in the template",
    jinja2.TemplateNotFound: "put the file into templates/ beside the module, or into a directory of `templates`",
    jinja2.TemplateSyntaxError: "correct the template",
}
_TYPES = {
    jinja2.UndefinedError: TemplateErrorType.UNDEFINED,
    jinja2.TemplateNotFound: TemplateErrorType.MISSING_FILE,
    jinja2.TemplateSyntaxError: TemplateErrorType.SYNTAX,
}
_UNKNOWN = re.compile(r"(?:Encountered unknown (tag)|No (filter|test) named) '([A-Za-z_][A-Za-z0-9_.]*)'")
_UNDEFINED = re.compile(r"'([A-Za-z_][A-Za-z0-9_]*)' is undefined\Z")


class Templates(NamedTuple):
    """One mailable's compiled templates."""

    subject: jinja2.Template
    html: jinja2.Template | None
    text: jinja2.Template | None


_compiled: dict[tuple[type[Mailable], tuple[str, ...]], Templates] = {}


def templates(cls: type[Mailable]) -> Templates:
    """Return the compiled templates of a mailable.

    Raises:
        TemplateError: a file is missing or a template cannot be compiled.
    """
    key = (cls, get_settings().templates)
    found = _compiled.get(key)
    if found is None:
        found = _compiled[key] = _compile(*key)
    return found


def render(cls: type[Mailable], part: str, template: jinja2.Template, context: Mapping[str, Any]) -> str:
    """Render one template with one context.

    Args:
        cls: the mailable, for the error.
        template: the compiled template.
        context: the values.
        part: `subject`, `html` or `text`, for the error.

    Raises:
        TemplateError: names the kind of the failure and its line, and nothing of the context.
    """
    try:
        return template.render(context)
    except BaseException as error:
        problem, kind = describe(error), _type_of(error)
    # outside of the handler: the original error quotes values, so it must not travel along as __context__
    raise TemplateError(f"{class_path(cls)}: {part}: {problem}", kind)


def describe(error: BaseException) -> str:
    """Return the kind of a failure, its place in the template and a remedy; not its text, which may quote values."""
    remedy = next(
        (text for kind, text in _REMEDIES.items() if isinstance(error, kind)), "render it with the same context locally"
    )
    # the name of a variable stands in the template itself; any other text of an error may quote a value
    missing = _UNDEFINED.match(str(error)) if isinstance(error, jinja2.UndefinedError) else None
    unknown = _UNKNOWN.match(error.message or "") if isinstance(error, jinja2.TemplateSyntaxError) else None
    return f"{failure(error)}{' of ' + missing[1] if missing else ''}{_unknown(unknown)}{_place(error)}; {remedy}"


def _unknown(found: re.Match[str] | None) -> str:
    return f": unknown {found[1] or found[2]} {found[3]}" if found else ""


def _type_of(error: BaseException) -> TemplateErrorType:
    return next((kind for cls, kind in _TYPES.items() if isinstance(error, cls)), TemplateErrorType.RENDERING)


def forget() -> None:
    """Forget every compiled template, so that changed files are read again: for previews."""
    _compiled.clear()
    _environments.cache_clear()


def _compile(cls: type[Mailable], directories: tuple[str, ...]) -> Templates:
    text, html = _environments((*_beside_modules(cls), *directories))
    subject = _load(cls, "subject", text, BodyTemplate(cls.subject, None))
    if subject is None:
        raise TemplateError(f"{class_path(cls)}: has no subject; add one to the class")
    return Templates(
        subject,
        _load(cls, "html", html, body_template(cls, "html")),
        _load(cls, "text", text, body_template(cls, "text")),
    )


def _load(
    cls: type[Mailable], part: str, environment: jinja2.Environment, template: BodyTemplate
) -> jinja2.Template | None:
    try:
        if template.source is not None:
            return environment.from_string(template.source)
        return environment.get_template(template.file) if template.file is not None else None
    except BaseException as error:
        problem, kind = describe(error), _type_of(error)
    named = f" ({template.file})" if template.file else ""
    raise TemplateError(f"{class_path(cls)}: {part}{named}: {problem}", kind)


@cache
def _environments(directories: tuple[str, ...]) -> tuple[jinja2.Environment, jinja2.Environment]:
    """For text and for HTML: what is included is escaped, or not, as the part that includes it."""
    loader = jinja2.FileSystemLoader(directories)

    def environment(autoescape: bool) -> jinja2.Environment:
        return jinja2.Environment(
            loader=loader,
            autoescape=autoescape,  # noqa: S701 - off for subject and text only
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )

    return environment(False), environment(True)


def _beside_modules(cls: type[Mailable]) -> list[str]:
    """`templates/` beside the module of the class, then beside those of its bases."""
    directories: list[str] = []
    for owner in cls.__mro__:
        if owner is Mailable:
            break
        file = getattr(sys.modules.get(owner.__module__), "__file__", None)
        if file and (directory := str(Path(file).parent / "templates")) not in directories:
            directories.append(directory)
    return directories


def _place(error: BaseException) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f" in {_shown(error.filename)} line {error.lineno}"
    place, step = "", error.__traceback__
    while step is not None:
        # Jinja2 writes the traceback anew; such frames carry a template's own file name and line
        if "__jinja_exception__" in step.tb_frame.f_globals:
            place = f" in {_shown(step.tb_frame.f_code.co_filename)} line {step.tb_lineno}"
        step = step.tb_next
    return place


def _shown(filename: str | None) -> str:
    return "the class" if filename is None or filename.startswith("<") else Path(filename).name
