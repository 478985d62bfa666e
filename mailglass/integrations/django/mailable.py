"""Mailables whose templates are Django's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import django
from django.apps import apps
from django.template import Context, Engine, TemplateDoesNotExist, TemplateSyntaxError

from mailglass.errors import TemplateErrorType
from mailglass.mail.mailable import BodyTemplate, Mailable, Renderer


class DjangoRenderer:
    """Renderer by the first engine of `TEMPLATES` that is Django's own."""

    def render(self, part: str, template: BodyTemplate, context: Mapping[str, Any]) -> str:
        """Render one part. HTML is escaped, subject and text are not."""
        if not apps.ready:
            # in a worker, whichever of the two loads first
            django.setup()
        engine = Engine.get_default()
        compiled = _compiled(engine, template.source) if template.source else engine.get_template(template.file)
        text: str = compiled.render(Context(dict(context), autoescape=part == "html"))
        return str.__str__(text)

    def type_of(self, error: BaseException) -> TemplateErrorType:
        """Return the kind of a failure."""
        if isinstance(error, TemplateDoesNotExist):
            return TemplateErrorType.MISSING_FILE
        if isinstance(error, TemplateSyntaxError):
            return TemplateErrorType.SYNTAX
        return TemplateErrorType.RENDERING


@lru_cache(maxsize=256)
def _compiled(engine: Any, source: str) -> Any:
    return engine.from_string(source)


class DjangoMailable(Mailable, abstract=True):
    """The base of mailables whose templates are Django's.

        class Receipt(DjangoMailable):
            subject = "Receipt {{ order.number }}"
            html_template = "shop/receipt.html"

    Files are found by the loaders of `TEMPLATES`, and tags, filters and `string_if_invalid` are those of its engine. A
    name that the context lacks renders as `string_if_invalid`, which is empty by default.
    """

    renderer: ClassVar[Renderer | None] = DjangoRenderer()
