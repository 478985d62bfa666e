"""A delivery's content for operators: without the bytes of its files, and without terminal escapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from mailglass.cli.output import print_table

_BODIES = ("subject", "text", "html")


def without_files(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored content with each file's name, type and size instead of its bytes."""
    shown = dict(content)
    if "attachments" in content:
        shown["attachments"] = [
            {"filename": item["filename"], "content_type": item["content_type"], "bytes": _size(item["content"])}
            for item in content["attachments"]
        ]
    return shown


def print_content(content: Mapping[str, Any] | None) -> None:
    """Print content for people."""
    if content is None:
        click.echo("The content is gone.")
        return
    others = [
        (name, _escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
        for name, value in content.items()
        if name not in (*_BODIES, "v")
    ]
    print_table(("CONTENT", ""), [("subject", _escaped(content.get("subject", "not rendered yet"))), *others])
    for name in ("text", "html"):
        if name in content:
            click.echo(f"\n{click.style(name.upper(), bold=True)}\n{_escaped(content[name])}")


def _escaped(text: str) -> str:
    """Escape characters that a terminal would interpret."""
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _size(encoded: str) -> int:
    """Return the size of base64-encoded bytes, without decoding them."""
    return len(encoded) // 4 * 3 - encoded[-2:].count("=")
