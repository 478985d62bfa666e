"""How commands print data: for people or as JSON, always on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

SCHEMA_VERSION = 1
HUMAN = "human"
JSON = "json"

F = TypeVar("F", bound=Callable[..., Any])


def format_option(command: F) -> F:
    """Add `--format human|json` and its short form `--json`; the command gets `output_format`."""
    choice = click.option(
        "--format",
        "output_format",
        type=click.Choice([HUMAN, JSON]),
        default=HUMAN,
        show_default=True,
        help="For people, or for programs.",
    )
    short = click.option("--json", "output_format", flag_value=JSON, help="The same as --format json.")
    return short(choice(command))


def print_json(**data: Any) -> None:
    """Print one JSON object with its `schema_version`; a key may be added within a version, never changed."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns under their heads, for people."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 else text)


def note(text: str) -> None:
    """Say something that is not data, on standard error."""
    click.echo(text, err=True)
