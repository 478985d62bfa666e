"""Rendering: from templates and content to the bytes of a message."""

from mailglass.rendering.content import render_content

__all__ = ["render_content"]
