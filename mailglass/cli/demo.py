"""`mailglass demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailglass.cli import EXIT_ERROR
from mailglass.cli.output import JSON, format_option, note, print_json
from mailglass.settings import DEVELOPMENT_DIRECTORY

if TYPE_CHECKING:
    from mailglass.demo.assembly import Platform
    from mailglass.demo.summary import Summary
    from mailglass.go_live import Report

ROOT = Path(DEVELOPMENT_DIRECTORY)
_MARGIN = 17
_WEB_PORT = 8025


@click.command()
@click.option(
    "--messages",
    type=click.IntRange(1, 1_000_000),
    default=600,
    show_default=True,
    metavar="N",
    help="Number of mails.",
)
@click.option(
    "--burst",
    type=click.IntRange(0, 1_000_000),
    default=5000,
    show_default=True,
    metavar="N",
    help="Mails of a calm burst at the end, which shows the pace; 0 for none.",
)
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
@click.option("--show-secrets", is_flag=True, help="With --keep: show the passwords of database and broker.")
@format_option
@click.pass_context
def demo(ctx: click.Context, messages: int, burst: int, keep: bool, show_secrets: bool, output_format: str) -> int:
    """Run the main job from end to end on a local stack.

    Starts PostgreSQL and Valkey (or uses MAILGLASS_DATABASE_URL and MAILGLASS_BROKER_URL), a worker, beat, the web
    process and a lab that stands in for the providers; confirms a file of orders by mail; then shows what became of
    them and checks, delivery by delivery, that nothing was lost and nothing sent twice. Throttling, lost answers and
    retries of that weather hold mails back, so a calm burst follows and shows the pace. At the end it runs the
    checklist of `mailglass go-live` on itself. Data and logs are kept in .mailglass.

    Exits with 1 if that check fails or something does not start, with 130 after Ctrl-C.
    """
    from mailglass.demo.assembly import Platform
    from mailglass.demo.checklist import checklist
    from mailglass.demo.keeping import end_on_sigterm
    from mailglass.demo.narrator import narrator
    from mailglass.demo.scenario import play

    end_on_sigterm()
    narrating = narrator(ctx.color)
    with Platform(ROOT, "demo", narrating.say, _WEB_PORT if keep else None) as platform:
        narrating.say(f"everything runs; sending {messages} mails")
        summary = play(platform, messages, narrating, burst)
        narrating.say("running the checklist before going live")
        found = checklist(platform)
        _report(summary, found, platform, output_format, keep=keep, secrets=show_secrets)
        if keep:
            _keep(platform)
    return 0 if summary.check.ok else EXIT_ERROR


def _report(
    summary: Summary, found: Report, platform: Platform, output_format: str, *, keep: bool, secrets: bool
) -> None:
    from mailglass.demo.checklist import rows as checklist_rows
    from mailglass.demo.keeping import invitation, places
    from mailglass.demo.report import lines, values

    running = places(platform, secrets=secrets) if keep else {}
    if output_format == JSON:
        print_json(**values(summary), go_live=found.as_json(), **({"places": running} if keep else {}))
        return
    rows = [*lines(summary), *checklist_rows(found)]
    rows += [("Running" if row == 0 else "", f"{name:<12}{place}") for row, (name, place) in enumerate(running.items())]
    rows += [("Try" if row == 0 else "", line) for row, line in enumerate(invitation(platform) if keep else ())]
    for heading, text in rows:
        _print(heading, text)


def _print(heading: str, text: str) -> None:
    """Print a row. Long texts are wrapped below their beginning; paths and commands are never broken."""
    import shutil
    import textwrap

    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120)) - _MARGIN
    parts = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, drop_whitespace=True)
    margin = click.style(heading, bold=True) + " " * (_MARGIN - len(heading)) if heading else " " * _MARGIN
    for part in parts if "  " not in text else [text]:
        click.echo(margin + part)
        margin = " " * _MARGIN


def _keep(platform: Platform) -> None:
    from mailglass.demo.keeping import keep

    note("Running until Ctrl-C.")
    keep(platform)
