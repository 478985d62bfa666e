"""What a delivery says, as an operator may see it: never the bytes of its files, and nothing a terminal would obey."""

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
    """Print what was said, for people."""
    if content is None:
        click.echo("The content is gone.")
        return
    others = [
        (name, _harmless(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
        for name, value in content.items()
        if name not in (*_BODIES, "v")
    ]
    print_table(("CONTENT", ""), [("subject", _harmless(content.get("subject", "not rendered yet"))), *others])
    for name in ("text", "html"):
        if name in content:
            click.echo(f"\n{click.style(name.upper(), bold=True)}\n{_harmless(content[name])}")


def _harmless(text: str) -> str:
    """Escape what a terminal would obey instead of showing it."""
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _size(encoded: str) -> int:
    """The bytes that base64 stands for, without decoding it."""
    return len(encoded) // 4 * 3 - encoded[-2:].count("=")
