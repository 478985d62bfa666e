"""`mailglass install` and `mailglass uninstall`: wire an application by its source, and undo that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailglass.cli.output import JSON, format_option, note, print_json

if TYPE_CHECKING:
    from mailglass.installer.plan import ByHand, Plan, Step

_COLOURS = {"create": "green", "change": "green", "remove": "green", "conflict": "red", "keep": "cyan"}
_DIRECTORY = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)


@click.command()
@click.argument("directory", type=_DIRECTORY, default=Path("."))
@click.option(
    "--framework",
    type=click.Choice(["django", "flask", "fastapi", "starlette", "litestar"]),
    help="The application's, where the source uses several.",
)
@click.option("--dry-run", is_flag=True, help="Print a unified diff, and change nothing.")
@format_option
def install(directory: Path, framework: str | None, dry_run: bool, output_format: str) -> int:
    """Wire mailglass into an application's source.

    Reads the source below DIRECTORY (default: here) and runs nothing of it. Mounts the webhook endpoint in Django,
    Flask, FastAPI, Starlette or Litestar, and writes `mailglass.toml`, `.env.example` and a first mail with its
    template. Files that are there stay as they are, except for blocks between two comment lines. Run it as often as
    you like: a block that you edited is kept, and the one that would have been written goes to a file
    `.mailglass_conflict` beside it.

    Exits with 0 if all is in place, 1 if a block was edited or a file cannot be written, 2 if you must add lines by
    hand.

    \b
    mailglass install --dry-run
    mailglass install src/shop --framework flask
    """
    try:
        from mailglass.installer.install import plan_install
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "libcst":
            raise
        raise click.ClickException(
            '`mailglass install` needs the module libcst, which is not installed: pip install "mailglass[install]"'
        ) from None

    plan = plan_install(directory, framework)
    _carry_out(directory, plan, dry_run, output_format)
    if plan.exit_code == 0 and output_format != JSON and not dry_run:
        note("See that it is wired: mailglass doctor. Check the settings: mailglass config check.")
    return plan.exit_code


@click.command()
@click.argument("directory", type=_DIRECTORY, default=Path("."))
@click.option("--dry-run", is_flag=True, help="Print a unified diff, and change nothing.")
@format_option
def uninstall(directory: Path, dry_run: bool, output_format: str) -> int:
    """Take out what install put into an application's source.

    Takes out blocks and files below DIRECTORY (default: here) that are as they were written. What you edited is kept
    and named. Touches neither the ledger nor the broker.

    Exits with 0 if nothing of it is left, 1 if something that you edited is.

    \b
    mailglass uninstall --dry-run
    """
    from mailglass.installer.uninstall import plan_uninstall

    plan = plan_uninstall(directory)
    _carry_out(directory, plan, dry_run, output_format)
    return plan.exit_code


def _carry_out(directory: Path, plan: Plan, dry_run: bool, output_format: str) -> None:
    """Write a plan, or show it, and report what was done."""
    from mailglass.installer.diff import unified
    from mailglass.installer.writing import apply, check

    if dry_run:
        check(directory, plan.writes)
    else:
        apply(directory, plan.writes)
    if output_format == JSON:
        print_json(
            exit_code=plan.exit_code,
            dry_run=dry_run,
            framework=plan.framework,
            files=[_described(step) for step in plan.steps],
            by_hand=[
                {"reason": item.reason, "file": item.file, "line": item.line, "lines": list(item.lines)}
                for item in plan.by_hand
            ],
        )
        return
    if dry_run:
        click.echo(unified(plan.writes), nl=False)
    for step in plan.steps:
        line = f"{click.style(f'[{step.action.value}]', fg=_COLOURS[step.action.value])} {step.path}: {step.detail}"
        # the diff alone is data
        click.echo(line, err=dry_run)
    for item in plan.by_hand:
        _print_by_hand(item)
    if not plan.steps and not plan.by_hand:
        note("Nothing of mailglass was found.")


def _described(step: Step) -> dict[str, object]:
    return {
        "action": step.action.value,
        "path": step.path,
        "detail": step.detail,
        "written": step.before != step.after,
    }


def _print_by_hand(item: ByHand) -> None:
    place = "" if item.file is None else f" ({item.file})" if item.line is None else f" ({item.file}:{item.line})"
    note(f"mailglass: {item.reason}{place}.")
    if item.lines:
        note("Add these lines by hand, and run the command again for the rest:")
        for line in item.lines:
            note(f"    {line}")
