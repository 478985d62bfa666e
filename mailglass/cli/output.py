"""Output of commands: data on standard output, for people or as JSON; notes on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

SCHEMA_VERSION = 1
# ids that a dry run shows
SAMPLE = 10
HUMAN = "human"
JSON = "json"

F = TypeVar("F", bound=Callable[..., Any])


def format_option(command: F) -> F:
    """Add `--format human|json` and its short form `--json`, as the parameter `output_format`."""
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
    """Print one JSON object with its `schema_version`. A version may gain keys, and never changes them."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table for people.

    Args:
        head: the heading of each column.
        rows: the cells of each row.
    """
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 else text)


def note(text: str) -> None:
    """Print a text that is not data on standard error."""
    click.echo(text, err=True)


def print_sample(sample: Sequence[str], count: int, done: str) -> None:
    """Print the result of a dry run: some ids, and the number of all.

    Args:
        sample: ids.
        count: the number of all.
        done: the past participle of the action.
    """
    for key in sample:
        click.echo(key)
    if count > len(sample):
        note(f"and {count - len(sample)} more")
    note(f"{count} would be {done}; add --yes to do it.")


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int], None] | None]:
    """Show progress on standard error; yield None if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(f"{{task.completed:,.0f}} {unit}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done: bar.update(task, completed=done)
